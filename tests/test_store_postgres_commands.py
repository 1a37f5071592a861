"""The command line with its store on PostgreSQL: measured, killed, gone on with, read by every command."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import re
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine, make_url

from harness.cli import _guarded
from harness.store import Store
from harness.store.store import cell_key
from harness.types import Run
from tests.conftest import Done, Harness
from tests.release_kit import SAME, Lab, enter
from tests.standins.postgres import OWNER, PASSWORD, TELLTALES, Postgres, database_of
from tests.test_store import contents, raw, tables_of


def quiet(done: Done) -> Done:
    """No command tells the password, whatever comes of it."""
    assert "Traceback" not in done.stderr
    assert not [one for one in TELLTALES if one in done.stdout + done.stderr]
    return done


def test_a_run_that_was_killed_goes_on_and_counts_every_run_once(
    package: Path, harness: Harness, environment: dict[str, str], postgres: Postgres, tmp_path: Path
) -> None:
    url = postgres()
    asked = ["run", str(package), "--variant", "fp32", "--label", "r1"]
    killed_after_a_few_runs(asked, tmp_path, environment | {"HARNESS_STORE": url}, url)
    done = quiet(harness(*asked, "--json", cwd=tmp_path, HARNESS_STORE=url))
    assert done.code == 0, done.stderr
    assert "continuing session" in done.stderr
    store = Store.open(url)
    (listed,) = store.list_sessions()
    runs = store.runs()
    store.close()
    assert listed["finished_utc"]
    assert set(Counter(slot(run) for run in runs if run.counts).values()) == {1}
    assert {r["status"] for r in done.json["results"] if r["device"]} == {"ok"}
    assert sum(r["repeats"] for r in done.json["results"] if r["device"]) == 2 * 3
    assert not list(tmp_path.rglob("*.db"))
    assert quiet(harness("report", "--json", cwd=tmp_path, HARNESS_STORE=url)).json["results"] == done.json["results"]


def slot(run: Run) -> Any:
    return cell_key(run.cell), run.purpose, run.repeat


def killed_after_a_few_runs(asked: list[str], folder: Path, environment: dict[str, str], url: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", *asked],
        cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    store = Store.open(url, create=True)
    end = time.monotonic() + 120
    while len(store.runs()) < 4:
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    store.close()


class Shared(Lab):
    """A lab whose store is at `url`, whatever that is just now."""

    url = ""

    def __call__(self, *arguments: str) -> int:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = _guarded([*arguments, "--store", self.url])
        self.stdout, self.stderr = out.getvalue(), err.getvalue()
        assert "Traceback" not in self.stderr
        assert not [one for one in TELLTALES if one in self.stdout + self.stderr]
        return code


READING = (
    ["runs"], ["report"], ["pick"], ["compare", "r1", "r2"], ["history", "--metric", "latency_ms"],
    ["baseline", "show"], ["export-runs", "--format", "csv", "-o", "out.csv"],
)  # fmt: skip


@pytest.fixture(scope="module")
def measured(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """Two releases, measured once."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("shared")
        enter(folder, patch)
        lab = Shared(folder)
        lab.url = postgres()
        lab.release("r1", SAME)
        lab.release("r2", SAME)
        assert lab("baseline", "set", "r1") == 0
        yield lab


@pytest.fixture
def lab(measured: Shared) -> Iterator[Shared]:
    kept = measured.url
    yield measured
    measured.url = kept


def test_who_may_only_read_reads_the_same(lab: Shared, postgres: Postgres) -> None:
    answers: dict[str, list[tuple[int, str]]] = {}
    owner, reader = lab.url, postgres.reader(lab.url)
    for lab.url in (reader, owner):  # the reader first: nothing is kept ready for it yet
        for asked in READING:
            code = lab(*asked)
            assert code in (0, 1), lab.stderr
            answers.setdefault(" ".join(asked), []).append((code, lab.stdout))
    assert {name: len(set(found)) for name, found in answers.items()} == dict.fromkeys(answers, 1)


def test_who_may_only_read_is_told_before_anything_is_measured(lab: Shared, postgres: Postgres) -> None:
    postgres.execute(f"CREATE ROLE looks LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_read_all_data")
    lab.url = postgres.url(database_of(lab.url), "looks")
    lab.says(3, "run", "package-r1", names=("looks may not INSERT in table sessions", "try:", "GRANT"))
    lab.says(3, "gate", "package-r1", "--label", "r3", names="looks may not INSERT")
    lab.says(3, "baseline", "set", "r2", names="permission denied for table baselines")


