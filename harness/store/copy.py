"""Whole sessions from one store into another, unchanged: what is there already stays as it is, or all is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from harness.errors import StoreError
from harness.store import merge
from harness.store.merge import Conflict, Plan
from harness.store.moment import snapshot, transaction
from harness.store.raw import EXACT, HASHED, TABLES, hashed, of_session
from harness.store.side import Key, Row, Side, among, named
from harness.store.store import Store
from harness.store.told import Lost, explained
from harness.store.url import shown, sqlite_path

#: told as it goes on: (done, in all, what): "checking …" counts sessions, then "copying …" counts rows
Tell = Callable[[int, int, str], None]

ELSEWHERE = "copy into another store: there both stay whole"
_TRIES = 5  # so often may another writer come in between


@dataclass(frozen=True, kw_only=True)
class Copied:
    """Rows by table: `new` were written, `there` were in the target already; of these, `filled` were filled in.

    `kept`: what the target keeps of its own (a baseline that it sets to another label), one sentence each."""

    new: Mapping[str, int]
    there: Mapping[str, int]
    filled: Mapping[str, int] = field(default_factory=dict)
    kept: Sequence[str] = ()


def copy(
    source: Store, target: Store, tell: Tell = lambda done, total, what: None, *, dry_run: bool = False
) -> Copied:
    """Copies every session with all that hangs on it, each in one transaction, and reads it back: a copy that was
    interrupted is completed by the next.

    Rows are never overwritten: one that is in the target and differs raises StoreError, before anything is written.
    What may still be filled in is filled in: an unfinished session's end, a device's facts, new runs. Sample blobs are
    compared by SHA-256 after they are written. The source is read as it was when the copy began, whoever writes to it
    meanwhile; some hundred rows or 8 MB of samples are held at once, and the keys of one session's new rows.

    `dry_run`: looks at everything, writes nothing, and says what would be new."""
    with ExitStack() as stack:
        with explained(shown(source.url), sqlite_path(source.url)):
            theirs = Side.of(stack.enter_context(snapshot(source.engine)), source.url)
        tally = _Tally()
        to_do = _checked(theirs, target, tally, tell, dry_run)
        done, total = 0, sum(rows for _, _, rows in to_do)
        for session, name, rows in to_do:
            for carried in _written(theirs, target, session, name, tally):
                tell(done + carried, total, f"copying {name}")
            done += rows
    return tally.copied()


@dataclass(kw_only=True)
class _Tally:
    new: Counter[str] = field(default_factory=Counter)
    there: Counter[str] = field(default_factory=Counter)
    filled: Counter[str] = field(default_factory=Counter)
    kept: list[str] = field(default_factory=list)

    def add(self, plan: Plan) -> None:
        self.new.update({table: plan.count(table) for table in plan.new})
        self.there.update(plan.there)
        self.filled.update(table for table, _, _ in plan.fill)
        self.kept += plan.kept

    def copied(self) -> Copied:
        return Copied(
            **{name: {table: getattr(self, name)[table] for table in TABLES} for name in ("new", "there", "filled")},
            kept=tuple(self.kept),
        )


def _sessions(source: Side) -> dict[str | None, str]:
    """Id -> how it is called in messages, the oldest first; last None, for the tables that hang on no session."""
    own = EXACT["sessions"].c
    query = select(own.id, own.experiment, own.label).order_by(own.created_utc, own.id)
    rows = source.all(query)
    named = {row[0]: f"session {row[0][:8]} ({row[1]}{f' {row[2]}' if row[2] else ''})" for row in rows}
    return {**named, None: "baselines"}


def _checked(
    source: Side, target: Store, tally: _Tally, tell: Tell, dry_run: bool
) -> list[tuple[str | None, str, int]]:
    """Looks at everything before anything is written: what is to be written, as (session or None, its name, rows)."""
    names = _sessions(source)
    to_do: list[tuple[str | None, str, int]] = []
    with explained(shown(target.url), sqlite_path(target.url)), snapshot(target.engine) as connection:
        mine = Side.of(connection, target.url)
        try:
            for position, (session, name) in enumerate(names.items()):
                tell(position, len(names) - 1, f"checking {name}")
                plan = _plan(source, mine, session, name)
                if plan.changes and not dry_run:
                    to_do.append((session, name, sum(map(plan.count, plan.new))))
                else:
                    tally.add(plan)
        except Conflict as conflict:
            raise StoreError(f"{conflict}; nothing was written to {shown(target.url)}", ELSEWHERE) from None
    return to_do


def _plan(source: Side, target: Side, session: str | None, name: str) -> Plan:
    """What is to be done for a session (None: for the tables that hang on none). Raises Conflict."""
    plan = Plan()
    devices: list[tuple[Key, Row, Row]] = []
    for table in TABLES:
        if (of_session(EXACT[table], session or "") is None) != (session is None) or table == "digests":
            continue
        for keys in source.keys(table, session):
            mine = target.rows(HASHED[table], keys)
            if missing := [key for key in keys if key not in mine]:
                if table == "samples":
                    _refuse_samples_alone(target, missing, name)
                plan.new.setdefault(table, []).append(missing)
            plan.there[table] = plan.there.get(table, 0) + len(mine)
            for key, theirs in source.rows(HASHED[table], list(mine)).items():
                if table == "session_devices":
                    devices.append((key, mine[key], theirs))
                else:
                    _compare(plan, table, key, mine[key], theirs, name)
    if session is not None:
        _finish_plan(plan, source, target, session, name, devices)
    return plan


def _compare(plan: Plan, table: str, key: Key, mine: Row, theirs: Row, name: str) -> None:
    if table == "sessions":
        plan.ended = merge.ended(mine, theirs)
        if fill := merge.finished(name, mine, theirs):
            plan.fill.append((table, key, fill))
    elif found := merge.differing(table, mine, theirs):
        if table == "baselines":
            ours, other = (named(EXACT[table], row)["label"] for row in (mine, theirs))
            if ours != other:
                plan.kept.append(f"the baseline of {key[0]} stays {ours} (in the source it is {other})")
        elif table == "imports":
            plan.kept.append(f"{name}: the target's own note of the file it came from")
        else:
            what = f"run {key[0]}" if table in ("runs", "samples") else f"{table} {', '.join(map(str, key))}"
            where = f"{name}: " if name else ""
            raise Conflict(f"{where}{what} is in both stores and differs in {', '.join(found)}")


def _finish_plan(
    plan: Plan, source: Side, target: Side, session: str, name: str, devices: Sequence[tuple[Key, Row, Row]]
) -> None:
    """What hangs on the session as a whole."""
    plan.ahead = target.count("runs", session) - plan.there.get("runs", 0)
    if plan.there.get("sessions"):
        plan.new.pop("imports", None)  # it was measured here, or came from elsewhere first
        if "session_devices" in plan.new:  # these stand from its beginning
            raise Conflict(f"{name} has other devices in the source")
        _refuse_additions(plan, source, target, session, name)
    if plan.ahead > 0 and "runs" in plan.new:
        _refuse_same_slots(plan, source, target, session, name)
    for key, mine, theirs in devices:
        fill, kept = merge.device(name, mine, theirs, _newer(plan))
        plan.fill += [("session_devices", key, fill)] if fill else []
        plan.kept += [kept] if kept else []
    _plan_digest(plan, source, target, session)


def _refuse_additions(plan: Plan, source: Side, target: Side, session: str, name: str) -> None:
    """Raises Conflict where a file has more of a session than the store in which it was measured: who may have written
    that into the file is not known."""
    of_a_file, mine = (bool(side.rows(HASHED["imports"], [(session,)])) for side in (source, target))
    if of_a_file and not mine and plan.changes:
        raise Conflict(f"{name} was measured into the target, and the source has more of it, out of a file")


def _refuse_samples_alone(target: Side, runs: Sequence[Key], name: str) -> None:
    """Raises Conflict for samples whose run is in the target without any."""
    for (run,) in target.rows(HASHED["runs"], runs):
        raise Conflict(f"{name}: run {run} is in both stores, and has samples in the source only")


def _newer(plan: Plan) -> bool | None:
    """Whether the session is further on in the source (False: in the target; None: that cannot be seen)."""
    source, target = "runs" in plan.new, plan.ahead > 0
    return source if source != target else plan.ended


def _plan_digest(plan: Plan, source: Side, target: Side, session: str) -> None:
    """A digest is made of the session's runs and devices: it goes along only where these will be equal."""
    key = (session,)
    mine, theirs = (bool(side.rows(HASHED["digests"], [key])) for side in (target, source))
    plan.stale_digest = mine and plan.changes
    if theirs and not plan.ahead and (plan.stale_digest or not mine):
        plan.new["digests"] = [[key]]
    elif theirs and mine:
        plan.there["digests"] = 1


