"""The append-only record of sessions and runs behind a URL (SQLite by default)."""

from __future__ import annotations

import dataclasses
import os
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from sqlalchemy import Column, ColumnElement, Table, case, collate, false, func, insert, select, true, update
from sqlalchemy.engine import Connection, Engine, RowMapping
from sqlalchemy.exc import IntegrityError

from harness.errors import StoreError, UsageError
from harness.store import blob
from harness.store.engine import open_engine, shown, sqlite_path
from harness.store.patience import Patience
from harness.store.rows import PACKAGE, SPEC, Slot, cell_key, to_device, to_row, to_run, utc_now
from harness.store.tables import baselines, digests, imports, session_devices, sessions
from harness.store.tables import runs as runs_table
from harness.store.tables import samples as samples_table
from harness.store.told import explained
from harness.store.values import not_finite
from harness.types import Cell, DeviceSpec, Kind, Package, Purpose, Run, Session, SessionDevice

__all__ = ["Slot", "Store", "cell_key", "utc_now"]

T = TypeVar("T")


class Store:
    """Every method may raise StoreError. Safe for several threads and processes at once.

    A database that goes away is waited for, for a minute (patience.py); what was asked is then done exactly once."""

    def __init__(self, engine: Engine, url: str, patience: Patience | None = None) -> None:
        self._engine, self.url, self._patience = engine, url, patience or Patience()
        self._name, self._path = shown(url), sqlite_path(url)

    @classmethod
    def open(cls, url: str, create: bool = False, stop: threading.Event | None = None) -> Store:
        """`create`: it is going to be written to, and made where it is not there.

        `stop`: for work that goes on since long: a database that is away is waited for here too, until it is set."""
        path = sqlite_path(url)
        if not create and path is not None and path.is_file() and not os.access(path.parent, os.W_OK):
            from harness.store.reading import open_unchanged

            return open_unchanged(url, current=True)
        if stop is None:
            return cls(open_engine(url, create), url)
        patience = Patience(stop)
        return cls(patience(lambda again: open_engine(url, create)), url, patience)

    @property
    def engine(self) -> Engine:
        """For what moves whole tables (copy.py)."""
        return self._engine

    def close(self) -> None:
        self._engine.dispose()

    def _do(self, work: Callable[[Connection], T]) -> T:
        """In one transaction, which may be made again: `work` must not mind."""
        return self._do_again(lambda connection, again: work(connection))

    def _do_again(self, work: Callable[[Connection, bool], T]) -> T:
        """As `_do`; `work` is told whether it may have been done already, its answer being lost."""

        def once(again: bool) -> T:
            with explained(self._name, self._path), self._engine.begin() as connection:
                return work(connection, again)

        return self._patience(once)

    def _in_order(self, column: Column[str]) -> ColumnElement[str]:
        """By code point, whatever language the database sorts in."""
        return collate(column, "C" if self._engine.dialect.name == "postgresql" else "BINARY")

    # -- sessions ------------------------------------------------------------------------------------------------

    def begin(
        self,
        *,
        package: Package,
        plan: Mapping[str, Any],
        plan_key: str,
        label: str | None,
        quick: bool,
        devices: Iterable[DeviceSpec],
        kind: Kind = "experiment",
    ) -> str:
        """A new session; its id."""
        identity = uuid.uuid4().hex
        row = {
            "id": identity,
            "experiment": package.experiment["name"],
            "kind": kind,
            "label": label,
            "created_utc": utc_now(),
            "quick": quick,
            "plan_key": plan_key,
            "plan": dict(plan),
            "package": PACKAGE.dump_json(package).decode(),
        }
        its_devices = [
            {
                "session_id": identity,
                "name": spec.name,
                "position": position,
                "spec": SPEC.dump_python(spec, mode="json"),
                "runners": {},
            }
            for position, spec in enumerate(devices)
        ]

        def work(connection: Connection, again: bool) -> None:
            if again and _there(connection, sessions.c.id, identity):
                return
            connection.execute(insert(sessions).values(row))
            if its_devices:
                connection.execute(insert(session_devices), its_devices)

        self._do_again(work)
        return identity

    def unfinished(self, plan_key: str, label: str | None) -> str | None:
        """The newest session of this plan and label that was not imported, if it was not finished."""
        query = (
            select(sessions.c.id, sessions.c.finished_utc)
            .where(
                sessions.c.plan_key == plan_key,
                sessions.c.id.not_in(select(imports.c.session_id)),
                sessions.c.label.is_(None) if label is None else sessions.c.label == label,
            )
            .order_by(*self._newest_first())
            .limit(1)
        )
        row = self._do(lambda connection: connection.execute(query).first())
        return row.id if row is not None and row.finished_utc is None else None

    def finish(self, session: str) -> None:
        ended = update(sessions).where(sessions.c.id == session).values(finished_utc=utc_now())
        self._do(lambda connection: connection.execute(ended))

    def put_device(self, session: str, device: SessionDevice) -> None:
        """What is now known of one of the session's devices."""
        values = {
            "facts": None if device.facts is None else dataclasses.asdict(device.facts),
            "runners": dict(device.runners),
            "unreached": device.unreached,
        }
        mine = (session_devices.c.session_id == session) & (session_devices.c.name == device.spec.name)
        self._do(lambda connection: connection.execute(update(session_devices).where(mine).values(**values)))

    def latest(self, experiment: str | None = None, label: str | None = None, quick: bool | None = None) -> str:
        """The id of the newest session (of this experiment and label; None: quick ones or not).

        `measure` sessions only when named, and only where no experiment bears that name. Raises UsageError where
        there is none, naming what there is."""
        by_kind = case((sessions.c.kind.in_(("experiment", "paired")), 0), else_=1)
        query = select(sessions.c.id).order_by(by_kind, *self._newest_first()).limit(1)
        query = (
            query.where(sessions.c.experiment == experiment)
            if experiment
            else query.where(sessions.c.kind.in_(("experiment", "paired")))
        )
        if label is not None:
            query = query.where(sessions.c.label == label)
        every = query
        if quick is not None:
            query = query.where(sessions.c.quick.is_(true() if quick else false()))
        found = self._do(lambda connection: connection.execute(query).scalar())
        if found is not None:
            return str(found)
        if quick is False and self._do(lambda connection: connection.execute(every).first()) is not None:
            raise UsageError("the store has --quick sessions only, which never decide", "harness run without --quick")
        raise self._no_session_of(experiment, label)

    def _no_session_of(self, experiment: str | None, label: str | None) -> UsageError:
        """Names what there is."""
        query = select(sessions.c.experiment, sessions.c.label).distinct()
        known = self._do(lambda connection: connection.execute(query).all())
        names = sorted({f"{row.experiment}" + (f" (label {row.label})" if row.label else "") for row in known})
        asked = [f"experiment {experiment!r}"] if experiment else []
        asked += [f"label {label!r}"] if label is not None else []
        of = f" of {' '.join(asked)}" if asked else ""
        return UsageError(
            f"the store has no session{of}",
            f"it has: {', '.join(names[:20])}" if names else "harness run makes the first",
        )

    def _newest_first(self) -> tuple[ColumnElement[str], ColumnElement[str]]:
        return self._in_order(sessions.c.created_utc).desc(), self._in_order(sessions.c.id).desc()

    def session(self, identity: str) -> Session:
        """Raises UsageError where it is not there."""
        own = (
            select(sessions, imports.c.imported_utc)
            .join(imports, imports.c.session_id == sessions.c.id, isouter=True)
            .where(sessions.c.id == identity)
        )
        its = select(session_devices).where(session_devices.c.session_id == identity)

        def work(connection: Connection) -> tuple[RowMapping | None, list[RowMapping]]:
            devices = connection.execute(its.order_by(session_devices.c.position)).mappings().all()
            return connection.execute(own).mappings().first(), list(devices)

        row, devices = self._do(work)
        if row is None:
            raise UsageError(f"the store has no session {identity!r}", "harness runs lists them")
        keys = ("id", "experiment", "kind", "label", "created_utc", "finished_utc", "quick", "plan", "imported_utc")
        return Session(
            **{key: row[key] for key in keys},
            package=PACKAGE.validate_json(row["package"]),
            devices=tuple(to_device(device) for device in devices),
        )

    def list_sessions(self) -> list[dict[str, Any]]:
        """Newest first: id, experiment, kind, label, created_utc, finished_utc, quick, when it was imported out of a
        file (None where it was not), and the number of runs."""
        own, of = sessions.c, runs_table.c.session_id
        counted = select(of, func.count().label("runs")).group_by(of).subquery()
        query = (
            select(
                own.id, own.experiment, own.kind, own.label, own.created_utc, own.finished_utc, own.quick,
                imports.c.imported_utc, func.coalesce(counted.c.runs, 0).label("runs"),
            )
            .join(counted, counted.c.session_id == own.id, isouter=True)
            .join(imports, imports.c.session_id == own.id, isouter=True)
            .order_by(*self._newest_first())
        )  # fmt: skip
        return self._do(lambda connection: [dict(row) for row in connection.execute(query).mappings()])

    def matching(self, start: str) -> str:
        """The id of the one session whose id begins so. Raises UsageError for none and for several."""
        begins = func.substr(sessions.c.id, 1, len(start)) == start  # LIKE would not mind the case in SQLite
        query = select(sessions.c.id).where(begins).limit(2)
        found = self._do(lambda connection: [str(row.id) for row in connection.execute(query)])
        if len(found) != 1 or not start:
            what = "several sessions begin" if found else "no session begins"
            raise UsageError(f"{what} with {start!r}", "harness runs lists them")
        return found[0]

    # -- digests and baselines -----------------------------------------------------------------------------------

    def digests(self, wanted: Mapping[str, str]) -> dict[str, bytes]:
        """What `put_digest` kept of these sessions (id -> what it must be made of), where it was made of just that."""
        query = select(digests).where(digests.c.session_id.in_(wanted))
        rows = self._do(lambda connection: connection.execute(query).all())
        return {row.session_id: bytes(row.blob) for row in rows if wanted[row.session_id] == row.made_of}

    def put_digest(self, session: str, made_of: str, content: bytes) -> None:
        self._put(digests, digests.c.session_id == session, session_id=session, made_of=made_of, blob=content)

    def baseline(self, experiment: str) -> str | None:
        """The label that this experiment's releases are compared with."""
        query = select(baselines.c.label).where(baselines.c.experiment == experiment)
        return self._do(lambda connection: connection.execute(query).scalar())

    def set_baseline(self, experiment: str, label: str) -> None:
        mine = baselines.c.experiment == experiment
        self._put(baselines, mine, experiment=experiment, label=label, set_utc=utc_now())

    def _put(self, table: Table, mine: ColumnElement[bool], **values: Any) -> None:
        """One row in place of the one that may be there; of several at once, the last one stays."""

        def work(connection: Connection) -> None:
            if not connection.execute(update(table).where(mine).values(**values)).rowcount:
                connection.execute(insert(table).values(**values))

        try:
            self._do(work)
        except IntegrityError:  # another was quicker to write the first: its row is there now
            try:
                self._do(work)
            except IntegrityError as error:
                raise self._refused(error) from error

    def _refused(self, error: IntegrityError) -> StoreError:
        reason = str(error.orig).splitlines()[0]
        return StoreError(f"store {self._name}: {reason}", "harness runs lists the sessions that are there")

    # -- runs ----------------------------------------------------------------------------------------------------

    def append(self, run: Run) -> bool:
        """Stores one run, at once and whole. False where this attempt is stored already, or where another attempt
        counts for the same slot: a task that an executor runs twice changes nothing."""
        row = to_row(run)
        for name, value in row.items():
            if found := not_finite(value, name):
                raise StoreError(f"run {run.id} ({run.purpose}): {found} is not a finite number and is not stored")
        content = blob.encode(run.arrays) if run.arrays else None

        def work(connection: Connection, again: bool) -> bool:
            if again and _there(connection, runs_table.c.id, run.id):
                return True
            connection.execute(insert(runs_table).values(**row))
            if content is not None:
                connection.execute(insert(samples_table).values(run_id=run.id, blob=content))
            return True

        try:
            return self._do_again(work)
        except IntegrityError as error:
            if not self._is_stored(run):
                raise self._refused(error) from error
            return False

    def _is_stored(self, run: Run) -> bool:
        """Whether this run, this attempt, or another that counts in its place, is there."""
        own, slot = runs_table.c, self._slot(run.session, run.cell, run.purpose, run.repeat)
        taken = (own.attempt == run.attempt) | (own.counts if run.counts else false())
        query = select(own.id).where((own.id == run.id) | (slot & taken)).limit(1)
        return self._do(lambda connection: connection.execute(query).first()) is not None

    @staticmethod
    def _slot(session: str, cell: Cell, purpose: Purpose, repeat: int) -> ColumnElement[bool]:
        own = runs_table.c
        return (
            (own.session_id == session)
            & (own.cell_key == cell_key(cell))
            & (own.purpose == purpose)
            & (own.repeat == repeat)
        )

    def counted(self, session: str) -> set[Slot]:
        """The slots that a counting run fills."""
        columns = (runs_table.c.cell_key, runs_table.c.purpose, runs_table.c.repeat)
        query = select(*columns).where(runs_table.c.session_id == session, runs_table.c.counts)
        rows = self._do(lambda connection: connection.execute(query).all())
        return {(row.cell_key, row.purpose, row.repeat) for row in rows}

    def broken(self, session: str) -> set[tuple[str, str]]:
        """(cell key, purpose) of what failed or cannot be run here, and where no later attempt has made it good."""
        columns = (runs_table.c.cell_key, runs_table.c.purpose, runs_table.c.repeat, runs_table.c.counts)
        query = select(*columns).where(
            runs_table.c.session_id == session, runs_table.c.counts | runs_table.c.status.in_(("failed", "skipped"))
        )
        rows = self._do(lambda connection: connection.execute(query).all())
        good = {(row.cell_key, row.purpose, row.repeat) for row in rows if row.counts}
        return {(r.cell_key, r.purpose) for r in rows if (r.cell_key, r.purpose, r.repeat) not in good}

    def next_attempt(self, session: str, cell: Cell, purpose: Purpose, repeat: int) -> int:
        query = select(func.max(runs_table.c.attempt)).where(self._slot(session, cell, purpose, repeat))
        last = self._do(lambda connection: connection.execute(query).scalar())
        return 1 if last is None else int(last) + 1

    def scored(self, session: str) -> list[Run]:
        """All runs of a session; samples only of those whose score per sample the paired interval needs."""
        scores = {run.id: run for run in self.runs(session, purpose="accuracy", arrays=True)}
        return [scores.get(run.id, run) for run in self.runs(session)]

    def runs(self, session: str | None = None, *, purpose: Purpose | None = None, arrays: bool = False) -> list[Run]:
        """Runs in the order they were made; `arrays=True` also reads their samples."""
        columns = [*runs_table.c, samples_table.c.blob] if arrays else [*runs_table.c]
        query = select(*columns).order_by(self._in_order(runs_table.c.started_utc), self._in_order(runs_table.c.id))
        if arrays:
            query = query.join(samples_table, samples_table.c.run_id == runs_table.c.id, isouter=True)
        if session is not None:
            query = query.where(runs_table.c.session_id == session)
        if purpose is not None:
            query = query.where(runs_table.c.purpose == purpose)
        return self._do(lambda connection: [to_run(row) for row in connection.execute(query).mappings()])


def _there(connection: Connection, column: Column[str], value: str) -> bool:
    return connection.execute(select(column).where(column == value)).first() is not None
