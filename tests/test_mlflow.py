"""A session's results as MLflow runs, by MLflow's own client on its own database."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from harness.cli import _guarded
from harness.errors import HarnessError, StoreError, UsageError
from harness.exchange import mlflow as exchange
from harness.exchange.tracked import PARAMETER, TAG, Tracked, tracked
from harness.store import Store
from harness.types import Session
from tests.release_kit import SAME, Lab, enter
from tests.standins.postgres import Postgres, database_of

pytest.importorskip("mlflow")
PICK = {"minimize": "latency_ms", "where": []}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One release on a simulated device: fp32 and int8, and a device that is not there."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as monkeypatch:
        enter(folder, monkeypatch)
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        lab = Lab(folder)
        lab.release("v1", SAME, pick=PICK)
        yield lab


@pytest.fixture
def uri(tmp_path: Path, empty: bytes) -> str:
    (tmp_path / "mlflow.db").write_bytes(empty)
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """MLflow's database with nothing in it: making one takes seconds."""
    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    with exchange._surroundings():
        client(f"sqlite:///{file}").search_experiments()
    return file.read_bytes()


@pytest.fixture(autouse=True)
def artifacts_there(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow puts artifacts in the working folder; each test has its own, with the same store and devices."""
    monkeypatch.chdir(tmp_path)


def client(uri: str) -> Any:
    return exchange._client(uri)


def found(uri: str, experiment: str = "demo") -> dict[str, Any]:
    """The active runs of the experiment, by variant."""
    own = client(uri)
    listed = own.search_runs([own.get_experiment_by_name(experiment).experiment_id])
    runs = {run.data.params["variant"]: run for run in listed}
    assert len(runs) == len(listed)
    return runs


def session_of(lab: Lab) -> tuple[Session, dict[str, Any]]:
    store = Store.open(f"sqlite:///{lab.folder}/h.db")
    try:
        session = store.session(store.latest(None, None))
    finally:
        store.close()
    return session, lab.json("report", "-o", str(lab.folder / "page.html"))[1]


def test_each_result_is_a_run_with_its_numbers_exactly(lab: Lab, uri: str) -> None:
    code, said = lab.json("export-mlflow", "--to", uri)
    assert (code, said["new"], said["there"], said["left_out"]) == (0, 2, 0, []), lab.stderr
    session, document = session_of(lab)
    runs = found(uri)
    for result in document["results"]:
        run, latency = runs[result["variant"]], result["metrics"]["latency_ms"]
        assert run.info.status == "FINISHED"
        metrics = {name.removeprefix("simulated."): value for name, value in run.data.metrics.items()}
        assert len(metrics) == len(run.data.metrics) > 5
        assert metrics["latency_ms"] == latency["value"] and metrics["latency_ms.p95"] == latency["p95"]
        assert [metrics["latency_ms.low"], metrics["latency_ms.high"]] == latency["ci95"]
        assert [metrics["latency_ms.p95.low"], metrics["latency_ms.p95.high"]] == latency["ci95_of"]["p95"]
        assert metrics["size_bytes"] == result["metrics"]["size_bytes"]["value"]
        assert "energy_j" not in metrics and "latency_ms.p99" not in metrics
        assert run.data.tags["harness.absent.energy_j"] == "energy: off"
        assert run.data.tags["harness.absent.latency_ms.p99"] == latency["p99"]["absent"]
    assert runs["int8"].info.start_time == round(_seconds(session.created_utc) * 1000)
    assert runs["int8"].info.end_time == round(_seconds(session.finished_utc) * 1000)


def test_a_run_says_what_it_is(lab: Lab, uri: str) -> None:
    assert lab("export-mlflow", "--to", uri, "--no-page") == 0
    runs = found(uri)
    params, tags = runs["int8"].data.params, runs["int8"].data.tags
    assert (params["exporter"], params["device"], params["threads"]) == ("executorch", "pi", "1")
    assert params["runtime"] == "executorch simulated" and params["device.os"] and params["toolchain.simulated"]
    assert (tags["harness.label"], tags["harness.status"], tags["harness.pick"]) == ("v1", "ok", "true")
    assert "harness.pick" not in runs["fp32"].data.tags


def test_a_simulated_number_is_never_shown_as_measured(lab: Lab, uri: str) -> None:
    assert lab("export-mlflow", "--to", uri, "--no-page") == 0
    for run in found(uri).values():
        assert run.info.run_name.startswith("simulated · ")
        assert run.data.tags["harness.simulated"] == "true"
        assert run.data.metrics and all(name.startswith("simulated.") for name in run.data.metrics)
        assert "no number here was measured" in run.data.tags["mlflow.note.content"]


def test_a_measured_number_has_its_own_name(lab: Lab) -> None:
    session, document = session_of(lab)
    document["results"][0]["simulated"] = False
    measured = document["results"][0]["metrics"]["latency_ms"]["value"]
    assert tracked(session, document)[0].metrics["latency_ms"] == measured


def test_the_file_the_result_and_the_page_are_its_artifacts(lab: Lab, uri: str, tmp_path: Path) -> None:
    assert lab("export-mlflow", "--to", uri) == 0
    _, document = session_of(lab)
    for variant, run in found(uri).items():
        result = next(r for r in document["results"] if r["variant"] == variant)
        kept = Path(client(uri).download_artifacts(run.info.run_id, ""))
        files = {str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()}
        assert files == {f"model/{variant}.pte", "result.json", "report.html"}
        assert len((kept / f"model/{variant}.pte").read_bytes()) == result["metrics"]["size_bytes"]["value"]
        assert json.loads((kept / "result.json").read_text())["metrics"] == result["metrics"]
        assert "<html" in (kept / "report.html").read_text()[:2000]


def test_again_is_nothing_new(lab: Lab, uri: str) -> None:
    assert lab("export-mlflow", "--to", uri, "--no-page") == 0
    first = {run.info.run_id for run in found(uri).values()}
    assert lab("export-mlflow", "--to", uri, "--no-page") == 0
    assert lab.stdout.startswith("0 new, 2 there")
    assert {run.info.run_id for run in found(uri).values()} == first


def test_what_was_left_out_is_added_when_it_is_asked_for(lab: Lab, uri: str) -> None:
    assert lab("export-mlflow", "--to", uri, "--no-page", "--no-files") == 0
    assert _artifacts(uri) == {"result.json"}
    assert lab("export-mlflow", "--to", uri) == 0
    assert lab.stdout.startswith("0 new, 2 there")
    assert _artifacts(uri) == {"result.json", "report.html", "model"}


@pytest.mark.parametrize("breaks", ["log_batch", "log_artifact", "set_terminated", "set_tag"])
@pytest.mark.parametrize("after", [0, 1])
def test_an_export_that_was_cut_off_is_completed_and_not_doubled(
    lab: Lab, uri: str, breaks: str, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    own = getattr(MlflowClient, breaks)
    calls = iter(range(100))

    def broken(*arguments: Any, **named: Any) -> Any:
        if next(calls) >= after:
            raise ConnectionError("the cable was pulled")
        return own(*arguments, **named)

    with monkeypatch.context() as while_broken:
        while_broken.setattr(MlflowClient, breaks, broken)
        lab.says(3, "export-mlflow", "--to", uri, "--no-page", names=("the cable was pulled", "export again"))
    assert lab("export-mlflow", "--to", uri, "--no-page") == 0
    runs = found(uri)  # each variant once
    assert set(runs) == {"fp32", "int8"}
    for run in runs.values():
        assert run.info.status == "FINISHED" and run.data.tags["harness.complete"] == "true"
        assert len(client(uri).get_metric_history(run.info.run_id, "simulated.latency_ms")) == 1
        assert run.data.metrics["simulated.size_bytes"]


def test_a_result_that_changed_takes_the_place_of_the_old_one(lab: Lab, uri: str) -> None:
    runs = _tracked(lab)
    exchange.send(runs, "demo", uri)
    before = found(uri)
    changed = dataclasses.replace(runs[1], metrics={"latency_ms": 4.0})
    assert exchange.send([runs[0], changed], "demo", uri) == exchange.Sent(new=0, replaced=1, there=1, later=0)
    after = found(uri)
    assert after["int8"].data.metrics == {"latency_ms": 4.0}
    assert after["fp32"].info.run_id == before["fp32"].info.run_id
    assert client(uri).get_run(before["int8"].info.run_id).info.lifecycle_stage == "deleted"


def test_a_cell_that_the_session_no_longer_has_goes(lab: Lab, uri: str) -> None:
    runs = _tracked(lab)
    exchange.send([*runs, dataclasses.replace(runs[0], cell="another")], "demo", uri)
    exchange.send(runs, "demo", uri)
    assert len(found(uri)) == 2


@pytest.mark.parametrize("changes", [{"runs": 2}, {"end_ms": None}, {"runs": 2, "end_ms": None}])
def test_an_earlier_state_of_a_session_never_replaces_a_later_one(
    lab: Lab, uri: str, changes: dict[str, Any]
) -> None:
    runs = _tracked(lab)
    exchange.send(runs, "demo", uri)
    before = found(uri)
    old = dataclasses.replace(runs[0], status="FAILED", metrics={}, tags=_tags(runs[0], **changes), **changes)
    assert exchange.send([old], "demo", uri) == exchange.Sent(new=0, replaced=0, there=0, later=1)
    after = found(uri)  # int8, which that state does not have yet, is there too
    assert {name: run.info.run_id for name, run in after.items()} == {n: r.info.run_id for n, r in before.items()}
    assert after["fp32"].info.status == "FINISHED" and after["fp32"].data.metrics == before["fp32"].data.metrics


def test_runs_that_do_not_count_are_among_those_that_tell_the_later_state(lab: Lab) -> None:
    session, document = session_of(lab)
    runs = _tracked(lab)
    store = Store.open(f"sqlite:///{lab.folder}/h.db")
    try:
        made = store.runs(session.id)
    finally:
        store.close()
    first = next(run for run in made if run.id == document["results"][0]["runs"][0])
    again = dataclasses.replace(first, id="again", attempt=9, counts=False, status="invalid")
    more = {run.cell: run.runs for run in tracked(session, document, made=[*made, again])}
    assert sum(more[run.cell] - run.runs for run in runs) == 1  # type: ignore[operator]
    assert all(run.runs for run in runs)


def test_a_later_state_that_was_cut_off_keeps_nothing_out(lab: Lab, uri: str) -> None:
    runs = _tracked(lab)
    more = [dataclasses.replace(run, runs=99, tags=_tags(run, runs=99, end_ms=run.end_ms)) for run in runs]
    exchange.send(more, "demo", uri)
    for run in found(uri).values():
        client(uri).delete_tag(run.info.run_id, "harness.complete")
    assert exchange.send(runs, "demo", uri).new == 2
    assert found(uri)["fp32"].data.tags["harness.runs"] == str(runs[0].runs)


def test_a_copy_of_an_older_store_says_that_it_is_behind(lab: Lab, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lab("export-mlflow", "--to", uri, "--no-page") == 0
    before = {run.info.run_id for run in found(uri).values()}
    own = Store.session
    monkeypatch.setattr(
        Store, "session", lambda store, name: dataclasses.replace(own(store, name), finished_utc=None)
    )  # as it was before its end
    code, said = lab.json("export-mlflow", "--to", uri, "--no-page")
    assert (code, said["new"], said["there"], said["later"]) == (0, 0, 0, 2)
    assert lab("export-mlflow", "--to", uri, "--no-page") == 0
    assert "0 new, 0 there, 2 there are of a later state" in lab.stdout
    assert {run.info.run_id for run in found(uri).values()} == before


def test_an_imported_session_says_so(lab: Lab, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lab("export-mlflow", "--to", uri, "--no-page") == 0
    assert {run.data.tags["harness.imported"] for run in found(uri).values()} == {"false"}
    own = Store.session
    monkeypatch.setattr(
        Store, "session", lambda store, name: dataclasses.replace(own(store, name), imported_utc="2026-01-01")
    )
    assert lab("export-mlflow", "--to", uri, "--no-page") == 0
    assert {run.data.tags["harness.imported"] for run in found(uri).values()} == {"true"}


@pytest.mark.parametrize(
    ("status", "told"), [("failed", "FAILED"), ("invalid", "FAILED"), ("skipped", "KILLED"), ("ok", "FINISHED")]
)
def test_what_is_not_usable_is_a_run_without_metrics(lab: Lab, status: str, told: str) -> None:
    session, document = session_of(lab)
    document["results"][0] |= {"status": status, "reason": "it broke" if status != "ok" else None}
    run = tracked(session, document)[0]
    assert run.status == told and bool(run.metrics) == (status == "ok")
    assert run.tags.get("harness.reason") == (None if status == "ok" else "it broke")


def test_what_could_not_be_built_is_a_run_too(lab: Lab) -> None:
    session, document = session_of(lab)
    document["results"][0] |= {
        "status": "failed", "reason": "no export", "device": None, "device_id": None, "threads": None, "cpus": None,
        "metrics": {}, "artifact": {"absent": "no export"},
    }  # fmt: skip
    run = tracked(session, document)[0]
    assert run.artifact is None and "threads" not in run.params and "no device" in run.name


def test_two_devices_of_one_name_are_two_results(lab: Lab) -> None:
    session, document = session_of(lab)
    document["results"][1] = document["results"][0]
    first, second = tracked(session, document)
    assert first.cell != second.cell


def test_an_unfinished_session_has_no_end(lab: Lab, uri: str) -> None:
    session, document = session_of(lab)
    runs = tracked(dataclasses.replace(session, finished_utc=None), document)
    exchange.send(runs, "demo", uri)
    assert found(uri)["int8"].info.end_time is None
    assert found(uri)["int8"].info.status == "FINISHED"
    assert exchange.send(_tracked(lab), "demo", uri).replaced == 2
    assert found(uri)["int8"].info.end_time


def test_what_is_too_long_is_cut_visibly_and_what_is_no_text_replaced(lab: Lab, uri: str) -> None:
    session, document = session_of(lab)
    steps = [{"magnitude": {"layers": "x" * 9000}}]
    document["results"][0] |= {"reason": "y" * 9000, "steps": steps, "runtime": "a\0b\ud800c"}
    document["results"][0]["metrics"]["accuracy"] = {"value": 0.5, "unit": "1", "wör:d": {"value": 1.0}}
    run = tracked(session, document)[0]
    assert len(run.params["steps"]) == PARAMETER and "[cut: " in run.params["steps"]
    assert len(run.tags["harness.reason"]) == TAG and run.tags["harness.reason"].endswith("[cut: 9000 characters]")
    assert run.params["runtime"] == "a�b�c"
    assert run.metrics["simulated.accuracy.w_r_d"] == 1.0
    assert exchange.send([run], "demo", uri).new == 1


def test_devices_are_told_discreetly_unless_asked(lab: Lab) -> None:
    session, document = session_of(lab)
    facts = dataclasses.replace(session.devices[0].facts, os="/home/ann/os 10.0.0.7")  # type: ignore[type-var]
    session = dataclasses.replace(session, devices=(dataclasses.replace(session.devices[0], facts=facts),))
    told = tracked(session, document, lambda value: "hidden" if isinstance(value, str) else value)
    assert {told[0].params[f"device.{name}"] for name in ("model", "os")} == {"hidden"}
    assert tracked(session, document)[0].params["device.os"] == "/home/ann/os 10.0.0.7"


def test_files_that_are_gone_are_said_and_the_rest_is_there(lab: Lab, uri: str) -> None:
    folder = lab.folder / "artifacts"
    try:
        folder.rename(lab.folder / "away")
        code, said = lab.json("export-mlflow", "--to", uri, "--no-page")
    finally:
        (lab.folder / "away").rename(folder)
    assert (code, said["new"], said["left_out"]) == (0, 2, ["fp32", "int8"])
    assert "not here" in lab.stderr
    assert lab("export-mlflow", "--to", uri, "--no-page") == 0
    assert _artifacts(uri) == {"result.json", "model"}


class _Refusing(BaseHTTPRequestHandler):
    status, body = 401, b"You are not authenticated."

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    do_POST = do_GET

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    serving = ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
    thread = threading.Thread(target=serving.serve_forever, daemon=True)
    thread.start()
    yield serving
    serving.shutdown()
    serving.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (401, b"no", "refuses these credentials"), (403, b"no", "no permission"), (404, b"<html>", "no MLflow server"),
        (500, b"oops s3cret", "500"), (200, b"<html>not json", "http://127.0.0.1"),
    ],
)  # fmt: skip
def test_a_server_that_refuses_is_one_message_without_the_password(
    lab: Lab, server: ThreadingHTTPServer, status: int, body: bytes, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Refusing, "status", status)
    monkeypatch.setattr(_Refusing, "body", body)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    address = f"http://ann:s3cret@127.0.0.1:{server.server_port}"
    lab.says(3, "export-mlflow", "--to", address, "--no-page", names=says)
    assert "s3cret" not in lab.stderr and "ann" not in lab.stderr


def test_a_server_that_is_not_there_is_said_at_once(lab: Lab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://ann:s3cret@127.0.0.1:{port}"
    lab.says(3, "export-mlflow", "--to", address, "--no-page", names=("not reached", "refused"))
    assert "s3cret" not in lab.stderr


def test_a_server_is_knocked_at_before_mlflow_asks_it_for_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(exchange, "_client", lambda uri: asked.append(uri))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(StoreError, match="not reached"):
        exchange.send([], "demo", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # then it is the proxy that reaches it, or not
    exchange._knock(f"http://nowhere.invalid:{port}")


@pytest.mark.parametrize(
    ("to", "says"),
    [
        ((), "--to sqlite:///mlflow.db"),
        (("--to", "./mlruns"), "plain folder"),
        (("--to", "file:///tmp/mlruns"), "sqlite:///mlflow.db"),
        (("--to", "nonsense://x"), "no such URI"),
        (("--to", "http://[x"), "no tracking URI"),
        (("--to", "http://x:port"), "no tracking URI"),
        (("--to", "http://ann:hunter2/x@host"), "no tracking URI"),
        (("--to", "sqlite:///m.db", "--experiment", "nope"), "nope"),
    ],
)
def test_what_cannot_be_tracked_to_is_a_usage_error(lab: Lab, to: tuple[str, ...], says: str) -> None:
    lab.says(2, "export-mlflow", *to, "--no-page", names=says)
    assert "hunter2" not in lab.stderr


def test_a_store_on_a_server_is_known_however_the_server_is_called(lab: Lab, postgres: Postgres) -> None:
    url = postgres()
    Store.open(url, create=True).close()
    database = database_of(url)
    query = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    before = sorted(postgres.execute(query, database))
    for spelling in (url, url.replace("127.0.0.1", "localhost")):
        lab.says(2, "export-mlflow", "--to", spelling, "--no-page", names=("is a store of the harness", "of its own"))
        assert "s3cret" not in lab.stderr
    assert sorted(postgres.execute(query, database)) == before


def test_another_tools_migrations_on_a_server_are_left_alone(lab: Lab, postgres: Postgres) -> None:
    url = postgres()
    made = "CREATE TABLE alembic_version (version_num text); GRANT ALL ON alembic_version TO PUBLIC"
    postgres.execute(made, database_of(url))
    lab.says(2, "export-mlflow", "--to", url, "--no-page", names="is a database of something else")


def test_the_store_itself_and_other_databases_are_never_touched(lab: Lab, tmp_path: Path) -> None:
    before = (lab.folder / "h.db").read_bytes()
    lab.says(2, "export-mlflow", "--to", f"sqlite:///{lab.folder}/h.db", names="something else")
    assert (lab.folder / "h.db").read_bytes() == before
    (tmp_path / "text.db").write_text("no database")
    lab.says(2, "export-mlflow", "--to", f"sqlite:///{tmp_path}/text.db", names="something else")


def test_an_experiment_that_was_deleted_there_is_said(lab: Lab, uri: str) -> None:
    exchange.send(_tracked(lab), "demo", uri)
    client(uri).delete_experiment(client(uri).get_experiment_by_name("demo").experiment_id)
    with pytest.raises(UsageError, match="was deleted there"):
        exchange.send(_tracked(lab), "demo", uri)


def test_the_password_of_a_database_is_not_told() -> None:
    assert exchange.shown("http://ann:p@ss@host:5000/x?token=abc") == "http://host:5000/x"
    error = RuntimeError("connecting to postgresql://ann:pw@host/db with pw failed")
    with pytest.raises(StoreError) as told, exchange._explained("postgresql://ann:pw@host/db"):
        raise error
    assert "pw" not in str(told.value) and "ann" not in str(told.value)


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("foo://u:hunter2@h/x?token=hunter2", "foo://u:hunter2@h/x?token=hunter2 is away"),
        ("foo://u:hunter2@h/x?token=hunter2", "got unsupported URI 'foo://u:hunter2@h/x?token=hunter2'"),
        ("http://h/x?token=hunter2", "url: /x?token=hunter2 (Caused by …)"),
        ("http://h/x", "moved to http://h/y?a=1&token=hunter2"),
        ("http://h/x?token=hunter2", "the token hunter2 is old"),
        ("postgresql://u:hunter2%40%20x@h/x", "no entry for 'hunter2@ x'"),
        ("postgresql://u:hunter2@x y@h/x", "no entry for 'hunter2%40x%20y'"),
    ],
)
def test_neither_message_nor_trace_tells_what_gives_access(uri: str, text: str) -> None:
    with pytest.raises(HarnessError) as told, exchange._explained(uri):
        try:
            raise ConnectionError(text)
        except ConnectionError as error:
            raise RuntimeError(text) from error
    trace = "".join(traceback.format_exception(told.value))
    assert "hunter2" not in trace


def test_the_trace_of_a_wrong_uri_tells_no_password(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--to", "foo://u:hunter2@h/x?token=hunter2", "--no-page", "--debug"]
    assert _guarded(["export-mlflow", *arguments, "--store", f"sqlite:///{lab.folder}/h.db"]) == 2
    told = capsys.readouterr().err
    assert "Traceback" in told and "hunter2" not in told


def test_without_mlflow_the_extra_is_named(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "mlflow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    lab.says(3, "export-mlflow", "--to", "sqlite:///x.db", "--no-page", names='pip install "ondevice-harness[mlflow]"')


def test_the_environment_is_as_before_and_no_telemetry_is_begun(uri: str) -> None:
    program = f"""
import logging, os, socket, threading
before = dict(os.environ)
def connect(*_): raise AssertionError("contacted")
socket.socket.connect = connect
socket.getaddrinfo = connect
from harness.exchange.mlflow import send
send([], "empty", {uri!r})
assert dict(os.environ) == before
from mlflow.telemetry.client import get_telemetry_client
assert get_telemetry_client() is None
assert threading.active_count() == 1
"""
    outside = {k: v for k, v in os.environ.items() if k != "CI" and not k.startswith(("PYTEST", "MLFLOW", "HARNESS"))}
    done = subprocess.run(
        [sys.executable, "-c", program], env=outside | {"HARNESS_CACHE": str(Path.cwd() / "cache")},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


DOCS = (Path(__file__).resolve().parent.parent / "docs" / "exchange.md").read_text()
SECTION = DOCS[DOCS.index("## MLflow") :].partition("\n## ")[0]


def test_the_example_in_the_docs_makes_mlflow_runs(
    tmp_path: Path, empty: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = re.search(r"```\n(harness export-mlflow .*)\n```", SECTION)
    program = re.search(r"```python\n(.*?)```", SECTION, re.DOTALL)
    assert command and program
    (tmp_path / "mlflow.db").write_bytes(empty)
    enter(tmp_path, monkeypatch)
    lab = Lab(tmp_path)
    lab.release("docs", SAME, pick=PICK, name="mnist-cnn")
    assert lab(*shlex.split(command[1])[1:]) == 0, lab.stderr
    assert lab.stdout.startswith("2 new")
    capsys.readouterr()
    exec(program[1], {})
    name, p95, low, high = capsys.readouterr().out.rsplit(maxsplit=3)
    assert name == "simulated · int8 · executorch · pi · 1 thread"
    assert 0 < float(low) < float(p95) < 2 * float(high)


def test_the_docs_name_every_tag(lab: Lab) -> None:
    for run in _tracked(lab):
        for tag in run.tags:
            if tag.startswith("harness.") and tag.count(".") == 1:
                assert f"`{tag}`" in SECTION or f"`.{tag.partition('.')[2]}`" in SECTION, tag


def _tracked(lab: Lab) -> list[Tracked]:
    session, document = session_of(lab)
    store = Store.open(f"sqlite:///{lab.folder}/h.db")
    try:
        return tracked(session, document, made=store.runs(session.id))
    finally:
        store.close()


def _tags(run: Tracked, runs: int | None = None, end_ms: int | None = 0) -> dict[str, str]:
    """As `tracked` writes them for such a run."""
    finished = "false" if end_ms is None else "true"
    return dict(run.tags) | {"harness.runs": str(run.runs if runs is None else runs), "harness.finished": finished}


def _artifacts(uri: str) -> set[str]:
    own = client(uri)
    return {file.path for run in found(uri).values() for file in own.list_artifacts(run.info.run_id)}


def _seconds(utc: str | None) -> float:
    from datetime import datetime

    assert utc is not None
    return datetime.fromisoformat(utc).timestamp()
