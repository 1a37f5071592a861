"""What is worse is measured again before it counts: the old file and the new one, paired, on the same device.

The files are those of the stored sessions, by their hash; where one is gone, or the device is away, nothing is
confirmed and nothing is taken back: the row says so (MEASUREMENT 5.3, G3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from harness import pairs as pairing
from harness import records
from harness.analyze.compare import Compared, compare
from harness.analyze.digest import CellDigest, Digest, Known
from harness.analyze.history import Change, Series
from harness.errors import UsageError
from harness.experiment import Measure
from harness.lanes import TO_BE_REACHED
from harness.own_devices import refuse_foreign
from harness.package import Files
from harness.pairs import Pairs, key_of
from harness.screen import Screen
from harness.settings import Settings
from harness.store import Store
from harness.types import Cell, DeviceSpec, Package, Session

#: designs that give the same answer whenever they are repeated: of the file's bytes, of its answers to the same inputs
REPEATABLE = ("exact", "samples")
#: metrics of the file itself
OF_THE_FILE = ("size_bytes", "compressed_bytes")
Target = tuple[Cell, str]  # and metric


@dataclass(frozen=True, kw_only=True)
class _Group:
    """What two sessions hold against each other: measured again together."""

    base: str
    head: str
    wanted: frozenset[Target]


@dataclass(frozen=True, kw_only=True)
class _Again:
    """What measuring again gave: the paired row, or why there is none; `same`: it is one and the same file."""

    row: Compared | None = None
    reason: str | None = None
    same: bool = False


def confirm(
    compared: Sequence[Compared],
    base: Sequence[Digest],
    head: Sequence[Digest],
    store: Store,
    settings: Settings,
    screen: Screen,
    repeats: int | None = None,
) -> list[Compared]:
    """The same rows; each that was `worse` with its paired verdict and `confirmed`.

    True: it is worse again. False: it is not, and the outcome is what the pairs say. None: it could not be told, the
    outcome stays `worse`, and `reason` says why. `base`, `head`: as they were compared; of several sessions of a side
    the newest is measured again. Raises StoreError and Interrupted, nothing for a device that is away."""
    found = {"base": _newest(base), "head": _newest(head)}
    groups: dict[tuple[str, str], set[Target]] = {}
    for row in compared:
        sides = found["base"].get(row.cell), found["head"].get(row.cell)
        if _open(row) and sides[0] is not None and sides[1] is not None:
            groups.setdefault((sides[0], sides[1]), set()).add((row.cell, row.metric))
    thresholds = {row.metric: row.threshold for row in compared}
    again: dict[Target, _Again] = {}
    for (one, two), wanted in groups.items():
        group = _Group(base=one, head=two, wanted=frozenset(wanted))
        again |= _measured(group, thresholds, store, settings, screen, repeats)
    conditions = _conditions([*base, *head])
    return [_judged(row, again.get((row.cell, row.metric)), conditions) for row in compared]


def changes(
    alarms: Sequence[tuple[Series, Change]],
    store: Store,
    settings: Settings,
    screen: Screen,
    thresholds: Mapping[str, float] | None = None,
    repeats: int | None = None,
) -> list[Change]:
    """Each change point of a history with `confirmed`: the last release before it against the first one behind it."""
    groups: dict[tuple[str, str], set[Target]] = {}
    for series, found in alarms:
        if series.metric in OF_THE_FILE:
            continue
        groups.setdefault(_around(series, found), set()).add((series.cell, series.metric))
    again: dict[tuple[str, str, Target], _Again] = {}
    for (one, two), wanted in groups.items():
        group = _Group(base=one, head=two, wanted=frozenset(wanted))
        for target, result in _measured(group, thresholds, store, settings, screen, repeats).items():
            again[one, two, target] = result

    def judged(series: Series, found: Change) -> Change:
        if series.metric in OF_THE_FILE:
            return replace(found, confirmed=True)
        return _changed(found, again.get((*_around(series, found), (series.cell, series.metric))))

    return [judged(series, found) for series, found in alarms]


def change(
    series: Series,
    found: Change,
    store: Store,
    settings: Settings,
    screen: Screen,
    thresholds: Mapping[str, float] | None = None,
    repeats: int | None = None,
) -> Change:
    """One change point; several are cheaper together."""
    return changes([(series, found)], store, settings, screen, thresholds, repeats)[0]


def _open(row: Compared) -> bool:
    return row.outcome == "worse" and row.confirmed is None and row.design not in REPEATABLE


def _newest(side: Iterable[Digest]) -> dict[Cell, str]:
    """The newest session that holds a usable result of each cell."""
    ordered = sorted(side, key=lambda one: one.created_utc)
    return {cell.cell: one.session for one in ordered for cell in one.cells if cell.status == "ok"}


def _around(series: Series, found: Change) -> tuple[str, str]:
    """The sessions before and behind a change. Points without a value are of no session that holds a file of it."""
    before = [p for p in series.points[: found.at] if p.value is not None and p.sessions]
    behind = [p for p in series.points[found.at :] if p.value is not None and p.sessions]
    return (before[-1].sessions[-1] if before else "", behind[0].sessions[-1] if behind else "")


def _conditions(digests: Iterable[Digest]) -> frozenset[str]:
    """The names of what surrounds a result, which no new measurement brings back."""
    return frozenset(name for one in digests for cell in one.cells for name in cell.conditions)


# -- measuring again ---------------------------------------------------------------------------------------------------


def _measured(
    group: _Group,
    thresholds: Mapping[str, float] | None,
    store: Store,
    settings: Settings,
    screen: Screen,
    repeats: int | None,
) -> dict[Target, _Again]:
    try:
        base, head = store.session(group.base), store.session(group.head)
    except UsageError as error:  # a session that is in the store no more
        return {target: _Again(reason=error.what) for target in group.wanted}
    if head.imported_utc is not None:  # its devices' entries may name any command
        reason = "its session was imported: nothing of it is measured here"
        return {target: _Again(reason=reason) for target in group.wanted}
    files = Files(settings.files)
    package = _narrowed(records.head_of(head), group.wanted)
    keys = sorted({key_of(cell) for cell, _ in group.wanted})
    pairs = pairing.merged(package, _base_package(base, head), files, keys)
    pairs = replace(pairs, kind="confirm", repeats=repeats)
    out = {
        (cell, metric): _Again(reason=pairs.apart.get(key_of(cell)), same=key_of(cell) in pairs.same)
        for cell, metric in group.wanted
        if key_of(cell) not in pairs.paired
    }
    left = {target for target in group.wanted if target not in out}
    return out | _pairs_measured(pairs, left, head, thresholds, store, settings, screen)


def _pairs_measured(
    pairs: Pairs,
    wanted: set[Target],
    head: Session,
    thresholds: Mapping[str, float] | None,
    store: Store,
    settings: Settings,
    screen: Screen,
) -> dict[Target, _Again]:
    if not wanted:
        return {}
    devices = _devices(head, {cell for cell, _ in wanted})
    try:
        refuse_foreign(devices, settings)
    except UsageError as error:
        return {target: _Again(reason=str(error)) for target in wanted}
    names = ", ".join(sorted({cell.variant for cell, _ in wanted}))
    screen.say(f"measuring again, old and new file in the same blocks: {names}")
    # a stored package may name any code: as of one from elsewhere, only the user's own is run
    asked = replace(settings, label=None, fresh=False, carried=True)
    try:
        session = pairing.measure(pairs, Files(settings.files), devices, asked, screen)
    except TO_BE_REACHED as error:
        return {target: _Again(reason=error.what) for target in wanted}
    base, ours = pairing.digests(store, session, pairs)
    rows = compare([_asked(base, wanted)], [_asked(ours, wanted)], [], thresholds=thresholds)
    found = {(row.cell, row.metric): row for row in rows}
    missing = {cell.cell: cell.reason for one in (ours, base) for cell in one.cells if cell.status != "ok"}
    return {target: _told(found.get(target), missing.get(target[0]), session) for target in wanted}


def _told(row: Compared | None, missing: str | None, session: Session) -> _Again:
    if row is not None and row.outcome == "inconclusive" and row.ci95 is None:
        return _Again(reason=row.reason)  # nothing that a verdict could be taken back by
    if row is not None and row.outcome not in ("missing", "incomparable"):
        return _Again(row=row)
    away = next((f"{d.spec.name} was not reached: {d.unreached}" for d in session.devices if d.unreached), None)
    return _Again(reason=missing or (row.reason if row else None) or away or "another unit answered at its address")


def _base_package(base: Session, head: Session) -> Package:
    """The base's builds: of a session of its own, or of the one in which it was measured beside head."""
    if base.id == head.id and base.kind in ("paired", "confirm"):
        return pairing.base_of(base.package)
    return records.head_of(base).package


