"""Energy from a meter's raw readings: which of them lie in the window, the mean power there, and how sure it is. Pure,
and done once, here (counters: `counters.py`).

The window is the runner's own, to the nanosecond, on the device's CLOCK_BOOTTIME, as the readings' stamps are. At each
edge a guard band of one period of the meter is left out: what a reading averages over never reaches over the edge. A
window too short for its meter is refused, with the seconds that would do: a number that is 7 % off by when a counter
happened to refresh is no measurement."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.analyze.counters import counted
from harness.analyze.intervals import Z95, t_quantile
from harness.analyze.readings import MAX_GAPS, TARGET, Floats, Mean, Source, inside
from harness.analyze.stats import lag1
from harness.errors import RunnerError
from harness.types import Run

LEAST_S = 10.0
LEAST_INFERENCES = 10
LONGEST_S = 3600.0  # measure.energy_seconds can be
HIGHEST_W = 10_000.0  # no device that this measures takes more


@dataclass(frozen=True, kw_only=True)
class Window:
    """The runner's: seconds since boot, and the inferences between; none in an idle one."""

    start_s: float
    end_s: float
    inferences: int

    @property
    def seconds(self) -> float:
        return self.end_s - self.start_s


def window(run: Run) -> Mapping[str, Any]:
    """`Run.summary` of an idle or energy run: what the meter says of exactly the runner's window.

    power_w: mean, idle included; u_power_w: its standard uncertainty without the meter's calibration; seconds: of the
    window; energy_j: in all of it; metered_s: of it, what the readings used span; samples: how many; period_s: the
    meter's own; inferences; latency_ms: median of an energy run's own samples, absent without any.
    Raises RunnerError with the reason why there is no number."""
    source, wanted = Source.of(run.conditions), window_of(run.conditions)
    t_s, values = shaped(run, source)
    mean = (counted if source.kind == "counter" else sampled)(source, t_s, values, wanted.start_s, wanted.end_s)
    _long_enough(mean, wanted)
    if not source.uncalibrated and not 0 < mean.power_w < HIGHEST_W:
        raise RunnerError(f"the meter says {mean.power_w:.3g} W")
    found: dict[str, Any] = {
        "power_w": mean.power_w,
        "u_power_w": mean.u_power_w,
        "energy_j": mean.power_w * wanted.seconds,
        "seconds": wanted.seconds,
        "metered_s": mean.seconds,
        "samples": mean.samples,
        "period_s": mean.period_s,
        "inferences": wanted.inferences,
    }
    latencies = run.arrays.get("latency_ns")
    if latencies is not None and latencies.size:
        found["latency_ms"] = float(np.median(latencies)) / 1e6
    return found


def window_of(conditions: Mapping[str, Any]) -> Window:
    """Raises RunnerError where the runner did not tell its window, or a possible one."""
    said = conditions.get("window")
    line = said[0] if isinstance(said, list | tuple) and len(said) == 1 else None
    keys = ("start_boottime_ns", "end_boottime_ns", "inferences")
    told = [line.get(key) for key in keys] if isinstance(line, Mapping) else []
    numbers = [n for n in told if type(n) is int and 0 <= n < 1 << 62]
    if len(numbers) != len(keys):
        raise RunnerError("the runner did not tell its window")
    found = Window(start_s=numbers[0] / 1e9, end_s=numbers[1] / 1e9, inferences=numbers[2])
    if found.seconds <= 0:
        raise RunnerError("the runner's window ends before it begins")
    return found


