"""`accuracy` and `accuracy_drop` of one cell, from scores of the same samples for every variant."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.analyze.intervals import Interval, paired_difference, t_quantile, wilson
from harness.analyze.measured import MetricObject, absent, exact, metric_object, why_none
from harness.analyze.rows import Row
from harness.analyze.status import number
from harness.types import Session

NO_DATA = "no data in the experiment"
NO_SCORES = "the metric gives no score per sample"


@dataclass(frozen=True, kw_only=True)
class Task:
    """The experiment's task metric. `name` is None without data."""

    name: str | None
    better: str
    reference: str

    @classmethod
    def of(cls, session: Session) -> Task:
        experiment: Mapping[str, Any] = session.package.experiment
        metric = (experiment.get("data") or {}).get("metric")
        if isinstance(metric, str):
            metric = {"name": metric}
        known = metric or {}
        return cls(
            name=known.get("name", "accuracy") if experiment.get("data") else None,
            better=known.get("better") or "higher",
            reference=str(experiment.get("reference") or ""),
        )

    @property
    def unit(self) -> str:
        return "fraction" if self.name == "accuracy" else "1"


@dataclass(frozen=True, kw_only=True)
class Score:
    """A cell's task metric on the device; `samples` are per-sample scores, None where the metric has none.

    `absent` says why there is no value."""

    value: float | None = None
    samples: NDArray[np.float64] | None = None
    count: int | None = None
    absent: str = ""


def score(row: Row, session: Session, task: Task) -> Score:
    """What the accuracy run said. Without data, without calibration data, or without targets it is absent."""
    checks = session.package.checks.get(row.build.input)
    if task.name is None:
        return Score(absent=NO_DATA)
    if checks and not checks.has_data:
        return Score(absent=checks.targets_absent or NO_DATA)
    if not row.build.calibrated:
        said = next((note for note in row.build.notes if "calibrated on" in note), "calibrated on example inputs")
        return Score(absent=said)
    if checks and checks.targets is None:
        return Score(absent=checks.targets_absent or "the data has no targets")
    runs = row.counted("accuracy")
    if not runs:
        return Score(absent=why_none(row, "accuracy"))
    run = runs[0]
    said_values = [number(v) for m in run.measurements if m.metric == "accuracy" for v in m.values]
    raw = run.arrays.get("score")
    if raw is None:
        raw = np.asarray([v for m in run.measurements if m.metric == "score" for v in m.values])
    samples = np.asarray(raw, dtype=np.float64).reshape(-1)
    usable = samples if samples.size and bool(np.isfinite(samples).all()) else None
    value = said_values[0] if said_values else (float(usable.mean()) if usable is not None else None)
    if value is None:
        return Score(absent=str(run.conditions.get("accuracy_absent") or "the accuracy run reported no value"))
    return Score(value=value, samples=usable, count=None if usable is None else usable.size)


def accuracy(row: Row, own: Score, session: Session, task: Task) -> MetricObject:
    """Built-in: Wilson's interval. Others: ± t · sd / √n of the per-sample scores, around the metric's own value."""
    if own.value is None:
        return absent(own.absent)
    interval: Interval | None = None
    if own.samples is not None and own.count is not None:
        if task.name == "accuracy" and 0 <= own.value <= 1:
            interval = wilson(min(own.value * own.count, own.count), own.count)
        elif own.count > 1:
            half = t_quantile(own.count - 1) * float(own.samples.std(ddof=1)) / math.sqrt(own.count)
            interval = own.value - half, own.value + half
    host = row.build.host_score
    count = own.count if own.count is not None else _checked(row, session)
    found = metric_object(
        "accuracy", own.value, interval, "device", why_no_ci=NO_SCORES, name=task.name, better=task.better,
        samples=count, host={"value": host, "samples": count} if number(host) is not None else absent("not scored"),
    )  # fmt: skip
    return found | {"unit": task.unit}


def accuracy_drop(own: Score, reference: Score | None, task: Task, is_reference: bool, why: str) -> MetricObject:
    """The loss against the reference on the same samples: positive is worse, whatever the metric's direction.

    `why`: the reason where there is no usable reference."""
    if own.value is None:
        return absent(own.absent)
    more = {"samples": own.count, "reference": task.reference}
    if is_reference:
        return exact("accuracy_drop", 0.0, "device", **more) | {"unit": task.unit}
    if reference is None or reference.value is None:
        return absent(why)
    sign = -1.0 if task.better == "lower" else 1.0
    drop = sign * (reference.value - own.value)
    interval, no_interval = None, NO_SCORES
    if own.samples is not None and reference.samples is not None:
        if own.count != reference.count:
            no_interval = f"{own.count} samples cannot be paired with the reference's {reference.count}"
        elif paired := paired_difference(sign * reference.samples, sign * own.samples):
            shift = drop - sign * float(reference.samples.mean() - own.samples.mean())  # 0 for the built-in metric
            interval = min(paired[0] + shift, drop), max(paired[1] + shift, drop)
    found = metric_object("accuracy_drop", drop, interval, "device", why_no_ci=no_interval, **more)
    return found | {"unit": task.unit}


def _checked(row: Row, session: Session) -> int | None:
    """Samples that have a target: calls are fewer where one takes a batch, and the last may be filled up."""
    checks = session.package.checks.get(row.build.input)
    return checks.targets.samples if checks and checks.targets else None
