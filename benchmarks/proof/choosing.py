"""Stated odds are kept: of picks that say they are 85 to 95 % sure as many are right, and likewise for the front.

A study is a model compressed more and less: 6 to 12 variants of known latency, size and accuracy, about half of them
near relatives of another, measured on a device that differs by 1 to 5 % from run to run, by 2 % from block to block,
and slows down by 5 %. Accuracy is that of 500 to 1,000 samples that all variants share; a variant loses some answers
and gains fewer. The rule is the usual one, the fastest with `accuracy_drop <= 0.01`; in three of ten studies there is
no constraint. A pick is right where it truly keeps the rule and nothing that truly keeps it is faster; over several
devices, where its worst ratio to the fastest that keeps it is least.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.proof.arrays import Floats
from benchmarks.proof.claims import Row, beside, share
from harness.analyze.accuracy import accuracy, loss, no_loss
from harness.analyze.draws import Raw
from harness.analyze.figure import figure
from harness.analyze.intervals import over_runs
from harness.analyze.measured import exact, metric_object
from harness.analyze.pareto import front, membership
from harness.analyze.pick import decide
from harness.analyze.task import Score, Task
from harness.metrics import constraint
from harness.types import Build

POINT = 7
STATED = (0.85, 0.95)
RIGHT = (0.85, 0.95)
ENOUGH = 500
MOST_STUDIES = 9000
RUN_SD = (0.01, 0.05)
BLOCK_SD = 0.02
DRIFT = 0.05
NEAR_SD = 0.04  # relatives differ by so much in latency
SCORED = 0.95  # the reference's accuracy
OBJECTIVES = ("latency_ms", "size_bytes", "accuracy")
KEEPS = constraint("accuracy_drop <= 0.01")
TASK = Task(name="accuracy", better="higher", reference="v0")
BUILD = Build(variant="v", seed=0, exporter="executorch", backend="xnnpack", input="default", status="ok")
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Study:
    """The truth by [variant]: latency (ms) by [device, variant], size (bytes), loss of accuracy. What was seen:
    `runs` [device, variant, block] medians in ms, `right` [variant, sample]. Variant 0 is the reference."""

    latency: Floats
    size: Floats
    drop: Floats
    runs: Floats
    right: Bools


def study(rng: np.random.Generator, devices: int = 1) -> Study:
    count, blocks = int(rng.integers(6, 13)), int(rng.integers(5, 11))
    strength = rng.random(count)
    strength[0] = 0.0
    latency = 10 * np.exp(-1.2 * strength + 0.15 * rng.standard_normal((devices, count)))
    size = np.round(4e6 * np.exp(-1.2 * strength + 0.1 * rng.standard_normal(count)))
    drop = 0.04 * strength**2 * rng.random(count) - 0.002 * rng.standard_normal(count)
    for k in range(1, count // 2):  # relatives: another exporter or setting of nearly the same
        of = int(rng.integers(count // 2, count))
        latency[:, k] = latency[:, of] * np.exp(NEAR_SD * rng.standard_normal(devices))
        size[k] = size[of]
        drop[k] = drop[of] + 0.003 * rng.standard_normal()
    drop[0] = 0.0
    run_sd = math.exp(rng.uniform(math.log(RUN_SD[0]), math.log(RUN_SD[1])))
    block = BLOCK_SD * rng.standard_normal((devices, 1, blocks)) + DRIFT * np.linspace(0.0, 1.0, blocks)
    runs = latency[:, :, None] * np.exp(block + run_sd * rng.standard_normal((devices, count, blocks)))
    return Study(latency=latency, size=size, drop=drop, runs=runs, right=_answers(drop, rng))


def _answers(drop: Floats, rng: np.random.Generator) -> Bools:
    """[variant, sample]: the reference's answers, of which each variant loses some and gains some that it lacked, so
    that its accuracy is lower by `drop` in the long run."""
    samples = int(rng.integers(500, 1001))
    reference = rng.random(samples) < SCORED
    out = np.empty((drop.size, samples), dtype=bool)
    for v, less in enumerate(drop):
        gained = 0.0 if v == 0 else max(0.002 * rng.random(), -less)
        lost = gained + less
        chance = rng.random(samples)
        out[v] = np.where(reference, chance >= lost / SCORED, chance < gained / (1 - SCORED))
    return out


def measured(found: Study) -> tuple[list[Mapping[str, Any]], list[Raw]]:
    """The results document's part, and the raw values behind it."""
    scores = [Score(value=float(r.mean()), samples=r.astype(np.float64), count=r.size) for r in found.right]
    results: list[Mapping[str, Any]] = []
    raw = []
    for d, runs in enumerate(found.runs):
        for v, values in enumerate(runs.tolist()):
            results.append(_result(d, v, values, float(found.size[v]), scores))
            drops = found.right[0].astype(np.float64) - found.right[v]
            raw.append(Raw(
                blocks={"latency_ms": dict(enumerate(values))},
                samples={"accuracy": found.right[v].astype(np.float64), "accuracy_drop": drops},
            ))  # fmt: skip
    return results, raw


