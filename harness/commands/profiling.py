"""`--profile`: a trace file of each profiled result, and its longest operators in the terminal."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.analyze import operators
from harness.commands.common import page_name
from harness.errors import StoreError
from harness.experiment import Experiment
from harness.report.chrome_trace import trace
from harness.store import Store
from harness.types import Cell, Package, Run, Session

_TOLD = ("variant", "seed", "exporter", "backend", "input", "device", "threads", "cpus")
VIEWER = "open one at https://ui.perfetto.dev or chrome://tracing; it stays in the browser"


def asked_of(experiment: Experiment) -> Experiment:
    """The experiment with `measure: {profile: true}`."""
    return experiment.model_copy(update={"measure": experiment.measure.model_copy(update={"profile": True})})


def asked_of_package(package: Package) -> Package:
    """The same of a package."""
    measure = dict(package.experiment["measure"]) | {"profile": True}
    return dataclasses.replace(package, experiment=dict(package.experiment) | {"measure": measure})


def tell(store: Store, session: Session, document: Mapping[str, Any], json_out: bool) -> None:
    """Writes the traces to reports/NAME-profile/ and says so; on stderr where stdout is for the JSON.

    Raises StoreError where a file cannot be written."""
    if not session.plan.get("profile"):
        return
    written = write_traces(store, session, document, Path("reports") / f"{page_name(session)}-profile")
    if not json_out:
        from rich.console import Console

        from harness.report.profile_text import profiles

        profiles(document, Console(highlight=False))
    for path in written:
        print(path, file=sys.stderr if json_out else sys.stdout)
    if written:
        print(VIEWER, file=sys.stderr)


def write_traces(store: Store, session: Session, document: Mapping[str, Any], folder: Path) -> list[Path]:
    """One file per profiled result of the document, which names the device as it may be told."""
    runs = {run.cell: run for run in store.runs(session.id, purpose="profile", arrays=True) if run.counts}
    found = [(result, runs[cell]) for result in document["results"] if (cell := _cell(result)) in runs]
    written = []
    try:
        for path, (result, run) in zip(_names(folder, [r for r, _ in found]), found, strict=True):
            folder.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{path.name}.{os.getpid()}")
            partial.write_text(_trace(session, result, run), encoding="utf-8")
            partial.replace(path)
            written.append(path)
    except OSError as error:
        raise StoreError(f"{folder}: cannot write the trace: {error.strerror or error}") from error
    return written


def _trace(session: Session, result: Mapping[str, Any], run: Run) -> str:
    said = {key: result[key] for key in _TOLD}
    title = f"{result['variant']} ({result['exporter']}) on {result['device']}"
    if result.get("simulated"):
        title = f"SIMULATED: {title}"
    about = {"title": title, "experiment": session.experiment, **said, "measured": run.started_utc}
    costs = {key: run.summary[key] for key in ("traced_ms", "untraced_ms") if key in run.summary}
    return trace(operators.executions(run), about | costs)


def _cell(result: Mapping[str, Any]) -> Cell | None:
    names = [field.name for field in dataclasses.fields(Cell)]
    return Cell(**{name: result[name] for name in names}) if result["device_id"] is not None else None


def _names(folder: Path, results: list[Mapping[str, Any]]) -> Iterator[Path]:
    """VARIANT-EXPORTER-DEVICE.json, with what else tells two of the results apart."""
    also = [key for key in ("seed", "input", "threads", "cpus") if len({result[key] for result in results}) > 1]
    taken: set[str] = set()
    for result in results:
        parts = [str(result[key]) for key in ("variant", "exporter", "device")]
        parts += [f"{key}{result[key]}" for key in also]
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(parts)).strip("-.")[:150] or "profile"
        name = next(n for k in range(len(results)) if (n := plain if not k else f"{plain}-{k + 1}") not in taken)
        taken.add(name)
        yield folder / f"{name}.json"
