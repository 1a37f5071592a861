"""Stores with something of everything in them, and all that a store holds, read without the code that copies."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import create_engine, inspect, text

from harness.cli import _guarded
from harness.store import Store
from harness.types import DeviceFacts, Run, SessionDevice
from tests.test_store import begin, make_run

ODD_TEXT = "ü\u2028 \"quoted\" 'x' \\ %s :name 日本語 🙂"
#: what a number format may lose, and keys that are not in the order of the alphabet
ODD_JSON = {
    "z": 0.1 + 0.2, "a": [1, 1.0, True, None, -0.0, 5e-324, 1.7976931348623157e308, 2**63, 10**30],
    "nested": {"b": {}, "a": []}, ODD_TEXT: ODD_TEXT, "nul": "a\0b", "huge": "x" * 5000,
}  # fmt: skip
FACTS = DeviceFacts(device_id="12345678", abi="x86_64", cores=2, clusters=({"cpus": [0, 1], "max_khz": 1},), os="L 1")


def fill(url: str, start: str = "") -> list[str]:
    """A finished session, a quick one, one without runs, and one that goes on; digests, a baseline and an import."""
    store = Store.open(url, create=True)
    done = begin(store, label=f"{start}r1", key=f"{start}k1")
    quick = begin(store, label=None, key=f"{start}k2", quick=True)
    empty = begin(store, label=f"{start}{ODD_TEXT}", key=f"{start}k3", kind="measure")
    open_ = begin(store, label=f"{start}r2", key=f"{start}k4")
    spec = store.session(done).devices[0].spec
    store.put_device(done, SessionDevice(spec=spec, facts=FACTS, runners={"executorch": "abc", "a": "b"}))
    store.put_device(quick, SessionDevice(spec=spec, unreached="offline"))  # facts become JSON's null, not NULL
    for n, session in enumerate((done, quick, open_)):
        append(store, session, f"{start}{n}", 7)
    for session in (done, quick, empty):
        store.finish(session)
    store.put_digest(done, "1 8 x", b"\x00\xffdigest")
    store.put_digest(quick, "1 8 y", b"")
    store.set_baseline(f"{start}exp", "r1")
    execute(url, f"INSERT INTO imports VALUES ('{empty}', 'runs.csv', '{'a' * 64}', '2026-01-01T00:00:00.000+00:00')")
    store.close()
    return [done, quick, empty, open_]


def append(store: Store, session: str, start: str, count: int, repeat: int = 0) -> list[Run]:
    """`count` runs with samples, one that failed before the first of them, and one without samples."""
    chance = np.random.default_rng(len(start))
    runs = [
        make_run(
            session, id=f"{start}-{n}", repeat=repeat + n, attempt=2 if n == 0 else 1, summary=ODD_JSON,
            conditions=ODD_JSON, boot_id=ODD_TEXT, start_boottime_ns=2**62 + n, started_utc=f"2026-01-01T00:00:{n:02}",
            arrays={"latency_ns": chance.integers(0, 2**40, 50 * n + 1)},
        )
        for n in range(count)
    ]  # fmt: skip
    runs.append(make_run(session, id=f"{start}-no", repeat=repeat, counts=False, status="failed", reason=ODD_TEXT))
    runs[-1] = dataclasses.replace(runs[-1], arrays={})
    for run in runs:
        assert store.append(run)
    return runs


def execute(url: str, statement: str, **values: Any) -> list[Any]:
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            found = connection.execute(text(statement), values)
            return list(found) if found.returns_rows else []
    finally:
        engine.dispose()


def held(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table of the database, JSON as its text and blobs as hashes, in a fixed order."""
    engine = create_engine(url)
    out = {}
    try:
        with engine.connect() as connection:
            for table in inspect(connection).get_table_names():
                columns = inspect(connection).get_columns(table)
                asked = ", ".join(
                    f'CAST("{c["name"]}" AS TEXT)' if "JSON" in str(c["type"]) else f'"{c["name"]}"' for c in columns
                )
                rows = connection.execute(text(f"SELECT {asked} FROM {table}"))
                out[table] = sorted((tuple(map(_hashed, row)) for row in rows), key=repr)
    finally:
        engine.dispose()
    return out


def _hashed(value: Any) -> Any:
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes | memoryview) else value


def older(path: Path, version: str) -> str:
    """A SQLite store with the schema of an older harness and a session in it: its URL."""
    from alembic import command
    from alembic.config import Config

    import harness.store.engine as engines

    url = f"sqlite:///{path}"
    config = Config()
    config.set_main_option("script_location", str(Path(engines.__file__).parent / "migrations"))
    engine = create_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, version)
    engine.dispose()
    newest = path.with_name(f"newest-{path.name}")
    fill(f"sqlite:///{newest}")
    with create_engine(url).connect() as connection:
        connection.exec_driver_sql(f"ATTACH '{newest}' AS newest")
        for table in inspect(connection).get_table_names():
            if table != "alembic_version":
                connection.exec_driver_sql(f"INSERT INTO main.{table} SELECT * FROM newest.{table}")
        connection.commit()
    return url


@dataclasses.dataclass(frozen=True)
class Said:
    code: int
    stdout: str
    stderr: str


def command(*arguments: str) -> Said:
    """The command line, in this process; never a traceback."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = _guarded(list(arguments))
    assert "Traceback" not in err.getvalue()
    return Said(code, out.getvalue(), err.getvalue())
