"""Opening a store: URL -> engine at the newest schema, or one clear refusal. Nothing is ever overwritten."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, event, func, inspect, select, text
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from harness.errors import StoreError, UsageError
from harness.locks import file_lock
from harness.store.told import PARAMETERS, NotWritable, explained
from harness.store.url import DEFAULT_URL, connectable, is_server, refuse_memory, shown, sqlite_path
from harness.store.values import to_json

__all__ = [
    "DEFAULT_URL", "HEAD", "engine_for", "explained", "open_engine", "schema_of", "shown",
    "sqlite_path", "table_names",
]  # fmt: skip

HEAD = "0003"  # the newest migration; a test holds it equal to the newest file in migrations/versions
#: whoever changes the schema of a PostgreSQL database holds this advisory lock: "harness" as a number
_MIGRATING = int.from_bytes(b"harness", "big")
_LONGEST_LOCK = "60s"
_ALL = "SELECT, INSERT, UPDATE, DELETE"
#: what must be allowed for a session to be stored
_WRITTEN = [(table, "INSERT") for table in ("sessions", "session_devices", "runs", "samples")]
_WRITTEN += [(table, "UPDATE") for table in ("sessions", "session_devices")]


def open_engine(url: str, create: bool) -> Engine:
    """`create`: it is going to be written to, and made where it is not there.

    Raises UsageError for a malformed URL or (create=False) a store that is not there, StoreError otherwise."""
    path = sqlite_path(url)
    refuse_memory(url)
    if path is not None:
        _check_file(path, create)
    engine = engine_for(url)
    try:
        with explained(shown(url), path):
            if path is not None:
                _migrate_file(engine, path)
            else:
                _migrate_server(engine, shown(url), create)
    except BaseException:
        engine.dispose()
        raise
    return engine


def engine_for(url: str) -> Engine:
    """An engine that was not looked into: not migrated, perhaps not even there.

    Raises UsageError for a malformed URL, StoreError where the driver is missing."""
    target = connectable(url)
    server = is_server(target)
    parameters = _connection(target) if server else {}
    try:
        engine = create_engine(target, json_serializer=to_json, pool_pre_ping=server, connect_args=parameters)
    except (ArgumentError, TypeError, ValueError) as error:
        raise UsageError(f"store {shown(url)}: {error}", PARAMETERS) from None
    except ImportError as error:
        raise StoreError(
            f"store {shown(url)}: the driver of PostgreSQL (psycopg) is not installed",
            'pip install "ondevice-harness[postgres]"',
        ) from error
    if not server:
        event.listen(engine, "connect", _sqlite_pragmas)
    return engine


def _connection(url: URL) -> dict[str, Any]:
    """Parameters of libpq, but for those that the URL or the environment gives."""
    wanted: dict[str, Any] = {
        "connect_timeout": 10,
        "application_name": "harness",
        "client_encoding": "utf8",
        # a server that is gone without a word is noticed within a minute, and not after hours
        "keepalives_idle": 20, "keepalives_interval": 5, "keepalives_count": 4, "tcp_user_timeout": 40_000,
    }  # fmt: skip
    given = {"connect_timeout": "PGCONNECT_TIMEOUT", "application_name": "PGAPPNAME"}
    return {k: v for k, v in wanted.items() if k not in url.query and not os.environ.get(given.get(k, ""))}


def _check_file(path: Path, create: bool) -> None:
    if path.is_dir():
        raise UsageError(f"store {path} is a folder", f"a file in it: sqlite:///{path}/harness.db")
    if path.exists():
        return
    if not create:
        raise UsageError(f"no store at {path}", "harness run makes one; --store URL names another")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"store {path}: {error.strerror}", "name a writable place with --store") from error


def _sqlite_pragmas(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("busy_timeout=30000", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    tables = {name for (name,) in cursor.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables or "alembic_version" in tables:  # it stays written in the file, and somebody else's is left alone
        cursor.execute("PRAGMA journal_mode=WAL")
    cursor.close()


# -- the schema ----------------------------------------------------------------------------------------------------


def _migrate_file(engine: Engine, path: Path) -> None:
    """By one process at a time and all or nothing.

    A file that is not there yet is opened under the lock only: even the switch to WAL cannot bear company."""
    if path.exists() and path.stat().st_size and _is_current(engine, str(engine.url)):
        return
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(file_lock(path.with_name(path.name + ".lock")))
        except OSError as error:
            raise StoreError(f"store {path}: {error.strerror}", "name a writable place with --store") from error
        whole = create_engine(engine.url, poolclass=NullPool)
        event.listen(whole, "connect", _sqlite_manual)
        event.listen(whole, "connect", _sqlite_pragmas)
        event.listen(whole, "begin", _sqlite_begin)
        _migrate(whole, str(engine.url))


def _sqlite_manual(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # else sqlite3 begins at the first INSERT only, and CREATE TABLE is for good


def _sqlite_begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _migrate_server(engine: Engine, name: str, create: bool) -> None:
    """By one process at a time and all or nothing: PostgreSQL rolls back DDL too."""
    with engine.connect() as connection:
        version = schema_of(connection, name)
    if version is None and not create:
        raise UsageError(f"no store at {name}: the database is empty", "harness run makes one; --store names another")
    if version != HEAD:
        try:
            with explained(name):
                _migrate(engine, name)
        except NotWritable as error:
            raise NotWritable(f"{error.what} (it {_lacks(version)})", error.hint) from error
    if create:
        with engine.connect() as connection:
            _check_writable(connection, name)


def _lacks(version: str | None) -> str:
    if version is None:
        return "is empty, and a harness store is to be made there"
    return f"has schema {version}, and must first be brought to {HEAD}"


def _migrate(engine: Engine, name: str) -> None:
    """Brings the database to HEAD in one transaction of an engine whose DDL can be rolled back."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    with engine.begin() as connection:
        if is_server(engine.url):
            _lock(connection, name)
        if schema_of(connection, name) != HEAD:  # another process may have been quicker
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _lock(connection: Connection, name: str) -> None:
    """Until the end of the transaction; and refuses a database that cannot hold every text."""
    connection.execute(select(func.set_config("lock_timeout", _LONGEST_LOCK, True)))
    connection.execute(select(func.pg_advisory_xact_lock(_MIGRATING)))
    encoding = connection.execute(text("SHOW server_encoding")).scalar()
    if encoding != "UTF8":
        raise StoreError(
            f"store {name}: the database's encoding is {encoding}, and texts are in UTF8",
            "createdb -E UTF8 -T template0 NAME makes one that can be used",
        )


