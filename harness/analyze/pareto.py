"""The front: results that no other result beats in every objective, and how sure that is.

Values are oriented so that less is better. Only finite values come in: a missing objective is not zero
(`objectives.ranked` keeps such results out).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.analyze.draws import Raw, draw
from harness.analyze.figure import Figure
from harness.errors import HarnessError

Floats = NDArray[np.float64]
DRAWS = 2000
_WORK = 40_000_000  # comparisons: with many points fewer draws are made


def front(points: ArrayLike) -> list[int]:
    """Indices of the points that none dominates, in the order given; equal points stand or fall together.

    A point dominates another where it is nowhere worse and somewhere better (less is better).

    Raises HarnessError for NaN or infinity."""
    values = _points(points)
    return [] if not values.size else [i for i in range(len(values)) if not _beaten(values, i)]


def _beaten(values: Floats, i: int) -> bool:
    return bool(((values <= values[i]).all(axis=1) & (values < values[i]).any(axis=1)).any())


def _points(points: ArrayLike) -> Floats:
    values = np.asarray(points, dtype=np.float64)
    if not np.isfinite(values).all():
        raise HarnessError("a front cannot be made of values that are NaN or infinite")
    return values


def membership(
    table: Sequence[Sequence[Figure]],
    metrics: Sequence[str],
    raw: Sequence[Raw | None] | None = None,
    *,
    of: Sequence[int] | None = None,
    seed: int = 0,
) -> list[float | None]:
    """Probability of being on the front, for the points `of` (default all); `table[point][objective]`.

    None where there are several points and some figure has no interval: then nobody knows."""
    asked = list(range(len(table))) if of is None else list(of)
    if len(table) == 1:
        return [1.0 for _ in asked]
    if not known(table):
        return [None for _ in asked]
    count = draws_for(len(asked), len(table), len(metrics))
    return [*chances(drawn(table, metrics, raw or [None] * len(table), count, seed), asked)]


def known(table: Sequence[Sequence[Figure]]) -> bool:
    """Whether every figure has an interval."""
    return all(f.low is not None for point in table for f in point)


def draws_for(asked: int, points: int, objectives: int) -> int:
    """How many draws so many questions get."""
    return int(min(DRAWS, max(200, _WORK // max(1, asked * points * objectives))))


def chances(drawn: Floats, of: Sequence[int]) -> list[float]:
    """Probability of being on the front, of the points `of`. `drawn` (objectives, points, draws), less is better."""
    return [1.0 - _beaten_share(drawn, i) for i in of]


def drawn(
    table: Sequence[Sequence[Figure]], metrics: Sequence[str], raw: Sequence[Raw | None], count: int, seed: int
) -> Floats:
    """(objectives, points, count), less is better. Points are drawn in the order of their values, so that the
    answer does not hang on the order in which they were given."""
    rng = np.random.default_rng(seed)
    order = sorted(range(len(table)), key=lambda i: [(f.value, f.low, f.high) for f in table[i]])
    out = np.empty((len(metrics), len(table), count))
    for k, metric in enumerate(metrics):
        column = [table[i][k] for i in order]
        values = draw(column, metric, [raw[i] for i in order], count, rng).T
        sign = np.array([1.0 if f.lower_is_better else -1.0 for f in column])
        out[k, order] = values * sign[:, None]
    return out


def _beaten_share(drawn: Floats, i: int) -> float:
    """Share of the draws in which some point dominates point i."""
    no_worse = np.ones(drawn.shape[1:], dtype=bool)
    better = np.zeros(drawn.shape[1:], dtype=bool)
    for values in drawn:
        no_worse &= values <= values[i]
        better |= values < values[i]
    return float((no_worse & better).any(axis=0).mean())
