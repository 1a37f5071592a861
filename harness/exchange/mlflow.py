"""Runs to an MLflow tracking server, by MLflow's own client: nothing but the given URI is contacted.

    from harness.exchange.mlflow import send
    from harness.exchange.tracked import tracked

    send(tracked(session, document), "mnist-cnn", "sqlite:///mlflow.db")
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import socket
import sqlite3
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness import __version__
from harness.errors import HarnessError, StoreError, ToolchainError, UsageError
from harness.exchange.tracked import Tracked
from harness.locks import file_lock
from harness.paths import cache_dir
from harness.urls import discreet_text
from harness.urls import shown as shown

#: told as it goes on: (runs done, runs in all, which)
Tell = Callable[[int, int, str], None]
#: a file's name among the run's artifacts, and where it lies here; the last parts of both are the same
Artifacts = Mapping[str, Path]

SESSION, CELL, DIGEST = "harness.session", "harness.cell", "harness.sha256"
RUNS, FINISHED = "harness.runs", "harness.finished"  # which of two states of one result is the later
SENT, COMPLETE = "harness.artifacts", "harness.complete"  # COMPLETE is written last
EXAMPLE = "sqlite:///mlflow.db, or a server's http://…"
BATCH = 100  # as many tags or parameters a server takes in one call; of metrics 1000
CONNECT_SECONDS = 10.0
#: MLflow's own wait is many minutes; a server that was just started may take half of one. The environment goes first
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}
SILENCE = {
    "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # with the password that may be in it
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Sent:
    """How many runs were `new`, took the place of an older one (`replaced`), were `there` and are as they were, or are
    there of a later state of the session than the one that was to be sent (`later`), and stay too."""

    new: int
    replaced: int
    there: int
    later: int


def send(
    runs: Sequence[Tracked],
    experiment: str,
    uri: str,
    artifacts: Sequence[Artifacts] = (),
    tell: Tell = lambda done, total, what: None,
) -> Sent:
    """Writes each run that is not there yet, with its artifacts (one entry for each run, or none at all).

    What was cut off is completed. A result that has changed since (its session was continued) gets a new run, and then
    the old one is deleted, which MLflow can take back. Never the other way: what is there of a later state (of more
    runs, or of the finished session) stays. Two at once on one computer wait for each other.

    Raises UsageError for a URI that cannot be one, ToolchainError where MLflow is not installed, StoreError where the
    server cannot be reached or refuses."""
    refuse(uri)
    with _explained(uri), _surroundings(), file_lock(_lock(uri)):
        client = _client(uri)
        _knock(uri)
        home = _experiment(client, experiment, uri)
        there = _there(client, home, {run.session for run in runs})
        counts = {"new": 0, "replaced": 0, "there": 0, "later": 0}
        for number, run in enumerate(runs):
            tell(number, len(runs), run.name)
            files = artifacts[number] if artifacts else {}
            counts[_one(client, home, run, files, there.pop((run.session, run.cell), []))] += 1
        gone = [old for olds in there.values() for old in olds]  # of cells that the session does not have
        for old in gone if not counts["later"] else ():  # not have any more, and not: not yet
            client.delete_run(old.info.run_id)
        tell(len(runs), len(runs), "")
    return Sent(**counts)


def refuse(uri: str) -> None:
    """Raises UsageError for what cannot be tracked to, before anything is begun."""
    try:
        scheme, _ = urlsplit(uri).scheme, urlsplit(uri).port
    except ValueError:  # what it says may be a part of the password
        raise UsageError(f"{shown(uri)} is no tracking URI", EXAMPLE) from None
    if scheme in ("", "file") and uri != "databricks":
        raise UsageError(f"{shown(uri)}: MLflow no longer tracks to a plain folder", EXAMPLE)
    path = Path(uri.partition(":///")[2].partition("?")[0])
    if scheme.startswith("sqlite") and path.is_file() and not _may_track(path):
        raise UsageError(f"{path} is a database of something else", EXAMPLE)


def _may_track(path: Path) -> bool:
    """Whether the file is MLflow's database, or empty: MLflow would put its tables among another's."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error:
        return False
    return not tables or {"experiments", "latest_metrics"} <= tables


