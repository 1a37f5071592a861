"""What databases say when they fail, as StoreErrors with a remedy."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError, StatementError

from harness.errors import HarnessError, StoreError

PARAMETERS = "what follows ? in the URL are parameters of libpq, such as sslmode=require"
GO_ON = "then run again: it continues where it stopped"


class NotWritable(StoreError):
    """It can be read, and must not be written by us."""


class Lost(StoreError):
    """The database does not answer just now, or had to refuse for the moment: the same may succeed a little later."""


#: SQLSTATE -> what to try (https://www.postgresql.org/docs/current/errcodes-appendix.html)
_BY_STATE = {
    "42501": "its owner allows it (for tables that are not there yet: GRANT CREATE ON SCHEMA public TO the role)",
    "25006": "the database can only be read just now: name one that can be written with --store",
    "53100": f"free some disk space on the server, {GO_ON}",
    "3F000": "make the schema that search_path names: psql -c 'CREATE SCHEMA NAME'",
    "42P01": "tables of the harness are missing there: restore the database from a copy, or name another with --store",
    "42703": "tables of the harness were changed there: restore the database from a copy, or name another with --store",
    "55P03": "another process is just making the store; try again when it is done",
}
_NOT_WRITABLE = ("42501", "25006")
#: the server goes down, is going up, has no connection left; a deadlock or a conflict of transactions was resolved
_LOST = ("57P01", "57P02", "57P03", "53300", "40001", "40P01")
_LOST_WORDS = ("starting up", "shutting down", "too many", "in recovery", "reserved for")

_BY_WORD = {
    # SQLite
    "full": "free some disk space, then run again: it continues where it stopped",
    "readonly": "make it writable or name another with --store",
    "unable to open": "make it readable and its folder writable, or name another with --store",
    "not a database": "it is not a harness store; name another with --store",
    "malformed": "the file is damaged: restore it from a copy, or name another with --store",
    # PostgreSQL refuses a connection: libpq gives only the words
    "does not support SSL": "leave sslmode out, or switch TLS on at the server",
    "certificate": "sslrootcert names the file of the authority that signed the server's certificate",
    "definition of service": "name one that stands in ~/.pg_service.conf, or in the file PGSERVICEFILE",
    "hot standby": "target_session_attrs says which of the servers is wanted",
    "session is": "target_session_attrs says which of the servers is wanted",
    "bad value for": PARAMETERS,
    "invalid sslmode": PARAMETERS,
    "invalid target_session_attrs": PARAMETERS,
    "invalid connection option": PARAMETERS,
    "password authentication failed": "check user and password: in the URL, in PGPASSWORD or in ~/.pgpass",
    "no password supplied": "give the password in the URL, in PGPASSWORD or in ~/.pgpass",
    "pg_hba.conf": "the server does not let this user in from here: its pg_hba.conf must allow it",
    "too many": "more connections than the server allows: raise its max_connections, or run fewer at once",
    "starting up": "the server is starting: try again in a moment",
    "refused": "is the server running, and are host and port right?",
    "translate host name": "is the host's name right?",
    "resolve host": "is the host's name right?",
    "timeout": "does the server answer there? host, port and firewall decide",
    "timed out": "does the server answer there? host, port and firewall decide",
}
_NO_DATABASE = re.compile(r'database "(.+)" does not exist')
_NO_ROLE = re.compile(r'role "(.+)" does not exist')


@contextmanager
def explained(name: str, path: Path | None = None) -> Iterator[None]:
    """Database errors as StoreErrors with a remedy; a broken constraint stays what it is, callers answer it.

    `name` is told; `path`: the file of a SQLite store."""
    try:
        yield
    except IntegrityError:
        raise
    except (DatabaseError, sqlite3.DatabaseError) as error:
        _cut(error)
        raise _translated(error, name, path) from None
    except StatementError as error:  # our own refusal of a value, as SQLAlchemy wraps it
        if isinstance(error.orig, HarnessError):
            raise error.orig from None
        raise
    except OverflowError as error:  # a driver's, for an integer that no column holds
        raise StoreError(f"store {name}: {error}") from error


def _cut(error: BaseException | None) -> None:
    """A driver's frames hold the password in their variables, which some tools show with a traceback."""
    while error is not None:
        error.__traceback__ = None
        original = getattr(error, "orig", None)
        _cut(original if original is not error.__cause__ else None)
        error = error.__cause__ or error.__context__


def _translated(error: Exception, name: str, path: Path | None) -> StoreError:
    original = getattr(error, "orig", None) or error
    reason = (str(original).splitlines() or [type(original).__name__])[0]
    if path is not None and _is_full(path):
        reason = "the disk is full"  # which SQLite may call an I/O error
    state = getattr(original, "sqlstate", None)
    what, hint = f"store {name}: {reason}", _hint(reason, state)
    if path is None and _is_lost(error, original, reason, state):
        return Lost(what, hint or "is the server running, and are host and port right?")
    if state in _NOT_WRITABLE or "readonly" in reason:
        return NotWritable(what, hint)
    return StoreError(what, hint)


def _hint(reason: str, state: str | None) -> str | None:
    if found := _NO_DATABASE.search(reason):
        return f"createdb {found[1]} makes it (on the server, or with -h HOST -U USER)"
    if found := _NO_ROLE.search(reason):
        return f"name the user in the URL; createuser {found[1]} makes it"
    if state in _BY_STATE:
        return _BY_STATE[state]
    return next((remedy for word, remedy in _BY_WORD.items() if word in reason), None)


def _is_lost(error: Exception, original: BaseException, reason: str, state: str | None) -> bool:
    if getattr(error, "connection_invalidated", False):
        return True
    if state is not None:
        return state in _LOST or state.startswith("08")
    if not isinstance(error, OperationalError) or isinstance(original, sqlite3.Error):
        return False
    return "FATAL" not in reason or any(word in reason for word in _LOST_WORDS)


def _is_full(path: Path) -> bool:
    try:
        return shutil.disk_usage(path.parent).free < 1 << 16
    except OSError:
        return False
