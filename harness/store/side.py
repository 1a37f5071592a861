"""One of the two stores of a copy: its rows by key, a bounded number at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import JSON, ColumnElement, Table, func, select, tuple_
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, StatementError

from harness.errors import StoreError
from harness.store.engine import table_names
from harness.store.raw import EXACT, TABLES, blob_bytes, knows_sha256, of_session
from harness.store.told import explained
from harness.store.url import shown, sqlite_path
from harness.store.values import Words, visible

Key = tuple[Any, ...]
Row = tuple[Any, ...]
#: by table: each column's name and what its values are (or None)
KINDS = {
    name: [(c.name, str if isinstance(c.type, JSON | Words) else c.type.python_type) for c in table.c]
    for name, table in TABLES.items()
}
MOST_ROWS = 500
MOST_BYTES = 8 << 20  # of blobs; the rows without them are small


@dataclass(frozen=True, kw_only=True)
class Side:
    """A connection to a store. Errors of its database are told as that store's.

    `tables`: those that are there; an older store lacks some."""

    connection: Connection
    url: str
    tables: frozenset[str] = field(default=frozenset())

    @classmethod
    def of(cls, connection: Connection, url: str) -> Side:
        knows_sha256(connection)
        found = table_names(connection)
        return cls(connection=connection, url=url, tables=frozenset(found) & EXACT.keys())

    def all(self, query: Any) -> list[Row]:
        with self._explained():
            return [tuple(row) for row in self.connection.execute(query)]

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            with explained(shown(self.url), sqlite_path(self.url)):
                yield
        except (TypeError, ValueError, StatementError) as error:
            if isinstance(error, DBAPIError):
                raise
            raise self._damaged(str(getattr(error, "orig", error))) from error

    def _damaged(self, reason: str) -> StoreError:
        return StoreError(f"store {shown(self.url)} is damaged: {reason}", "restore it from a copy")

    def rows(self, twin: Table, keys: Sequence[Key]) -> dict[Key, Row]:
        """The rows of these keys, as far as they are there."""
        if not keys or twin.name not in self.tables:
            return {}
        at = [position for position, column in enumerate(twin.c) if column.primary_key]
        rows = (self._taken(twin, row) for row in self.all(select(twin).where(among(twin, keys))))
        return {tuple(row[i] for i in at): row for row in rows}

    def _taken(self, twin: Table, row: Row) -> Row:
        """The row as any database can keep it. Raises StoreError for a value that its column cannot have, which
        SQLite keeps all the same."""
        for value, (name, kind) in zip(row, KINDS[twin.name], strict=True):
            if type(value) is not kind and value is not None:
                raise self._damaged(f"{twin.name} {row[0]!r}: {name} holds {value!r:.80}")
        return tuple(visible(value) if type(value) is str and "\0" in value else value for value in row)

    def keys(self, name: str, session: str | None) -> Iterator[list[Key]]:
        """The keys of a table's rows that hang on a session (None: of all), in portions of bounded size."""
        twin = EXACT[name]
        if name not in self.tables:
            return
        query = select(*twin.primary_key.columns, blob_bytes(twin))
        where = None if session is None else of_session(twin, session)
        query = query if where is None else query.where(where)
        portion: list[Key] = []
        held = 0
        with self._explained():
            for row in self.connection.execute(query, execution_options={"yield_per": MOST_ROWS}):
                if portion and (len(portion) >= MOST_ROWS or held + row[-1] > MOST_BYTES):
                    yield portion
                    portion, held = [], 0
                if not all(isinstance(part, str) for part in row[:-1]):
                    raise self._damaged(f"a key of {name} is {row[:-1]!r:.80}")
                portion.append(tuple(row[:-1]))
                held += row[-1]
        if portion:
            yield portion

    def count(self, name: str, session: str) -> int:
        """How many rows hang on a session."""
        twin = EXACT[name]
        if name not in self.tables:
            return 0
        query = select(func.count()).select_from(twin)
        where = of_session(twin, session)
        return int(self.all(query if where is None else query.where(where))[0][0])


def among(twin: Table, keys: Sequence[Key]) -> ColumnElement[bool]:
    columns: list[ColumnElement[Any]] = [*twin.primary_key.columns]
    if len(columns) == 1:
        return columns[0].in_([key[0] for key in keys])
    return tuple_(*columns).in_(keys)


def named(twin: Table, row: Row) -> Mapping[str, Any]:
    return dict(zip(twin.c.keys(), row, strict=True))