def _result(device: int, v: int, runs: Sequence[float], size: float, scores: Sequence[Score]) -> Mapping[str, Any]:
    value, own = float(np.median(runs)), scores[v]
    lost = loss("accuracy_drop", own, scores[0], TASK, "device") if v else no_loss("accuracy_drop", own, TASK, "device")
    metrics = {
        "latency_ms": metric_object("latency_ms", value, over_runs(runs, value), "runner"),
        "size_bytes": exact("size_bytes", size, "host"),
        "accuracy": accuracy(own, BUILD, TASK),
        "accuracy_drop": lost,
    }
    return {
        "variant": f"v{v}", "seed": 0, "exporter": "executorch", "backend": "xnnpack", "input": "default",
        "device": f"array{device}", "device_id": f"array{device}", "threads": 1, "cpus": "any", "context": "host",
        "status": "ok", "reason": None, "repeats": len(runs), "metrics": metrics,
    }  # fmt: skip


@dataclass
class Kept:
    """Statements and whether each was true."""

    stated: list[float] = field(default_factory=list)
    true: list[bool] = field(default_factory=list)

    def add(self, probability: Any, true: bool) -> None:
        if isinstance(probability, float):
            self.stated.append(probability)
            self.true.append(true)

    def between(self, low: float, high: float) -> tuple[int, int]:
        """(true, all) of those whose stated probability lies there."""
        inside = [t for p, t in zip(self.stated, self.true, strict=True) if low <= p <= high]
        return sum(inside), len(inside)


def picked(found: Study, results: Sequence[Mapping[str, Any]], raw: Sequence[Raw], rule: bool) -> tuple[Any, bool]:
    """The pick's probability (None where nothing fits), and whether it is truly the one to ship."""
    pick = decide(results, where=[KEEPS] if rule else [], raw=raw).pick
    if pick is None:
        return None, False
    keeps = found.drop <= KEEPS.bound if rule else np.ones(found.drop.size, dtype=bool)
    worst = np.log(found.latency / found.latency[:, keeps].min(axis=1, keepdims=True)).max(axis=0)
    v = int(pick["variant"][1:])
    return pick["probability"], bool(keeps[v] and worst[v] <= worst[keeps].min())


def on_the_front(found: Study, results: Sequence[Mapping[str, Any]], raw: Sequence[Raw], kept: Kept) -> None:
    """Adds a statement for every variant of a study of one device."""
    table: Any = [[figure(result, o) for o in OBJECTIVES] for result in results]
    truly = set(front(np.column_stack([found.latency[0], found.size, found.drop])))
    for v, probability in enumerate(membership(table, OBJECTIVES, raw)):
        kept.add(probability, v in truly)


def picks(devices: int, enough: int, most: int, rng: np.random.Generator, fronts: Kept | None = None) -> Kept:
    """Of as many studies as it takes for `enough` statements in the range, at most `most`."""
    kept, inside = Kept(), 0
    for _ in range(most):
        found = study(rng, devices)
        results, raw = measured(found)
        probability, true = picked(found, results, raw, bool(rng.random() < 0.7))
        kept.add(probability, true)
        inside += isinstance(probability, float) and STATED[0] <= probability <= STATED[1]
        if fronts is not None:
            on_the_front(found, results, raw, fronts)
        if inside >= enough:
            break
    return kept


def rows(seed: int, short: bool = False) -> list[Row]:
    enough, most = (12, 400) if short else (ENOUGH, MOST_STUDIES)
    fronts = Kept()
    one = picks(1, enough, most, np.random.default_rng((seed, 8)), fronts)
    several = picks(2, enough, most, np.random.default_rng((seed, 9)))
    claims: list[tuple[str, Kept]] = [
        ("picks stated 85-95 % sure: right", one), ("  over 2 devices", several),
        ("on the front, stated 85-95 %: truly", fronts),
    ]  # fmt: skip
    out = [share(POINT, said, *kept.between(*STATED), *RIGHT, short=short) for said, kept in claims]
    told: Callable[[float, float], tuple[int, int]] = one.between
    return [
        *out,
        beside(POINT, "  picks stated over 95 %: right", *told(0.95, 1.0)),
        beside(POINT, "  picks stated 50-85 %: right", *told(0.5, 0.85)),
        beside(POINT, "  picks stated under 50 %: right", *told(0.0, 0.5)),
        beside(POINT, "  on the front, stated over 95 %: truly", *fronts.between(0.95, 1.0)),
        beside(POINT, "  on the front, stated 5-15 %: truly", *fronts.between(0.05, 0.15)),
    ]
