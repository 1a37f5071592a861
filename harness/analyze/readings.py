"""What a meter's stored readings are, and which of them lie within a window."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import RunnerError

TARGET = 0.02  # of a window's mean power: what its length must allow
MAX_GAPS = 3  # periods without a reading
MAX_RAILS = 64

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Source:
    """`conditions["energy"]` of a run (interfaces.EnergyTrace without its readings)."""

    source: str
    kind: str
    clock: str
    rails: tuple[str, ...]
    period_s: float
    uncertainty: float
    clock_s: float
    range_j: tuple[float | None, ...]
    counts: int
    uncalibrated: bool

    @classmethod
    def of(cls, conditions: Mapping[str, Any]) -> Source:
        """Raises RunnerError where there is no meter, or what is told of it is impossible."""
        said = conditions.get("energy")
        if not isinstance(said, Mapping):
            raise RunnerError("no meter was read beside this run")
        try:
            found = cls(
                source=str(said["source"]),
                kind=str(said["kind"]),
                clock=str(said["clock"]),
                rails=tuple(map(str, said["rails"])),
                period_s=float(said["period_s"]),
                uncertainty=float(said["uncertainty"]),
                clock_s=float(said["clock_s"]),
                range_j=tuple(None if value is None else float(value) for value in said["range_j"]),
                counts=int(said["counts"]),
                uncalibrated=said["uncalibrated"] is True,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RunnerError(f"what is told of the meter is not understood: {error}") from error
        sound = (
            found.kind in ("counter", "power")
            and found.clock in ("own", "read", "mapped")
            and 1 <= len(found.rails) <= MAX_RAILS
            and len(found.range_j) == len(found.rails) == len(set(found.rails))  # none is added up twice
            and found.counts >= 1
            and math.isfinite(found.period_s + found.uncertainty + found.clock_s)
            and min(found.period_s, found.uncertainty, found.clock_s) >= 0
        )
        if not sound:
            raise RunnerError("what is told of the meter is impossible")
        return found


@dataclass(frozen=True, kw_only=True)
class Mean:
    """Mean power over `seconds` of a window. `u_power_w`: standard uncertainty, without the meter's calibration.
    `period_s`: how often the meter has something new. `needed_s`: the least seconds for which it would be good."""

    power_w: float
    u_power_w: float
    seconds: float
    samples: int
    period_s: float
    needed_s: float


def inside(stamps: Floats, first_s: float, last_s: float, period_s: float) -> tuple[int, int]:
    """Indices of the first and the last reading within; both less than `MAX_GAPS` periods from the ends.

    Raises RunnerError where the readings do not cover it."""
    i = int(np.searchsorted(stamps, first_s, side="left"))
    j = int(np.searchsorted(stamps, last_s, side="right")) - 1
    if j <= i:
        count = max(0, j - i + 1)
        raise RunnerError(f"{count} of the meter's readings lie in the window; its period is {period_s:.2g} s")
    late, early = float(stamps[i]) - first_s, last_s - float(stamps[j])
    if max(late, early) > MAX_GAPS * period_s:
        what = f"began {late:.3g} s late" if late > early else f"ended {early:.3g} s early"
        raise RunnerError(f"the meter's readings do not cover the window: they {what}")
    return i, j
