"""95 % intervals: over runs, within one run, of a fraction, of a paired difference, of a difference of medians.

The process run is the unit of replication: intervals over iterations are for looking at one run only.
Quantiles come from scipy.special, which loads ten times faster than scipy.stats.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from harness.analyze.stats import few, finite, lag1, sd
from harness.errors import RunnerError

Interval = tuple[float, float]
Z95 = 1.959963984540054
BATCHES = 20
FEWEST_BATCHES = 5  # below, the t-interval is so wide that it says nothing
CORRELATED = 0.1  # from this lag-1 autocorrelation on, order statistics are too narrow


@lru_cache(maxsize=1024)
def t_quantile(df: int) -> float:
    """The 97.5 % quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(df, 0.975))


def covering(interval: Interval, estimate: float) -> Interval:
    """The interval, widened where needed so that it holds the estimate printed beside it."""
    return min(interval[0], estimate), max(interval[1], estimate)


def over_runs(run_values: Sequence[float], estimate: float | None = None) -> Interval | None:
    """t-interval over one figure per run, on logarithms where all are positive (then it is of the geometric mean).

    None for fewer than 2 runs. `estimate` (default the median of the runs) is always inside."""
    values = few(run_values, "interval over runs")
    if len(values) < 2:
        return None
    logs = min(values) > 0
    scale = [math.log(v) for v in values] if logs else values
    centre = statistics.fmean(scale)
    half = t_quantile(len(values) - 1) * sd(scale) / math.sqrt(len(values))
    low, high = centre - half, centre + half
    if logs:
        low, high = math.exp(low), math.exp(min(high, 700.0))  # exp(710) overflows
    return covering((low, high), statistics.median(values) if estimate is None else estimate)


def batch_interval(samples: ArrayLike, batches: int | None = None) -> Interval | None:
    """t-interval over the medians of consecutive batches: honest for autocorrelated samples of one run.

    None with fewer than 2 samples for each of 20. `batches`: by default `batches_of` the samples. With 2 % spikes it
    covers, at lag-1 0/.6/.9 (simulated): 95/95/93 % at n = 200, 95/95/94.5 % from n = 1000 on."""
    array = finite(samples, "batch interval")
    if array.size < 2 * BATCHES:
        return None
    count = batches_of(array) if batches is None else batches
    medians = [float(np.median(part)) for part in np.array_split(array, count)]
    half = t_quantile(count - 1) * sd(medians) / math.sqrt(count)
    centre = statistics.fmean(medians)
    return covering((centre - half, centre + half), float(np.median(array)))


def batches_of(samples: ArrayLike) -> int:
    """How many batches are nearly independent of each other: 20, or as many (at least 5) as are 20 correlation times
    long. That time is (1 + r) / (1 - r) for the autoregression of first order with lag-1 correlation r."""
    array = finite(samples, "batches")
    r = max(0.0, rank_lag1(array))
    return max(FEWEST_BATCHES, min(BATCHES, int(array.size * (1 - r) / (20 * (1 + r)))))


def rank_lag1(samples: ArrayLike) -> float:
    """`lag1` of the ranks (ties share theirs): a few spikes cannot hide what correlates the rest."""
    _, place, counts = np.unique(finite(samples, "autocorrelation"), return_inverse=True, return_counts=True)
    return lag1((np.cumsum(counts) - (counts - 1) / 2)[place.reshape(-1)])


def order_interval(samples: ArrayLike) -> Interval | None:
    """Order-statistic interval of the median for independent samples: ranks of the binomial (n, 1/2).

    None below 6 samples, for which no 95 % interval exists."""
    ordered = np.sort(finite(samples, "order interval"))
    n = ordered.size
    if n < 6:
        return None
    # the largest k with P(Bin(n, 1/2) < k) <= 0.025
    low, high = 1, n // 2
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _binomial_half(n, middle - 1) <= 0.025 else (low, middle - 1)
    return float(ordered[low - 1]), float(ordered[n - low])


def _binomial_half(n: int, k: int) -> float:
    from scipy.special import bdtr

    return float(bdtr(k, n, 0.5))


def within_run(samples: ArrayLike) -> Interval | None:
    """Interval of one run's median: batch medians where the samples are correlated, else order statistics."""
    return batch_interval(samples) if rank_lag1(samples) >= CORRELATED else order_interval(samples)


def wilson(successes: float, n: int) -> Interval:
    """Wilson's score interval of a fraction (1927). Raises RunnerError for impossible counts."""
    if n < 1 or not 0 <= successes <= n:
        raise RunnerError(f"{successes} of {n} samples is not a fraction")
    p, z2 = successes / n, Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return covering((max(0.0, centre - half), min(1.0, centre + half)), p)


def paired_difference(reference: ArrayLike, variant: ArrayLike) -> Interval | None:
    """Interval of mean(reference) - mean(variant) over the same samples, in the scores' unit.

    Scores of only 0 and 1: Newcombe's square-and-add interval for paired proportions (Stat. Med. 17, 1998,
    method 10). With p1, p2 the fractions, (l, u) their Wilson intervals, and phi the correlation of the two
    columns, its numerator ad - bc less n/2 but not below 0 where positive:
        lower = d - √((p1 - l1)² - 2 phi (p1 - l1)(u2 - p2) + (u2 - p2)²)
        upper = d + √((u1 - p1)² - 2 phi (u1 - p1)(p2 - l2) + (p2 - l2)²)
    so that two variants which agree on every sample still get the width that so many samples allow.
    Other scores: d ± t · sd(differences) / √n; of zero width where all differences are equal,
    None for one sample.
    Raises RunnerError where the two do not have the same length, or scores are not finite."""
    one, two = finite(reference, "reference scores"), finite(variant, "scores")
    if one.size != two.size:
        raise RunnerError(f"{two.size} scores cannot be paired with the reference's {one.size}")
    if np.isin(one, (0.0, 1.0)).all() and np.isin(two, (0.0, 1.0)).all():
        return _newcombe(one > 0.5, two > 0.5)
    difference = one - two
    centre = float(difference.mean())
    if difference.size < 2:
        return None
    half = t_quantile(difference.size - 1) * float(difference.std(ddof=1)) / math.sqrt(difference.size)
    return centre - half, centre + half


def _newcombe(one: np.ndarray, two: np.ndarray) -> Interval:
    n = one.size
    a, b = int((one & two).sum()), int((one & ~two).sum())
    c, d = int((~one & two).sum()), int((~one & ~two).sum())
    p1, p2 = (a + b) / n, (a + c) / n
    (l1, u1), (l2, u2) = wilson(a + b, n), wilson(a + c, n)
    numerator: float = a * d - b * c
    if numerator > 0:
        numerator = max(0.0, numerator - n / 2)
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    phi = numerator / math.sqrt(margins) if margins else 0.0
    difference = (b - c) / n
    low = (p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2
    high = (u1 - p1) ** 2 - 2 * phi * (u1 - p1) * (p2 - l2) + (p2 - l2) ** 2
    return max(-1.0, difference - math.sqrt(max(0.0, low))), min(1.0, difference + math.sqrt(max(0.0, high)))


def difference_of(one: float, one_ci: Interval, two: float, two_ci: Interval) -> Interval:
    """Interval of one - two for independent estimates, from their intervals (MOVER: Zou and Donner 2008)."""
    difference = one - two
    low = math.hypot(one - one_ci[0], two_ci[1] - two)
    high = math.hypot(one_ci[1] - one, two - two_ci[0])
    return difference - low, difference + high
