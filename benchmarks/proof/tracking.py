"""Tracking: flat releases hardly ever raise an alarm, a step is found within three releases, and both in no time.

A release is the median of 5 runs that differ by 2 % (MEASUREMENT 9), looked at after each one from the 8th to the
60th: an alarm at any of these looks is one. The kinds of noise: Gaussian; Student's t with 3 degrees of freedom, scaled
to 2 %; one run in twenty 20 % slower; and days that differ by 5 %, each like the one before (rho = 0.5), where each run
is divided by the reference's in its block, which is as noisy as itself. A step is one of 5 % after 20 to 57 flat
releases, and counts as found where its release is named within 2. What is told of neither is shown beside."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.proof.arrays import Floats
from benchmarks.proof.claims import Row, beside, share
from harness.analyze.edivisive import change_points

POINT = 8
RELEASES, FIRST_LOOK = 60, 8
RUNS, RUN_SD = 5, 0.02
STEP, FLAT_BEFORE, WITHIN = 1.05, 20, 3
DAY_SD, DAY_RHO = 0.05, 0.5
NEAR = 2  # releases that the one named may be off by
KINDS = {
    "gaussian": "Gaussian",
    "heavy": "heavy tails (t, 3 df)",
    "outliers": "5 % of runs +20 %",
    "days": "days (rho 0.5, sd 5 %), divided",
}
#: finds (index of the first changed release, ratio) in a series
Finder = Callable[[Floats], Sequence[tuple[int, float]]]


def ours(series: Floats) -> list[tuple[int, float]]:
    return [(split.at, split.ratio) for split in change_points(series)]


def flat(kind: str, rng: np.random.Generator, levels: Floats | None = None) -> Floats:
    """(releases,) relative points of one series; `levels`: what each release really is, 1 by default."""
    truth = np.ones(RELEASES) if levels is None else levels
    own = truth[:, None] * _runs("gaussian" if kind == "days" else kind, truth.size, rng)
    if kind == "days":
        day = np.exp(DAY_SD * _days(truth.size, rng))[:, None]
        own = (day * own) / (day * _runs("gaussian", truth.size, rng))
    return np.median(own, axis=1)


def stepped(kind: str, rng: np.random.Generator) -> tuple[Floats, int]:
    """A series that ends with the third release after the step, and where that is."""
    at = int(rng.integers(FLAT_BEFORE, RELEASES - WITHIN + 1))
    levels = np.where(np.arange(at + WITHIN) < at, 1.0, STEP)
    return flat(kind, rng, levels), at


def _runs(kind: str, releases: int, rng: np.random.Generator) -> Floats:
    shape = releases, RUNS
    if kind == "heavy":
        return 1 + RUN_SD * rng.standard_t(3, shape) / math.sqrt(3)
    noise = 1 + RUN_SD * rng.standard_normal(shape)
    return noise + 0.2 * (rng.random(shape) < 0.05) if kind == "outliers" else noise


def _days(count: int, rng: np.random.Generator) -> Floats:
    """An autoregressive series of variance 1."""
    found = rng.standard_normal(count)
    for i in range(1, count):
        found[i] = DAY_RHO * found[i - 1] + math.sqrt(1 - DAY_RHO**2) * found[i]
    return found


def alarmed(series: Floats, find: Finder = ours) -> tuple[bool, bool]:
    """Whether, looked at after each release, there was ever a change to the worse, and one at all."""
    worse = any_at_all = False
    for count in range(FIRST_LOOK, series.size + 1):
        found = find(series[:count])
        any_at_all |= bool(found)
        worse |= any(ratio > 1 for _, ratio in found)
        if worse:
            break
    return worse, any_at_all


def noticed(series: Floats, at: int, find: Finder = ours) -> bool:
    """Whether the step at `at` was told of after any of the releases since."""
    looks = range(at + 1, at + WITHIN + 1)
    return any(ratio > 1 and abs(named - at) <= NEAR for count in looks for named, ratio in find(series[:count]))


def rows(seed: int, short: bool = False) -> list[Row]:
    found: list[Row] = []
    for number, (kind, name) in enumerate(KINDS.items()):
        rng = np.random.default_rng((seed, POINT, number))
        count = 60 if short else 1500
        told = [alarmed(flat(kind, rng)) for _ in range(count)]
        steps = [noticed(*stepped(kind, rng)) for _ in range(count)]
        found += [
            share(
                POINT, f"flat, {name}: ever an alarm", sum(worse for worse, _ in told), count, most=0.03, short=short
            ),
            beside(POINT, "  or a change for the better", sum(any_at_all for _, any_at_all in told), count),
            share(POINT, "  5 % slower: found within 3 releases", sum(steps), count, least=0.88, short=short),
        ]
    return [*found, *_fixed(seed, short), _speed(seed, short)]


def _fixed(seed: int, short: bool) -> list[Row]:
    """Right after 20 releases, the hardest place that the claim above holds."""
    rng = np.random.default_rng((seed, POINT, len(KINDS)))
    count = 60 if short else 1500
    levels = np.where(np.arange(FLAT_BEFORE + WITHIN) < FLAT_BEFORE, 1.0, STEP)
    found = []
    for kind, name in KINDS.items():
        steps = sum(noticed(flat(kind, rng, levels), FLAT_BEFORE) for _ in range(count))
        found.append(beside(POINT, f"  after exactly 20, {name}: found within 3", steps, count))
    return found


def _speed(seed: int, short: bool) -> Row:
    """Series of 200 releases with three steps: what a search takes of one processor."""
    rng = np.random.default_rng((seed, POINT, len(KINDS) + 1))
    count, releases = (20 if short else 1000), 200
    levels = np.repeat([1.0, 1.05, 1.1, 1.02], releases // 4)
    series = [flat("gaussian", rng, levels) for _ in range(count)]
    began = time.process_time()
    for one in series:
        change_points(one)
    seconds = time.process_time() - began
    return Row(
        point=POINT, claim=f"{count:,} series of {releases} releases", target="< 20 s", measured=f"{seconds:.1f} s",
        trials=count, error="", held=seconds < 20,
    )  # fmt: skip
