"""The on-device power rail monitor of Pixel phones (6 and later): a counter of energy for each rail, in µWs.

    t=349894                                        ms since boot of the last refresh
    CH3(T=349694)[S2M_VDD_CPUCL2], 761330           ms that the rail was measured for, its name, its energy

It lies behind the battery: charging does not disturb it. A rail's power is its ΔE over its own ΔT. The driver
refreshes after 20 accumulations at the soonest (20 ms at 1 kHz, 2.6 s at 7.6 Hz), each good for ± 2.5 % of a refresh.
The energy of all rails is added up, or of those that the device's entry names: not all of a phone is measured. Which
rails are enabled can be changed; without one for each cluster of cores the sum would say nothing of a model.
sysfs is for root, on most phones. ± 1.5 %: the shunts and the converter.
Sources: AOSP IioEnergyMeterDataProvider.cpp; comments of the driver s2mpg1x_meter."""

from __future__ import annotations

import re
from typing import Any

from harness.errors import RunnerError
from harness.interfaces import EnergyTrace, Meter
from harness.measure.meters import sampler

PERIOD_S = 0.5  # one reading costs the phone 1 to 2 ms
COUNTS = 20
UNCERTAINTY = 0.015
ROOT = "it is for root: adb root on a debug build; dumpsys powerstats is not read by this version"

_RAIL = re.compile(r" CH([0-9]{1,2})\(T=([0-9]{1,13})\)\[([^\]\[]{1,64})\], ([0-9]{1,19})")
_DEVICE = re.compile(rf"t=([0-9]{{1,13}})((?:{_RAIL.pattern})+) ?")


class Odpm:
    def __init__(self) -> None:
        self._chips: list[sampler.Found] = []

    def unfit(self, bench: Any) -> str | None:
        chips = sampler.look(bench, "odpm")
        if reason := sampler.unreadable(chips, "on-device power rail monitor", ROOT):
            return reason
        self._chips = chips
        return None

    def start(self, bench: Any) -> None:
        self._clusters = len(bench.facts.clusters)
        self._wanted = sampler.rails_of(bench)
        self._uncertainty = sampler.calibration(bench, UNCERTAINTY)
        self._sampler = sampler.Sampler(bench, "odpm", PERIOD_S, [chip.path for chip in self._chips])

    def stop(self) -> EnergyTrace:
        names = [chip.name for chip in self._chips]
        found = trace(self._sampler.stop(), names, self._wanted, self._uncertainty)
        if not self._wanted and (reason := without_cores(found.rails, self._clusters)):
            raise RunnerError(reason)
        return found


def trace(
    found: list[sampler.Reading], chips: list[str], wanted: tuple[str, ...] = (), uncertainty: float = UNCERTAINTY
) -> EnergyTrace:
    """Raises RunnerError, also where a rail is missing or was not measured all the time."""
    t_s: list[float] = []
    values: list[float] = []
    rails: tuple[str, ...] | None = None
    start: dict[str, tuple[float, float]] = {}
    for reading in found:
        if "-" in reading.words:
            continue
        told = rails_of(reading.words, chips)
        if rails is not None and tuple(told) != rails:
            gone = sorted(set(rails) ^ set(told)) or list(rails)
            raise RunnerError(f"the rail {gone[0]} is missing in a reading")
        rails = tuple(told)
        for name in wanted or rails:
            if name not in told:
                raise RunnerError(f"there is no rail {name!r}; it has: {', '.join(rails[:20])}")
            refreshed_s, own_s, joules = told[name]
            first_s, first_own_s = start.setdefault(name, (refreshed_s, own_s))
            if abs((refreshed_s - first_s) - (own_s - first_own_s)) > 0.05 + 0.01 * (refreshed_s - first_s):
                raise RunnerError(f"the rail {name} was not measured all the time")
            t_s.append(first_s + own_s - first_own_s)
            values.append(joules)
    if rails is None:
        raise RunnerError("the power rail monitor could not be read during the run")
    return EnergyTrace(
        kind="counter",
        clock="own",
        rails=wanted or rails,
        t_s=tuple(t_s),
        values=tuple(values),
        period_s=PERIOD_S,
        uncertainty=uncertainty,
        clock_s=0.001,
        counts=COUNTS,
        notes={"covers": "the rails named" if wanted else "all rails that the monitor has enabled"},
    )


def without_cores(rails: tuple[str, ...], clusters: int) -> str | None:
    """Why the sum of these rails lacks cores that a model may run on, or None."""
    cores = [name for name in rails if "CPU" in name.upper()]
    if len(cores) >= max(1, clusters):
        return None
    there = ", ".join(cores) or "none"
    return (
        f"a rail is missing: it has {max(1, clusters)} clusters of cores, and of their rails {there}; "
        "to measure some rails only, name them under energy: {rails: […]}"
    )


def rails_of(words: tuple[str, ...], chips: list[str]) -> dict[str, tuple[float, float, float]]:
    """Rail -> (s since boot of the refresh, s that it was measured for, J). Raises RunnerError.

    Two chips may have rails of one name: then the chip's stands before it."""
    parts = " ".join(words).split("dev ")
    if parts[0] or len(parts) != len(chips) + 1:
        raise RunnerError(f"the power rail monitor said {sampler.clean(' '.join(words))[:100]!r}")
    out: dict[str, tuple[float, float, float]] = {}
    for chip, text in zip(chips, parts[1:], strict=True):
        match = _DEVICE.fullmatch(text)
        if match is None:
            raise RunnerError(f"the power rail monitor said {sampler.clean(text)[:100]!r}, which is not understood")
        for rail in _RAIL.finditer(match[2]):
            name = sampler.clean(rail[3])
            name = f"{chip}/{name}" if name in out else name
            if name in out or len(out) == sampler.MAX_RAILS:
                raise RunnerError(f"the power rail monitor names the rail {name} twice, or too many")
            out[name] = (int(match[1]) / 1e3, int(rail[2]) / 1e3, int(rail[4]) / 1e6)
    return out


_: type[Meter] = Odpm