def _is_current(engine: Engine, name: str) -> bool:
    with engine.connect() as connection:
        return schema_of(connection, name) == HEAD


def schema_of(connection: Connection, name: str) -> str | None:
    """The store's schema; None for an empty database. Raises StoreError for what is none of ours, or newer."""
    tables = table_names(connection)
    if not tables:
        return None
    rows = (
        connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
        if "alembic_version" in tables
        else []
    )
    if len(rows) != 1 or not re.fullmatch(r"\d{4}", str(rows[0])):
        if "session_devices" in tables:
            told = f"its schema is called {rows[0]!r:.40}" if rows else "nothing in it says which schema it has"
            raise StoreError(f"store {name} is damaged: {told}", "restore it from a copy, or name another with --store")
        schema = ", or a schema of its own: …?options=-csearch_path%3DSCHEMA" if _on_server(connection) else ""
        raise StoreError(
            f"store {name}: the database has tables that are not the harness's", f"name another with --store{schema}"
        )
    found = str(rows[0])
    if found > HEAD:
        raise StoreError(
            f"store {name}: made by a newer harness (schema {found}, this one knows {HEAD})",
            "upgrade ondevice-harness, or name another store with --store",
        )
    return found


def table_names(connection: Connection) -> list[str]:
    """In PostgreSQL those of the schema where tables are made; search_path may show another store's behind it."""
    schema = connection.dialect.default_schema_name if _on_server(connection) else None
    return inspect(connection).get_table_names(schema=schema)


def _on_server(connection: Connection) -> bool:
    return is_server(connection.engine.url)


def _check_writable(connection: Connection, name: str) -> None:
    """Said before hours of building and measuring, and not after."""
    asked = [func.has_table_privilege(table, wanted) for table, wanted in _WRITTEN]
    read_only, *may = connection.execute(select(func.current_setting("transaction_read_only"), *asked)).one()
    if read_only == "on":
        raise NotWritable(
            f"store {name}: the database is read-only", "reports need no more; to measure, name another with --store"
        )
    if not all(may):
        table, wanted = next(one for one, allowed in zip(_WRITTEN, may, strict=True) if not allowed)
        user = connection.execute(select(func.current_user())).scalar()
        raise NotWritable(
            f"store {name}: {user} may not {wanted} in table {table}",
            f"reports need no more; its owner allows it by: GRANT {_ALL} ON ALL TABLES IN SCHEMA public TO {user}",
        )