def _narrowed(session: Session, wanted: Iterable[Target]) -> Package:
    """Its package, with a plan of what these rows need: their threads and CPUs, and the purposes of their metrics."""
    plan = Measure.model_validate({k: v for k, v in session.plan.items() if k in Measure.model_fields})
    cells, metrics = {cell for cell, _ in wanted}, {metric.partition(".")[0] for _, metric in wanted}
    threads, cpus = {cell.threads for cell in cells}, {cell.cpus for cell in cells}
    plan = plan.model_copy(update={
        # a backend that ignores threads has none in its cells
        "threads": [n for n in plan.threads if n in threads] or plan.threads[:1],
        "cpus": [place for place in plan.cpus if place in cpus] or plan.cpus[:1],
        "memory": plan.memory and "peak_memory_bytes" in metrics,
        "cold_loads": plan.cold_loads if "cold_load_ms" in metrics else 0,
        "energy": plan.energy if metrics & {"energy_j", "power_w"} else "off",
        "sustained_minutes": plan.sustained_minutes if "sustained_ms" in metrics else None,
        "profile": False,
    })  # fmt: skip
    experiment = dict(session.package.experiment) | {"measure": plan.model_dump(mode="json")}
    return replace(session.package, experiment=experiment)


def _devices(session: Session, cells: set[Cell]) -> list[DeviceSpec]:
    """The devices of these cells, as the session reached them."""
    units = {(cell.device_id, cell.context) for cell in cells}
    return [
        device.spec
        for device in session.devices
        if device.facts is not None and (device.facts.device_id, device.spec.context) in units
    ]


