"""The store: append-only, exactly once, and never overwritten."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from harness.errors import StoreError, UsageError
from harness.store import Store, blob
from harness.store.engine import HEAD, shown
from harness.store.store import cell_key
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


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/a/harness.db"


@pytest.fixture
def store(url: str) -> Store:
    return Store.open(url, create=True)


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


def test_several_processes_open_one_new_store(tmp_path: Path) -> None:
    program = """
import sys, time
from harness.store import Store
import alembic.command  # slow to import: done before the start
time.sleep(max(0, float(sys.argv[2]) - time.time()))
Store.open(sys.argv[1], create=True).list_sessions()
"""
    for attempt in range(2):
        url, start = f"sqlite:///{tmp_path}/{attempt}/h.db", str(time.time() + 2.5)
        started = [
            subprocess.Popen([sys.executable, "-c", program, url, start], stderr=subprocess.PIPE, text=True)
            for _ in range(4)
        ]
        said = [process.communicate(timeout=60)[1] for process in started]
        assert [process.returncode for process in started] == [0] * 4, said


def test_a_store_whose_making_was_interrupted_is_made_by_the_next(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alembic import op

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(op, "create_index", killed)  # after three tables, before the last
        with pytest.raises(KeyboardInterrupt):
            Store.open(url, create=True)
    with sqlite3.connect(tmp_path / "a" / "harness.db") as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    connection.close()
    assert begin(Store.open(url, create=True))


def test_a_password_is_not_shown() -> None:
    assert shown("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"


def test_reading_a_store_that_is_not_there_makes_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no store at"):
        Store.open(f"sqlite:///{tmp_path}/no.db")
    assert not (tmp_path / "no.db").exists()


def test_a_newer_store_is_refused_and_left_alone(url: str, store: Store, tmp_path: Path) -> None:
    store.close()
    path = tmp_path / "a" / "harness.db"
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="newer harness"):
        Store.open(url, create=True)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"this is no database, it is a text file\n" * 100, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(content)
    with pytest.raises(StoreError):
        Store.open(f"sqlite:///{path}", create=True)
    assert path.read_bytes() == content


def test_somebody_elses_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    with pytest.raises(StoreError, match="not the harness's"):
        Store.open(f"sqlite:///{path}", create=True)


def test_a_damaged_blob_is_an_error_and_not_an_empty_run() -> None:
    with pytest.raises(StoreError, match="damaged"):
        blob.decode(b"garbage")


def test_the_newest_migration_is_the_one_the_code_expects_and_makes_its_tables(store: Store) -> None:
    from sqlalchemy import create_engine, inspect

    from harness.store.tables import metadata

    versions = Path(blob.__file__).parent / "migrations" / "versions"
    assert max(path.name[:4] for path in versions.glob("0*.py")) == HEAD
    fresh = create_engine("sqlite://")
    metadata.create_all(fresh)
    expected, found = inspect(fresh), inspect(create_engine(store.url))
    for table in expected.get_table_names():
        assert [c["name"] for c in found.get_columns(table)] == [c["name"] for c in expected.get_columns(table)]
        assert {i["name"] for i in found.get_indexes(table)} == {i["name"] for i in expected.get_indexes(table)}


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
