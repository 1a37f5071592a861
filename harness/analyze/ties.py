"""What stands on the front, what nearly does, and what cannot be told from it (MEASUREMENT P1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from harness.analyze import pareto
from harness.analyze.draws import Raw
from harness.analyze.figure import Figure

Floats = NDArray[np.float64]
#: as probable as this one is better than the other, and they are told apart
SURE = 0.95
#: off the front, and as probably as this on it: undecided
UNDECIDED = 0.05


@dataclass(frozen=True, kw_only=True)
class Standing:
    """By index of the point. `on`: those of the point front -> P(on the front), None where nobody knows. `near`: others
    for which that is at least UNDECIDED. `tied`: a point of `on` -> those that cannot be told from it: in no objective
    is one of the two better with a probability of SURE."""

    on: Mapping[int, float | None]
    near: Mapping[int, float] = field(default_factory=dict)
    tied: Mapping[int, tuple[int, ...]] = field(default_factory=dict)


def standing(table: Sequence[Sequence[Figure]], metrics: Sequence[str], raw: Sequence[Raw | None]) -> Standing:
    """Of the points `table[point][objective]`.

    Where a figure has no interval no probability is known, nothing is near and nothing tied: one repeat decides
    nothing."""
    on = pareto.front([[f.oriented(f.value) for f in figures] for figures in table])
    if not pareto.known(table):
        return Standing(on=dict(zip(on, pareto.membership(table, metrics, raw, of=on), strict=True)))
    count = pareto.draws_for(len(on), len(table), len(metrics))
    return standing_of(pareto.drawn(table, metrics, raw, count, 0), on)


def standing_of(drawn: Floats, on: Sequence[int]) -> Standing:
    """Of points with joint draws `drawn` (objectives, points, draws), less is better; `on`: the point front."""
    off = sorted(set(range(drawn.shape[1])) - set(on))
    few = drawn[:, :, : pareto.draws_for(len(off), drawn.shape[1], len(drawn))]
    near = zip(off, pareto.chances(few, off), strict=True)
    return Standing(
        on=dict(zip(on, pareto.chances(drawn, on), strict=True)),
        near={i: chance for i, chance in near if chance >= UNDECIDED},
        tied={i: _tied(drawn, i) for i in on},
    )


def _tied(drawn: Floats, i: int) -> tuple[int, ...]:
    apart = np.zeros(drawn.shape[1], dtype=bool)
    for values in drawn:
        apart |= (values < values[i]).mean(axis=1) >= SURE
        apart |= (values > values[i]).mean(axis=1) >= SURE
    return tuple(int(k) for k in np.flatnonzero(~apart) if k != i)
