"""`pick -o DIR`: the file to ship, a manifest that says what it is and why, and a model card; all of it or nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import __version__
from harness.analyze.pick import CELL
from harness.commands.common import discreet, names_of
from harness.errors import PackageError, StoreError, UsageError
from harness.more import Rule
from harness.package import Files
from harness.types import Artifact, Session

MANIFEST, CARD = "manifest.json", "MODEL_CARD.md"


def refuse_file(out: Path) -> None:
    """Raises UsageError where a folder is to be written and a file is there."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file", "name a folder with -o")
    manifest = out / MANIFEST
    if manifest.exists() and not _shipped_before(manifest):
        raise UsageError(f"{out} holds a manifest.json of something else", "name another folder with -o")


def _shipped_before(manifest: Path) -> bool:
    try:
        said = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(said, dict) and "pick" in said


def ship(
    chosen: Mapping[str, Any], document: Mapping[str, Any], session: Session, files: Files, out: Path,
    rule: Rule | None = None, identify: bool = False,
) -> None:  # fmt: skip
    """The picked artifact (one per input case, where they differ), its manifest and a model card. `rule`: by which it
    was picked, where that is known.

    Raises PackageError where an artifact is gone or is not what its name says, StoreError where `out` cannot be
    written; then nothing of it is there."""
    from harness.report.card import model_card

    rows = [r for r in document["results"] if r["device"] and all(chosen[k] in ("*", r[k]) for k in CELL)]
    artifacts = {row["input"]: _artifact(session, row) for row in rows}
    for artifact in artifacts.values():
        files(artifact.sha256, artifact.suffix)  # the error says what to do
    partial = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        shipped = _copied(artifacts, session.experiment, str(chosen["variant"]), files, partial)
        manifest = _manifest(chosen, document, session, rule, rows, shipped)
        manifest = dict(discreet(manifest, identify, names_of(session)))
        _write(partial / CARD, model_card(manifest, document))
        manifest["hashes"] = {path.name: _sha256(path) for path in sorted(partial.iterdir())}
        _write(partial / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False))
        out.mkdir(exist_ok=True)
        for path in sorted(partial.iterdir(), key=lambda path: path.name == MANIFEST):  # the manifest vouches: last
            path.replace(out / path.name)
    except OSError as error:
        raise StoreError(f"{out}: cannot write: {error.strerror or error}", "name another folder with -o") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _copied(
    artifacts: Mapping[str, Artifact], experiment: str, variant: str, files: Files, folder: Path
) -> list[dict[str, Any]]:
    """One entry per input case: its name, the file's, and what the artifact is; each file checked after the copy."""
    several = len({artifact.sha256 for artifact in artifacts.values()}) > 1
    shipped = []
    for case, artifact in artifacts.items():
        name = f"{experiment}-{variant}{f'-{case}' if several else ''}{artifact.suffix}"
        source = files(artifact.sha256, artifact.suffix)
        shutil.copyfile(source, folder / name)
        if _sha256(folder / name) != artifact.sha256:
            raise PackageError(f"{source}: its content is not what its name says", "build it again: harness run CONFIG")
        said = dataclasses.asdict(artifact) | {"toolchain": dict(artifact.toolchain)}
        shipped.append({"input": case, "file": name, "artifact": said})
    return shipped


def _manifest(
    chosen: Mapping[str, Any], document: Mapping[str, Any], session: Session, rule: Rule | None,
    rows: Sequence[Mapping[str, Any]], shipped: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    return {
        "schema": 1,
        "experiment": session.experiment,
        "label": document["label"],
        "session": session.id,
        "date": document["date"],
        # the first case's, which is all there is of a model with one
        "file": shipped[0]["file"],
        "artifact": shipped[0]["artifact"],
        "result": rows[0],
        "files": list(shipped),
        "results": list(rows),
        "pick": dict(chosen),
        "rule": None if rule is None else {
            "minimize": rule.minimize, "where": [str(c) for c in rule.where], "confidence": rule.confidence,
            "selected_on": rule.selected_on,
        },
        "versions": {
            "harness": __version__, "runtimes": sorted({str(row["runtime"]) for row in rows}),
            "toolchain": dict(session.package.toolchain) | shipped[0]["artifact"]["toolchain"],
        },
        "evidence": [_evidence(row) for row in rows],
    }  # fmt: skip


def _evidence(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the choice stands on at one place: its runs, and each figure with its interval."""
    known = {name: m for name, m in row["metrics"].items() if "absent" not in m}
    return {
        **{key: row[key] for key in CELL},
        "runs": list(row.get("runs") or ()), "repeats": row["repeats"], "caveats": list(row["caveats"]),
        "conditions": row.get("conditions"), "simulated": bool(row.get("simulated")),
        "intervals": {n: {"value": m["value"], "unit": m["unit"], "ci95": m["ci95"]} for n, m in known.items()},
    }  # fmt: skip


def _artifact(session: Session, row: Mapping[str, Any]) -> Artifact:
    keys = ("variant", "seed", "exporter", "backend", "input")
    build = next(b for b in session.package.builds if all(getattr(b, k) == row[k] for k in keys))
    assert build.artifact is not None
    return build.artifact


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
