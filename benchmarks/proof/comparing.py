"""Point 2: equal sides are told apart as rarely as alpha says while the device heats up, and a real change is found.

Every pair of a session runs in blocks, in random order within the block, as harness schedules it. Beside it two
designs that are common: all runs of A and then all of B, and all iterations of the runs pooled into one rank test.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.proof.arrays import Floats, Noise, drift, samples
from benchmarks.proof.claims import Row, beside, share
from harness.analyze.paired import ALPHA, Comparison, compare_paired, compare_unpaired

BLOCKS = 10
DRIFT = 0.05
CHANGE = 1.03
#: of MEASUREMENT section 9, A/B, with the iterations that a run has at least (R4: 100, and 2 s)
NOISE = Noise(run_sd=0.015, sample_sd=0.02, rho=0.5, iterations=200)
QUIET = Noise(run_sd=0.01, sample_sd=0.02, rho=0.5, iterations=200)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Samples by [block, iteration] of both sides of one comparison."""

    a: Floats
    b: Floats

    @property
    def compared(self) -> Comparison:
        a, b = (dict(enumerate(np.median(side, axis=-1).tolist())) for side in (self.a, self.b))
        return compare_paired(a, b, lower_is_better=True)


def interleaved(ratio: float, noise: Noise, count: int, rng: np.random.Generator) -> Iterator[Pair]:
    """In blocks of A and B in random order, the device drifting through all of them."""
    heat = drift(DRIFT, 2 * BLOCKS).reshape(BLOCKS, 2)
    for _ in range(count):
        first = rng.integers(0, 2, BLOCKS)
        rows = np.arange(BLOCKS)
        a, b = heat[rows, first], heat[rows, 1 - first]
        yield Pair(a=samples(a, noise, rng), b=samples(ratio * b, noise, rng))


def one_after_the_other(noise: Noise, count: int, rng: np.random.Generator) -> Iterator[Pair]:
    heat = drift(DRIFT, 2 * BLOCKS)
    for _ in range(count):
        yield Pair(a=samples(heat[:BLOCKS], noise, rng), b=samples(heat[BLOCKS:], noise, rng))


def rows(seed: int, short: bool = False) -> list[Row]:
    rng = np.random.default_rng((seed, 3))
    equal = [p.compared for p in interleaved(1.0, NOISE, 400 if short else 4000, rng)]
    changed = [p.compared for p in interleaved(CHANGE, QUIET, 200 if short else 2000, rng)]
    return [
        *equal_sides(f"A/A, arrays, {DRIFT:.0%} drift", equal, short),
        *changed_side("B = 1.03 A, arrays", changed, short),
        *_naive(seed, short),
    ]


def equal_sides(name: str, found: Sequence[Comparison], short: bool) -> list[Row]:
    """Two claims: of the test alone, and of the verdict."""
    told = sum(_different(c) for c in found)
    called = sum(c.verdict in ("better", "worse") for c in found)
    return [
        share(2, f"{name}: the test alone says different", told, len(found), 0.03, 0.07, short=short),
        share(2, f"{name}: verdict better or worse", called, len(found), most=0.05, short=short),
    ]


def changed_side(name: str, found: Sequence[Comparison], short: bool) -> list[Row]:
    """Three claims: found, right on average, and near each time."""
    ratios = np.array([c.ratio for c in found if c.ratio is not None])
    error = float(ratios.std(ddof=1)) / len(ratios) ** 0.5
    bias = 100 * float(ratios.mean() - CHANGE)
    seen = sum(c.verdict == "worse" for c in found)
    near = int((abs(ratios - CHANGE) <= 0.008).sum())
    slack = 400 * error if short else 0.0
    return [
        share(2, f"{name}: found worse", seen, len(found), least=0.90, short=short),
        Row(
            point=2, claim="  mean estimate off by", target="within ±0.10 points", measured=f"{bias:+.3f} points",
            trials=len(found), error=f"{100 * error:.3f} points", held=abs(bias) <= 0.1 + slack,
        ),
        share(2, "  estimates within ±0.8 points", near, len(found), least=0.88, short=short),
    ]  # fmt: skip


def _naive(seed: int, short: bool) -> list[Row]:
    rng = np.random.default_rng((seed, 5))
    count = 100 if short else 500
    ordered = sum(
        _different(compare_unpaired(np.median(p.a, axis=-1), np.median(p.b, axis=-1), lower_is_better=True))
        for p in one_after_the_other(NOISE, count, rng)
    )
    pooled = sum(_pooled_p(p) < ALPHA for p in interleaved(1.0, NOISE, count, rng))
    return [
        beside(2, "  A/A, all of A and then all of B: different", ordered, count),
        beside(2, "  A/A, pooled iterations, rank test: different", pooled, count),
    ]


def _different(comparison: Comparison) -> bool:
    return comparison.p_value is not None and comparison.p_value < ALPHA


def _pooled_p(pair: Pair) -> float:
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(pair.a.ravel(), pair.b.ravel()).pvalue)
