"""`export-runs`: every run as a row, for other tools."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from harness.commands.common import discreet, emit, refuse_folder, store_url
from harness.errors import ToolchainError, UsageError
from harness.store import Store
from harness.types import Run

FORMATS = ("csv", "json", "parquet")


def export_runs(
    out: Path, form: str | None, samples: bool, experiment: str | None, label: str | None, store: str | None,
    identify: bool, json_out: bool,
) -> int:  # fmt: skip
    import pandas

    form = form or (out.suffix[1:] if out.suffix[1:] in FORMATS else "csv")

    if form not in FORMATS:
        raise UsageError(f"unknown format {form!r}", f"one of: {', '.join(FORMATS)}")
    refuse_folder(out)
    opened = Store.open(store_url(store))
    try:
        sessions = {s["id"]: s for s in opened.list_sessions()}
        wanted = {
            k
            for k, s in sessions.items()
            if (experiment is None or s["experiment"] == experiment) and (label is None or s["label"] == label)
        }
        if not wanted:
            opened.latest(experiment, label)  # says what there is
        rows = [
            _row(run, sessions[identity], form, identify)
            for identity in sessions
            if identity in wanted
            for run in opened.runs(identity, arrays=form != "csv")
        ]
    finally:
        opened.close()
    frame = pandas.DataFrame(rows)
    partial = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        if form == "csv":
            frame.to_csv(partial, index=False)
        elif form == "json":
            frame.to_json(partial, orient="records", indent=1)
        else:
            frame.to_parquet(partial, index=False)
    except ImportError as error:
        raise ToolchainError("parquet needs pyarrow", 'pip install "ondevice-harness[parquet]"') from error
    except OSError as error:
        raise UsageError(f"{out}: {error.strerror or error}", "name a writable place with -o") from error
    partial.replace(out)
    if json_out:
        emit({"schema": 1, "runs": len(rows), "file": str(out)})
    else:
        print(f"{len(rows)} runs: {out}")
    return 0


def _row(run: Run, session: dict[str, Any], form: str, identify: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "session": run.session,
        "experiment": session["experiment"],
        "label": session["label"],
        "quick": session["quick"],
        "run": run.id,
        "variant": run.cell.variant,
        "seed": run.cell.seed,
        "exporter": run.cell.exporter,
        "backend": run.cell.backend,
        "input": run.cell.input,
        "device_id": run.cell.device_id,
        "threads": run.cell.threads,
        "cpus": run.cell.cpus,
        "context": run.cell.context,
        "purpose": run.purpose,
        "repeat": run.repeat,
        "attempt": run.attempt,
        "counts": run.counts,
        "status": run.status,
        "reason": run.reason,
        "caveats": " ".join(run.caveats),
        "block": run.block,
        "position": run.position,
        "started_utc": run.started_utc,
        "artifact_sha256": run.artifact_sha256,
    }
    row = discreet(row, identify)
    row |= {m.metric: m.values[0] for m in run.measurements if len(m.values) == 1}
    row |= {f"latency_{k}_ms": v for k, v in run.summary.items() if k in ("p50", "p90", "p95", "p99", "mean", "min")}
    if form != "csv":
        row |= {name: values.tolist() for name, values in run.arrays.items()}
    return row
