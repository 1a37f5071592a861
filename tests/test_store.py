"""The store: append-only, exactly once, and never overwritten."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from sqlalchemy import create_engine, insert, inspect, text
from sqlalchemy.engine import Connection

from harness.errors import StoreError, UsageError
from harness.store import Store, blob
from harness.store.engine import HEAD
from harness.store.store import cell_key
from harness.store.tables import metadata
from harness.types import Cell, DeviceFacts, DeviceSpec, Measurement, Package, Run, SessionDevice

CELL = Cell(
    variant="a",
    seed=0,
    exporter="executorch",
    backend="xnnpack",
    input="default",
    device_id="x",
    threads=None,
    cpus="any",
)
PACKAGE = Package(schema=1, experiment={"name": "exp"}, yaml="", builds=(), checks={}, nulls={})


def make_run(session: str, **changes: object) -> Run:
    run = Run(
        id="run-1",
        session=session,
        cell=CELL,
        purpose="latency",
        repeat=0,
        attempt=1,
        counts=True,
        status="ok",
        started_utc="2026-01-01T00:00:00.000+00:00",
        measurements=(Measurement(metric="load_ms", values=(1.5,)),),
        summary={"p50": 1.0},
        arrays={"latency_ns": np.array([1, 2, 2**40], np.uint64), "score": np.array([0, 1], np.uint8)},
    )
    return dataclasses.replace(run, **changes)  # type: ignore[arg-type]


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a store that nobody has made yet; each test that takes it runs on both databases."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres")())
    return f"sqlite:///{tmp_path}/a/harness.db"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = Store.open(url, create=True)
    yield opened
    opened.close()


@contextmanager
def raw(url: str) -> Iterator[Connection]:
    """The database, without the store."""
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def tables_of(url: str) -> list[str]:
    with raw(url) as connection:
        return inspect(connection).get_table_names()


def versions() -> list[str]:
    folder = Path(blob.__file__).parent / "migrations" / "versions"
    return sorted(path.name[:4] for path in folder.glob("0*.py"))


def begin(
    store: Store,
    label: str | None = None,
    key: str = "k",
    quick: bool = False,
    kind: Literal["experiment", "measure"] = "experiment",
) -> str:
    spec = DeviceSpec(name="local", uri="local")
    return store.begin(
        package=PACKAGE, plan={"seed": 1}, plan_key=key, label=label, quick=quick, devices=[spec], kind=kind
    )


def test_what_is_stored_comes_back_equal(store: Store) -> None:
    session = begin(store)
    run = make_run(session)
    assert store.append(run)
    (back,) = store.runs(session, arrays=True)
    assert dataclasses.replace(back, arrays={}) == dataclasses.replace(run, arrays={})
    for name, values in run.arrays.items():
        assert back.arrays[name].tolist() == values.tolist()
    assert back.arrays["latency_ns"].dtype == np.uint64  # one value does not fit 32 bits
    assert store.session(session).package == PACKAGE


def test_nanoseconds_that_fit_take_four_bytes() -> None:
    assert blob.decode(blob.encode({"x": np.array([5], np.uint64)}))["x"].dtype == np.uint32


def test_an_attempt_is_stored_once_and_a_slot_counts_once(store: Store) -> None:
    session = begin(store)
    assert store.append(make_run(session))
    assert not store.append(make_run(session))
    assert not store.append(make_run(session, id="run-2", attempt=2))  # another attempt that would count too
    assert store.append(make_run(session, id="run-3", attempt=2, counts=False, status="invalid"))
    assert len(store.runs(session)) == 2
    assert store.counted(session) == {(cell_key(CELL), "latency", 0)}
    assert store.next_attempt(session, CELL, "latency", 0) == 3


def test_a_cell_is_broken_until_a_later_attempt_makes_it_good(store: Store) -> None:
    session = begin(store)
    store.append(make_run(session, id="1", status="failed", counts=False))
    assert {key for key, _ in store.broken(session)} == {cell_key(CELL)}
    store.append(make_run(session, id="2", attempt=2))
    assert store.broken(session) == set()


def test_only_an_unfinished_session_of_the_same_plan_and_label_is_continued(store: Store) -> None:
    session = begin(store, label="r1")
    assert store.unfinished("k", "r1") == session
    assert store.unfinished("k", None) is None
    assert store.unfinished("other", "r1") is None
    store.finish(session)
    assert store.unfinished("k", "r1") is None


def test_a_devices_facts_are_filled_in_later(store: Store) -> None:
    session = begin(store)
    facts = DeviceFacts(device_id="12345678", abi="x86_64", cores=2, clusters=({"cpus": [0, 1], "max_khz": 1},))
    spec = store.session(session).devices[0].spec
    store.put_device(session, SessionDevice(spec=spec, facts=facts, runners={"executorch": "abc"}))
    (device,) = store.session(session).devices
    assert device.facts == facts
    assert device.runners == {"executorch": "abc"}


def test_an_unknown_experiment_is_refused_with_those_that_are_there(store: Store) -> None:
    begin(store, label="r1")
    with pytest.raises(UsageError, match="exp \\(label r1\\)"):
        store.latest("nope")


def test_an_imported_session_is_never_gone_on_with(store: Store) -> None:
    session = begin(store)
    assert store.unfinished("k", None) == session
    with store.engine.begin() as connection:
        note = {"session_id": session, "file": "a.csv", "sha256": "0" * 64, "imported_utc": "2026"}
        connection.execute(insert(metadata.tables["imports"]), note)
    assert store.unfinished("k", None) is None
    assert store.session(session).imported_utc == "2026"


def test_a_quick_session_is_the_newest_but_never_the_newest_full_one(store: Store) -> None:
    full = begin(store)
    time.sleep(0.002)
    quick = begin(store, quick=True)
    assert store.latest() == quick
    assert store.latest("exp", quick=False) == full


def test_where_all_sessions_are_quick_the_refusal_says_so(store: Store) -> None:
    begin(store, quick=True)
    with pytest.raises(UsageError, match="--quick sessions only") as refused:
        store.latest(quick=False)
    assert "without --quick" in str(refused.value.hint)


def test_an_experiment_goes_before_a_measured_file_of_its_name(store: Store) -> None:
    experiment = begin(store)
    time.sleep(0.002)
    begin(store, kind="measure")
    assert store.latest("exp") == experiment


OPENS = """
import os, sys, traceback
from harness.store import Store
import alembic.command, psycopg  # slow to import: done once, before the start
read, write = os.pipe()
children = []
for _ in range(8):
    if (child := os.fork()) == 0:
        os.close(write)
        os.read(read, 1)  # until all are there
        try:
            Store.open(sys.argv[1], create=True).list_sessions()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    children.append(child)
