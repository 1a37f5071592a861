"""Point 3: spending repeats where the front is open gives the true front for half of the device's time.

A study is some variants with known latency, size and accuracy, half of them near relatives of another, measured on a
device that differs by 2 % from run to run (the limit of `noisy`), by 1 % from block to block, and slows down by 5 %
over 20 blocks. The adaptive schedule is `next_repeat` and nothing else; the fixed one gives each variant 20 repeats.
Either draws its front from medians, as harness does. A variant counts where it is more than 2 % of its latency away
from changing membership. Beside it: the 5 repeats that every study begins with, alone; and a device that differs by
4 % from run to run, where 20 repeats are too few and the time that can be saved is less.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.proof.arrays import Floats, Noise, drift, samples
from benchmarks.proof.claims import Row, beside, share
from harness.analyze.amount import MAX_REPEATS, next_repeat
from harness.analyze.draws import Raw
from harness.analyze.intervals import over_runs
from harness.analyze.measured import exact, metric_object
from harness.analyze.pareto import front
from harness.metrics import constraint

VARIANTS = 10
PLANNED = 5
TARGET_CI = 0.01
AWAY = 0.02
RUN_SD, NOISY_SD = 0.02, 0.04
BLOCK_SD = 0.01  # what shakes all runs of a block alike
DRIFT = 0.05
OBJECTIVES = ("latency_ms", "size_bytes", "accuracy")
CONSTRAINTS = (constraint("accuracy >= 0.93"),)


@dataclass(frozen=True, kw_only=True)
class Study:
    """True latency (ms), size (bytes) and accuracy of each variant; `medians`: [variant, block] as a run has it."""

    latency: Floats
    size: Floats
    accuracy: Floats
    medians: Floats

    def points(self, latency: Sequence[float] | Floats) -> Floats:
        """(variants, 3), less is better."""
        return np.column_stack([latency, self.size, -self.accuracy])


def study(run_sd: float, rng: np.random.Generator) -> Study:
    """A model compressed more and less: smaller is faster and less accurate, give or take."""
    strength = rng.random(VARIANTS)
    latency = 10 * np.exp(-1.5 * strength + 0.2 * rng.standard_normal(VARIANTS))
    size = np.round(4e6 * np.exp(-1.5 * strength + 0.2 * rng.standard_normal(VARIANTS)))
    accuracy = np.round(0.98 - 0.08 * strength**2 - 0.01 * rng.random(VARIANTS), 3)
    for k in range(VARIANTS // 2):  # relatives: as large and as good as another, or nearly, and nearly as fast
        of = int(rng.integers(VARIANTS // 2, VARIANTS))
        latency[k] = latency[of] * math.exp(0.04 * rng.standard_normal())
        size[k] = size[of]
        accuracy[k] = accuracy[of] + rng.choice([0.0, 0.001, -0.001])
    block = np.exp(BLOCK_SD * rng.standard_normal(3 * MAX_REPEATS)) * drift(3 * DRIFT, 3 * MAX_REPEATS)
    noise = Noise(run_sd=run_sd, sample_sd=0.02, rho=0.5, iterations=100)
    medians = np.median(samples(latency[:, None] * block, noise, rng), axis=-1)
    return Study(latency=latency, size=size, accuracy=accuracy, medians=medians)


def away(found: Study) -> list[int]:
    """Variants that are more than 2 % away from changing membership: from the fastest of those that are nowhere else
    worse."""
    out = []
    for k in range(VARIANTS):
        above = [
            j for j in range(VARIANTS)
            if j != k and found.size[j] <= found.size[k] and found.accuracy[j] >= found.accuracy[k]
        ]  # fmt: skip
        if not above or abs(math.log(found.latency[k] / min(found.latency[above]))) > AWAY:
            out.append(k)
    return out


def measured(found: Study, blocks: Sequence[Sequence[int]]) -> tuple[list[Mapping[str, Any]], list[Raw]]:
    """The results document's part, after each variant ran in its `blocks`."""
    results: list[Mapping[str, Any]] = []
    raw = []
    for k, own in enumerate(blocks):
        runs = {b: float(found.medians[k, b]) for b in own}
        value = float(np.median(list(runs.values())))
        metrics = {
            "latency_ms": metric_object("latency_ms", value, over_runs(list(runs.values()), value), "runner"),
            "size_bytes": exact("size_bytes", float(found.size[k]), "host"),
            "accuracy": exact("accuracy", float(found.accuracy[k]), "device"),
        }
        results.append({
            "variant": f"v{k}", "seed": 0, "exporter": "executorch", "backend": "xnnpack", "input": "default",
            "device": "array", "device_id": "array", "threads": 1, "cpus": "any", "context": "host",
            "status": "ok", "reason": None, "repeats": len(own), "metrics": metrics,
        })  # fmt: skip
        raw.append(Raw(blocks={"latency_ms": runs}))
    return results, raw


