"""Name -> unit, direction, meaning: the one table of what can be measured."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from harness.errors import UsageError
from harness.types import Constraint

Better = Literal["lower", "higher"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    name: str
    unit: str
    better: Better
    meaning: str
    stats: tuple[str, ...] = ()


_TIMES = ("p50", "p90", "p95", "p99", "mean", "min")

METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric(name="latency_ms", unit="ms", better="lower", stats=_TIMES, meaning="one inference, steady state"),
        Metric(name="first_inference_ms", unit="ms", better="lower", meaning="the first inference after loading"),
        Metric(name="load_ms", unit="ms", better="lower", meaning="program and method load, file in the page cache"),
        Metric(name="cold_load_ms", unit="ms", better="lower", meaning="load with the page cache dropped"),
        Metric(
            name="sustained_ms", unit="ms", better="lower", stats=("minute1", "end"), meaning="under minutes of load"
        ),
        Metric(name="throttle_after_s", unit="s", better="higher", meaning="until the device slows down under load"),
        Metric(name="throughput_ips", unit="inferences/s", better="higher", meaning="inferences per second"),
        Metric(name="peak_memory_bytes", unit="bytes", better="lower", meaning="peak of the runner's process"),
        Metric(name="model_memory_bytes", unit="bytes", better="lower", meaning="peak less the runner's null baseline"),
        Metric(name="energy_j", unit="J", better="lower", meaning="energy per inference, net of idle"),
        Metric(name="power_w", unit="W", better="lower", meaning="mean power under load, net of idle"),
        Metric(name="size_bytes", unit="bytes", better="lower", meaning="the exported file"),
        Metric(name="compressed_bytes", unit="bytes", better="lower", meaning="the exported file under zstd level 19"),
        Metric(name="accuracy", unit="fraction", better="higher", meaning="the task metric, on the device"),
        Metric(name="accuracy_drop", unit="fraction", better="lower", meaning="loss against the reference variant"),
        Metric(name="accuracy_drop_control", unit="fraction", better="lower", meaning="loss against its control"),
        Metric(name="validation_accuracy", unit="fraction", better="higher", meaning="the same on `validation`"),
        Metric(name="validation_drop", unit="fraction", better="lower", meaning="the loss on `validation`"),
        Metric(name="output_max_abs", unit="1", better="lower", meaning="largest difference to the compressed model"),
        Metric(name="output_sqnr_db", unit="dB", better="higher", meaning="signal to error against the same model"),
        Metric(name="macs", unit="1", better="lower", meaning="multiply-accumulates per inference"),
        Metric(name="parameters", unit="1", better="lower", meaning="number of parameters"),
        Metric(name="sparsity", unit="fraction", better="higher", meaning="share of zero weights"),
        Metric(name="delegated_fraction", unit="fraction", better="higher", meaning="share of nodes in the delegate"),
    )
}

#: the task metric and the losses of it: each with an interval over samples, and one over trainings
TASK_METRICS = ("accuracy", "accuracy_drop", "accuracy_drop_control", "validation_accuracy", "validation_drop")
LOSSES = ("accuracy_drop", "accuracy_drop_control", "validation_drop")

#: what is compared between releases; the other metrics follow from these, or explain them
JUDGED = (
    "latency_ms", "first_inference_ms", "load_ms", "cold_load_ms", "sustained_ms", "energy_j", "peak_memory_bytes",
    "size_bytes", "compressed_bytes", "accuracy",
)  # fmt: skip
#: beside them, for budgets
ALSO = ("latency_ms.p90", "latency_ms.p95", "latency_ms.p99")


def metric(name: str) -> Metric:
    """The metric of this name; `latency_ms.p90` is accepted where the metric has that statistic.

    Raises UsageError for a name that does not exist, with the nearest one."""
    base, _, stat = name.partition(".")
    if base not in METRICS:
        raise UsageError(f"unknown metric {name!r}", nearest(base, METRICS))
    if stat and stat not in METRICS[base].stats:
        known = ", ".join(METRICS[base].stats) or "none"
        raise UsageError(f"metric {base!r} has no statistic {stat!r}", f"one of: {known}")
    return METRICS[base]


def nearest(name: str, known: Iterable[str]) -> str:
    """A remedy that names the nearest known name, or all of them."""
    import difflib

    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"one of: {', '.join(names)}"


_CONSTRAINT = re.compile(
    r"^\s*([a-z_0-9]+(?:\.[a-z0-9_]+)?)\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*$"
)


def constraint(text: str) -> Constraint:
    """`METRIC[.STAT] OP NUMBER`. Raises UsageError for anything else."""
    match = _CONSTRAINT.match(text)
    if not match:
        raise UsageError(f"constraint {text!r} is not METRIC[.STAT] OP NUMBER", 'for example "accuracy_drop <= 0.01"')
    metric(match[1])
    op: Any = match[2]
    return Constraint(metric=match[1], op=op, bound=float(match[3]))
