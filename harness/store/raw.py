"""The tables as their databases keep them: JSON as its text, so that what is carried over is the same to the letter."""

from __future__ import annotations

import hashlib
from typing import Any

from sqlalchemy import JSON, Column, ColumnElement, LargeBinary, MetaData, Table, Text, cast, func, literal, select
from sqlalchemy.engine import Connection
from sqlalchemy.types import TypeEngine, UserDefinedType

from harness.store.tables import metadata, runs, sessions


class _JsonText(UserDefinedType[str]):
    """JSON, read and written as text: the order of keys, 1.0 apart from 1, and null apart from NULL."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "JSON"

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[str]:
        return cast(column, Text)


class _Sha256(UserDefinedType[bytes]):
    """A blob, read as its SHA-256 (32 bytes), which the database works out."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "BYTEA"

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[bytes]:
        return func.sha256(column, type_=LargeBinary)


def _twin(table: Table, hashed: bool) -> Table:
    def kept(kind: TypeEngine[Any]) -> TypeEngine[Any]:
        if isinstance(kind, JSON):
            return _JsonText()
        return _Sha256() if hashed and isinstance(kind, LargeBinary) else kind

    return Table(table.name, MetaData(), *(Column(c.name, kept(c.type), primary_key=c.primary_key) for c in table.c))


#: by name, parents before children: EXACT is read and written whole, HASHED only compared
TABLES = {table.name: table for table in metadata.sorted_tables}
EXACT = {name: _twin(table, False) for name, table in TABLES.items()}
HASHED = {name: _twin(table, True) for name, table in TABLES.items()}


def knows_sha256(connection: Connection) -> None:
    """Teaches SQLite the function that PostgreSQL has."""
    if connection.dialect.name == "sqlite":
        driver: Any = connection.connection.dbapi_connection
        driver.create_function("sha256", 1, _sha256, deterministic=True)


def _sha256(content: bytes | str | None) -> bytes | None:
    if isinstance(content, str):  # no blob: what reads it as one refuses it
        content = content.encode(errors="replace")
    return None if content is None else hashlib.sha256(content).digest()


def hashed(table: str, row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row of EXACT as HASHED gives it."""
    blobs = [isinstance(column.type, LargeBinary) for column in TABLES[table].c]
    return tuple(_sha256(bytes(v)) if blob and v is not None else v for v, blob in zip(row, blobs, strict=True))


def of_session(table: Table, session: str) -> ColumnElement[bool] | None:
    """Which rows of a twin hang on this session, itself or by its runs; None: the table's rows hang on none."""
    if table.name == "sessions":
        return table.c.id == session
    for column in TABLES[table.name].c:
        for key in column.foreign_keys:
            if key.column.table is sessions:
                return table.c[column.name] == session
            if key.column.table is runs:
                return table.c[column.name].in_(select(runs.c.id).where(runs.c.session_id == session))
    return None


def blob_bytes(table: Table) -> ColumnElement[int]:
    """The size of a row's blobs, which bounds how many rows are held at once."""
    blobs = [table.c[column.name] for column in TABLES[table.name].c if isinstance(column.type, LargeBinary)]
    return sum((func.coalesce(func.length(blob), 0) for blob in blobs), start=literal(0))
