"""Whole sessions and runs as they stand in a store, JSON as its text: for files that must give back the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection

from harness.errors import StoreError
from harness.store import blob
from harness.store.moment import snapshot, transaction
from harness.store.raw import EXACT, HASHED, TABLES, blob_bytes, of_session
from harness.store.side import MOST_BYTES, MOST_ROWS, Key, Side, among, named
from harness.store.store import Store
from harness.store.told import explained
from harness.store.url import shown, sqlite_path

Columns = Mapping[str, Any]
Arrays = Mapping[str, "np.ndarray[Any, Any]"]
_LEAST_RUN_BYTES = 8 << 10  # what a run is taken to hold beside its samples

#: columns of a table, and of these the JSON ones
NAMES = {name: tuple(column.name for column in table.c) for name, table in TABLES.items()}
NULLABLE = {name: frozenset(c.name for c in table.c if c.nullable) for name, table in TABLES.items()}
JSON_NAMES = {
    name: frozenset(c.name for c, twin in zip(table.c, EXACT[name].c, strict=True) if c.type is not twin.type)
    for name, table in TABLES.items()
}


@dataclass(frozen=True, kw_only=True)
class Head:
    """A session's own row, its devices' (by position), and its note of the file that it came from, if any."""

    session: Columns
    devices: tuple[Columns, ...]
    imported: Columns | None = None


@contextmanager
def reading(store: Store) -> Iterator[Reader]:
    """The store as it is now, whoever writes to it meanwhile."""
    with explained(shown(store.url), sqlite_path(store.url)), snapshot(store.engine) as connection:
        yield Reader(Side.of(connection, store.url))


class Reader:
    def __init__(self, side: Side) -> None:
        self._side = side

    def head(self, session: str) -> Head:
        own, devices, imports = EXACT["sessions"], EXACT["session_devices"], EXACT["imports"]
        found = self._side.rows(own, [(session,)])[session,]
        keys = [key for portion in self._side.keys("session_devices", session) for key in portion]
        rows = [named(devices, row) for row in self._side.rows(devices, keys).values()]
        note = self._side.rows(imports, [(session,)]).get((session,))
        return Head(
            session=named(own, found),
            devices=tuple(sorted(rows, key=lambda row: int(row["position"]))),
            imported=None if note is None else named(imports, note),
        )

    def count(self, session: str) -> int:
        """How many runs it has."""
        return self._side.count("runs", session)

    def runs(self, session: str, with_samples: bool = True) -> Iterator[list[tuple[Columns, Arrays]]]:
        """The session's runs with their samples in the order they were made, in portions of bounded size."""
        runs, samples = EXACT["runs"], EXACT["samples"]
        sizes = self._sizes(session) if with_samples else {}
        for keys in self._portions(session, sizes):
            rows = self._side.rows(runs, keys)
            blobs = self._side.rows(samples, keys if with_samples else [])
            yield [(named(runs, rows[key]), _decoded(key[0], blobs[key][1]) if key in blobs else {}) for key in keys]

    def _portions(self, session: str, sizes: Mapping[str, int]) -> Iterator[list[Key]]:
        own = EXACT["runs"].c
        found = self._side.all(select(own.started_utc, own.id).where(own.session_id == session))
        portion: list[Key] = []
        held = 0
        for _, run in sorted(found):
            size = _LEAST_RUN_BYTES + sizes.get(run, 0)
            if portion and (len(portion) >= MOST_ROWS or held + size > MOST_BYTES):
                yield portion
                portion, held = [], 0
            portion.append((run,))
            held += size
        if portion:
            yield portion

    def _sizes(self, session: str) -> dict[str, int]:
        twin = EXACT["samples"]
        mine = of_session(twin, session)
        assert mine is not None
        query = select(twin.c.run_id, blob_bytes(twin)).where(mine)
        return {str(run): int(size) for run, size in self._side.all(query)}


def _decoded(run: str, content: Any) -> Arrays:
    try:
        return blob.decode(bytes(content))
    except StoreError as error:
        raise StoreError(f"run {run}: {error.what}", error.hint) from error


@contextmanager
def writing(store: Store) -> Iterator[Writer]:
    """All that is written in one transaction. A broken constraint is an IntegrityError."""
    with explained(shown(store.url), sqlite_path(store.url)), transaction(store.engine) as connection:
        yield Writer(connection)


class Writer:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def head(self, head: Head) -> None:
        self._put("sessions", [head.session])
        self._put("session_devices", head.devices)
        self._put("imports", [] if head.imported is None else [head.imported])

    def runs(self, runs: Sequence[tuple[Columns, Arrays]]) -> None:
        self._put("runs", [columns for columns, _ in runs])
        blobs = [{"run_id": columns["id"], "blob": blob.encode(arrays)} for columns, arrays in runs if arrays]
        self._put("samples", blobs)

    def _put(self, table: str, rows: Sequence[Columns]) -> None:
        if rows:
            self._connection.execute(insert(EXACT[table]), [dict(row) for row in rows])


def align(source: Store, target: Store) -> None:
    """Where a run of `source` is in `target` with the very samples, only packed otherwise (by another version of the
    compressor), `source` takes over the target's bytes: what is the same is not to differ."""
    twin, sums = EXACT["samples"], HASHED["samples"]
    with (
        explained(shown(source.url), sqlite_path(source.url)),
        source.engine.begin() as mine,
        snapshot(target.engine) as theirs,
    ):
        here, there = Side.of(mine, source.url), Side.of(theirs, target.url)
        for keys in list(here.keys("samples", None)):
            known = there.rows(sums, keys)
            ours = here.rows(sums, list(known))
            differing = [key for key in known if known[key] != ours[key]]
            own = here.rows(twin, differing)
            for key, row in there.rows(twin, differing).items():
                if _same(blob.decode(bytes(row[1])), blob.decode(bytes(own[key][1]))):
                    mine.execute(update(twin).where(among(twin, [key])).values(blob=row[1]))


def _same(one: Arrays, other: Arrays) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and one[name].tobytes() == other[name].tobytes() for name in one
    )