def _refuse_same_slots(plan: Plan, source: Side, target: Side, session: str, name: str) -> None:
    """Raises Conflict where both stores went on with the session and measured the same thing."""
    own = EXACT["runs"].c
    columns = (own.cell_key, own.purpose, own.repeat, own.attempt, own.counts, own.id)
    attempts, counting = {}, {}
    for *slot, attempt, counts, run in target.all(select(*columns).where(own.session_id == session)):
        attempts[(*slot, attempt)] = run
        if counts:
            counting[tuple(slot)] = run
    for keys in plan.new["runs"]:
        for *slot, attempt, counts, run in source.all(select(*columns).where(among(EXACT["runs"], keys))):
            other = (counting.get(tuple(slot)) if counts else None) or attempts.get((*slot, attempt))
            if other is not None:
                cell, purpose, repeat = slot
                raise Conflict(
                    f"{name} went on in both stores: {purpose}, repeat {repeat} of {cell} is run {run} in the source "
                    f"and run {other} in the target"
                )


def _written(source: Side, target: Store, session: str | None, name: str, tally: _Tally) -> Iterator[int]:
    """One session in one transaction; looked at once more in it, for others may write there too. Yields how many rows
    are written so far."""
    for left in reversed(range(_TRIES)):
        try:
            with explained(shown(target.url), sqlite_path(target.url)), transaction(target.engine) as connection:
                mine = Side.of(connection, target.url)
                plan = _plan(source, mine, session, name)
                yield from _write(source, mine, plan, session)
            return tally.add(plan)
        except Conflict as conflict:
            raise StoreError(
                f"{conflict}: that came into {shown(target.url)} during this copy; the sessions before are copied",
                ELSEWHERE,
            ) from None
        except Lost:  # a conflict of transactions
            if not left or source.connection.invalidated:  # the source's moment is over
                raise
        except IntegrityError as error:
            if not left:
                reason = str(error.orig).splitlines()[0]
                raise StoreError(
                    f"store {shown(target.url)}: {name} cannot be written: {reason}", "run the copy again"
                ) from error


def _write(source: Side, target: Side, plan: Plan, session: str | None) -> Iterator[int]:
    if plan.stale_digest:
        target.connection.execute(delete(TABLES["digests"]).where(TABLES["digests"].c.session_id == session))
    for table, key, values in plan.fill:
        twin = EXACT[table]
        target.connection.execute(update(twin).where(among(twin, [key])).values(**values))
    written = 0
    for table in TABLES:
        for keys in plan.new.get(table, ()):
            _carry(source, target, table, keys)
            written += len(keys)
            yield written


def _carry(source: Side, target: Side, table: str, keys: Sequence[Key]) -> None:
    """Writes these rows and reads them back. Raises StoreError where they did not arrive as they are."""
    twin = EXACT[table]
    rows = source.rows(twin, keys)
    target.connection.execute(insert(twin), [dict(named(twin, row)) for row in rows.values()])
    back = target.rows(HASHED[table], keys)
    for key in keys:
        if key not in rows or back.get(key) != hashed(table, rows[key]):
            what = f"{table} {', '.join(map(str, key))}"
            raise StoreError(
                f"store {shown(target.url)}: {what} came back otherwise than it was written",
                "run the copy again, or name another store",
            )
