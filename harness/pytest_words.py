"""How a result is told in pytest's output: a line of the summary, a failing assert, JUnit's properties. No I/O."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from typing import Any

from harness.analyze.figure import figure
from harness.answers import Result, Value, number
from harness.errors import HarnessError
from harness.metrics import METRICS
from harness.report.units import digits, human, scale

SIMULATED = "SIMULATED: the device is a model of one; no time and no memory was measured"
#: of the summary's line: what it is called there
SHOWN = (
    ("latency_ms", "p50"), ("peak_memory_bytes", "peak memory"), ("size_bytes", "size"), ("output_sqnr_db", "output"),
)  # fmt: skip
#: statistics that JUnit's properties have beside the value
QUANTILES = ("p90", "p95", "p99")


def line(result: Result) -> str:
    """`Net .pte xnnpack on local: p50 0.48 ms (0.47 to 0.49), peak memory 13.1 MB, size 8.2 KB, output 139 dB`."""
    document = result.document
    what = f"{result.variant} {document['backend']} on {result.device}"
    if result.status != "ok":
        return f"{what}{_simulated(result)}: {result.status}: {result.reason}"
    told = [f"{name} {_told(document, metric)}" for metric, name in SHOWN]
    if result.caveats:
        told.append(f"caveats: {', '.join(result.caveats)}")
    return f"{what}{_simulated(result)}: {', '.join(told)}"


def _simulated(result: Result) -> str:
    return " (simulated)" if result.simulated else ""


def _told(document: Mapping[str, Any], metric: str) -> str:
    """A figure with its interval in the unit that suits it, or why there is none."""
    found = figure(document, metric)
    if isinstance(found, str):
        return "not checked" if metric == "output_sqnr_db" else f"absent ({found})"
    unit = _unit(document, metric)
    told = human(unit, found.value, metric)
    if found.low is None or found.high is None or found.exact:
        return told
    factor = scale(unit, [found.value], metric).factor
    return f"{told} ({digits(found.low * factor)} to {digits(found.high * factor)})"


def _unit(document: Mapping[str, Any], metric: str) -> str:
    base = metric.partition(".")[0]
    return str(document["metrics"][base].get("unit", METRICS[base].unit))


def details(result: Result) -> str:
    """All that stands beside a failing test's numbers, a line each."""
    document = result.document
    threads = document["threads"]
    head = f"{result.variant} ({document['backend']}) on {result.device}, threads: {threads}, {result.status}"
    told = [head, *([SIMULATED] if result.simulated else [])]
    told += [f"reason: {result.reason}"] if result.reason else []
    told += [f"{name}: {_told(document, metric)}" for metric, name in SHOWN]
    told += [f"repeats: {document['repeats']}"]
    told += [f"caveats: {', '.join(result.caveats)}"] if result.caveats else []
    return "\n".join(told)


def comparison(op: str, left: Any, right: Any) -> list[str] | None:
    """Why `value op bound` failed; None for what is no judgement by an interval."""
    value: Value = left if isinstance(left, Value) else right
    bound = right if value is left else left
    if op not in _OPERATIONS:
        return None
    try:
        answer = _OPERATIONS[op](left, right)
    except (HarnessError, TypeError):
        return None
    result = Result(document=value.result, confidence=value.confidence)
    told = [
        f"{value.metric} {op} {bound!r}" if value is left else f"{bound!r} {op} {value.metric}",
        f"{value.metric} of {result.variant} on {result.device} is {_plain(value)}",
    ]
    if answer.probability is not None and value.ci95 is not None and value.ci95[0] < value.ci95[1]:
        sure = f"{value.confidence:.4g} is asked for"
        told.append(f"P(it holds) is {answer.probability:.3g}, by {value.result['repeats']} repeats; {sure}")
    told += [f"caveats: {', '.join(result.caveats)}"] if result.caveats else []
    return [*told, *([SIMULATED] if result.simulated else [])]


def _plain(value: Value) -> str:
    """In the metric's own unit, which the bound is in too."""
    unit = f" {value.unit}" * (value.unit != "1")
    interval = value.ci95
    if interval is None:
        return f"{number(value.value)}{unit}, without an interval"
    if interval[0] == interval[1]:
        return f"{number(value.value)}{unit}"
    return f"{number(value.value)}{unit} (95 % interval {number(interval[0])} to {number(interval[1])})"


_OPERATIONS: Mapping[str, Any] = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def properties(result: Result, number: int) -> list[tuple[str, str | float]]:
    """JUnit's: numbers under names that say their unit, `simulated` before those that nobody measured.

    `number`: the how manieth thing of the test; from the second on it is part of the names."""
    start = f"ondevice{number if number > 1 else ''}."
    words = {"variant": result.variant, "device": str(result.device), "status": result.status}
    found: list[tuple[str, str | float]] = [(start + name, text) for name, text in words.items()]
    if result.caveats:
        found.append((f"{start}caveats", ", ".join(result.caveats)))
    if result.status != "ok":
        return [*found, (f"{start}reason", str(result.reason))]
    kind = f"{start}simulated." if result.simulated else start
    return [*found, *((f"{kind}{name}", value) for name, value in _numbers(result.document))]


def _numbers(document: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """`latency_ms`, `latency_ms_low`, `latency_ms_p95`, …: of each metric that is there."""
    for name in document["metrics"]:
        stats = [f"{name}.{stat}" for stat in QUANTILES if stat in METRICS[name].stats]
        for metric in (name, *stats):
            found = figure(document, metric)
            if isinstance(found, str) or found.at_least:
                continue
            label = metric.replace(".", "_")
            yield label, found.value
            if found.low is not None and found.high is not None and not found.exact:
                yield f"{label}_low", found.low
                yield f"{label}_high", found.high
