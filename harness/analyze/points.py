"""What each release measured of each cell, beside the reference of the same session: the points of a history. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.analyze.digest import CellDigest, Digest, Known
from harness.types import Cell

#: a point of fewer runs is shown, and not looked at for changes (MEASUREMENT 5.3 G1)
FEWEST_RUNS = 5
#: the condition that the reference's file is, where a series is divided by it
REFERENCE = "reference"
_NOTHING = Known(absent="not measured")
_References = Mapping[tuple[Any, ...], Mapping[int, CellDigest]]


@dataclass(frozen=True, kw_only=True)
class Side:
    """A cell in one session, and the reference beside it, where there is one."""

    own: CellDigest
    reference: CellDigest | None

    def known(self, metric: str) -> Known:
        return self.own.metrics.get(metric, _NOTHING)

    def ratios(self, metric: str) -> list[float]:
        """Value / reference's of each block that holds a run of both."""
        if self.reference is None or self.reference.status != "ok":
            return []
        beside = self.reference.metrics.get(metric, _NOTHING).blocks
        return [v / r for block, v in self.known(metric).blocks.items() if (r := beside.get(block, 0.0)) > 0]

    def conditions(self, factors: Sequence[str], divided: bool) -> dict[str, str]:
        """Those of `factors` that are known, with the reference's file where its values are divided by it."""
        found = {f: self.own.conditions[f] for f in factors if f in self.own.conditions}
        if divided and self.reference is not None:
            found[REFERENCE] = self.reference.artifact_sha256 or ""
        return found

    def undivided(self, name: str) -> str:
        """Why there is nothing to divide by."""
        beside = self.reference
        if beside is None:
            return f"the reference {name} was not measured beside it"
        if beside.status != "ok":
            return f"the reference {name} is {beside.status}" + (f": {beside.reason}" if beside.reason else "")
        return f"the reference {name} shares no block with it"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One release of a cell: the sessions of its label that planned the cell, oldest first."""

    label: str | None
    created_utc: str
    sessions: tuple[str, ...]
    sides: tuple[Side, ...]

    def usable(self, metric: str) -> list[Side]:
        return [s for s in self.sides if s.own.status == "ok" and s.known(metric).value is not None]

    def absent(self, metric: str) -> str:
        """Why there is no value, as the newest session says."""
        own = self.sides[-1].own
        if own.status != "ok":
            return f"{own.status}: {own.reason}" if own.reason else own.status
        return self.sides[-1].known(metric).absent or "not measured"

    def reference_file(self, metric: str) -> str | None:
        """The artifact that the newest divisible session is divided by; None where there is none."""
        beside = [s.reference for s in self.usable(metric) if s.ratios(metric)]
        return beside[-1].artifact_sha256 if beside and beside[-1] else None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a point is made of (history.py's `Point`). `conditions`: factor -> what it was, of those that matter to the
    metric and are known."""

    value: float | None = None
    relative: float | None = None
    runs: int = 0
    lower_is_better: bool = True
    conditions: Mapping[str, str] = field(default_factory=dict)
    absent: str | None = None
    left_out: str | None = None


def measured(
    entry: Entry, metric: str, factors: Sequence[str], *, reference: str | None = None, by_runs: bool = True
) -> Measured:
    """`reference`: its name where the series is divided by it. `by_runs`: the metric has a value per run.

    Of several sessions of a release those count that were made under the conditions of the newest."""
    usable = entry.usable(metric)
    if not usable:
        return Measured(absent=entry.absent(metric))
    divided = reference is not None
    counted = [side for side in usable if side.ratios(metric)] if divided else usable
    newest = (counted or usable)[-1]
    conditions = newest.conditions(factors, divided and bool(counted))
    alike = [s for s in counted if s is newest or s.conditions(factors, divided) == conditions] or [newest]
    own = [value for side in alike for value in side.known(metric).blocks.values()]
    known = newest.known(metric)
    value = statistics.median(own) if len(alike) > 1 and own else known.value
    compared = [ratio for side in alike for ratio in side.ratios(metric)] if divided else own
    relative: float | None = value
    left_out = None
    if by_runs and len(compared) < FEWEST_RUNS:
        left_out = f"{len(compared)} {'run' if len(compared) == 1 else 'runs'}, {FEWEST_RUNS} are needed"
    if reference is not None:
        relative = statistics.median(compared) if compared else None
        left_out = left_out if compared else newest.undivided(reference)
    return Measured(
        value=value, relative=relative, runs=len(compared), lower_is_better=known.lower_is_better,
        conditions=conditions, left_out=left_out,
    )  # fmt: skip


def releases(stored: Sequence[Digest]) -> list[list[Digest]]:
    """The sessions of each release, by the first session of its label; quick ones decide nothing and are of none."""
    found: dict[tuple[bool, str], list[Digest]] = {}
    for one in stored:
        if not one.quick:
            key = (True, one.label) if one.label is not None else (False, one.session)
            found.setdefault(key, []).append(one)
    return list(found.values())


def cells(known: Sequence[Sequence[Digest]], reference: str) -> Iterator[tuple[Cell, str, list[Entry]]]:
    """Each cell with the newest name of its device and its releases; the newest release's cells come first."""
    sides: dict[Cell, dict[int, list[tuple[str, Side]]]] = {}
    names: dict[Cell, str] = {}
    for number, release in reversed(list(enumerate(known))):
        for one in release:
            references = _references(one, reference)
            for own in one.cells:
                side = Side(own=own, reference=_beside(references, own.cell))
                sides.setdefault(own.cell, {}).setdefault(number, []).append((one.session, side))
                names.setdefault(own.cell, own.device)
    for cell, found in sides.items():
        yield cell, names[cell], [_entry(known[number][0], found[number]) for number in sorted(found)]


def _entry(first: Digest, found: Sequence[tuple[str, Side]]) -> Entry:
    return Entry(
        label=first.label, created_utc=first.created_utc, sessions=tuple(session for session, _ in found),
        sides=tuple(side for _, side in found),
    )  # fmt: skip


def _references(one: Digest, reference: str) -> _References:
    """Format and place -> seed -> the reference's cell; its backend may be another."""
    found: dict[tuple[Any, ...], dict[int, CellDigest]] = {}
    for own in one.cells:
        if own.cell.variant == reference:
            found.setdefault(_format(own.cell), {})[own.cell.seed] = own
    return found


def _beside(references: _References, cell: Cell) -> CellDigest | None:
    """The reference of the same seed, else of its first."""
    seeds = references.get(_format(cell), {})
    return seeds.get(cell.seed) or next(iter(seeds.values()), None)


def _format(cell: Cell) -> tuple[Any, ...]:
    return cell.exporter, cell.input, cell.device_id, cell.threads, cell.cpus, cell.context