def shaped(run: Run, source: Source) -> tuple[Floats, Floats]:
    """(stamps, values), both of shape (readings, rails). Raises RunnerError where they do not fit together."""
    rails = len(source.rails)
    values = np.asarray(run.arrays.get("energy_values", ()), dtype=np.float64).reshape(-1)
    stamps = np.asarray(run.arrays.get("energy_t_s", ()), dtype=np.float64).reshape(-1)
    count = values.size // rails
    if values.size != count * rails or stamps.size not in (count, count * rails) or count < 2:
        raise RunnerError(f"the meter gave {values.size} values of {rails} rails at {stamps.size} times")
    if not np.isfinite(values).all() or not np.isfinite(stamps).all():
        raise RunnerError("the meter's readings are not finite")
    each = stamps if stamps.size == count * rails else np.repeat(stamps, rails)
    t_s = each.reshape(count, rails)
    if (np.diff(t_s, axis=0) < 0).any():
        raise RunnerError("the meter's stamps go back in time")
    return t_s, values.reshape(count, rails)


def sampled(source: Source, t_s: Floats, values: Floats, start_s: float, end_s: float) -> Mean:
    """Mean of sampled power, weighted by time (trapezoid on the stamps). Raises RunnerError for a gap.

    Its standard uncertainty is σ/√n, widened for samples that correlate (first-order autoregression): n shrinks by
    (1 - r) / (1 + r); and for few of them by Student's t over the normal's quantile, so that ± 1.96 of it covers. So
    many seconds are needed as make σ/√n `TARGET` of the mean."""
    stamps, first = np.unique(t_s[:, 0], return_index=True)  # two readings within one step of the clock are one
    watts = values.sum(axis=1)[first]
    update_s = update_interval(stamps, watts)
    period_s = float(np.median(np.diff(stamps))) if stamps.size > 1 else source.period_s
    guard_s = max(period_s, update_s) + source.clock_s
    i, j = inside(stamps, start_s + guard_s, end_s - guard_s, max(period_s, update_s))
    gaps = np.diff(stamps[i : j + 1])
    if gaps.max() > MAX_GAPS * period_s:
        raise RunnerError(f"the meter was silent for {gaps.max():.3g} s of the window; its period is {period_s:.3g} s")
    used, seconds = watts[i : j + 1], float(stamps[j] - stamps[i])
    power_w = float(((used[1:] + used[:-1]) / 2 @ gaps) / seconds)
    sd = float(used.std(ddof=1))
    r = lag1(used)
    r = min(max(r + (1 + 3 * r) / used.size, 0.0), 0.99)  # what a finite series has too little of it (Kendall 1954)
    shrunk = (1 + r) / (1 - r)
    needed_s = (sd / (TARGET * abs(power_w))) ** 2 * shrunk * seconds / used.size if power_w else 0.0
    return Mean(
        power_w=power_w,
        u_power_w=sd * math.sqrt(shrunk / used.size) * t_quantile(max(1, round(used.size / shrunk) - 1)) / Z95,
        seconds=seconds,
        samples=int(used.size),
        period_s=max(period_s, update_s),
        needed_s=needed_s,
    )


def update_interval(stamps: Floats, watts: Floats) -> float:
    """How often the source has something new, in s, where it is read more often than that: the median time from one
    change to the next. 0 for values that never change."""
    changes = np.flatnonzero(np.diff(watts) != 0) + 1
    if changes.size == 0:
        return 0.0
    if changes.size < 3:
        return float(stamps[-1] - stamps[0]) / (changes.size + 1)
    return float(np.median(np.diff(stamps[changes])))


def _long_enough(mean: Mean, wanted: Window) -> None:
    needed_s = max(LEAST_S, mean.needed_s)
    if wanted.inferences:
        needed_s = max(needed_s, LEAST_INFERENCES * wanted.seconds / wanted.inferences)
    if mean.seconds < needed_s:
        whole = math.ceil(needed_s + (wanted.seconds - mean.seconds))
        if whole > LONGEST_S:
            raise RunnerError(f"the power varies so much that {needed_s:.0f} s would be needed: what else runs there?")
        raise RunnerError(
            f"the window is too short: the meter (period {mean.period_s:.2g} s) has {mean.seconds:.1f} s of it, and "
            f"needs {needed_s:.1f} s; measure.energy_seconds: {whole}"
        )
