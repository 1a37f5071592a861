"""Which cell of one side belongs to which of the other, and why there is none. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analyze.digest import CellDigest, Digest
from harness.types import Cell

#: for whom the device, threads and cpus are not known: a build without a file stands once for all devices
EVERY_DEVICE = "*"
NOT_PLANNED = "not planned"


@dataclass(frozen=True, kw_only=True)
class There:
    """A cell in one session. `reference`: the reference's cell beside it (its own where it is the reference's), None
    where the session has none. `trainings`: how many seeds of the variant were usable, which share one accuracy."""

    session: str
    found: CellDigest
    reference: CellDigest | None
    trainings: int = 1

    @property
    def is_reference(self) -> bool:
        return self.reference is not None and self.reference.cell == self.found.cell


@dataclass(frozen=True, kw_only=True)
class Counterparts:
    """A cell on both sides: its usable sessions, the oldest first. `missing`: why one side has none. `notes`: which
    sessions are left out, and why."""

    cell: Cell
    device: str
    base: tuple[There, ...] = ()
    head: tuple[There, ...] = ()
    missing: str | None = None
    notes: tuple[str, ...] = ()


class _Side:
    """The sessions of one side by cell. `order`: the cells, those of the newest session first. `stand_ins`: cell of
    the other side -> this side's own that was planned as it (see `_stand_ins`)."""

    def __init__(self, name: str, digests: Sequence[Digest]) -> None:
        self.name = name
        self.cells: dict[Cell, list[There]] = {}
        self.stand_ins: dict[Cell, CellDigest] = {}
        by_age = sorted(digests, key=lambda d: (d.created_utc, d.session))
        self.unbuilt = {u[:3]: u[3:] for d in by_age for u in d.unbuilt}
        for one in by_age:
            seeds = Counter(_place(c.cell) for c in one.cells if c.status == "ok")
            beside = _references(one)
            for c in one.cells:
                reference = beside.get(_format(c.cell), {})
                there = There(
                    session=one.session, found=c, trainings=max(1, seeds[_place(c.cell)]),
                    reference=reference.get(c.cell.seed) or next(iter(reference.values()), None),
                )  # fmt: skip
                self.cells.setdefault(c.cell, []).append(there)
        first = [c.cell for c in by_age[-1].cells] if by_age else []
        self.order = list(dict.fromkeys([*first, *self.cells]))

    def usable(self, cell: Cell) -> list[There]:
        return [t for t in self.cells.get(cell, ()) if t.found.status == "ok"]

    def newest(self, cell: Cell) -> CellDigest | None:
        return self.cells[cell][-1].found if cell in self.cells else self.stand_ins.get(cell)


def counterparts(base: Sequence[Digest], head: Sequence[Digest]) -> list[Counterparts]:
    """Every cell of either side, in the order of the head's newest session, then what the base alone has.

    Left out is what could not be measured on either side: skipped on both, or skipped on one and unknown to the
    other."""
    one, two = _Side("base", base), _Side("head", head)
    two.stand_ins = _stand_ins(two, one, ())
    one.stand_ins = _stand_ins(one, two, two.stand_ins)
    told_beside = {c.cell for side in (one, two) for c in side.stand_ins.values()}
    cells = [cell for cell in dict.fromkeys([*two.order, *one.order]) if cell not in told_beside]
    pairs = [pair for cell in cells if (pair := _pair(cell, one, two)) is not None]
    return [*pairs, *_unbuilt(one, two)]


def _stand_ins(own: _Side, other: _Side, taken: Container[Cell]) -> dict[Cell, CellDigest]:
    """What was planned alike and never got so far that it is known by its device or its threads: that of a device
    which was not reached, of a backend which is found out to ignore threads."""
    waiting: dict[tuple[Any, ...], list[CellDigest]] = {}
    for cell, there in own.cells.items():
        if cell not in other.cells and cell not in taken and not own.usable(cell):
            waiting.setdefault(_file(cell), []).append(there[-1].found)
    found = {}
    for cell in other.cells.keys() - own.cells.keys() if waiting else ():
        known = other.cells[cell][-1].found
        if stand_in := next((c for c in waiting.get(_file(cell), ()) if _planned_alike(c, known)), None):
            found[cell] = stand_in
    return found


def _planned_alike(one: CellDigest, two: CellDigest) -> bool:
    unknown = not (one.cell.device_id and two.cell.device_id)
    same_unit = one.device == two.device if unknown else one.cell.device_id == two.cell.device_id
    return same_unit and (one.cell.threads == two.cell.threads or None in (one.cell.threads, two.cell.threads))


