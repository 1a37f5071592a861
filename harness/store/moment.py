"""Connections to which a database stands still while others write to it: to read from, and to write to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.engine import Connection, Engine


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """To read: what was there when it began."""
    if engine.dialect.name == "sqlite":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("BEGIN")  # the driver itself begins at the first write only
            yield connection
    else:
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with engine.connect().execution_options(**options) as connection:
            yield connection


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """To write all or nothing, one of these after the other. In PostgreSQL other writers go on, and what they were
    quicker with is an IntegrityError at commit or before."""
    if engine.dialect.name == "sqlite":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout=600000")  # another copy may take its time
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.exec_driver_sql("COMMIT")  # where it is not reached, giving the connection back rolls back
    else:
        with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            # before the first query, which settles the moment; it excludes only its like
            connection.exec_driver_sql("LOCK TABLE sessions IN SHARE UPDATE EXCLUSIVE MODE")
            yield connection
            connection.commit()
