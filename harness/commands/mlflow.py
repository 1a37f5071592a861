"""`export-mlflow`: a session's results as MLflow runs."""

from __future__ import annotations

import functools
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.commands.common import artifacts_folder, concluded, discreet, emit, names_of, page, store_url
from harness.errors import PackageError, StoreError, UsageError
from harness.exchange.mlflow import refuse, send, shown
from harness.exchange.tracked import Tracked, tracked
from harness.package import Files
from harness.quiet import stdout_to_stderr
from harness.records import head_of
from harness.screen import Screen
from harness.store import Store
from harness.types import Session

PAGE, RESULT = "report.html", "result.json"


def export_mlflow(
    to: str | None, experiment: str | None, label: str | None, files: bool, page: bool,
    store: str | None, identify: bool, json_out: bool,
) -> int:  # fmt: skip
    uri = to or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        hint = "--to sqlite:///mlflow.db, a server's URL, or MLFLOW_TRACKING_URI"
        raise UsageError("no tracking server is named", hint)
    url = store_url(store)
    refuse(uri)
    with tempfile.TemporaryDirectory(prefix="harness-mlflow-") as folder:
        opened = Store.open(url)
        try:
            if _place(uri) == _place(url):
                raise UsageError("that is the harness's own store", "MLflow needs a database of its own")
            session = head_of(opened.session(opened.latest(experiment, label)))
            made = opened.runs(session.id)
            document = _document(opened, session, artifacts_folder(url), Path(folder), page, identify)
        finally:
            opened.close()
        said = f" label {session.label}" if session.label else ""
        print(f"{session.experiment}{said}, session {session.id[:8]} of {session.created_utc[:16]}", file=sys.stderr)
        own = functools.partial(discreet, identify=identify, names=names_of(session))
        runs = tracked(session, document, own, made)
        with stdout_to_stderr(), Screen() as screen:
            kept = Files(artifacts_folder(url)) if files else None
            artifacts, gone = _artifacts(runs, kept, Path(folder))
            if gone:
                screen.say(f"{len(gone)} files are not here and are left out: {', '.join(gone)}")
            sent = send(
                runs, session.experiment, uri, artifacts,
                lambda done, total, what: screen.show("mlflow", "MLflow", what, done, total),
            )  # fmt: skip
    if json_out:
        counts = {"new": sent.new, "replaced": sent.replaced, "there": sent.there, "later": sent.later}
        emit({"schema": 1, **counts, "left_out": gone, "uri": shown(uri), "experiment": session.experiment})
    else:
        replaced = f", {sent.replaced} replaced" if sent.replaced else ""
        later = f", {sent.later} there are of a later state" if sent.later else ""
        print(f"{sent.new} new{replaced}, {sent.there} there{later}: experiment {session.experiment} at {shown(uri)}")
    return 0


def _place(url: str) -> tuple[str, str]:
    """Where a database is, whoever asks by whichever driver."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2].removesuffix(":5432"), parts.path


def _document(
    store: Store, session: Session, files: Path, folder: Path, with_page: bool, identify: bool
) -> dict[str, Any]:
    """The session's document; with its page in `folder`, where that is wanted."""
    if not with_page:
        return concluded(session, store.scored(session.id), files, None, identify)
    from harness.commands import beside

    more = beside.of_session(store, session, identify)
    return page(store, session, files, folder / PAGE, identify, **more)[0] | {"report": None}


def _artifacts(
    runs: Sequence[Tracked], files: Files | None, folder: Path
) -> tuple[list[Mapping[str, Path]], list[str]]:
    """What goes with each run, laid out in `folder` under the names that it is to have; the variants without a file.

    `files`: where the exported ones are, None for none of them."""
    made: list[Mapping[str, Path]] = []
    gone: list[str] = []
    for number, run in enumerate(runs):
        own = folder / str(number)
        own.mkdir()
        (own / RESULT).write_text(json.dumps(run.result, indent=1, ensure_ascii=False, allow_nan=False), "utf-8")
        found = {RESULT: own / RESULT}
        if (folder / PAGE).exists():
            found[PAGE] = folder / PAGE
        if files is not None and run.artifact is not None:
            name = f"{run.result['variant']}{run.artifact.suffix}"
            try:
                (own / name).symlink_to(files(run.artifact.sha256, run.artifact.suffix))
            except PackageError:
                gone.append(str(run.result["variant"]))
            except OSError as error:
                raise StoreError(f"{own}: {error.strerror or error}", "name another folder with TMPDIR") from error
            else:
                found[f"model/{name}"] = own / name
        made.append(found)
    return made, list(dict.fromkeys(gone))
