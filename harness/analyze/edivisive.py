"""Where a series of releases changed its level: E-divisive with guards. Pure.

Matteson and James (J. Am. Stat. Assoc. 109, 2014) with alpha = 1. A stretch [start, stop) is cut at `at`, and what lies
before is compared with [at, end), where the energy statistic is largest over all `at` and `end`:

    q = mn / (m + n) · (2/(mn) Σ |x - y| - 2/(m(m-1)) Σ |x - x'| - 2/(n(n-1)) Σ |y - y'|)

x the m values before, y the n values behind, each pair counted once; then both sides of the cut are searched likewise.
(`end` is what finds a change that was taken back: without it the few releases between drown in those behind them.)

Their permutation test is replaced by four guards (MEASUREMENT 5.3), all of which a cut must pass: Student's t
p ≤ 1e-4, which is that low because the cut was sought out; Mann-Whitney p ≤ 0.01, which a single wild release cannot
pass; medians apart by the practical threshold; at least 3 releases on each side. The rank test bounds what can be found
at all: with 3 releases behind it needs 9 before (2/C(12, 3) = 0.009), with 4 behind 6 before.

Where each point is divided by a reference as noisy as itself, p ≤ 1e-4 finds a step of 5 % within three releases in
70–86 of 100 series only. So one cut more is tried, which is not sought out: that with exactly the newest 3 releases
behind it, for a change to the worse, and there p ≤ 5e-4 is enough (`NEWEST_P`; benchmarks/proof/tracking.py measures
what both do)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.analyze.paired import PRACTICAL
from harness.analyze.stats import finite

MIN_SIDE = 3
T_P = 1e-4
NEWEST_P = 5e-4
RANK_P = 0.01
EXACT_UP_TO = 8  # releases on the shorter side; beyond, ranks are as good as normal (as in scipy.stats)
_ROUNDING = 1e-12  # relative: a spread, or a difference of means, that is rounding alone
_TIE = 1e-9  # relative: statistics closer than this are equal, and the earliest cut is taken
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Split:
    """`at`: index of the first value that has changed. `ratio`: median behind / median before, of what was compared;
    `p_value`: Student's."""

    at: int
    ratio: float
    p_value: float


def change_points(values: ArrayLike, threshold: float = PRACTICAL, *, rising_is_worse: bool = True) -> list[Split]:
    """The change points of (n,) values, oldest first. `threshold`: the practical relative change.

    None are found behind values whose median is not positive: there is no ratio to it. Raises RunnerError for a value
    that is not finite."""
    x = np.asarray(values, dtype=np.float64).reshape(-1)
    if x.size < 2 * MIN_SIDE:
        return []
    x = finite(x, "series")
    low, high = float(x.min()), float(x.max())
    if low > 0 and high < low * (1 + threshold):  # no two medians can be further apart
        return []
    sums = _pair_sums(x)
    found: list[Split] = []
    stretches = [(0, x.size)]
    while stretches:
        start, stop = stretches.pop()
        if stop - start < 2 * MIN_SIDE:
            continue
        at, end = _best(sums, start, stop)
        if split := _guarded(x, start, at, end, T_P, threshold):
            found.append(split)
            stretches += [(start, at), (at, stop)]
    found.sort(key=lambda split: split.at)
    newest = _newest(x, found[-1].at if found else 0, threshold, rising_is_worse)
    return [*found, newest] if newest else found


def changed(before: float, behind: float, threshold: float) -> bool:
    """Whether two levels are apart by the threshold, taken as a factor so that up and down are alike."""
    return before > 0 and not before / (1 + threshold) < behind < before * (1 + threshold)


def _newest(x: Floats, start: int, threshold: float, rising_is_worse: bool) -> Split | None:
    at = x.size - MIN_SIDE
    if at - start < MIN_SIDE:
        return None
    split = _guarded(x, start, at, x.size, NEWEST_P, threshold)
    return split if split and (split.ratio > 1) == rising_is_worse else None


def _pair_sums(x: Floats) -> Floats:
    """(n + 1, n + 1): at [i, j] the sum of |x_a - x_b| over a < i and b < j; any block's sum is made of four."""
    centred = x - np.median(x)
    sums = np.zeros((x.size + 1, x.size + 1))
    np.abs(centred[:, None] - centred[None, :]).cumsum(axis=0).cumsum(axis=1, out=sums[1:, 1:])
    return sums


