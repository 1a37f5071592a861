"""The append-only record of sessions and runs behind a URL (SQLite by default)."""

from __future__ import annotations

import dataclasses
import datetime
import json
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import case, delete, false, func, insert, select, true, update
from sqlalchemy.engine import Engine, RowMapping
from sqlalchemy.exc import IntegrityError

from harness.errors import UsageError
from harness.store import blob
from harness.store.engine import explained, open_engine, sqlite_path
from harness.store.tables import baselines, digests, session_devices, sessions
from harness.store.tables import runs as runs_table
from harness.store.tables import samples as samples_table
from harness.types import (
    Cell,
    DeviceFacts,
    DeviceSpec,
    Kind,
    Measurement,
    Package,
    Purpose,
    Run,
    Session,
    SessionDevice,
)

Slot = tuple[str, str, int]  # (cell key, purpose, repeat)
_PACKAGE = TypeAdapter(Package)
_SPEC = TypeAdapter(DeviceSpec)


def cell_key(cell: Cell) -> str:
    return json.dumps(dataclasses.asdict(cell), sort_keys=True, separators=(",", ":"))


def utc_now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


class Store:
    """Every method may raise StoreError. Safe for several processes at once."""

    def __init__(self, engine: Engine, url: str) -> None:
        self._engine, self.url = engine, url

    @classmethod
    def open(cls, url: str, create: bool = False) -> Store:
        return cls(open_engine(url, create), url)

    def close(self) -> None:
        self._engine.dispose()

    def _explained(self) -> Any:
        return explained(self._engine.url.render_as_string(hide_password=True), sqlite_path(self.url))

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
        with self._explained(), self._engine.begin() as connection:
            connection.execute(
                insert(sessions).values(
                    id=identity,
                    experiment=package.experiment["name"],
                    kind=kind,
                    label=label,
                    created_utc=utc_now(),
                    quick=quick,
                    plan_key=plan_key,
                    plan=dict(plan),
                    package=_PACKAGE.dump_json(package).decode(),
                )
            )
            for position, spec in enumerate(devices):
                connection.execute(
                    insert(session_devices).values(
                        session_id=identity,
                        name=spec.name,
                        position=position,
                        spec=_SPEC.dump_python(spec, mode="json"),
                        runners={},
                    )
                )
        return identity

    def unfinished(self, plan_key: str, label: str | None) -> str | None:
        """The newest session of this plan and label, if it was not finished."""
        query = (
            select(sessions.c.id, sessions.c.finished_utc)
            .where(
                sessions.c.plan_key == plan_key,
                sessions.c.label.is_(None) if label is None else sessions.c.label == label,
            )
            .order_by(sessions.c.created_utc.desc())
            .limit(1)
        )
        with self._explained(), self._engine.connect() as connection:
            row = connection.execute(query).first()
        return row.id if row is not None and row.finished_utc is None else None

    def finish(self, session: str) -> None:
        with self._explained(), self._engine.begin() as connection:
            connection.execute(update(sessions).where(sessions.c.id == session).values(finished_utc=utc_now()))

    def put_device(self, session: str, device: SessionDevice) -> None:
        """What is now known of one of the session's devices."""
        values = {
            "facts": None if device.facts is None else dataclasses.asdict(device.facts),
            "runners": dict(device.runners),
            "unreached": device.unreached,
        }
        mine = (session_devices.c.session_id == session) & (session_devices.c.name == device.spec.name)
        with self._explained(), self._engine.begin() as connection:
            connection.execute(update(session_devices).where(mine).values(**values))

    def latest(self, experiment: str | None = None, label: str | None = None, quick: bool | None = None) -> str:
        """The id of the newest session (of this experiment and label; None: quick ones or not).

        `measure` sessions only when named, and only where no experiment bears that name. Raises UsageError where
        there is none, naming what there is."""
        by_kind = case((sessions.c.kind.in_(("experiment", "paired")), 0), else_=1)
        query = select(sessions.c.id).order_by(by_kind, sessions.c.created_utc.desc()).limit(1)
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
        with self._explained(), self._engine.connect() as connection:
            found = connection.execute(query).scalar()
            if found is None and quick is False and connection.execute(every).first() is not None:
                raise UsageError(
                    "the store has --quick sessions only, which never decide", "harness run without --quick"
                )
            if found is None:
                known = connection.execute(select(sessions.c.experiment, sessions.c.label).distinct()).all()
                names = sorted({f"{row.experiment}" + (f" (label {row.label})" if row.label else "") for row in known})
                asked = " ".join(
                    t
                    for t in (
                        f"experiment {experiment!r}" if experiment else "",
                        f"label {label!r}" if label is not None else "",
                    )
                    if t
                )
                raise UsageError(
                    f"the store has no session{f' of {asked}' if asked else ''}",
                    f"it has: {', '.join(names[:20])}" if names else "harness run makes the first",
                )
        return str(found)

    def session(self, identity: str) -> Session:
        with self._explained(), self._engine.connect() as connection:
            row = connection.execute(select(sessions).where(sessions.c.id == identity)).mappings().first()
            if row is None:
                raise UsageError(f"the store has no session {identity!r}", "harness runs lists them")
            devices = connection.execute(
                select(session_devices)
                .where(session_devices.c.session_id == identity)
                .order_by(session_devices.c.position)
            ).mappings()
            return Session(
                **{
                    k: row[k]
                    for k in ("id", "experiment", "kind", "label", "created_utc", "finished_utc", "quick", "plan")
                },
                package=_PACKAGE.validate_json(row["package"]),
                devices=tuple(_device(device) for device in devices),
            )

    def list_sessions(self) -> list[dict[str, Any]]:
        """Newest first: id, experiment, kind, label, created_utc, finished_utc, quick, and the number of runs."""
        counted = func.count(runs_table.c.id)
        query = (
            select(sessions, counted.label("runs"))
            .join(runs_table, runs_table.c.session_id == sessions.c.id, isouter=True)
            .group_by(sessions.c.id)
            .order_by(sessions.c.created_utc.desc())
        )
        keys = ("id", "experiment", "kind", "label", "created_utc", "finished_utc", "quick", "runs")
        with self._explained(), self._engine.connect() as connection:
            return [{k: row[k] for k in keys} for row in connection.execute(query).mappings()]

    def matching(self, start: str) -> str:
        """The id of the one session whose id begins so. Raises UsageError for none and for several."""
        query = select(sessions.c.id).where(sessions.c.id.startswith(start, autoescape=True)).limit(2)
        with self._explained(), self._engine.connect() as connection:
            found = [str(row.id) for row in connection.execute(query)]
        if len(found) != 1 or not start:
            what = "several sessions begin" if found else "no session begins"
            raise UsageError(f"{what} with {start!r}", "harness runs lists them")
        return found[0]

    # -- digests and baselines -----------------------------------------------------------------------------------

    def digest(self, session: str, made_of: str) -> bytes | None:
        """What `put_digest` kept, if it was made of just that."""
        query = select(digests.c.blob).where(digests.c.session_id == session, digests.c.made_of == made_of)
        with self._explained(), self._engine.connect() as connection:
            found = connection.execute(query).scalar()
        return None if found is None else bytes(found)

    def put_digest(self, session: str, made_of: str, content: bytes) -> None:
        with suppress(IntegrityError), self._explained(), self._engine.begin() as connection:
            connection.execute(delete(digests).where(digests.c.session_id == session))
            connection.execute(insert(digests).values(session_id=session, made_of=made_of, blob=content))

    def baseline(self, experiment: str) -> str | None:
        """The label that this experiment's releases are compared with."""
        query = select(baselines.c.label).where(baselines.c.experiment == experiment)
        with self._explained(), self._engine.connect() as connection:
            return connection.execute(query).scalar()

    def set_baseline(self, experiment: str, label: str) -> None:
        with self._explained(), self._engine.begin() as connection:
            connection.execute(delete(baselines).where(baselines.c.experiment == experiment))
            connection.execute(insert(baselines).values(experiment=experiment, label=label, set_utc=utc_now()))

    # -- runs ----------------------------------------------------------------------------------------------------

    def append(self, run: Run) -> bool:
        """Stores one run, at once and whole. False where this attempt is stored already, or where another attempt
        counts for the same slot: a task that an executor runs twice changes nothing."""
        row = dataclasses.asdict(dataclasses.replace(run, arrays={}))
        del row["arrays"]
        row |= {
            "session_id": row.pop("session"),
            "cell_key": cell_key(run.cell),
            "variant": run.cell.variant,
            "device_id": run.cell.device_id,
            "caveats": list(run.caveats),
            "measurements": [dataclasses.asdict(m) for m in run.measurements],
        }
        try:
            with self._explained(), self._engine.begin() as connection:
                connection.execute(insert(runs_table).values(**row))
                if run.arrays:
                    connection.execute(insert(samples_table).values(run_id=run.id, blob=blob.encode(run.arrays)))
        except IntegrityError:
            return False
        return True

    def counted(self, session: str) -> set[Slot]:
        """The slots that a counting run fills."""
        columns = (runs_table.c.cell_key, runs_table.c.purpose, runs_table.c.repeat)
        query = select(*columns).where(runs_table.c.session_id == session, runs_table.c.counts)
        with self._explained(), self._engine.connect() as connection:
            return {(row.cell_key, row.purpose, row.repeat) for row in connection.execute(query)}

    def broken(self, session: str) -> set[tuple[str, str]]:
        """(cell key, purpose) of what failed or cannot be run here, and where no later attempt has made it good."""
        columns = (runs_table.c.cell_key, runs_table.c.purpose, runs_table.c.repeat, runs_table.c.counts)
        query = select(*columns).where(
            runs_table.c.session_id == session, runs_table.c.counts | runs_table.c.status.in_(("failed", "skipped"))
        )
        with self._explained(), self._engine.connect() as connection:
            rows = connection.execute(query).all()
        good = {(row.cell_key, row.purpose, row.repeat) for row in rows if row.counts}
        return {(r.cell_key, r.purpose) for r in rows if (r.cell_key, r.purpose, r.repeat) not in good}

    def next_attempt(self, session: str, cell: Cell, purpose: Purpose, repeat: int) -> int:
        query = select(func.max(runs_table.c.attempt)).where(
            runs_table.c.session_id == session,
            runs_table.c.cell_key == cell_key(cell),
            runs_table.c.purpose == purpose,
            runs_table.c.repeat == repeat,
        )
        with self._explained(), self._engine.connect() as connection:
            last = connection.execute(query).scalar()
        return 1 if last is None else int(last) + 1

    def scored(self, session: str) -> list[Run]:
        """All runs of a session; samples only of those whose score per sample the paired interval needs."""
        scores = {run.id: run for run in self.runs(session, purpose="accuracy", arrays=True)}
        return [scores.get(run.id, run) for run in self.runs(session)]

    def runs(self, session: str | None = None, *, purpose: Purpose | None = None, arrays: bool = False) -> list[Run]:
        """Runs in the order they were made; `arrays=True` also reads their samples."""
        columns = [*runs_table.c, samples_table.c.blob] if arrays else [*runs_table.c]
        query = select(*columns).order_by(runs_table.c.started_utc, runs_table.c.id)
        if arrays:
            query = query.join(samples_table, samples_table.c.run_id == runs_table.c.id, isouter=True)
        if session is not None:
            query = query.where(runs_table.c.session_id == session)
        if purpose is not None:
            query = query.where(runs_table.c.purpose == purpose)
        with self._explained(), self._engine.connect() as connection:
            return [_run(row) for row in connection.execute(query).mappings()]


def _device(row: RowMapping) -> SessionDevice:
    facts = row["facts"]
    return SessionDevice(
        spec=_SPEC.validate_python(row["spec"]),
        facts=None if facts is None else DeviceFacts(**(facts | {"clusters": tuple(facts["clusters"])})),
        runners=row["runners"],
        unreached=row["unreached"],
    )


_RUN_FIELDS = [
    f.name for f in dataclasses.fields(Run) if f.name not in ("session", "cell", "caveats", "measurements", "arrays")
]


def _run(row: RowMapping) -> Run:
    return Run(
        **{name: row[name] for name in _RUN_FIELDS},
        session=row["session_id"],
        cell=Cell(**row["cell"]),
        caveats=tuple(row["caveats"]),
        measurements=tuple(Measurement(**(m | {"values": tuple(m["values"])})) for m in row["measurements"]),
        arrays=blob.decode(row["blob"]) if row.get("blob") is not None else {},
    )
