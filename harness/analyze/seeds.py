"""Variants that were trained more than once: the spread over their trainings, and the one result that stands for all.

The spread over seeds is another thing than `ci95`, which is about the test samples. Who ranks every seed's result
and takes the best has chosen by luck. So a variant competes once: one usable seed's result stands for it (that is the
file that would be shipped), and its accuracy and losses are the means over its seeds, with an interval in which both
parts are. It is the lowest seed of those that are usable at most places: a seed that failed on one device must not
stand for its variant on the others, where a choice for all of them needs one file.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness.analyze.draws import Raw
from harness.analyze.intervals import t_quantile
from harness.analyze.stats import sd
from harness.metrics import TASK_METRICS

_SAME = ("variant", "exporter", "backend", "input", "device", "device_id", "threads", "cpus", "context")
_FILE = ("variant", "seed", "exporter", "backend", "threads", "cpus")  # what is usable at several places
Result = Mapping[str, Any]


def trainings(results: Sequence[Result]) -> list[list[int]]:
    """Indices of usable results that differ in their seed only, lowest seed first; where there are several."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, result in enumerate(results):
        if result["status"] == "ok":
            groups.setdefault(_of(result, _SAME), []).append(i)
    return [sorted(group, key=lambda i: int(results[i]["seed"])) for group in groups.values() if len(group) > 1]


def represented(results: Sequence[Result]) -> dict[int, int]:
    """Index of a result -> the seed whose result stands for it."""
    places = Counter(_of(r, _FILE) for r in results if r["status"] == "ok")
    out: dict[int, int] = {}
    for group in trainings(results):
        first = min(group, key=lambda i: (-places[_of(results[i], _FILE)], int(results[i]["seed"])))
        out |= {i: int(results[first]["seed"]) for i in group if i != first}
    return out


def _of(result: Result, keys: Sequence[str]) -> tuple[Any, ...]:
    return tuple(result[key] for key in keys)


def add_seeds(results: Sequence[Result], raw: list[Raw]) -> None:
    """Writes `seeds` into the task metrics of `results`, and the means over seeds into their `raw` values."""
    for group in trainings(results):
        for name in TASK_METRICS:
            objects = {int(results[i]["seed"]): results[i]["metrics"].get(name) or {} for i in group}
            found = over_seeds(name, {seed: o for seed, o in objects.items() if "value" in o})
            for i in group:
                if found is not None and "value" in results[i]["metrics"][name]:
                    results[i]["metrics"][name]["seeds"] = found
                    raw[i] = _with_mean(raw[i], name, [raw[k].samples.get(name) for k in group], found)


def over_seeds(name: str, objects: Mapping[int, Mapping[str, Any]]) -> dict[str, Any] | None:
    """`{"mean", "sd", "n", "values", "ci95"}` of one metric's objects by seed; None for fewer than two.

    `sd` is the sample's (n - 1). `ci95` is of the mean over all trainings and samples there could have been. To each
    side of the mean it is √(s² + t²): s the mean over seeds of that side of their own intervals (what the samples
    leave open; never too narrow, since errors that all trainings share do not average out), t the half width of
    the t-interval over seeds, t(n-1) · sd / √n. Margins of independent parts add as squares, as in MOVER (Zou and
    Donner 2008). The seeds' scatter has some of the samples' noise in it, which so counts twice: on the careful side.
    With 2 seeds t(1) = 12.7: two trainings say little of a third."""
    if len(objects) < 2:
        return None
    values = {seed: float(o["value"]) for seed, o in sorted(objects.items())}
    mean, spread = statistics.fmean(values.values()), sd(list(values.values()))
    between = t_quantile(len(values) - 1) * spread / math.sqrt(len(values))
    return {
        "mean": mean, "sd": spread, "n": len(values), "values": {str(s): v for s, v in values.items()},
        "ci95": _interval(name, mean, between, list(objects.values())),
    }  # fmt: skip


def _interval(name: str, mean: float, between: float, objects: Sequence[Mapping[str, Any]]) -> Any:
    intervals = [o["ci95"] for o in objects]
    if lacking := next((ci for ci in intervals if isinstance(ci, Mapping)), None):
        return dict(lacking)
    below = statistics.fmean(o["value"] - low for o, (low, _) in zip(objects, intervals, strict=True))
    above = statistics.fmean(high - o["value"] for o, (_, high) in zip(objects, intervals, strict=True))
    low, high = mean - math.hypot(below, between), mean + math.hypot(above, between)
    if objects[0].get("unit") != "fraction":
        return [low, high]
    least = 0.0 if name.endswith("accuracy") else -1.0
    return [max(least, low), min(1.0, high)]


def _with_mean(own: Raw, name: str, samples: Sequence[Any], found: Mapping[str, Any]) -> Raw:
    """`own` with the mean over seeds for each sample, and what the trainings add to its error. Where the seeds' samples
    do not belong together there are none, and the figure is drawn from its interval."""
    kept = {metric: values for metric, values in own.samples.items() if metric != name}
    if any(s is None for s in samples) or len({s.size for s in samples}) != 1:
        return replace(own, samples=kept)
    error = found["sd"] / math.sqrt(found["n"])
    return replace(
        own,
        samples={**kept, name: np.mean(np.stack(samples), axis=0)},
        trainings={**own.trainings, name: (error, found["n"] - 1)},
    )