os.close(write)
sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))
"""


def test_several_processes_open_one_new_store(url: str) -> None:
    done = subprocess.run([sys.executable, "-c", OPENS, url], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert begin(Store.open(url))


def test_a_store_whose_making_was_interrupted_is_made_by_the_next(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic import op

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(op, "create_index", interrupted)  # after three tables, before the last
        with pytest.raises(KeyboardInterrupt):
            Store.open(url, create=True)
    assert tables_of(url) == []
    assert begin(Store.open(url, create=True))


def test_a_store_whose_maker_was_killed_is_made_by_the_next(url: str) -> None:
    program = (
        "import os, sys; from alembic import op; from harness.store import Store\n"
        "op.create_index = lambda *_, **__: os.kill(os.getpid(), 9)\n"
        "Store.open(sys.argv[1], create=True)"
    )
    done = subprocess.run([sys.executable, "-c", program, url], capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert tables_of(url) == []
    assert begin(Store.open(url, create=True))


def test_reading_a_store_that_is_not_there_makes_none(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no store at"):
        Store.open(url)
    assert list(tmp_path.iterdir()) == []
    assert tables_of(url) == [] if url.startswith("postgres") else True


def test_a_newer_store_is_refused_and_left_alone(url: str, store: Store) -> None:
    session = begin(store)
    store.close()
    with raw(url) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    before = contents(url)
    for create in (True, False):
        with pytest.raises(StoreError, match="newer harness") as refused:
            Store.open(url, create=create)
        assert "upgrade" in str(refused.value.hint)
    assert contents(url) == before
    assert session in str(before)


def contents(url: str) -> dict[str, list[Any]]:
    """Every row of every table."""
    with raw(url) as connection:
        names = inspect(connection).get_table_names()
        return {name: sorted(connection.execute(text(f"SELECT * FROM {name}")).all(), key=repr) for name in names}


def at(url: str, version: str) -> None:
    """Makes a store of an older harness, with rows in all its tables."""
    from alembic import command
    from alembic.config import Config

    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    config = Config()
    config.set_main_option("script_location", str(Path(blob.__file__).parent / "migrations"))
    with raw(url) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, version)
        rows: dict[str, dict[str, Any]] = {
            "sessions": {
                "id": "s", "experiment": "exp", "kind": "experiment", "created_utc": "2026-01-01", "quick": False,
                "plan_key": "k", "plan": {"seed": 1}, "package": "{}",
            },
            "session_devices": {"session_id": "s", "name": "d", "position": 0, "spec": {}, "runners": {}},
            "runs": {
                "id": "r", "session_id": "s", "cell_key": "{}", "variant": "a", "device_id": "x", "cell": {},
                "purpose": "latency", "repeat": 0, "attempt": 1, "counts": True, "status": "ok", "caveats": [],
                "block": 0, "position": 0, "started_utc": "2026-01-01", "artifact_sha256": "", "measurements": [],
                "summary": {"p50": 0.1}, "conditions": {}, "provenance": {},
            },
            "samples": {"run_id": "r", "blob": b"\x00\xff"},
            "digests": {"session_id": "s", "made_of": "1", "blob": b"\x00\xff"},
            "baselines": {"experiment": "exp", "label": "r1", "set_utc": "2026-01-01"},
        }  # fmt: skip
        there = inspect(connection).get_table_names()
        for name, row in rows.items():
            if name in there:
                connection.execute(insert(metadata.tables[name]).values(**row))


@pytest.mark.parametrize("version", versions()[:-1])
def test_an_older_store_is_brought_up_to_date_and_loses_nothing(url: str, version: str) -> None:
    at(url, version)
    before = contents(url)
    Store.open(url).close()  # for reading, too
    after = contents(url)
    assert after.pop("alembic_version") == [(HEAD,)]
    assert before.pop("alembic_version") == [(version,)]
    assert {name: rows for name, rows in after.items() if name in before} == before
    assert all(not rows for name, rows in after.items() if name not in before)
    assert set(after) == set(metadata.tables)


@pytest.mark.parametrize(
    "content", [b"this is no database, it is a text file\n" * 100, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(content)
    with pytest.raises(StoreError):
        Store.open(f"sqlite:///{path}", create=True)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "theirs", ["CREATE TABLE theirs (a INTEGER)", "CREATE TABLE alembic_version AS SELECT 'ae1027a6acf' AS version_num"]
)
def test_somebody_elses_database_is_refused_and_left_alone(url: str, tmp_path: Path, theirs: str) -> None:
    (tmp_path / "a").mkdir()
    with raw(url) as connection:
        connection.execute(text(theirs))
    before = contents(url)
    with pytest.raises(StoreError, match="not the harness's"):
        Store.open(url, create=True)
    assert contents(url) == before


def test_a_run_of_a_session_that_is_not_there_is_refused_and_not_called_stored(store: Store) -> None:
    session = begin(store)
    with pytest.raises(StoreError, match=r"(?i)foreign key"):
        store.append(make_run("nowhere"))
    with pytest.raises(StoreError, match=r"(?i)foreign key"):
        store.put_digest("nowhere", "1", b"")
    assert store.runs() == []
    assert store.append(make_run(session))


@pytest.mark.parametrize(
    ("odd", "kept"),
    [("a\0b", "a\u2400b"), ("x\ud800y", "x\ufffdy"), ("\udc00", "\ufffd"), ("\ud83d\ude00 ok", "\U0001f600 ok")],
)
def test_a_text_that_no_database_keeps_is_kept_visibly(store: Store, odd: str, kept: str) -> None:
    session = begin(store, label=odd)
    store.append(make_run(session, reason=odd, boot_id=odd, artifact_sha256=odd))
    (run,) = store.runs(session)
    assert (run.reason, run.boot_id, run.artifact_sha256) == (kept, kept, kept)
    assert store.latest("exp", label=odd) == session
    assert store.unfinished("k", odd) == session
    assert store.list_sessions()[0]["label"] == kept
    store.set_baseline(odd, odd)
    assert store.baseline(odd) == kept


def test_any_text_inside_json_comes_back(store: Store) -> None:
    session = begin(store)
    odd = {"nul\0": "a\0b", "half": "\ud800", "pair": "\U0001f600", "ä": 2**70, "x": 0.1 + 0.2}
    store.append(make_run(session, conditions=odd))
    assert store.runs(session)[0].conditions == odd


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    ("changes", "where"),
    [
        (lambda value: {"summary": {"p50": 1.0, "p90": value}}, "summary.p90"),
        (lambda value: {"conditions": {"a": [{"b": value}]}}, "conditions.a[0].b"),
        (lambda value: {"measurements": (Measurement(metric="load_ms", values=(1.0, value)),)}, "values[1]"),
    ],
)
def test_what_is_no_number_never_gets_in(store: Store, changes: Any, where: str, value: float) -> None:
    session = begin(store)
    with pytest.raises(StoreError) as refused:
        store.append(make_run(session, **changes(value)))
    assert f"{where} = {value}" in refused.value.what
    assert "run-1" in refused.value.what
    assert store.runs() == []


def test_what_is_no_number_does_not_get_in_by_another_way(store: Store) -> None:
    spec = DeviceSpec(name="local", uri="local")
    with pytest.raises(StoreError, match=r"a\[0\] = nan"):
        store.begin(
            package=PACKAGE, plan={"a": [float("nan")]}, plan_key="k", label=None, quick=False, devices=[spec]
        )
    session = begin(store)
    with pytest.raises(StoreError, match="mhz = inf"), raw_engine(store) as connection:
        connection.execute(metadata.tables["sessions"].update().values(plan={"mhz": float("inf")}))
    assert store.session(session).plan == {"seed": 1}


@contextmanager
def raw_engine(store: Store) -> Iterator[Connection]:
    from harness.store.told import explained

    with explained("x"), store.engine.begin() as connection:
        yield connection


@pytest.mark.parametrize("column", ["start_boottime_ns", "repeat"])
def test_a_number_that_no_column_holds_is_one_message(store: Store, column: str) -> None:
    session = begin(store)
    with pytest.raises(StoreError, match=r"(?i)too large|out of range"):
        store.append(make_run(session, **{column: 2**80}))
    assert store.runs() == []


def test_sessions_and_runs_are_in_order_of_time_by_code_point(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    stamps = ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5Z", "2026-01-01T00:00:00+00:00", "2026-01-01t00:00:00Z", ""]
    made = []
    for stamp in stamps:
        monkeypatch.setattr("harness.store.store.utc_now", lambda stamp=stamp: stamp)
        made.append((stamp, begin(store)))
    newest_first = [session for _, session in sorted(made, reverse=True)]
    assert [listed["id"] for listed in store.list_sessions()] == newest_first
    assert store.latest() == store.unfinished("k", None) == newest_first[0]
    ids = ["B", "a", "_", "A", "-b", "ä", "Z", "ab", "a b"]
    for position, (identity, stamp) in enumerate((one, stamp) for one in ids for stamp in stamps):
        run = make_run(made[0][1], id=identity + stamp, started_utc=stamp, repeat=position)
        assert store.append(run)
    found = [(run.started_utc, run.id) for run in store.runs()]
    assert len(found) == len(ids) * len(stamps)
    assert found == sorted(found)


def test_a_session_is_found_by_how_its_id_begins(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for identity in ("abc1", "abd2", "%x", "a_c3"):
        monkeypatch.setattr("harness.store.store.uuid.uuid4", lambda i=identity: type("U", (), {"hex": i}))
        begin(store)
    assert store.matching("abc") == "abc1"
    assert store.matching("a_") == "a_c3"
    assert store.matching("%") == "%x"
    for start, what in [("ABC", "no session begins"), ("ab", "several"), ("", "several"), ("abc1x", "no session")]:
        with pytest.raises(UsageError, match=what):
            store.matching(start)


def test_the_last_baseline_and_digest_stay(store: Store) -> None:
    session = begin(store)
    for label, content in (("r1", b"1"), ("r2", b"\x00\xff")):
        store.set_baseline("exp", label)
        store.put_digest(session, label, content)
    store.set_baseline("other", "r1")
    assert store.baseline("exp") == "r2"
    assert store.digests({session: "r2"}) == {session: b"\x00\xff"}
    assert store.digests({session: "r1"}) == {}
    assert store.baseline("nothing") is None


def test_who_sets_a_first_baseline_while_another_does_too_is_the_last(url: str, store: Store) -> None:
    """Both see none and insert one; the second finds that out only when the first is done."""
    row = {"experiment": "exp", "label": "theirs", "set_utc": "2026-01-01"}
    with raw(url) as connection:
        connection.execute(insert(metadata.tables["baselines"]).values(row))
        second = threading.Thread(target=lambda: store.set_baseline("exp", "mine"))
        second.start()
        second.join(timeout=0.5)
        assert second.is_alive()
    second.join(timeout=30)
    assert store.baseline("exp") == "mine"
    assert len(contents(url)["baselines"]) == 1


def test_listing_a_thousand_sessions_takes_one_query(store: Store) -> None:
    rows = [
        {
            "id": f"s{i:04}", "experiment": "exp", "kind": "experiment", "created_utc": f"2026-{i:04}", "quick": False,
            "plan_key": "k", "plan": {}, "package": "{}",
        }
        for i in range(1000)
    ]  # fmt: skip
    with store.engine.begin() as connection:
        connection.execute(insert(metadata.tables["sessions"]), rows)
    store.append(make_run("s0007", id="1"))
    store.append(make_run("s0007", id="2", repeat=1))
    with queries(store) as asked:
        listed = store.list_sessions()
    assert len(asked) == 1
    assert [one["id"] for one in listed] == [row["id"] for row in reversed(rows)]
    assert {one["id"]: one["runs"] for one in listed if one["runs"]} == {"s0007": 2}
    known = ["id", "experiment", "kind", "label", "created_utc", "finished_utc", "quick", "imported_utc", "runs"]
    assert list(listed[0]) == known


def test_reading_a_sessions_runs_takes_as_many_queries_for_two_as_for_two_hundred(store: Store) -> None:
    asked_of = {}
    for runs in (2, 200):
        session = begin(store)
        for repeat in range(runs):
            store.append(make_run(session, id=f"{session}{repeat}", repeat=repeat, purpose="accuracy"))
        with queries(store) as asked:
            assert len(store.scored(session)) == runs
            assert store.session(session).id == session
        asked_of[runs] = len(asked)
    assert asked_of[2] == asked_of[200]


@contextmanager
def queries(store: Store) -> Iterator[list[str]]:
    """The statements that go to the database meanwhile."""
    from sqlalchemy import event

    asked: list[str] = []

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        asked.append(statement)

    event.listen(store.engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(store.engine, "before_cursor_execute", note)


def test_a_damaged_blob_is_an_error_and_not_an_empty_run() -> None:
    arrays = {"latency_ns": np.arange(5000, dtype=np.uint64)}
    whole = blob.encode(arrays)
    for bad in (b"garbage", b"", whole[:-40], whole[:40] + bytes([whole[40] ^ 1]) + whole[41:]):
        with suppress(StoreError):  # a flipped bit may be one of a sample
            blob.decode(bad)
        assert np.array_equal(blob.decode(whole)["latency_ns"], arrays["latency_ns"])  # the next one is none the worse
    for bad in (b"garbage", b"", whole[:-40]):
        with pytest.raises(StoreError, match="damaged"):
            blob.decode(bad)


def test_the_newest_migration_is_the_one_the_code_expects_and_makes_its_tables(
    url: str, store: Store, request: pytest.FixtureRequest
) -> None:
    assert versions()[-1] == HEAD
    fresh = "sqlite://" if url.startswith("sqlite") else str(request.getfixturevalue("postgres")())
    with raw(fresh) as wanted, raw(url) as made:
        metadata.create_all(wanted)
        assert made.execute(text("SELECT version_num FROM alembic_version")).scalar() == HEAD
        for table in metadata.tables:
            assert shape(made, table) == shape(wanted, table)


def shape(connection: Connection, table: str) -> dict[str, Any]:
    found = inspect(connection)
    columns = [(c["name"], str(c["type"]), c["nullable"]) for c in found.get_columns(table)]
    indexes = [
        (i["name"], i["unique"], i["column_names"], {k: str(v) for k, v in i.get("dialect_options", {}).items()})
        for i in found.get_indexes(table)
    ]
    foreign = [(f["constrained_columns"], f["referred_table"]) for f in found.get_foreign_keys(table)]
    unique = [u["column_names"] for u in found.get_unique_constraints(table)]
    key = found.get_pk_constraint(table)["constrained_columns"]
    return {"columns": columns, "indexes": sorted(indexes, key=str), "foreign": foreign, "unique": unique, "key": key}


def test_a_place_that_cannot_be_a_folder_is_one_message() -> None:
    with pytest.raises(StoreError, match=r"Not a directory|Permission"):
        Store.open("sqlite:////dev/null/x/harness.db", create=True)


PROGRAM = """
import sys; sys.path.insert(0, {root!r})
import numpy as np
from tests.test_store import *
chance = np.random.default_rng(0)
try:
    store = Store.open("sqlite:///{folder}/a/h.db", create=True)
    session = begin(store)
    for i in range(1000):
        samples = {{"latency_ns": chance.integers(0, 2**32, 100_000)}}
        store.append(make_run(session, id=str(i), repeat=i, arrays=samples))
