"""Store URLs: what they name, and how they may be told. No password leaves this file."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from harness.errors import UsageError

DEFAULT_URL = "sqlite:///.harness/harness.db"

#: what a URL may begin with -> the driver that is meant
_DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite+pysqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
_EXAMPLES = f"for example {DEFAULT_URL} or postgresql://user@host/database"
_ESCAPED = "; of a user or password @ : / % are written %40 %3A %2F %25"
#: what follows ? and may be told: whatever else stands there, or is misspelt, could be a secret
_TOLD = (
    "host", "hostaddr", "port", "user", "dbname", "sslmode", "service", "connect_timeout", "application_name",
    "target_session_attrs", "client_encoding",
)  # fmt: skip


def parsed(url: str) -> URL:
    """The URL as it is written. Raises UsageError for what is none, or names a database we do not know."""
    try:
        found = make_url(url)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        raise UsageError(f"store {_told(url)} is not a URL", _EXAMPLES + _ESCAPED) from None
    if found.drivername not in _DRIVERS:
        raise UsageError(
            f"store {found.drivername}://…: stores are on SQLite or PostgreSQL (by the driver psycopg)", _EXAMPLES
        )
    if found.query and not is_server(found):
        raise UsageError(f"store {found.drivername}://…: a URL of SQLite takes no parameters (after ?)", _EXAMPLES)
    if "@" in (found.host or "") or (is_server(found) and "@" in (found.database or "")):
        raise UsageError(
            f"store {found.drivername}://… is not a URL: there is more than one @ in it",
            "a password's own @ is written %40 there; or leave it to PGPASSWORD or ~/.pgpass",
        )
    return found


def _told(text: str) -> str:
    """A text that is no URL: shown where it is a name or a path, else only how it begins: the rest may be secret."""
    if re.fullmatch(r"[\w./\\ -]*", text):
        return repr(text)
    scheme = re.match(r"[A-Za-z0-9+]+://", text)
    return f"{scheme[0]}…" if scheme else "'…' (not shown: it may hold a password)"


def shown(url: str) -> str:
    """The URL as it may be told: without its password."""
    found = parsed(url)
    hidden = {key: "***" for key in found.query if is_server(found) and key not in _TOLD}
    return found.update_query_dict(hidden).render_as_string(hide_password=True)


def connectable(url: str) -> URL:
    """With the driver by which we connect."""
    found = parsed(url)
    return found.set(drivername=_DRIVERS[found.drivername])


def is_server(url: URL) -> bool:
    """Whether it names a database on a server, and no file."""
    return not url.drivername.startswith("sqlite")


def refuse_memory(url: str) -> None:
    """Raises UsageError for a store that would be gone with this process."""
    if sqlite_path(url) is None and not is_server(parsed(url)):
        raise UsageError(f"store {shown(url)} is in memory and would be gone", "name a file: sqlite:///all.db")


def sqlite_path(url: str) -> Path | None:
    """The file behind a SQLite URL; None for another database."""
    found = parsed(url)
    if is_server(found) or not found.database or found.database == ":memory:":
        return None
    return Path(found.database)
