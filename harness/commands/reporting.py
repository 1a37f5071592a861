"""`report`, `pick` and `runs`: from the store, without torch."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import pipeline
from harness.analyze.pick import CELL
from harness.commands.common import artifacts_folder, concluded, decided, emit, page, page_name, store_url
from harness.errors import UsageError
from harness.metrics import constraint, metric
from harness.package import Files
from harness.records import head_of
from harness.store import Store
from harness.types import Artifact, Session


def _latest(store: Store, experiment: str | None, label: str | None, quick: bool | None = None) -> Session:
    session = head_of(store.session(store.latest(experiment, label, quick)))
    if experiment is None or label is None:
        shown = f" label {session.label}" if session.label else ""
        print(f"{session.experiment}{shown}, session {session.id[:8]} of {session.created_utc[:16]}", file=sys.stderr)
    return session


def report(
    experiment: str | None, label: str | None, out: Path | None, store: str | None, identify: bool, json_out: bool
) -> int:
    url = store_url(store)
    opened = Store.open(url)
    try:
        session = _latest(opened, experiment, label)
        where = out or Path("reports") / f"{page_name(session)}.html"
        document, _ = page(opened, session, artifacts_folder(url), where, identify)
    finally:
        opened.close()
    if json_out:
        emit(document)
    else:
        print(document["report"])
    return 0


def pick(
    minimize: str | None,
    where: Sequence[str] | None,
    devices: Sequence[str],
    experiment: str | None,
    label: str | None,
    out: Path | None,
    store: str | None,
    identify: bool,
    json_out: bool,
) -> int:
    if minimize is not None:
        metric(minimize)
    given = None if where is None else [constraint(text) for text in where]
    url = store_url(store)
    opened = Store.open(url)
    try:
        session = _latest(opened, experiment, label, quick=False)  # quick ones never decide
        runs = opened.scored(session.id)
    finally:
        opened.close()
    files = artifacts_folder(url)
    document = concluded(session, runs, files, None, identify)
    rule = session.package.experiment.get("pick") or {}
    wanted = minimize or rule.get("minimize", "latency_ms")
    constraints = [constraint(text) for text in rule.get("where", [])] if given is None else given
    known = {r["device"] for r in document["results"] if r["device"] is not None}
    labels = {d.spec.name: pipeline.device_label(d.spec, d.facts, identify) for d in session.devices}
    devices = [labels.get(name, name) for name in devices]  # as it was written, or as it is told
    for name in devices:
        if name not in known:
            raise UsageError(f"the session has no device {name!r}", f"it has: {', '.join(sorted(known))}")
    decision = decided(session, runs, document, wanted, constraints, devices)
    if out is not None and decision.pick is not None:
        ship(decision.pick, document, session, Files(files), out)
    if json_out:
        emit({"pick": decision.pick, "reason": decision.reason, "closest": decision.closest})
    else:
        from harness.report.text import pick_lines

        for line in pick_lines(document | {"pick": decision.pick}, decision.reason, decision.closest):
            print(line)
        if out is not None and decision.pick is not None:
            print(out)
    return 0 if decision.pick is not None else 1


def ship(chosen: Mapping[str, Any], document: Mapping[str, Any], session: Session, files: Files, out: Path) -> None:
    """The picked artifact (one per input case, where they differ), its manifest and a model card."""
    from harness.report.card import model_card

    rows = [r for r in document["results"] if r["device"] and all(chosen[k] in ("*", r[k]) for k in CELL)]
    artifacts = {row["input"]: _artifact(session, row) for row in rows}
    several = len({artifact.sha256 for artifact in artifacts.values()}) > 1
    out.mkdir(parents=True, exist_ok=True)
    shipped = []
    for case, artifact in artifacts.items():
        name = f"{session.experiment}-{chosen['variant']}{f'-{case}' if several else ''}{artifact.suffix}"
        shutil.copyfile(files(artifact.sha256, artifact.suffix), out / name)
        said = dataclasses.asdict(artifact) | {"toolchain": dict(artifact.toolchain)}
        shipped.append({"input": case, "file": name, "artifact": said})
    manifest = {
        "schema": 1,
        "experiment": session.experiment,
        "label": document["label"],
        "session": session.id,
        # the first case's, which is all there is of a model with one
        "file": shipped[0]["file"],
        "artifact": shipped[0]["artifact"],
        "result": rows[0],
        "files": shipped,
        "results": rows,
        "pick": dict(chosen),
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")
    (out / "MODEL_CARD.md").write_text(model_card(manifest, document), encoding="utf-8")


def _artifact(session: Session, row: Mapping[str, Any]) -> Artifact:
    keys = ("variant", "seed", "exporter", "backend", "input")
    build = next(b for b in session.package.builds if all(getattr(b, k) == row[k] for k in keys))
    assert build.artifact is not None
    return build.artifact


def runs(store: str | None, json_out: bool) -> int:
    opened = Store.open(store_url(store))
    try:
        found = opened.list_sessions()
    finally:
        opened.close()
    if json_out:
        emit(found)
        return 0
    for session in found:
        state = "quick" if session["quick"] else "finished" if session["finished_utc"] else "unfinished"
        label = session["label"] or ""
        print(
            f"{session['id'][:8]}  {session['created_utc'][:16]}  {session['experiment']:<24} {state:<10} "
            f"{session['runs']:>6} runs  {label}"
        )
    return 0
