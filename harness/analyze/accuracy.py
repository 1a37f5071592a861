"""Metric objects of the task metric: a score with its interval, and a loss against another variant's score."""

from __future__ import annotations

import math
from typing import Any

from harness.analyze.intervals import Interval, paired_difference, t_quantile, wilson
from harness.analyze.measured import MetricObject, absent, exact, metric_object
from harness.analyze.significance import paired_p_value
from harness.analyze.status import number
from harness.analyze.task import Score, Task
from harness.types import Build

NO_SCORES = "the metric gives no score per sample"


def accuracy(own: Score, build: Build, task: Task) -> MetricObject:
    """`accuracy`: on the device, with the host's score of the same samples beside it."""
    known = number(build.host_score)
    host = absent("not scored") if known is None else {"value": build.host_score, "samples": own.count}
    return scored("accuracy", own, task, "device", host=host)


def scored(name: str, own: Score, task: Task, source: str, **more: Any) -> MetricObject:
    """Built-in: Wilson's interval. Others: ± t · sd / √n of the per-sample scores, around the metric's own value."""
    if own.value is None:
        return absent(own.absent)
    interval: Interval | None = None
    if own.samples is not None:
        n = own.samples.size
        if task.name == "accuracy" and 0 <= own.value <= 1:
            interval = wilson(min(own.value * n, n), n)
        elif n > 1:
            half = t_quantile(n - 1) * float(own.samples.std(ddof=1)) / math.sqrt(n)
            interval = own.value - half, own.value + half
    found = metric_object(
        name, own.value, interval, source, why_no_ci=NO_SCORES, name=task.name, better=task.better,
        samples=own.count, seeds=None, **more,
    )  # fmt: skip
    return found | {"unit": task.unit}


def no_loss(name: str, own: Score, task: Task, source: str, **more: Any) -> MetricObject:
    """Of the reference itself: exactly 0."""
    if own.value is None:
        return absent(own.absent)
    found = exact(name, 0.0, source, samples=_scored_samples(own), p_value=None, seeds=None, **more)
    return found | {"unit": task.unit}


def loss(name: str, own: Score, other: Score, task: Task, source: str, **more: Any) -> MetricObject:
    """The loss against `other` on the same samples, with a paired interval and the p-value of no loss at all.

    Both have a value. Where samples cannot be paired, interval and p-value are not there, the interval saying why."""
    assert own.value is not None and other.value is not None
    drop = task.sign * (other.value - own.value)
    interval, p_value, no_interval = None, None, NO_SCORES
    if own.samples is not None and other.samples is not None:
        if own.samples.size != other.samples.size:
            no_interval = f"{own.samples.size} samples cannot be paired with the other's {other.samples.size}"
        elif paired := paired_difference(task.sign * other.samples, task.sign * own.samples):
            shift = drop - task.sign * float(other.samples.mean() - own.samples.mean())  # 0 for the built-in metric
            interval = min(paired[0] + shift, drop), max(paired[1] + shift, drop)
            p_value = paired_p_value(other.samples, own.samples)
    found = metric_object(
        name, drop, interval, source, why_no_ci=no_interval, samples=_scored_samples(own), p_value=p_value,
        seeds=None, **more,
    )  # fmt: skip
    return found | {"unit": task.unit}


def _scored_samples(own: Score) -> int | None:
    return None if own.samples is None else int(own.samples.size)