def test_a_read_only_database_is_read_and_refused_for_measuring(lab: Shared, postgres: Postgres) -> None:
    lab.url += "?options=-cdefault_transaction_read_only%3Don"
    for asked in READING:
        assert lab(*asked) in (0, 1), lab.stderr
    lab.says(3, "run", "package-r1", names=("the database is read-only", "try:"))
    lab.says(3, "baseline", "set", "r2", names=("read-only transaction", "try:"))


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        (lambda url: url.set(port=1), 3, ("refused", "is the server running")),
        (lambda url: url.set(password="s3cret"), 3, ("password authentication failed", "~/.pgpass")),
        (lambda url: url.set(database="nowhere"), 3, ('"nowhere" does not exist', "createdb nowhere")),
        (lambda url: "postgresql://me:s3cret@host:port/db", 2, ("is not a URL", "postgresql://user@host/database")),
        (lambda url: "me:s3cret@host", 2, ("is not a URL", "postgresql://user@host/database")),
        (lambda url: "mysql://me:s3cret@host/db", 2, ("mysql://…: stores are on SQLite or PostgreSQL",)),
    ],
)
def test_a_store_that_cannot_be_used_is_one_message(lab: Shared, change: Any, code: int, says: tuple[str, ...]) -> None:
    changed = change(make_url(lab.url))
    lab.url = changed if isinstance(changed, str) else changed.render_as_string(hide_password=False)
    for asked in (*READING, ["run", "package-r1"], ["gate", "package-r1", "--label", "r3"], ["baseline", "set", "r1"]):
        lab.says(code, *asked, names=says)
        assert lab.stderr.count("error:") == 1
    lab("doctor")
    assert says[0] in " ".join(lab.stdout.split())


def test_a_newer_schema_is_refused_by_every_command_and_left_alone(lab: Shared, postgres: Postgres) -> None:
    lab.url = postgres()
    Store.open(lab.url, create=True).close()
    with raw(lab.url) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0999'")
    before = contents(lab.url)
    for asked in (*READING, ["run", "package-r1"]):
        lab.says(3, *asked, names=("made by a newer harness", "upgrade ondevice-harness"))
    assert contents(lab.url) == before


def test_an_empty_database_is_no_store_until_something_is_measured(lab: Shared, postgres: Postgres) -> None:
    lab.url = postgres()
    for asked in READING:
        lab.says(2, *asked, names=("no store at", "the database is empty", "harness run makes one"))
    assert tables_of(lab.url) == []
    assert lab("run", "package-r1") == 0
    assert lab("report") == 0


@pytest.mark.parametrize("arguments", [["report"], ["runs"], ["pick"]])
def test_a_command_asks_as_often_for_many_runs_as_for_few(lab: Shared, arguments: list[str]) -> None:
    """A query a run would make a report over a slow line take minutes."""
    asked: list[int] = []
    for _ in range(2):
        more_runs(lab.url)
        with counted() as number:
            assert lab(*arguments) == 0
        asked.append(number[0])
    assert asked[0] == asked[1] < 25


@contextlib.contextmanager
def counted() -> Iterator[list[int]]:
    number = [0]

    def note(*_: object) -> None:
        number[0] += 1

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield number
    finally:
        event.remove(Engine, "before_cursor_execute", note)


ATTEMPTS = itertools.count(1000)


def more_runs(url: str) -> None:
    store = Store.open(url)
    session = store.latest()
    first = store.runs(session)[0]
    for _ in range(40):
        run = dataclasses.replace(first, id=uuid.uuid4().hex, attempt=next(ATTEMPTS), counts=False)
        store.append(dataclasses.replace(run, status="invalid"))
    store.close()


def test_the_examples_of_the_documentation_do_what_it_says(
    lab: Shared, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).parent.parent / "docs" / "teams.md").read_text()
    text = text[text.index("## PostgreSQL") : text.index("## Copying a store")]
    blocks = re.findall(r"```(sh|sql)\n(.*?)```", text, re.DOTALL)
    lines = [line.partition("  #")[0].strip() for _, block in blocks for line in block.splitlines()]
    lines = [line for line in lines if not line.startswith("--")]
    owner = make_url(postgres())
    name = str(owner.database)

    def store(example: str) -> str:
        url = owner.set(username="ci", password=PASSWORD, query=make_url(example).query)
        return url.render_as_string(hide_password=False)

    postgres.execute(f"CREATE ROLE ci LOGIN PASSWORD '{PASSWORD}'")
    postgres.execute(f"CREATE ROLE viewer LOGIN PASSWORD '{PASSWORD}'")
    postgres.execute("GRANT CREATE ON SCHEMA public TO ci", name)
    postgres.execute(f"GRANT CREATE ON DATABASE {name} TO ci")
    monkeypatch.delenv("HARNESS_STORE", raising=False)
    done = Counter[str]()
    for line in lines:
        kind = line.split()[0]
        done[kind] += 1
        if kind == "createdb":
            assert line == "createdb -O ci harness"  # the fixture has made it
        elif kind == "export":
            lab.url = store(line.partition("=")[2].strip("'"))
        elif kind == "harness":
            code = lab(*line.replace("my.yaml", "package-r1").split()[1:])
            assert code == 0, lab.stderr
        elif kind == "GRANT":
            postgres.execute(line.replace("TO ci", f"TO {OWNER}"), name)
        elif kind == "ALTER":
            postgres.execute(line.replace("ROLE owner", "ROLE ci").replace("TO ci", f"TO {OWNER}"), name)
        else:
            postgres.execute(f"SET ROLE ci; {line.partition('-c ')[2].strip(chr(39))}", name)
    assert done == {"createdb": 1, "export": 2, "harness": 2, "GRANT": 2, "ALTER": 2, "psql": 1}
    lab.url = owner.set(username="viewer", password=PASSWORD).render_as_string(hide_password=False)
    assert lab("report") == 0
    lab.url = store("postgresql://ci@db.example/harness?options=-csearch_path%3Dbench")
    assert lab("run", "package-r1") == 0, lab.stderr
    found = postgres.execute("SELECT schemaname FROM pg_tables WHERE tablename = 'runs'", name)
    assert {schema for (schema,) in found} == {"public", "bench"}
