"""What the figures could as well have been: joint draws, so that "A is faster than B" has a probability.

Where per-run or per-sample values are at hand, draws are Student-t with the covariance of the values over shared
blocks (or shared samples): what shook all variants at once cancels in their comparison, as in a paired t-test. A
percentile bootstrap of 5 runs rejects 14–18 % at a nominal 5 %, so none is used. Without raw values each figure is
drawn from its own interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from harness.analyze.block_means import errors, levels
from harness.analyze.figure import Figure

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Raw:
    """Raw values behind one result. `blocks`: metric (with statistic) -> block of the schedule -> that run's value.

    `samples`: metric -> one value per evaluation sample, in the same order for every result; of a variant that was
    trained several times, the mean over its trainings. `trainings`: metric -> the standard error that these add, and
    its degrees of freedom."""

    blocks: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    samples: Mapping[str, Floats] = field(default_factory=dict)
    trainings: Mapping[str, tuple[float, int]] = field(default_factory=dict)


def draw(
    figures: Sequence[Figure],
    metric: str,
    raw: Sequence[Raw | None],
    count: int,
    rng: np.random.Generator,
) -> Floats:
    """(count, len(figures)) values of one metric in its unit. A figure without an interval is taken as it stands."""
    out = np.empty((count, len(figures)))
    blocks = [r.blocks.get(metric, {}) if r else {} for r in raw]
    samples = [r.samples.get(metric) if r else None for r in raw]
    common = next((s.size for s in samples if s is not None), 0)
    by_runs = [i for i, f in enumerate(figures) if len(blocks[i]) > 1 and not f.exact and f.low is not None]
    scores = {
        i: s
        for i, s in enumerate(samples)
        if i not in by_runs and s is not None and s.size == common > 1 and not figures[i].exact
    }
    if by_runs:
        out[:, by_runs] = _over_runs([figures[i] for i in by_runs], [blocks[i] for i in by_runs], count, rng)
    if scores:
        centre = np.array([figures[i].value for i in scores])
        out[:, list(scores)] = centre + _over_samples(np.stack(list(scores.values())), count, rng)
    for i in scores:
        if (own := raw[i]) and metric in own.trainings:  # one variant's trainings have nothing to do with another's
            error, df = own.trainings[metric]
            out[:, i] += error * rng.standard_t(df, count)
    for i in sorted(set(range(len(figures))) - set(by_runs) - set(scores)):
        out[:, i] = from_interval(figures[i], rng.standard_normal(count))
    return out


def from_interval(figure: Figure, z: Floats) -> Floats:
    """Normal draws (log-normal for a factor) whose two sides have the widths of the interval's two sides."""
    up, down = figure.sigma(True), figure.sigma(False)
    if up is None or down is None:
        return np.full(z.shape, figure.value)
    step = np.where(z > 0, z * up, z * down)
    return figure.value * np.exp(step) if figure.factor else figure.value + step


def _over_runs(
    figures: Sequence[Figure], blocks: Sequence[Mapping[int, float]], count: int, rng: np.random.Generator
) -> Floats:
    """Multivariate t. With z_b one normal per block, shared: Σ_b z_b (x_bv - mean_v) / √(n (n - 1)) is N(0, s²/n) with
    the covariance of the variants; over √(χ²/(n - 1)), also shared, it is t, and so is every paired difference.

    Between variants the draws lie where that spread belongs to: at the means by block (block_means.py), and not at the
    medians that are printed. A difference of two medians is no paired difference (their runs are of different blocks),
    and a spread of means laid around it makes the one that luck favours too sure. All of them together keep the
    printed level."""
    names = sorted({b for values in blocks for b in values})
    position = {b: i for i, b in enumerate(names)}
    factor = np.array([f.factor for f in figures])
    x = np.full((len(names), len(figures)), np.nan)
    for v, values in enumerate(blocks):
        own = np.array(list(values.values()), dtype=np.float64)
        x[[position[b] for b in values], v] = np.log(own) if factor[v] else own
    centre = np.array([math.log(f.value) if f.factor else f.value for f in figures])
    deviation = np.zeros_like(x)
    for group in (factor, ~factor):
        if group.any():
            own, printed = levels(x[:, group]), centre[group]
            deviation[:, group] = errors(x[:, group])
            centre[group] = own + (printed - own).mean()
    df = np.array([len(values) - 1 for values in blocks])
    step = rng.standard_normal((count, len(names))) @ deviation
    scales = {n: np.sqrt(rng.chisquare(n, count) / n) for n in sorted(set(df.tolist()))}
    step /= np.stack([scales[n] for n in df.tolist()], axis=1)
    # a t of few degrees of freedom has draws that exp cannot hold; beyond e**300 all are equally far
    out: Floats = centre + np.where(factor, np.clip(step, -300, 300), step)
    out[:, factor] = np.exp(out[:, factor])
    return out


def _over_samples(values: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Normal draws of the errors of the means of (variants, samples), with the covariance over the samples.

    Variants with equal scores get equal draws to the last bit: a tie must stay a tie."""
    n = values.shape[1]
    _, first, back = np.unique(values, axis=0, return_index=True, return_inverse=True)
    order = np.sort(first)  # not in the order of the scores, which hardly differ from device to device
    back = np.searchsorted(order, first[back.reshape(-1)])
    values = values[order]
    deviation = values - values.mean(axis=1, keepdims=True)
    covariance = deviation @ deviation.T / (n * (n - 1))
    spread = np.diag(covariance) > 0
    # scores may depend on each other, and a root needs a little more than that: a hundred-thousandth of the errors
    covariance += 1e-10 * max(float(covariance.max()), 1e-300) * np.eye(len(covariance))
    root = np.linalg.cholesky(covariance) * spread[:, None]
    steps: Floats = rng.standard_normal((count, values.shape[0])) @ root.T
    return steps[:, back]