def adaptive(found: Study) -> list[list[int]]:
    """The blocks in which each variant ran."""
    blocks = [list(range(PLANNED)) for _ in range(VARIANTS)]
    for block in range(PLANNED, found.medians.shape[1]):
        asked = next_repeat(*measured(found, blocks), objectives=OBJECTIVES, where=CONSTRAINTS, target_ci=TARGET_CI)
        if asked.settled:
            break
        for k in asked.cells:
            blocks[k].append(block)
    return blocks


def agrees(found: Study, blocks: Sequence[Sequence[int]]) -> bool:
    """Whether every variant that is away from the edge is on the side where it belongs."""
    medians = [float(np.median(found.medians[k, own])) for k, own in enumerate(blocks)]
    on, truly = set(front(found.points(medians))), set(front(found.points(found.latency)))
    return all((k in on) == (k in truly) for k in away(found))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Studies in which each schedule agrees with the true front, and the adaptive one's runs over the fixed one's."""

    adaptive: int
    fixed: int
    planned: int
    times: Floats

    @property
    def time(self) -> float:
        return float(self.times.mean())

    @property
    def time_error(self) -> float:
        return float(self.times.std(ddof=1)) / math.sqrt(self.times.size)


def outcome(run_sd: float, trials: int, rng: np.random.Generator) -> Outcome:
    right, times = [], []
    for _ in range(trials):
        found = study(run_sd, rng)
        chosen = adaptive(found)
        fixed, planned = ([range(n)] * VARIANTS for n in (MAX_REPEATS, PLANNED))
        right.append([agrees(found, blocks) for blocks in (chosen, fixed, planned)])
        times.append(sum(map(len, chosen)) / (VARIANTS * MAX_REPEATS))
    counts = np.sum(right, axis=0).tolist()
    return Outcome(adaptive=counts[0], fixed=counts[1], planned=counts[2], times=np.array(times))


def rows(seed: int, short: bool = False) -> list[Row]:
    trials, few = (40, 20) if short else (400, 200)
    rng = np.random.default_rng((seed, 6))
    found, noisy = outcome(RUN_SD, trials, rng), outcome(NOISY_SD, few, rng)
    at = f"{VARIANTS} variants, run sd {RUN_SD:.0%}"
    return [
        share(3, f"adaptive, {at}: agrees with the true front", found.adaptive, trials, least=0.95, short=short),
        Row(
            point=3, claim="  device time, adaptive over fixed 20 repeats", target="<= 0.50", trials=trials,
            measured=f"{found.time:.2f}", error=f"{found.time_error:.2f}",
            held=found.time <= 0.5 + (4 * found.time_error if short else 0.0),
        ),
        beside(3, f"  fixed, {MAX_REPEATS} repeats: agrees", found.fixed, trials),
        beside(3, f"  fixed, {PLANNED} repeats: agrees", found.planned, trials),
        beside(3, f"  run sd {NOISY_SD:.0%}, adaptive: agrees", noisy.adaptive, few),
        beside(3, f"  run sd {NOISY_SD:.0%}, fixed {MAX_REPEATS} repeats: agrees", noisy.fixed, few),
        beside(3, f"  run sd {NOISY_SD:.0%}, fixed {PLANNED} repeats: agrees", noisy.planned, few),
        Row(
            point=3, claim=f"  run sd {NOISY_SD:.0%}: device time", target="", measured=f"{noisy.time:.2f}",
            trials=few, error=f"{noisy.time_error:.2f}", held=None,
        ),
    ]  # fmt: skip