def _best(sums: Floats, start: int, stop: int) -> tuple[int, int]:
    """(at, end) with the largest statistic, the earliest where several are equal."""
    cuts, ends = slice(start + MIN_SIDE, stop - MIN_SIDE + 1), slice(start + 2 * MIN_SIDE, stop + 1)
    at, end = np.arange(cuts.start, cuts.stop)[:, None], np.arange(ends.start, ends.stop)[None, :]
    m, n = at - start, np.maximum(end - at, MIN_SIDE)  # where `end` comes too early, it is taken out below
    to_both, within = sums[cuts, ends], sums.diagonal()
    to_at, all_before, all_to_end = sums[start, cuts, None], within[cuts, None], within[None, ends]
    before = all_before - 2 * to_at + within[start]
    behind = all_to_end - 2 * to_both + all_before
    across = to_both - sums[start, None, ends] - all_before + to_at
    q = m * n / (m + n) * (2 * across / (m * n) - before / (m * (m - 1)) - behind / (n * (n - 1)))
    q = np.where(end - at >= MIN_SIDE, q, -np.inf)
    highest = float(q.max())
    row, column = divmod(int(np.argmax(q >= highest - _TIE * abs(highest))), q.shape[1])
    return cuts.start + row, ends.start + column


def _guarded(x: Floats, start: int, at: int, end: int, t_p: float, threshold: float) -> Split | None:
    before, behind = x[start:at], x[at:end]
    p_value = _student_p(before, behind)
    if p_value > t_p:
        return None
    one, two = float(np.median(before)), float(np.median(behind))
    if not changed(one, two, threshold) or rank_p(before, behind) > RANK_P:
        return None
    return Split(at=at + _lead(behind, one, two), ratio=two / one, p_value=p_value)


def _lead(behind: Floats, one: float, two: float) -> int:
    """How many of the first values behind a cut are nearer to the level before it: with 3 behind at the end of a series
    the cut cannot lie where two releases have changed, and would name the last one that had not."""
    nearer = np.abs(behind - one) < np.abs(behind - two)
    return int(np.argmin(nearer))


def _student_p(before: Floats, behind: Floats) -> float:
    """Two-sided, of Student's t with the pooled variance; 0 where levels differ that have no spread at all."""
    from scipy.special import stdtr

    m, n = before.size, behind.size
    one, two = float(before.mean()), float(behind.mean())
    squares = float(((before - one) ** 2).sum() + ((behind - two) ** 2).sum())
    error = math.sqrt(squares / (m + n - 2) * (1 / m + 1 / n))
    rounding = _ROUNDING * max(abs(one), abs(two))
    if error <= rounding:
        return 0.0 if abs(two - one) > rounding else 1.0
    return 2 * float(stdtr(m + n - 2, -abs(two - one) / error))


def rank_p(before: Floats, behind: Floats) -> float:
    """Two-sided p-value of Mann and Whitney's test (1947): exact where nothing is tied and a side is short, else normal
    with corrections for continuity and ties."""
    from scipy.special import ndtr

    m, n = before.size, behind.size
    ordered = np.sort(before)
    below = int(np.searchsorted(ordered, behind, "left").sum())
    u = (below + int(np.searchsorted(ordered, behind, "right").sum())) / 2  # an equal pair counts half
    u = min(u, m * n - u)
    counts = np.unique(np.concatenate((before, behind)), return_counts=True)[1]
    if counts.size == m + n and min(m, n) <= EXACT_UP_TO:
        return min(1.0, 2 * float(_share_up_to(min(m, n), max(m, n))[int(u)]))
    ties = float((counts.astype(np.float64) ** 3 - counts).sum()) / ((m + n) * (m + n - 1))
    spread = math.sqrt(m * n / 12 * (m + n + 1 - ties))
    return min(1.0, 2 * float(ndtr(-(m * n / 2 - u - 0.5) / spread))) if spread > 0 else 1.0


@lru_cache(maxsize=4096)
def _share_up_to(short: int, long: int) -> Floats:
    """(short · long + 1,): of all orders of so many values, the share whose U is at most the index.

    The counts are the coefficients of the Gaussian binomial: the product over i = 1 … short of
    (1 - q^(long + i)) / (1 - q^i), each factor of which leaves whole numbers."""
    counts = np.zeros(short * long + 1, dtype=np.int64)
    counts[0] = 1
    for i in range(1, short + 1):
        if counts.size > long + i:
            counts[long + i :] -= counts[: counts.size - long - i].copy()
        for first in range(i):
            counts[first::i] = np.cumsum(counts[first::i])
    return np.cumsum(counts) / math.comb(short + long, short)
