"""A power monitor chip in a supply line, by Linux hwmon: µW, averaged by the chip over its update interval.

INA219, INA226 and their kin measure a supply. What other chips call power (a graphics card's, say) is part of a device
or of another one, and is only taken where the device's entry names it. Of several, the entry must say which: a board's
input and the lines behind it would be counted twice. ± 1.5 %: shunts of 1 %, the chip's gain and offset.
Source: Documentation/hwmon/ina2xx.rst of the Linux kernel."""

from __future__ import annotations

import statistics
from typing import Any

from harness.errors import RunnerError
from harness.interfaces import EnergyTrace, Meter
from harness.measure.meters import sampler

FASTEST_S, SLOWEST_S = 0.1, 2.0  # a shell on a small board has better things to do than to read more often
USUAL_S = 0.2
UNCERTAINTY = 0.015
LEAST_W, MOST_W = 0.05, 2000.0  # of a whole supply: beyond, the driver's unit is not µW


class Hwmon:
    def __init__(self) -> None:
        self._lines: list[sampler.Found] = []

    def unfit(self, bench: Any) -> str | None:
        lines, wanted = sampler.look(bench, "hwmon"), sampler.rails_of(bench)
        supplies = lines if wanted else [line for line in lines if line.name.lower().startswith("ina")]
        if lines and not supplies:
            return f"{lines[0].name} need not be a supply: name it under energy: {{meter: hwmon, rails: […]}} if it is"
        found = sampler.chosen(supplies, wanted)
        if isinstance(found, str):
            return found
        if len(found) > 1 and not wanted:
            names = ", ".join(line.name for line in found[:8])
            return f"several lines are monitored ({names}): name those to add up under energy: {{rails: […]}}"
        if reason := sampler.unreadable(found, "power monitor", "sudo chmod a+r"):
            return reason
        self._lines = found
        return None

    def start(self, bench: Any) -> None:
        self._whole = not sampler.rails_of(bench)
        self._uncertainty = sampler.calibration(bench, UNCERTAINTY)
        self._period_s = period_s(self._lines)
        self._sampler = sampler.Sampler(bench, "hwmon", self._period_s, [line.path for line in self._lines])

    def stop(self) -> EnergyTrace:
        found = trace(self._sampler.stop(), self._lines, self._period_s, self._uncertainty)
        if self._whole and (reason := impossible(found)):
            raise RunnerError(reason)
        return found


def period_s(lines: list[sampler.Found]) -> float:
    """Not longer than the chip's update interval (ms), within what a shell can do."""
    told = [value for line in lines if line.value is not None and (value := sampler.decimal(line.value)) is not None]
    return min(max(min(told) / 1000, FASTEST_S), SLOWEST_S) if told else USUAL_S


def trace(
    found: list[sampler.Reading], lines: list[sampler.Found], period: float, uncertainty: float = UNCERTAINTY
) -> EnergyTrace:
    """Raises RunnerError."""
    t_s, values = sampler.numbers(found, len(lines), 1e-6)
    if min(values) < 0:
        raise RunnerError("a power is negative: the monitor's shunt sits the other way round, or feeds back")
    return EnergyTrace(
        kind="power",
        clock="read",
        rails=tuple(line.name for line in lines),
        t_s=t_s,
        values=values,
        period_s=period,
        uncertainty=uncertainty,
        clock_s=sampler.STAMP_S,
    )


def impossible(found: EnergyTrace) -> str | None:
    """Why this is not the power of a computer's only supply, or None."""
    middle = statistics.median(found.values)
    if LEAST_W <= middle <= MOST_W:
        return None
    return f"{found.rails[0]} tells {middle:.3g} W, which no computer takes: is its unit µW?"


_: type[Meter] = Hwmon