def _refuse_ours(uri: str) -> None:
    """Raises UsageError for a PostgreSQL database that holds a store of the harness, or the tables of another that
    keeps its version as MLflow does: MLflow would begin its migration in it. However the server is called in the URI,
    what is in the database tells."""
    from mlflow.store.db.utils import create_sqlalchemy_engine

    engine = create_sqlalchemy_engine(uri)
    try:
        with engine.connect() as connection:
            query = "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND pg_table_is_visible(oid)"
            tables = {str(name) for (name,) in connection.exec_driver_sql(query)}
    finally:
        engine.dispose()
    if {"alembic_version", "session_devices"} <= tables:
        raise UsageError(f"{shown(uri)} is a store of the harness", "MLflow needs a database of its own")
    if "alembic_version" in tables and "experiments" not in tables:
        raise UsageError(f"{shown(uri)} is a database of something else", "MLflow needs a database of its own")


def _lock(uri: str) -> Path:
    return cache_dir() / "locks" / f"mlflow-{hashlib.sha256(uri.encode()).hexdigest()[:16]}.lock"


@contextlib.contextmanager
def _surroundings() -> Iterator[None]:
    """MLflow sends no telemetry, is quiet and gives up in time; the process's own settings come back afterwards."""
    wanted = SILENCE | {key: value for key, value in PATIENCE.items() if key not in os.environ}
    before = {key: os.environ.get(key) for key in wanted}
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic", "urllib3")]
    disabled = [logger.disabled for logger in loggers]
    levels = [logger.level for logger in loggers]
    os.environ.update(wanted)
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level, off in zip(loggers, levels, disabled, strict=True):
            logger.setLevel(level)
            logger.disabled = off
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def _client(uri: str) -> Any:
    try:
        from mlflow.telemetry import set_telemetry_client
        from mlflow.tracking import MlflowClient
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "mlflow":
            raise
        raise ToolchainError("export-mlflow needs MLflow", 'pip install "ondevice-harness[mlflow]"') from error
    set_telemetry_client()  # where MLflow was imported before: it reads the environment anew, and stops
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # importing it has set another level
    with contextlib.suppress(ImportError):  # a database that does not answer is asked for 100 s; there is no setting
        from mlflow.store.db import utils

        utils.MAX_RETRY_COUNT = 4
    if uri.startswith("postgresql"):
        _refuse_ours(uri)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _knock(uri: str) -> None:
    """Raises OSError where nobody listens: MLflow would find out after minutes. Not where a proxy stands between."""
    from requests.utils import get_environ_proxies

    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not parts.hostname or get_environ_proxies(uri):
        return
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    socket.create_connection((parts.hostname, port), timeout=CONNECT_SECONDS).close()


def _experiment(client: Any, name: str, uri: str) -> str:
    """The id of the experiment of this name; made where there is none."""
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except Exception:  # another has made it meanwhile
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise UsageError(
            f"{shown(uri)}: the experiment {name!r} was deleted there",
            f"mlflow experiments restore --experiment-id {found.experiment_id}",
        )
    return str(found.experiment_id)


def _there(client: Any, home: str, sessions: set[str]) -> dict[tuple[str, str], list[Any]]:
    """What earlier exports of these sessions wrote, by session and cell, the oldest first."""
    found = defaultdict(list)
    for session in sorted(sessions):
        page = None
        while True:
            page = client.search_runs(
                [home], f"tags.`{SESSION}` = '{session}'", max_results=1000, order_by=["attributes.start_time ASC"],
                page_token=None if page is None else page.token,
            )  # fmt: skip
            for run in page:
                found[session, run.data.tags.get(CELL, "")].append(run)
            if not page.token:
                break
    return dict(found)