def _asked(digest: Digest, wanted: set[Target]) -> Digest:
    """Only what is to be confirmed: the family of its tests is no larger than the question."""
    cells = [_only_asked(cell, wanted) for cell in digest.cells if any(cell.cell == one for one, _ in wanted)]
    return replace(digest, cells=tuple(cells), unbuilt=())


def _only_asked(cell: CellDigest, wanted: set[Target]) -> CellDigest:
    away = Known(absent="not asked for")
    metrics = {name: known if (cell.cell, name) in wanted else away for name, known in cell.metrics.items()}
    return replace(cell, metrics=metrics)


# -- what it means -----------------------------------------------------------------------------------------------------


def _judged(row: Compared, again: _Again | None, conditions: frozenset[str]) -> Compared:
    if row.outcome != "worse" or row.confirmed is not None:
        return row
    if row.design in REPEATABLE:
        return replace(row, confirmed=True)
    if again is None:
        return _unconfirmed(row, "no usable result of both sides is stored")
    if again.row is None and not again.same:
        return _unconfirmed(row, again.reason or "nothing tells why")
    if again.row is not None and again.row.outcome == "worse":
        return replace(again.row, confirmed=True, moved=row.moved or again.row.moved, device=row.device)
    told = "old and new are the very same file" if again.same else "measured again in the same blocks it is not worse"
    if moved := [m for m in row.moved if m.factor in conditions]:
        # the files are not it: what surrounds them may be, and an old system or runner cannot be had back
        others = "; ".join(f"{m.factor}: {m.base} -> {m.head}" for m in moved)
        return _unconfirmed(row, f"{told}; what is left is {others}, which cannot be brought back to measure it")
    if again.row is None:
        return replace(row, outcome="same", confirmed=False, reason=_joined(f"not confirmed: {told}", row.reason))
    before = f", {row.ratio:.3f}x before" if row.ratio is not None else ""
    reason = _joined(f"not confirmed: {told}{before}", again.row.reason)
    return replace(again.row, confirmed=False, reason=reason, device=row.device)


def _unconfirmed(row: Compared, reason: str) -> Compared:
    return replace(row, confirmed=None, reason=_joined(f"could not be confirmed: {reason}", row.reason))


def _joined(first: str, then: str | None) -> str:
    return f"{first}; {then}" if then else first


def _changed(found: Change, again: _Again | None) -> Change:
    if again is not None and again.same:
        return replace(found, confirmed=False, reason="not confirmed: before and behind are the very same file")
    if again is None or again.row is None:
        told = (again.reason if again else None) or "no session before or behind it is stored"
        return replace(found, reason=f"could not be confirmed: {told}")
    row = again.row
    if row.outcome == ("worse" if found.worse else "better"):
        return replace(found, confirmed=True)
    ratio = f" ({row.ratio:.3f}x)" if row.ratio is not None else ""
    said = f"not confirmed: measured again in the same blocks it is {row.outcome}{ratio}"
    return replace(found, confirmed=False, reason=said)
