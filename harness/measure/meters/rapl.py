"""Linux powercap (RAPL): a counter of energy for each processor package, in µJ, which wraps.

Only the packages: the zones inside are parts of them, and `psys` holds them all, on some boards only. The counter is
a model of the processor's own; ± 3 % is assumed, and `uncertainty` in the device's entry replaces it.
Source: Documentation/power/powercap/powercap.rst of the Linux kernel."""

from __future__ import annotations

from typing import Any

from harness.errors import RunnerError
from harness.interfaces import EnergyTrace, Meter
from harness.measure.meters import sampler

PERIOD_S = 0.1  # so that ten seconds are many of them
UNCERTAINTY = 0.03
ROOT = "since Linux 5.10 only root may: chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"


class Rapl:
    def __init__(self) -> None:
        self._zones: list[sampler.Found] = []

    def unfit(self, bench: Any) -> str | None:
        zones = [zone for zone in sampler.look(bench, "rapl") if zone.name.startswith("package")]
        if reason := sampler.unreadable(zones, "RAPL counters", ROOT):
            return reason
        found = sampler.chosen(zones, sampler.rails_of(bench))
        if isinstance(found, str):
            return found
        if len({zone.name for zone in found}) < len(found):
            return "two of its packages have the same name"
        self._zones = found
        return None

    def start(self, bench: Any) -> None:
        self._uncertainty = sampler.calibration(bench, UNCERTAINTY)
        self._sampler = sampler.Sampler(bench, "rapl", PERIOD_S, [zone.path for zone in self._zones])

    def stop(self) -> EnergyTrace:
        return trace(self._sampler.stop(), self._zones, self._uncertainty)


def trace(found: list[sampler.Reading], zones: list[sampler.Found], uncertainty: float = UNCERTAINTY) -> EnergyTrace:
    """Raises RunnerError."""
    t_s, values = sampler.numbers(found, len(zones), 1e-6)
    if min(values) < 0:
        raise RunnerError("a RAPL counter is negative")
    ranges = [None if zone.value is None else sampler.decimal(zone.value) for zone in zones]
    return EnergyTrace(
        kind="counter",
        clock="read",
        rails=tuple(zone.name for zone in zones),
        t_s=t_s,
        values=values,
        period_s=PERIOD_S,
        uncertainty=uncertainty,
        clock_s=sampler.STAMP_S,
        range_j=tuple(None if value is None or value <= 0 else value * 1e-6 for value in ranges),
    )


_: type[Meter] = Rapl