def _one(client: Any, home: str, run: Tracked, files: Artifacts, there: Sequence[Any]) -> str:
    """Brings one run there; which of `new`, `replaced`, `there`, `later` it was."""
    if any(_is_later(old, run) for old in there):
        return "later"
    same = [old for old in there if old.data.tags.get(DIGEST) == run.sha256]
    same.sort(key=lambda old: COMPLETE not in old.data.tags)
    if same:
        _complete(client, run, files, same[0].info.run_id, same[0].data.tags)
    else:
        begun = {SESSION: run.session, CELL: run.cell, DIGEST: run.sha256}
        made = client.create_run(home, start_time=run.start_ms, tags=begun, run_name=run.name)
        _complete(client, run, files, made.info.run_id, {})
    for old in [old for old in there if not same or old is not same[0]]:
        client.delete_run(old.info.run_id)
    if same and COMPLETE in same[0].data.tags:
        return "there"
    return "replaced" if any(COMPLETE in old.data.tags for old in there) else "new"


def _is_later(old: Any, run: Tracked) -> bool:
    """Whether what is there was made of a later state of the session. What was cut off, or is not known, is not."""
    tags = old.data.tags
    if COMPLETE not in tags or run.runs is None or not tags.get(RUNS, "").isdecimal():
        return False
    there = (int(tags[RUNS]), tags.get(FINISHED) == "true")
    return there > (run.runs, run.end_ms is not None)


def _complete(client: Any, run: Tracked, files: Artifacts, run_id: str, tags: Mapping[str, str]) -> None:
    """Writes what is missing; what is written twice is the same and stands there once."""
    if COMPLETE not in tags:
        _log(client, run, run_id)
    sent = set(tags.get(SENT, "").split())
    if missing := sorted(files.keys() - sent):
        for name in missing:
            client.log_artifact(run_id, str(files[name]), str(Path(name).parent) if "/" in name else None)
        client.set_tag(run_id, SENT, " ".join(sorted(sent | files.keys())))
    if COMPLETE in tags:
        return
    if run.end_ms is None:  # an end that is not known is none
        client.update_run(run_id, status=run.status)
    else:
        client.set_terminated(run_id, run.status, run.end_ms)
    client.set_tag(run_id, COMPLETE, "true")


def _log(client: Any, run: Tracked, run_id: str) -> None:
    from mlflow.entities import Metric, Param, RunTag

    when = run.start_ms if run.end_ms is None else run.end_ms
    metrics = [Metric(name, value, when, 0) for name, value in run.metrics.items()]
    params = [Param(name, value) for name, value in run.params.items()]
    tags = [RunTag(name, value) for name, value in ({"harness.version": __version__} | dict(run.tags)).items()]
    for start in range(0, max(len(metrics), len(params), len(tags)), BATCH):
        some = slice(start, start + BATCH)
        client.log_batch(run_id, metrics=metrics[some], params=params[some], tags=tags[some])


@contextlib.contextmanager
def _explained(uri: str) -> Iterator[None]:
    """Whatever MLflow, its transport or its database raises, as one message without a password."""
    try:
        yield
    except HarnessError:
        raise
    except Exception as error:
        if "unsupported URI" in str(error):
            raise UsageError(f"{shown(uri)}: MLflow knows no such URI", EXAMPLE) from None  # a trace would tell all
        reason, hint = _reason(error, uri)
        raise StoreError(f"{shown(uri)}: {reason}", hint) from None


def _reason(error: Exception, uri: str) -> tuple[str, str]:
    text = " ".join(_discreet(str(error) or type(error).__name__, uri).split())
    again = "export again: what is there stays, the rest is sent"
    said = re.search(r"error code (\d{3})", text)
    if said and said[1] in ("401", "403"):
        hint = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        return f"the server refuses these credentials ({said[1]})" if said[1] == "401" else "no permission (403)", hint
    if said and said[1] == "404" and "Response body: '{" not in text:
        return "what answers there is no MLflow server (404)", "the URI of the server itself, without a page's path"
    if isinstance(error, ModuleNotFoundError):
        return text, "install the driver of that database"
    if cause := re.search(r"(Connection refused|Name or service not known|timed out|Network is unreachable)", text):
        return f"not reached: {cause[1]}", f"is it running, is the address right? Then {again}"
    text = re.split(r" ?\[SQL: | \(Background on this error", text)[0]
    own_file = text.startswith("(sqlite3.") or getattr(error, "filename", None)
    return text[:400], "name another file with --to" if own_file else again


def _discreet(text: str, uri: str) -> str:
    """The text without what gives access."""
    return discreet_text(text, uri, [os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("PASSWORD", "TOKEN")])
