"""Metric objects from one cell's runs: times, throughput, memory, the output check. Absent where not measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from harness.analyze import memory_parts
from harness.analyze.intervals import Interval, difference_of, over_runs
from harness.analyze.rows import Planned, Row
from harness.analyze.stats import PERCENTILES, between_run_cv
from harness.analyze.status import commonest, figures, number
from harness.metrics import METRICS
from harness.types import Purpose, Run

MetricObject = dict[str, Any]
ONE_REPEAT = "one repeat has no interval"


def absent(reason: str) -> MetricObject:
    return {"absent": reason}


def metric_object(
    metric: str, value: float, ci95: Interval | None, source: str, *, why_no_ci: str = ONE_REPEAT, **more: Any
) -> MetricObject:
    """`{"value", "unit", "ci95", "source", …}`; bytes are whole numbers."""
    shown = round(value) if METRICS[metric].unit == "bytes" else value
    interval = absent(why_no_ci) if ci95 is None else [ci95[0], ci95[1]]
    return {"value": shown, "unit": METRICS[metric].unit, "ci95": interval, "source": source, **more}


def exact(name: str, value: float, source: str, **more: Any) -> MetricObject:
    """A figure without spread: its interval is the value itself."""
    whole = int(value) if float(value).is_integer() and METRICS[name].unit in ("bytes", "1") else value
    return {"value": whole, "unit": METRICS[name].unit, "ci95": [whole, whole], "source": source, **more}


def why_none(row: Row, *purposes: Purpose) -> str:
    """Why there is no counted run of these purposes."""
    if reason := commonest(row.troubles(*purposes)):
        return reason
    if row.device and not row.device.facts:
        return "device not reached"
    return "not measured"


def per_run(runs: Sequence[Run], name: str) -> list[float]:
    """One value per run that measured it: the median of its raw values; runs with none that is finite left out."""
    out = []
    for run in runs:
        values = [v for m in run.measurements if m.metric == name for raw in m.values if (v := number(raw)) is not None]
        if values:
            out.append(statistics.median(values))
    return out


def latency(row: Row) -> dict[str, MetricObject]:
    """`latency_ms` and what follows from the same runs: `throughput_ips`.

    Each statistic is the median over runs of the run's own (`min` the least, `mean` the mean); one that a run lacks
    is absent. `ci95` is of the headline, `ci95_of` of the other statistics, both over runs."""
    runs = [r for r in row.counted("latency") if number(r.summary.get("p50")) is not None]
    if not runs:
        return dict.fromkeys(("latency_ms", "throughput_ips"), absent(why_none(row, "latency")))
    stats: dict[str, Any] = {}
    intervals: dict[str, Any] = {}
    for name in METRICS["latency_ms"].stats:
        values = figures(runs, name)
        if len(values) < len(runs):
            stats[name] = absent(_too_few(name))
            continue
        value = _over_runs_value(name, values)
        stats[name] = value
        interval = over_runs(values, value)
        intervals[name] = absent(ONE_REPEAT) if interval is None else list(interval)
    p50 = figures(runs, "p50")
    found = {
        "latency_ms": metric_object(
            "latency_ms", stats["p50"], over_runs(p50, stats["p50"]), "runner", **stats, ci95_of=intervals,
            samples=sum(int(v) for v in figures(runs, "n")), outliers=sum(int(v) for v in figures(runs, "outliers")),
            between_run_cv=between_run_cv(p50),
        )
    }  # fmt: skip
    means = [m for m in figures(runs, "mean") if m > 0]
    if len(means) < len(runs):
        found["throughput_ips"] = absent("the runs lack a mean latency")
    else:
        value = 1000.0 / statistics.fmean(means)
        interval = over_runs([1000.0 / m for m in means], value)
        found["throughput_ips"] = metric_object("throughput_ips", value, interval, "derived")
    return found


def _over_runs_value(name: str, values: Sequence[float]) -> float:
    if name == "mean":
        return statistics.fmean(values)
    return min(values) if name == "min" else statistics.median(values)


def _too_few(name: str) -> str:
    least = PERCENTILES[name][1] if name in PERCENTILES else 0
    return f"a run has fewer than {least} samples" if least > 1 else "a run lacks it"


def once_per_run(row: Row, purpose: Purpose, name: str) -> MetricObject:
    """A metric that each run of this purpose measures once (or a few times): median over runs, interval over runs."""
    runs = row.counted(purpose)
    values = per_run(runs, name)
    if not values:
        return absent("the runner did not report it" if runs else why_none(row, purpose))
    return metric_object(name, statistics.median(values), over_runs(values), "runner", samples=len(values))


def memory(row: Row, planned: Planned) -> dict[str, MetricObject]:
    """Peak of the process with its parts, and what is left of it after the same runner's null baseline.

    Both have `anonymous`, the part that does not depend on the page cache (memory_parts.py)."""
    runs = row.counted("memory")
    if not planned.memory and not runs:
        return dict.fromkeys(("peak_memory_bytes", "model_memory_bytes"), absent("memory: false"))
    peak = once_per_run(row, "memory", "peak_memory_bytes")
    if "absent" not in peak:
        peak |= memory_parts.details(runs)
    found = {"peak_memory_bytes": peak}
    values, nulls = per_run(runs, "peak_memory_bytes"), per_run(row.nulls, "peak_memory_bytes")
    if "absent" in peak:
        found["model_memory_bytes"] = peak
    elif not nulls:
        found["model_memory_bytes"] = absent("the runner's null baseline was not measured")
    else:
        one, two = statistics.median(values), statistics.median(nulls)
        one_ci, two_ci = over_runs(values), over_runs(nulls)
        interval = difference_of(one, one_ci, two, two_ci) if one_ci and two_ci else None
        found["model_memory_bytes"] = metric_object(
            "model_memory_bytes", one - two, interval, "runner", null_bytes=round(two), samples=len(values),
            anonymous=_anonymous_above(runs, row.nulls),
        )  # fmt: skip
    return found


def _anonymous_above(runs: Sequence[Run], nulls: Sequence[Run]) -> int | MetricObject:
    one, two = memory_parts.anonymous(runs), memory_parts.anonymous(nulls)
    if one is None or two is None:
        return absent("the device does not tell anonymous memory apart")
    return round(one - two)


def outputs(row: Row) -> dict[str, MetricObject]:
    """The output check's figures, also of a check that failed: they say how far off the outputs are."""
    names = ("output_max_abs", "output_sqnr_db")
    runs = [r for r in row.runs if r.purpose in ("check", "accuracy") and (r.counts or r.status == "failed")]
    runs.sort(key=lambda r: (r.counts, r.repeat, r.attempt))
    found = {}
    for name in names:
        values = per_run(runs, name)
        if values:
            found[name] = exact(name, values[-1], "device")
        elif row.build.expected or runs:
            found[name] = absent(why_none(row, "check", "accuracy"))
        else:
            found[name] = absent("there are no expected outputs to check against")
    return found


def of_the_file(row: Row) -> dict[str, MetricObject]:
    """What the build knows of the file: no device was asked, and there is no spread."""
    artifact, facts = row.build.artifact, row.build.facts
    known: dict[str, Any] = {name: facts.get(name) for name in ("macs", "parameters", "sparsity", "delegated_fraction")}
    known["size_bytes"] = artifact.size_bytes if artifact else None
    known["compressed_bytes"] = artifact.compressed_bytes if artifact else None
    return {
        name: exact(name, value, "host") if number(value) is not None else absent(_unknown(value))
        for name, value in known.items()
    }


def _unknown(value: Any) -> str:
    return str(value["absent"]) if isinstance(value, dict) and "absent" in value else "the build did not count it"
