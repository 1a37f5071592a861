"""The columns of the table in the terminal and in markdown: one unit a column, and only what differs between rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from harness.metrics import LOSSES
from harness.report import units
from harness.report.view import FORMATS, Row, View

_FIELDS = ("seed", "backend", "input", "device", "threads", "cpus", "context")
_METRICS = (
    ("latency_ms", "p50"),
    ("latency_ms.p90", "p90"),
    ("peak_memory_bytes", "peak mem"),
    ("sustained_ms", "sustained"),
    ("throttle_after_s", "throttles after"),
    ("energy_j", "energy"),
    ("size_bytes", "size"),
    ("accuracy", None),
    ("accuracy_drop", "drop"),
    ("accuracy_drop_control", "drop vs control"),
    ("validation_accuracy", None),
    ("validation_drop", None),
)
#: what goes first from a narrow console; variant, format, status, the latency and its caveats stay
DROPPED_FIRST = (
    *("why", "context", "cpus", "latency_ms.p90", "backend", "peak_memory_bytes", "threads", "validation_accuracy"),
    *("throttle_after_s", "sustained_ms", "seeds", "accuracy", "seed", "size_bytes", "input", "accuracy_drop_control"),
    *("validation_drop", "accuracy_drop", "energy_j", "device"),
)


@dataclass(frozen=True, kw_only=True)
class Column:
    """`cell` gives the text of a row; `head` has the unit, `name` has not."""

    key: str
    name: str
    cell: Callable[[Row], str]
    unit: str = ""
    numeric: bool = False

    @property
    def head(self) -> str:
        return f"{self.name} {self.unit}" if self.unit else self.name


def columns(shown: View) -> Iterator[Column]:
    """Variant, format, the fields that differ, status, the metrics that have numbers, caveats if any."""
    yield Column(key="variant", name="variant", cell=lambda row: str(row.result["variant"]))
    yield Column(key="exporter", name="format", cell=lambda row: row.format)
    for key in _FIELDS:
        if key not in shown.shared and not (key == "backend" and _goes_without_saying(shown)):
            yield Column(key=key, name=key, cell=_field(key), numeric=key in ("seed", "threads"))
    yield Column(key="status", name="status", cell=lambda row: str(row.result["status"]))
    for key, name in _METRICS:
        if shown.values(key):
            yield _metric(shown, key, name or shown.name(key))
        if key == "accuracy" and any(row.seeds(key) for row in shown.rows):
            unit = shown.scale(key).unit
            yield Column(
                key="seeds", name="over seeds", cell=lambda row: shown.over_seeds(row, "accuracy") or "", unit=unit
            )
    if any(row.caveats for row in shown.ok):
        yield Column(key="caveats", name="caveats", cell=lambda row: ", ".join(row.caveats) if row.ok else "")
    if any(row.why for row in shown.ok):
        yield Column(key="why", name="why", cell=lambda row: str(row.why["text"]) if row.why else "")


def shared_line(shown: View) -> str:
    """What is the same in all rows, so that it needs no column."""
    said = {key: shown.shared[key] for key in (*_FIELDS, "exporter") if key in shown.shared}
    words = {"device": "on {}", "threads": "threads: {}", "cpus": "cpus: {}", "seed": "seed {}", "input": "input {}"}
    dull = {"input": "default", "context": "host", "cpus": "any", "seed": 0}
    told = {k: FORMATS.get(str(v), v) for k, v in said.items() if v is not None and dull.get(k) != v}
    shared = [words.get(k, "{}").format(v) for k, v in told.items()]
    return ", ".join([f"{len(shown.ok)} of {len(shown.rows)} results usable", *shared])


def _metric(shown: View, key: str, name: str) -> Column:
    scale = shown.scale(key)

    def cell(row: Row) -> str:
        value, ci = row.value(key), row.ci(key)
        if value is None:
            return units.ABSENT
        number, half = units.spread(value * scale.factor, ci and (ci[0] * scale.factor, ci[1] * scale.factor))
        return f"{number} {half}" if half and key in ("latency_ms", *LOSSES) else number

    return Column(key=key, name=name, cell=cell, unit=scale.unit, numeric=True)


def _field(key: str) -> Callable[[Row], str]:
    return lambda row: units.ABSENT if row.result.get(key) is None else str(row.result[key])


def _goes_without_saying(shown: View) -> bool:
    """Each format has one backend."""
    pairs = {(row.result["exporter"], row.result["backend"]) for row in shown.rows}
    return len(pairs) == len({exporter for exporter, _ in pairs})