except StoreError as error:
    print("refused:", error)
"""


@pytest.mark.skipif(
    shutil.which("unshare") is None or os.getuid() != 0, reason="needs a file system of its own: sudo make test"
)
@pytest.mark.parametrize(
    ("options", "says"), [("size=2m", "free some disk space"), ("ro", "name a writable place with --store")]
)
def test_a_full_or_read_only_disk_is_one_message(tmp_path: Path, options: str, says: str) -> None:
    mount = f'mount -t tmpfs -o {options} tmpfs "{tmp_path}" && exec "$0" -c "$1"'
    program = PROGRAM.format(root=os.getcwd(), folder=tmp_path)
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mount, sys.executable, program], capture_output=True, text=True, timeout=120
    )
    if "mount:" in done.stderr:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    assert "refused:" in done.stdout
    assert says in done.stdout


def test_a_store_whose_folder_cannot_be_written_is_read_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/h.db"
    made = Store.open(url, create=True)
    session = begin(made)
    made.append(make_run(session))
    made.close()
    before = (tmp_path / "h.db").read_bytes()
    monkeypatch.setattr(os, "access", lambda path, mode, **_: mode != os.W_OK)
    read = Store.open(url)
    assert [one["runs"] for one in read.list_sessions()] == [1]
    assert len(read.runs(session, arrays=True)[0].arrays) == 2
    with pytest.raises(StoreError):
        read.put_digest(session, "x", b"y")
    read.close()
    assert (tmp_path / "h.db").read_bytes() == before


def test_an_older_store_whose_folder_cannot_be_written_says_to_copy_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/h.db"
    Store.open(url, create=True).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "h.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0002'")
        connection.commit()
    monkeypatch.setattr(os, "access", lambda path, mode, **_: mode != os.W_OK)
    with pytest.raises(StoreError, match="older harness") as refused:
        Store.open(url)
    assert "store copy" in str(refused.value.hint)
