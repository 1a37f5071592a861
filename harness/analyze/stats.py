"""One run's samples in figures: percentiles, spread, modes, outliers. No sample is ever left out silently.

Sources: the percentile rule and the outlier limit are those of hyperfine and of order-statistic bounds
(a two-sided 95 % bound for the q-quantile exists once q**n < 0.025).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.errors import RunnerError

#: percentile -> (quantile, fewest samples for which a 95 % order-statistic bound exists: 0.9**36 < 0.025 and so on)
PERCENTILES: Mapping[str, tuple[float, int]] = {
    "p50": (0.5, 1),
    "p90": (0.9, 36),
    "p95": (0.95, 72),
    "p99": (0.99, 368),
}
QUANTILES = 101
NOISY_CV = 0.02
DRIFT_LAG1 = 0.8
OUTLIER_Z = 14.8  # hyperfine's limit for the modified z
NS_PER_MS = 1e6

Floats = NDArray[np.float64]


def finite(values: ArrayLike, what: str) -> Floats:
    """`values` as a flat float64 array. Raises RunnerError when there is none, or one is NaN or infinite."""
    array = np.asarray(values, dtype=np.float64).reshape(-1)
    if array.size == 0:
        raise RunnerError(f"{what}: there is no value")
    if not np.isfinite(array).all():
        raise RunnerError(f"{what}: {int((~np.isfinite(array)).sum())} of {array.size} values are not finite")
    return array


def few(values: Sequence[float], what: str) -> list[float]:
    """`finite` for a handful of figures (one per run), which may be none; numpy is slow for so few."""
    if not all(map(math.isfinite, values)):
        raise RunnerError(f"{what}: a value is not finite")
    return [float(v) for v in values]


def sd(values: Sequence[float]) -> float:
    """Sample standard deviation of at least two values (statistics.stdev is exact, and 20 times slower)."""
    mean = statistics.fmean(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


def percentiles(values: ArrayLike) -> dict[str, float]:
    """p50 p90 p95 p99 in the unit of `values`; only those that so many values can bear are in the answer."""
    array = finite(values, "percentiles")
    asked = {name: q for name, (q, least) in PERCENTILES.items() if array.size >= least}
    return dict(zip(asked, map(float, np.quantile(array, list(asked.values()))), strict=True))


def summary(samples_ns: ArrayLike) -> dict[str, Any]:
    """`Run.summary` of one run's steady samples, in ns as they came, in order.

    n; p50 p90 p95 p99 (absent where n is too small), mean, min and sd in ms (sd 0 for one sample); `quantiles`:
    101 values in ms at 0, 0.01 … 1; `lag1` (absent below 3 samples); `outliers`; `bimodal`.
    Raises RunnerError for no samples, and for negative or non-finite ones."""
    samples = finite(samples_ns, "latency samples")
    if float(samples.min()) < 0:
        raise RunnerError("latency samples: a duration is negative")
    samples = samples / NS_PER_MS
    quantiles = np.quantile(samples, np.linspace(0.0, 1.0, QUANTILES))
    figures: dict[str, Any] = {
        "n": int(samples.size),
        **percentiles(samples),
        "mean": float(samples.mean()),
        "min": float(samples.min()),
        "sd": float(samples.std(ddof=1)) if samples.size > 1 else 0.0,
        "quantiles": [float(q) for q in quantiles],
        "outliers": outliers(samples),
        "bimodal": bimodal(quantiles),
    }
    if samples.size >= 3:
        figures["lag1"] = lag1(samples)
    return figures


def lag1(values: ArrayLike) -> float:
    """Autocorrelation at lag 1, in [-1, 1]; 0 for fewer than 3 values or values that never change."""
    array = finite(values, "autocorrelation")
    centred = array - array.mean()
    power = float(centred @ centred)
    # the power of rounding alone: values that are all equal have a mean that may miss them by one unit
    if array.size < 3 or power <= array.size * (abs(float(array.mean())) * 1e-12) ** 2:
        return 0.0
    return max(-1.0, min(1.0, float(centred[:-1] @ centred[1:]) / power))


def outliers(values: ArrayLike, limit: float = OUTLIER_Z) -> int:
    """How many values have a modified z above `limit`: 0.6745 |x - median| / MAD (Iglewicz and Hoaglin 1993).

    Where more than half of the values are equal MAD is 0, and 1.2533 × the mean absolute deviation takes its place."""
    array = finite(values, "outliers")
    distance = np.abs(array - np.median(array))
    scale = float(np.median(distance)) / 0.6745 or 1.253314 * float(distance.mean())
    return int((distance > limit * scale).sum()) if scale > 0 else 0


def between_run_cv(run_values: Sequence[float]) -> float | None:
    """Standard deviation over mean of one figure per run (a fraction); None for fewer than 2 runs."""
    values = few(run_values, "between-run variation")
    mean = statistics.fmean(values) if values else 0.0
    return sd(values) / abs(mean) if len(values) > 1 and mean else None


def bimodal(quantiles: ArrayLike) -> bool:
    """Whether equally spaced quantiles (of one run, or of several pooled) come from two separate modes.

    Rule: leave 5 % off each end; cut where the variance within the two sides is least (Otsu 1979); two modes are
    seen when the smaller side holds ≥ 10 %, the means lie ≥ 2 % apart, and Ashman's D = √2 |m1 - m2| / √(s1² + s2²)
    is ≥ 5. (A uniform distribution has D = 3.5, a normal one 2.6, an exponential one 2.5, so none of them is.)"""
    ordered = np.sort(finite(quantiles, "quantiles"))
    ends = ordered.size // 20
    kept = ordered[ends : ordered.size - ends]
    n = kept.size
    least = max(2, math.ceil(n / 10))
    if n < 2 * least:
        return False
    shifted = kept - kept.mean()
    below = np.arange(1, n, dtype=np.float64)
    sums, squares = np.cumsum(shifted), np.cumsum(shifted**2)
    within = squares[-1] - sums[:-1] ** 2 / below - (sums[-1] - sums[:-1]) ** 2 / (n - below)
    allowed = slice(least - 1, n - least)
    cut = int(np.argmin(within[allowed])) + least
    low, high = kept[:cut], kept[cut:]
    apart = float(high.mean() - low.mean())
    spread = math.sqrt(float(low.var() + high.var()))
    return apart >= 0.02 * abs(float(low.mean())) and apart > 0 and math.sqrt(2) * apart >= 5 * spread
