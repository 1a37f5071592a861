"""Mean power from counters of energy, rail by rail: unwrapped first, added up last.

Two readings suffice, and the energy between them is whole; what is uncertain is when they were true. A counter with
stamps of its own is good to an accumulation at each end. One without is stamped by when a change of it was seen: good
to the time between two looks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.analyze.readings import MAX_GAPS, TARGET, Floats, Mean, Source, inside
from harness.errors import RunnerError

LEAST_COUNTS = 50  # accumulations of a counter with its own stamps: ± 1 %
RESET = 5.0  # times the highest power seen: what a counter that was set to 0 would pretend at its "wrap"


@dataclass(frozen=True, kw_only=True)
class Rail:
    """One rail's power, its standard uncertainty, and what that stands on; `period_s` 0 for one that never moved."""

    power_w: float
    u_power_w: float
    seconds: float
    samples: int
    period_s: float


def counted(source: Source, t_s: Floats, values: Floats, start_s: float, end_s: float) -> Mean:
    """`t_s`, `values` (J) of shape (readings, rails). Raises RunnerError for gaps, resets, and counters that stand."""
    rails = []
    for index, name in enumerate(source.rails):
        try:
            joules = unwrapped(t_s[:, index], values[:, index], source.range_j[index])
            rails.append(_rail(source, t_s[:, index], joules, start_s, end_s))
            if rails[-1].period_s <= 0:  # not even its own clock went on: that is no rail without power
                raise RunnerError("the counter stood still")
        except RunnerError as error:
            raise RunnerError(f"{name}: {error.what}" if len(source.rails) > 1 else error.what) from error
    if not any(rail.power_w for rail in rails):
        raise RunnerError("the counter stood still")
    period_s = max(rail.period_s for rail in rails)
    own = source.clock != "read"
    return Mean(
        power_w=sum(rail.power_w for rail in rails),
        u_power_w=sum(rail.u_power_w for rail in rails),  # all rails are read at once: they err together
        seconds=min(rail.seconds for rail in rails),
        samples=min(rail.samples for rail in rails),
        period_s=period_s,
        needed_s=LEAST_COUNTS * period_s / source.counts if own else period_s / TARGET,
    )


def unwrapped(t_s: Floats, joules: Floats, range_j: float | None) -> Floats:
    """The counter as if it had no end. Raises RunnerError where it went back though it has no range, or so that it
    must have been set back rather than wrapped."""
    steps = np.diff(joules)
    back = steps < 0
    if not back.any():
        return joules
    if range_j is None or range_j <= 0 or float(joules.max()) > range_j:
        raise RunnerError("the counter went back, and its range is not known")
    steps = np.where(back, steps + range_j, steps)
    watts = steps / np.maximum(np.diff(t_s), 1e-3)
    if back.all() or float(watts[back].max()) > RESET * float(watts[~back].max()):
        raise RunnerError("the counter was set back during the run")
    return np.asarray(np.concatenate(([joules[0]], joules[0] + np.cumsum(steps))), dtype=np.float64)


def _rail(source: Source, t_s: Floats, joules: Floats, start_s: float, end_s: float) -> Rail:
    own = source.clock != "read"
    new = np.flatnonzero(np.diff(t_s if own else joules) > 0) + 1
    if new.size == 0:
        return Rail(power_w=0.0, u_power_w=0.0, seconds=0.0, samples=0, period_s=0.0)
    kept, energy = t_s[new], joules[new]
    span_s = float(t_s[-1] - t_s[0])
    period_s = float(np.median(np.diff(kept))) if new.size > 3 else span_s / (new.size + 1)
    looks = kept if own else np.unique(t_s)
    looks_s = float(np.median(np.diff(looks))) if looks.size > 1 else period_s
    if period_s <= 0:
        raise RunnerError("the counter's stamps do not go on")
    guard_s = period_s + (source.clock_s if source.clock == "mapped" else 0.0)
    i, j = inside(kept, start_s + guard_s, end_s - guard_s, period_s)
    within = looks[(looks >= kept[i]) & (looks <= kept[j])]
    seconds = float(kept[j] - kept[i])
    if seconds <= 0:
        raise RunnerError("the counter's stamps do not go on")
    gap_s = float(np.diff(within).max())
    if gap_s > MAX_GAPS * looks_s:
        raise RunnerError(f"the meter was silent for {gap_s:.3g} s of the window; its period is {looks_s:.3g} s")
    power_w = float(energy[j] - energy[i]) / seconds
    quantum_s = period_s / source.counts if own else looks_s
    stamp_s = 0.0 if source.clock == "mapped" else source.clock_s  # the same at both ends
    edge_s = math.sqrt((quantum_s**2 + stamp_s**2) / 12)  # anywhere within, with equal chance
    return Rail(
        power_w=power_w,
        u_power_w=math.sqrt(2) * edge_s * power_w / seconds,
        seconds=seconds,
        samples=j - i + 1,
        period_s=period_s,
    )