def _pair(cell: Cell, one: _Side, two: _Side) -> Counterparts | None:
    base, of_base = _of_newest_file(one.usable(cell), "base")
    head, of_head = _of_newest_file(two.usable(cell), "head")
    device = next(c.device for side in (two, one) if (c := side.newest(cell)))
    broken = two.newest(cell)
    if base and head and broken is not None and broken.status == "failed":
        # an older session of the label may have been good: it is not what is to be released
        return Counterparts(cell=cell, device=device, missing=f"head: {_said(broken.status, broken.reason)}")
    if base and head:
        notes = [note for side in (one, two) if (note := _left_out(side, cell, len(side.usable(cell))))]
        notes += [note for note in (of_base, of_head) if note]
        return Counterparts(cell=cell, device=device, base=tuple(base), head=tuple(head), notes=tuple(notes))
    known = [_status(side, cell) for side in (one, two)]
    if {status for status, _ in known} <= {"skipped", None}:
        return None
    reason = "; ".join(why for _, why in known if why)
    return Counterparts(cell=cell, device=device, base=tuple(base), head=tuple(head), missing=reason)


def _of_newest_file(usable: list[There], name: str) -> tuple[list[There], str | None]:
    """The sessions that measured the same file as the newest one: two files have no figure in common."""
    same = [t for t in usable if t.found.artifact_sha256 == usable[-1].found.artifact_sha256]
    lost = len(usable) - len(same)
    return same, f"{name}: {lost} of {len(usable)} sessions left out (they measured another file)" if lost else None


def _status(side: _Side, cell: Cell) -> tuple[str | None, str]:
    """(status, why there is no result on this side); status None where it was not planned there."""
    if side.usable(cell):
        return "ok", ""
    if found := side.newest(cell):
        return found.status, f"{side.name}: {_said(found.status, found.reason)}"
    if not_built := side.unbuilt.get((cell.variant, cell.exporter, cell.input)):
        return not_built[0], f"{side.name}: not built: {_said(*not_built)}"
    return None, f"{side.name}: {NOT_PLANNED}"


def _unbuilt(one: _Side, two: _Side) -> list[Counterparts]:
    """What neither side could build, and what one could not and the other does not know."""
    known = {(c.variant, c.exporter, c.input) for side in (one, two) for c in side.cells}
    found = []
    for key in dict.fromkeys([*two.unbuilt, *one.unbuilt]):
        statuses = {side.unbuilt[key][0] for side in (one, two) if key in side.unbuilt}
        if key in known or statuses == {"skipped"}:
            continue
        why = [
            f"{side.name}: " + (f"not built: {_said(*side.unbuilt[key])}" if key in side.unbuilt else NOT_PLANNED)
            for side in (one, two)
        ]
        variant, exporter, case = key
        cell = nowhere(variant, exporter, case)
        found.append(Counterparts(cell=cell, device=EVERY_DEVICE, missing="; ".join(why)))
    return found


def nowhere(variant: str, exporter: str, case: str, seed: int = 0, backend: str = "") -> Cell:
    """The cell of a build that stands for every device, threads and cpus."""
    return Cell(
        variant=variant, seed=seed, exporter=exporter, backend=backend, input=case, device_id="", threads=None,
        cpus="any",
    )  # fmt: skip


def _left_out(side: _Side, cell: Cell, used: int) -> str | None:
    lost = [t.found for t in side.cells[cell] if t.found.status != "ok"]
    if not lost:
        return None
    why = _said(lost[-1].status, lost[-1].reason)
    return f"{side.name}: {len(lost)} of {used + len(lost)} sessions left out ({why})"


def _said(status: str, reason: str | None) -> str:
    return f"{status}: {reason}" if reason else status


def _references(digest: Digest) -> dict[tuple[Any, ...], dict[int, CellDigest]]:
    """Format and place -> seed -> the reference's cell; its backend may be another."""
    found: dict[tuple[Any, ...], dict[int, CellDigest]] = {}
    for c in digest.cells:
        if c.cell.variant == digest.reference:
            found.setdefault(_format(c.cell), {})[c.cell.seed] = c
    return found


def _format(cell: Cell) -> tuple[Any, ...]:
    return cell.exporter, cell.input, cell.device_id, cell.threads, cell.cpus, cell.context


def _place(cell: Cell) -> tuple[Any, ...]:
    return cell.variant, cell.backend, *_format(cell)


def _file(cell: Cell) -> tuple[Any, ...]:
    return cell.variant, cell.seed, cell.exporter, cell.backend, cell.input, cell.cpus, cell.context
