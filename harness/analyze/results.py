"""The results document (`run --json`, `report --json`): one session and its runs, as everybody reads them.

Pure: the session and its runs (with `arrays["score"]` where the metric scores samples) come in, the document goes
out. Nothing in it names a user, a host, a serial or a path: a device's label is what `name_of` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from harness.analyze import measured, metered
from harness.analyze.choose import choose
from harness.analyze.cold import cold_load, cold_runs
from harness.analyze.details import details
from harness.analyze.draws import Raw
from harness.analyze.losses import Losses
from harness.analyze.peers import Peers
from harness.analyze.rows import Planned, Row, rows
from harness.analyze.seeds import add_seeds
from harness.analyze.stats import QUANTILES
from harness.analyze.status import caveats, number, run_quantiles, verdict
from harness.analyze.sustained import sustained
from harness.analyze.task import Task
from harness.analyze.why import steps, why
from harness.metrics import METRICS
from harness.types import DeviceFacts, DeviceSpec, Run, Session

SCHEMA = 1
NameOf = Callable[[DeviceSpec, DeviceFacts | None], str]


def document(session: Session, runs: Sequence[Run], report: str | None, name_of: NameOf) -> dict[str, Any]:
    """The whole document of a session; it can be written as strict JSON (no NaN, no infinity)."""
    return with_raw(session, runs, report, name_of)[0]


def with_raw(
    session: Session, runs: Sequence[Run], report: str | None, name_of: NameOf
) -> tuple[dict[str, Any], list[Raw]]:
    """The document, and the raw values behind each of its results."""
    results, raw = _results(session, rows(session, runs), name_of)
    made = {
        "schema": SCHEMA,
        "experiment": session.experiment,
        "label": session.label,
        "session": session.id,
        "date": session.created_utc,
        "imported": session.imported_utc,
        "report": report,
        "results": results,
        **choose(results, raw, session),
    }
    return made, raw


def raw_values(session: Session, runs: Sequence[Run]) -> list[Raw]:
    """Raw values behind each result of the document, for a `decide` of one's own on `document["results"]`."""
    return _results(session, rows(session, runs), lambda spec, facts: spec.name)[1]


def quantiles(session: Session, runs: Sequence[Run]) -> Mapping[int, list[float]]:
    """Index of a result in the document -> its latency at the quantiles 0, 0.01 … 1 in ms, of all its runs pooled
    (each run weighs the same, however many samples it has).

    Results without counted latency runs are left out."""
    found: dict[int, list[float]] = {}
    for index, row in enumerate(rows(session, runs)):
        per_run = [q for run in row.counted("latency") if (q := run_quantiles(run))]
        if per_run:
            found[index] = np.quantile(np.concatenate(per_run), np.linspace(0.0, 1.0, QUANTILES)).tolist()
    return found


def _results(session: Session, planned_rows: Sequence[Row], name_of: NameOf) -> tuple[list[dict[str, Any]], list[Raw]]:
    planned, task = Planned.of(session), Task.of(session)
    verdicts = [verdict(row, planned, session.finished_utc is not None) for row in planned_rows]
    peers = Peers.of(planned_rows, verdicts)
    losses = Losses.of(session, task, peers)
    results, raw = [], []
    for i, row in enumerate(planned_rows):
        status, reason = verdicts[i]
        metrics = _metrics(row, planned, status) | losses.metrics(i) if row.device else {}
        results.append(_result(row, status, reason, metrics, planned, name_of))
        raw.append(Raw(blocks=_blocks(row, planned), samples=losses.samples(i) if row.device else {}))
    for i, result in enumerate(results):
        result["why"] = _why(i, results, raw, peers, task.reference) if planned_rows[i].device else None
    add_seeds(results, raw)
    return results, raw


def _why(
    i: int, results: Sequence[Mapping[str, Any]], raw: Sequence[Raw], peers: Peers, reference: str
) -> dict[str, Any]:
    r = peers.beside(i, reference)
    if r == i:
        return measured.absent("this is the reference")
    if not peers.usable(i):
        return measured.absent(f"the result is {results[i]['status']}")
    if r is None or not peers.usable(r):
        return measured.absent(peers.why_not(r, f"the reference {reference}"))
    builds = peers.rows[i].build, peers.rows[r].build
    latencies = results[i]["metrics"]["latency_ms"], results[r]["metrics"]["latency_ms"]
    return why(*builds, *latencies, raw[i].blocks.get("latency_ms", {}), raw[r].blocks.get("latency_ms", {}))


