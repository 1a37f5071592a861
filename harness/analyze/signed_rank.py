"""Hodges and Lehmann's estimate with Wilcoxon's signed-rank test: the robust twin of a paired t-test.

One wild block moves a mean and widens its interval; these it hardly touches. Hodges and Lehmann, Ann. Math. Stat. 34
(1963): the median of all Walsh averages (x_i + x_j) / 2, i ≤ j; the interval ends at those averages whose ranks are
the test's quantiles. Wilcoxon, Biometrics 1 (1945): exact here, by counting the sign patterns, ties included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.analyze.intervals import Interval

#: 5 pairs cannot reach p < 0.0625, and have no 95 % interval
FEWEST = 6
#: beyond it the counts are not made, and the normal approximation is good to three digits
_EXACT = 100
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class SignedRank:
    """In the unit of the differences."""

    estimate: float
    interval: Interval
    p_value: float


def signed_rank(differences: Sequence[float]) -> SignedRank | None:
    """Two-sided, about 0, at 95 %. None for fewer than 6 differences."""
    values = np.asarray(differences, dtype=np.float64)
    if values.size < FEWEST:
        return None
    i, j = np.triu_indices(values.size)
    walsh = np.sort((values[i] + values[j]) / 2)
    k = _rank(values.size)
    return SignedRank(
        estimate=float(np.median(walsh)),
        interval=(float(walsh[k - 1]), float(walsh[walsh.size - k])),
        p_value=_p_value(values),
    )


def _rank(n: int) -> int:
    """The interval ends at the k-th average from either side: the largest k with P(W < k) ≤ 0.025."""
    doubled = 2 * np.arange(1, n + 1, dtype=np.float64)
    if n > _EXACT:
        mean, variance = _moments(doubled)
        return int((mean - 1.959963984540054 * variance**0.5) / 2)
    below = np.cumsum(_distribution(doubled)[::2])  # P(W ≤ 0), P(W ≤ 1), …
    return int(np.searchsorted(below, 0.025, side="right"))


def _p_value(values: Floats) -> float:
    """Differences of 0 say nothing of a direction and are left out (Wilcoxon's way)."""
    from scipy.special import ndtr

    moved = values[values != 0]
    if moved.size == 0:
        return 1.0
    doubled = _doubled_ranks(np.abs(moved))
    statistic = min(float(doubled[moved > 0].sum()), float(doubled[moved < 0].sum()))
    if moved.size > _EXACT:
        mean, variance = _moments(doubled)
        return min(1.0, 2 * float(ndtr((statistic + 1 - mean) / variance**0.5)))  # + 1: continuity, of doubled ranks
    return min(1.0, 2 * float(_distribution(doubled)[: round(statistic) + 1].sum()))


def _doubled_ranks(values: Floats) -> Floats:
    """Twice the mid-rank: whole numbers also for ties."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    doubled: Floats = (2 * np.cumsum(counts) - counts + 1).astype(np.float64)[place.reshape(-1)]
    return doubled


def _distribution(doubled: Floats) -> Floats:
    """P(sum of the doubled ranks with a positive sign = s), s = 0 …: each sign is as likely as the other."""
    chances = np.zeros(int(doubled.sum()) + 1)
    chances[0] = 1.0
    for rank in doubled.astype(int):
        shifted = np.zeros_like(chances)
        shifted[rank:] = chances[: chances.size - rank]
        chances = (chances + shifted) / 2
    return chances


def _moments(doubled: Floats) -> tuple[float, float]:
    return float(doubled.sum()) / 2, float((doubled**2).sum()) / 4
