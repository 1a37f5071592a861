"""Opening a store that is only read: it is left as it is, though it be older or cannot be written."""

from __future__ import annotations

import os
import secrets
import sqlite3
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import create_engine, func, select
from sqlalchemy.engine import Engine
from sqlalchemy.pool import NullPool

from harness.errors import StoreError, UsageError
from harness.store.engine import HEAD, engine_for, schema_of
from harness.store.store import Store
from harness.store.told import explained
from harness.store.url import refuse_memory, shown, sqlite_path

#: schemas to which later ones only added tables, so that what they hold is read as it is
READABLE = ("0001", "0002", "0003")


def open_unchanged(url: str, current: bool = False) -> Store:
    """A store to read from: not migrated, not written. Raises UsageError where there is none, else StoreError.

    Tables that its schema does not know yet are missing in it; `current`: it must have them all."""
    engine = _engine(url)
    try:
        with explained(shown(url), sqlite_path(url)), engine.connect() as connection:
            version = schema_of(connection, shown(url))
        if version is None:
            raise UsageError(f"no store at {shown(url)}: the database is empty", "harness run makes one")
        if version not in ((HEAD,) if current else READABLE):
            there = "copy it to where it can be written: harness store copy" if current else "harness runs --store"
            raise StoreError(
                f"store {shown(url)}: made by an older harness (schema {version}, this one writes {HEAD})",
                f"{there} {shown(url)}{' TO' if current else ' brings it up to date'}",
            )
    except BaseException:
        engine.dispose()
        raise
    return Store(engine, url)


def _engine(url: str) -> Engine:
    path = sqlite_path(url)
    if path is None:
        return engine_for(url)
    if not path.is_file():
        raise UsageError(f"no store at {path}", "name one by its URL: sqlite:////absolute/path or sqlite:///relative")
    return create_engine("sqlite://", creator=lambda: _connect_sqlite(path), poolclass=NullPool)


def _connect_sqlite(path: Path) -> sqlite3.Connection:
    """A connection that writes nothing.

    A reader of a write-ahead log needs a file beside the store. Where none can be made and none is there, nobody
    writes either, and the store is read without (https://sqlite.org/wal.html#read_only_databases)."""
    writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    logged = path.with_name(path.name + "-wal").exists()
    mode = "mode=rw" if writable else "mode=ro" if logged else "mode=ro&immutable=1"
    connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?{mode}", uri=True, timeout=30)
    connection.execute("PRAGMA query_only=ON")
    return connection


def refuse_target(source: Store, url: str) -> None:
    """Raises UsageError where the URL, however it is spelled, names the store that is open as `source`, or none that
    outlives this process."""
    refuse_memory(url)
    here, there = sqlite_path(source.url), sqlite_path(url)
    if here is None or there is None:
        same = here is there and _is_same_database(source, url)
    else:
        same = there.exists() and os.path.samefile(here, there)
    if same:
        raise UsageError(f"{shown(source.url)} and {shown(url)} are the same store", "name another as TO")


def _is_same_database(source: Store, url: str) -> bool:
    """By a lock of one database that the other connection finds taken: names and addresses may differ."""
    other, key = engine_for(url), secrets.randbits(62)
    try:
        with explained(shown(url)), source.engine.connect() as one, other.connect() as two:
            one.execute(select(func.pg_try_advisory_xact_lock(key)))
            free = two.execute(select(func.pg_try_advisory_xact_lock(key))).scalar()
            schemas = {c.execute(select(func.current_schema())).scalar() for c in (one, two)}
            return not free and len(schemas) == 1
    finally:
        other.dispose()