def _result(
    row: Row, status: str, reason: str | None, metrics: Mapping[str, Any], planned: Planned, name_of: NameOf
) -> dict[str, Any]:
    label = name_of(row.device.spec, row.device.facts) if row.device else None
    counted = [r for r in row.runs if r.counts] or list(row.runs)
    return {
        **row.named(label),
        "runtime": _runtime(row),
        "status": status,
        "reason": reason,
        "caveats": caveats(row, planned),
        "repeats": len(row.counted("latency")),
        "runs": [r.id for r in counted],
        "artifact": _artifact(row, reason),
        "metrics": {name: metrics[name] for name in METRICS if name in metrics},
        "steps": steps(row.build),
        **details(row, planned, reason),
    }


def _artifact(row: Row, reason: str | None) -> dict[str, Any]:
    artifact = row.build.artifact
    if artifact is None or row.build.status != "ok":
        return {"absent": reason or "not built"}
    return {
        "path": f"artifacts/{artifact.file_name}",
        "sha256": artifact.sha256,
        "size_bytes": artifact.size_bytes,
        "built": row.build.built,
    }


def _runtime(row: Row) -> str | None:
    """The runtime as the runner named itself, else as the file's toolchain names it."""
    for run in row.runs:
        said = run.conditions.get("runner", {})
        if said.get("runtime") and said.get("version"):
            return f"{said['runtime']} {said['version']}"
    artifact = row.build.artifact
    if artifact is None:
        return None
    version = artifact.toolchain.get(artifact.runtime)
    return f"{artifact.runtime} {version}" if version else artifact.runtime


def _metrics(row: Row, planned: Planned, status: str) -> dict[str, Any]:
    """Every metric of the table, measured or absent with the reason; but the task's, which need other rows."""
    metrics = {
        **measured.latency(row),
        "first_inference_ms": measured.once_per_run(row, "latency", "first_inference_ms"),
        "load_ms": measured.once_per_run(row, "latency", "load_ms"),
        **cold_load(row, planned),
        **measured.memory(row, planned),
        **sustained(row, planned),
        **metered.energy(row, planned),
        **measured.of_the_file(row),
        **measured.outputs(row),
    }
    if status == "failed" and row.build.expected and row.troubles("check", "accuracy"):
        timed = (
            "latency_ms", "throughput_ips", "first_inference_ms", "load_ms", "cold_load_ms", "sustained_ms",
            "throttle_after_s", "energy_j", "power_w",
        )  # fmt: skip
        metrics |= dict.fromkeys(timed, measured.absent("output check failed"))
    return metrics


def _blocks(row: Row, planned: Planned) -> dict[str, dict[int, float]]:
    """Per-run values by block of the schedule, for what fronts and picks compare."""
    found: dict[str, dict[int, float]] = metered.by_block(row, planned)
    for run in row.counted("latency"):
        for stat in METRICS["latency_ms"].stats:
            if (value := number(run.summary.get(stat))) is not None and value > 0:
                found.setdefault(f"latency_ms.{stat}", {})[run.block] = value
        for name in ("first_inference_ms", "load_ms"):
            for value in measured.per_run([run], name):
                found.setdefault(name, {})[run.block] = value
    if "latency_ms.p50" in found:
        found["latency_ms"] = found["latency_ms.p50"]
    if "latency_ms.mean" in found:
        found["throughput_ips"] = {b: 1000.0 / v for b, v in found["latency_ms.mean"].items()}
    for run in row.counted("memory"):
        for value in measured.per_run([run], "peak_memory_bytes"):
            found.setdefault("peak_memory_bytes", {})[run.block] = value
    for run in cold_runs(row):
        for value in measured.per_run([run], "cold_load_ms"):
            found.setdefault("cold_load_ms", {})[run.block] = value
    return found
