"""Opening a store: URL -> engine at the newest schema, or one clear refusal. Nothing is ever overwritten."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, event, inspect, text
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, IntegrityError, NoSuchModuleError
from sqlalchemy.pool import NullPool

from harness.errors import StoreError, UsageError
from harness.locks import file_lock

HEAD = "0003"  # the newest migration; a test holds it equal to the newest file in migrations/versions
DEFAULT_URL = "sqlite:///.harness/harness.db"


def open_engine(url: str, create: bool) -> Engine:
    """Raises UsageError for a malformed URL or (create=False) a store that is not there, StoreError otherwise."""
    path = sqlite_path(url)
    parsed = make_url(url)
    if path is not None:
        _check_file(path, create)
    try:
        engine = create_engine(parsed, pool_pre_ping=path is None)
    except (NoSuchModuleError, ImportError) as error:
        raise StoreError(
            f"store {parsed.render_as_string()}: {error}", "install the driver of that database"
        ) from error
    if path is not None:
        event.listen(engine, "connect", _sqlite_pragmas)
    with explained(shown(url), path):
        if path is None:
            _migrate(engine, engine, shown(url))
        else:
            _migrate_file(engine, parsed, path)
    return engine


def shown(url: str) -> str:
    """The URL as it may be told: without its password."""
    return _parsed(url).render_as_string(hide_password=True)


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError as error:
        raise UsageError(f"store {url!r} is not a URL", f"for example {DEFAULT_URL}") from error


def sqlite_path(url: str) -> Path | None:
    """The file behind a SQLite URL; None for another database."""
    parsed = _parsed(url)
    if not parsed.drivername.startswith("sqlite") or not parsed.database or parsed.database == ":memory:":
        return None
    return Path(parsed.database)


def _check_file(path: Path, create: bool) -> None:
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
    for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


@contextmanager
def explained(name: str, path: Path | None = None) -> Iterator[None]:
    """Database errors as StoreErrors with a remedy; a broken constraint stays what it is, callers answer it."""
    try:
        yield
    except IntegrityError:
        raise
    except (DatabaseError, sqlite3.DatabaseError) as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        if path is not None and _is_full(path):
            reason = "the disk is full"  # which SQLite may call an I/O error
        remedies = {
            "full": "free some disk space, then run again: it continues where it stopped",
            "readonly": "make it writable or name another with --store",
            "unable to open": "make its folder writable or name another with --store",
            "not a database": "it is not a harness store; name another with --store",
            "malformed": "the file is damaged: restore it from a copy, or name another with --store",
        }
        hint = next((remedy for key, remedy in remedies.items() if key in reason), None)
        raise StoreError(f"store {name}: {reason}", hint) from error


def _is_full(path: Path) -> bool:
    try:
        return shutil.disk_usage(path.parent).free < 1 << 16
    except OSError:
        return False


def _migrate_file(engine: Engine, url: URL, path: Path) -> None:
    """As `_migrate`, by one process at a time and all or nothing.

    A file that is not there yet is opened under the lock only: even the switch to WAL cannot bear company."""
    if path.exists() and path.stat().st_size and _is_current(engine, str(url)):
        return
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(file_lock(path.with_name(path.name + ".lock")))
        except OSError as error:
            raise StoreError(f"store {path}: {error.strerror}", "name a writable place with --store") from error
        whole = create_engine(url, poolclass=NullPool)
        event.listen(whole, "connect", _sqlite_manual)
        event.listen(whole, "connect", _sqlite_pragmas)
        event.listen(whole, "begin", _sqlite_begin)
        _migrate(engine, whole, str(url))


def _sqlite_manual(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # else sqlite3 begins at the first INSERT only, and CREATE TABLE is for good


def _sqlite_begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _migrate(engine: Engine, whole: Engine, name: str) -> None:
    """Brings the database to HEAD in one transaction of `whole`, an engine whose DDL can be rolled back."""
    if _is_current(engine, name):
        return
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with whole.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _is_current(engine: Engine, name: str) -> bool:
    """False for an empty or an older store. Raises StoreError for what is none of ours, or newer."""
    with engine.connect() as connection:
        tables = inspect(connection).get_table_names()
        found = (
            connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
            if "alembic_version" in tables
            else None
        )
    if found is None and tables:
        raise StoreError(
            f"store {name}: the database has tables that are not the harness's", "name another with --store"
        )
    if found is not None and found > HEAD:
        raise StoreError(
            f"store {name}: made by a newer harness (schema {found}, this one knows {HEAD})",
            "upgrade ondevice-harness, or name another store with --store",
        )
    return bool(found == HEAD)
