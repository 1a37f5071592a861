"""Every result and every number, sortable by any column. Works without scripts as a plain table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from harness.interfaces import PageData, Section
from harness.report import templates, units
from harness.report.caveats import meaning, stands_by
from harness.report.view import CELL, FORMATS, Row, View, view

#: statistics and counts that are there for who asks: hidden at first
_SECONDARY = {
    *("latency_ms.p95", "latency_ms.p99", "latency_ms.mean", "latency_ms.min", "first_inference_ms", "throughput_ips"),
    *("compressed_bytes", "output_max_abs", "macs", "parameters", "sparsity", "delegated_fraction"),
    *("validation_accuracy", "validation_drop"),
}
#: beside the fields of the cell that differ
_ON_PAPER = ("status", "latency_ms", "accuracy", "accuracy_drop", "size_bytes", "peak_memory_bytes", "energy_j")
_NAMES = {"exporter": "format", "device_id": "unit"}


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: `unit` stands in its head, `shown` says whether it is visible at first; `prose` may take lines."""

    key: str
    name: str
    unit: str = ""
    numeric: bool = False
    shown: bool = True
    prose: bool = False


def _printed(column: Column) -> bool:
    """Whether it finds room on paper."""
    return column.shown and (column.key in _ON_PAPER or column.key in CELL)


class Table:
    title: ClassVar[str] = "All results"

    def render(self, data: PageData) -> str | None:
        shown = view(data.document)
        if not shown.rows:
            return None
        columns = [*_identity(shown), *_metrics(shown), *_why(shown)]
        rows = [(row, list(_cells(shown, row, columns))) for row in shown.rows]
        seeds = any(row.seeds(column.key) for row in shown.rows for column in columns)
        unprinted = [i for i, column in enumerate(columns, 1) if not _printed(column)]
        return templates.render("table.html", columns=columns, rows=rows, seeds=seeds, unprinted=unprinted)


def _identity(shown: View) -> Iterator[Column]:
    """The variant, status, and the fields of the cell; those that never differ are hidden at first."""
    yield Column(key="variant", name="variant")
    yield Column(key="status", name="status")
    several = [key for key in CELL[1:] if len({str(row.result.get(key)) for row in shown.rows}) > 1]
    for key in CELL[1:]:
        visible = key not in shown.shared and key in several and key not in ("device_id", "backend")
        yield Column(key=key, name=_NAMES.get(key, key), numeric=key in ("threads", "seed"), shown=visible)


def _metrics(shown: View) -> Iterator[Column]:
    for key in shown.keys(stats=True):
        scale = shown.scale(key)
        enough = key not in _SECONDARY or (shown.on_validation and key.startswith("validation"))
        yield Column(key=key, name=shown.name(key), unit=scale.unit, numeric=True, shown=enough)


def _why(shown: View) -> Iterator[Column]:
    if any(row.why for row in shown.ok):
        yield Column(key="why", name="why", prose=True)


def _cells(shown: View, row: Row, columns: list[Column]) -> Iterator[dict[str, Any]]:
    for column in columns:
        if column.key in ("variant", "status", *CELL):
            yield _identity_cell(row, column.key)
        elif column.key == "why":
            yield _cell(str(row.why["text"]), sort=row.why["measured_speedup"]) if row.why else _cell(units.ABSENT)
        else:
            yield _metric_cell(shown, row, column.key)


def _identity_cell(row: Row, key: str) -> dict[str, Any]:
    value = row.result.get(key)
    text = units.ABSENT if value is None else str(value)
    if key == "exporter":
        text = FORMATS.get(text, text)
    beside = [c for c in row.caveats if row.value(stands_by(c)) is None] if key == "variant" else []
    title = str(row.result["reason"] or "") if key == "status" else ""
    return _cell(text, sort=None if value is None else value, title=title, caveats=beside, picked=row.pick is not None)


def _metric_cell(shown: View, row: Row, key: str) -> dict[str, Any]:
    value, ci = row.value(key), row.ci(key)
    if value is None:
        return _cell(units.ABSENT, title=row.absent(key) or str(row.result["reason"] or "not measured"))
    factor = shown.scale(key).factor
    number, half = units.spread(value * factor, ci and (ci[0] * factor, ci[1] * factor))
    low_high = f"{units.digits(ci[0] * factor)} to {units.digits(ci[1] * factor)}" if ci and half else ""
    caveats = [c for c in row.caveats if stands_by(c) == key]
    seeds = shown.over_seeds(row, key) or ""
    return _cell(number, sort=f"{value:.7g}", half=half, title=low_high, caveats=caveats, seeds=seeds)


def _cell(
    text: str, sort: Any = None, half: str = "", title: str = "", caveats: list[str] | None = None,
    picked: bool = False, seeds: str = "",
) -> dict[str, Any]:  # fmt: skip
    return {
        "text": text,
        "sort": "" if sort is None else sort,
        "half": half,
        "title": title,
        "picked": picked,
        "seeds": seeds,
        "caveats": [(c, meaning(c)) for c in caveats or []],
    }


_: type[Section] = Table
