"""Hard limits (`budgets:` of an experiment), judged on the far end of the 95 % interval, never on the figure itself.

What could not be judged holds as little as what is over: `within` is None then, with the reason. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.analyze.digest import ALSO, JUDGED, CellDigest, Known
from harness.metrics import metric as metric_of
from harness.types import Cell


@dataclass(frozen=True, kw_only=True)
class Budgeted:
    """One budget and one cell; `cell` and `device` are None where there is nothing that it could be judged by.

    `bound`: in the metric's unit; the most, or the least where more is better. `far`: the end of the interval that
    must lie within it. `within`: None where that is not known."""

    cell: Cell | None
    device: str | None
    metric: str
    bound: float
    value: float | None = None
    far: float | None = None
    within: bool | None = None
    reason: str | None = None


def judged(
    cells: Sequence[CellDigest], budgets: Mapping[str, float], shipped: Sequence[Cell] | None = None
) -> list[Budgeted]:
    """Every budget for every cell that would ship, in the order of the budgets.

    `shipped`: what was picked; None where nothing is picked, and every `ok` cell is a candidate. A cell that was
    picked and is not there, or is not ok, is judged too: its budget is not known to hold."""
    return [row for metric, bound in budgets.items() for row in _judged(cells, metric, bound, shipped)]


def over(found: Sequence[Budgeted]) -> list[Budgeted]:
    return [row for row in found if row.within is False]


def unknown(found: Sequence[Budgeted]) -> list[Budgeted]:
    return [row for row in found if row.within is None]


def as_json(found: Sequence[Budgeted]) -> list[dict[str, Any]]:
    """Every key always there; the cell's are null where a budget stands for none."""
    names = ("variant", "seed", "exporter", "backend", "input", "device_id", "threads", "cpus", "context")
    return [
        {
            **{name: getattr(row.cell, name, None) for name in names}, "device": row.device, "metric": row.metric,
            "unit": metric_of(row.metric).unit, "bound": row.bound, "value": row.value, "far": row.far,
            "within": row.within, "reason": row.reason,
        }
        for row in found
    ]  # fmt: skip


def _judged(cells: Sequence[CellDigest], metric: str, bound: float, shipped: Sequence[Cell] | None) -> list[Budgeted]:
    nothing = Budgeted(cell=None, device=None, metric=metric, bound=bound)
    if metric not in (*JUDGED, *ALSO):
        return [_because(nothing, f"no budget can be set for {metric}")]
    known = {c.cell: c for c in cells}
    if shipped is None:
        rows = [_of_cell(c, metric, bound) for c in cells if c.status == "ok"]
        return rows or [_because(nothing, "nothing was measured that could ship")]
    rows = []
    for cell in shipped:
        if alike := [found for own, found in known.items() if own == _in_case(cell, own.input)]:
            rows += [_of_cell(found, metric, bound) for found in alike]
        else:
            rows.append(Budgeted(cell=cell, device=None, metric=metric, bound=bound, reason="what ships has no result"))
    picked = {cell.device_id for cell in shipped}
    without = {c.cell.device_id: c.device for c in cells if rows and c.cell.device_id not in picked}
    rows += [
        Budgeted(cell=None, device=device, metric=metric, bound=bound, reason=f"nothing was picked on {device}")
        for device in without.values()
    ]
    return rows or [_because(nothing, "nothing was picked that could ship")]


def _because(row: Budgeted, reason: str) -> Budgeted:
    return Budgeted(cell=row.cell, device=row.device, metric=row.metric, bound=row.bound, reason=reason)


def _in_case(cell: Cell, case: str) -> Cell:
    """A pick over several input cases names none of them."""
    return replace(cell, input=case) if cell.input == "*" else cell


def _of_cell(found: CellDigest, metric: str, bound: float) -> Budgeted:
    known = found.metrics.get(metric, Known(absent="not measured"))
    far = known.high if known.lower_is_better else known.low
    within, reason = _within(found, known, far, bound)
    return Budgeted(
        cell=found.cell, device=found.device, metric=metric, bound=bound, value=known.value, far=far, within=within,
        reason=reason,
    )  # fmt: skip


def _within(found: CellDigest, known: Known, far: float | None, bound: float) -> tuple[bool | None, str | None]:
    if found.status != "ok":
        return None, f"{found.status}: {found.reason}" if found.reason else found.status
    if known.value is None:
        return None, known.absent or "not measured"
    if far is None:
        return None, "there is no interval: more than one repeat is needed"
    if _holds(far, bound, known.lower_is_better):
        return True, None
    if _holds(known.value, bound, known.lower_is_better):
        return False, "the figure is within, but its interval reaches beyond: more repeats narrow it"
    return False, None


def _holds(value: float, bound: float, lower_is_better: bool) -> bool:
    return value <= bound if lower_is_better else value >= bound
