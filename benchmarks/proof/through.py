"""Point 2 through everything: pairs of variants in sessions on a simulated device that slows down by 5 % meanwhile.

What is proven of the test on arrays (comparing.py) must survive the schedule, the gate, the wire format and the store.
A session holds some pairs; no variant is in two of them, so the comparisons do not depend on each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.proof.claims import Row
from benchmarks.proof.comparing import BLOCKS, CHANGE, changed_side, equal_sides
from benchmarks.proof.simulated import each, measured
from harness.analyze.paired import Comparison, compare_paired
from harness.analyze.results import raw_values
from harness.sim.model import SimModel

PAIRS = 10  # in a session
#: at least 5 % from the first latency block to the last, the rest of it during enrolment and burn-in
DEVICE = "sim://pi5-fan?drift=0.06&drift_minutes=12&within_sd=0.02&samples=128"


@dataclass(frozen=True, kw_only=True)
class Asked:
    ratio: float
    run_sd: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Found:
    """`slower`: by how much the device slowed down from the first block to the last, of all variants' medians."""

    comparisons: tuple[Comparison, ...]
    slower: float


def session(asked: Asked) -> Found:
    models = {}
    for pair in range(PAIRS):
        truth = 2.0 + pair
        models[f"a{pair}"] = SimModel(latency_ms=truth)
        models[f"b{pair}"] = SimModel(latency_ms=truth * asked.ratio)  # of ratio 1: the same file, to the byte
    uri = f"{DEVICE}&run_sd={asked.run_sd}&seed={asked.seed}"
    blocks = [raw.blocks["latency_ms"] for raw in raw_values(*measured(uri, models, repeats=BLOCKS, memory=False))]
    comparisons = [compare_paired(blocks[2 * p], blocks[2 * p + 1], lower_is_better=True) for p in range(PAIRS)]
    assert all(c.n == BLOCKS for c in comparisons), "a run was lost"
    relative = np.array([[v / own[min(own)] for _, v in sorted(own.items())] for own in blocks])
    return Found(comparisons=tuple(comparisons), slower=float(np.median(relative[:, -1])) - 1)


def rows(seed: int, short: bool = False) -> list[Row]:
    sessions = np.random.default_rng((seed, 7)).integers(0, 2**31 - 1, 2 if short else 150).tolist()
    equal = [Asked(ratio=1.0, run_sd=0.015, seed=s) for s in sessions[: 1 if short else 100]]
    changed = [Asked(ratio=CHANGE, run_sd=0.01, seed=s) for s in sessions[len(equal) :]]
    found = each(session, [*equal, *changed], alone=short)
    slower = float(np.mean([f.slower for f in found]))
    same, other = ([c for f in part for c in f.comparisons] for part in (found[: len(equal)], found[len(equal) :]))
    drifted = f"A/A, pipeline, {slower:.1%} slower at the end"
    return [*equal_sides(drifted, same, short), *changed_side("B = 1.03 A, pipeline", other, short)]
