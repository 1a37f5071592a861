"""Documents and rows -> pandas.DataFrame: plain columns, units beside them, absent values with their reasons."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.exchange.row import ARRAYS, COLUMNS, Column, Row
from harness.metrics import METRICS

if TYPE_CHECKING:
    import pandas

SESSION = ("experiment", "label", "session", "date")
CELL = (
    "variant", "seed", "exporter", "backend", "input", "device", "device_id", "threads", "cpus", "context",
)  # fmt: skip
STATE = ("status", "reason", "caveats", "simulated", "imported", "artifact_sha256")
WHOLE = ("seed", "threads")

#: figure of a frame -> its metric and, for a statistic, that: latency_ms, latency_ms.p50, …, size_bytes, …
FIGURES = {
    f"{name}.{stat}" if stat else name: (name, stat)
    for name, metric in METRICS.items()
    for stat in ("", *metric.stats)
}


def results_frame(documents: Iterable[Mapping[str, Any]]) -> pandas.DataFrame:
    """One row per result of the documents (as `run --json` has them), in their order.

    Columns: `SESSION`, `CELL`, `STATE`, then of each of `FIGURES` the number, `.low` and `.high` (its 95 % interval)
    and `.absent` (why the number is NaN). A row is one training's: seeds are rows, not their mean. `attrs["units"]`
    maps each column of numbers to its unit."""
    import pandas

    documents = list(documents)
    rows = [(document, result) for document in documents for result in document["results"]]
    columns = {name: _texts([document.get(name) for document, _ in rows]) for name in SESSION[:-1]}
    columns["date"] = pandas.Series(pandas.to_datetime([d["date"] for d, _ in rows], utc=True, format="ISO8601"))
    for name in CELL:
        values = [result[name] for _, result in rows]
        columns[name] = pandas.Series(values, dtype="Int64") if name in WHOLE else _texts(values)
    columns["status"], columns["reason"] = (_texts([r[name] for _, r in rows]) for name in STATE[:2])
    columns["caveats"] = _texts([", ".join(r["caveats"]) for _, r in rows])
    columns["simulated"] = pandas.Series([bool(r["simulated"]) for _, r in rows], dtype=bool)
    columns["imported"] = pandas.Series([bool(d.get("imported")) for d, _ in rows], dtype=bool)
    columns["artifact_sha256"] = _texts([r["artifact"].get("sha256") for _, r in rows])
    for figure, (name, stat) in FIGURES.items():
        found = [_figure(result["metrics"].get(name), stat) for _, result in rows]
        for place, end in enumerate(("", ".low", ".high")):
            columns[figure + end] = pandas.Series([one[place] for one in found], dtype="float64")
        columns[f"{figure}.absent"] = _texts([one[3] for one in found])
    frame = pandas.DataFrame(columns)
    frame.attrs["units"] = dict(_units([result for _, result in rows]))
    return frame


def _texts(values: Sequence[Any]) -> Any:
    import pandas

    return pandas.Series(values, dtype="string")


def _figure(found: Any, stat: str) -> tuple[float, float, float, str | None]:
    """Number, low, high (NaN where there is none), and why there is no number."""
    nothing = math.nan, math.nan, math.nan
    if not isinstance(found, Mapping):
        return *nothing, "not measured"
    value = found if "absent" in found else found.get(stat or "value")
    if isinstance(value, Mapping):
        return *nothing, str(value["absent"])
    if not isinstance(value, int | float):
        return *nothing, "not measured"
    interval = found.get("ci95_of", {}).get(stat) if stat else found.get("ci95")
    low, high = interval if isinstance(interval, list | tuple) else nothing[:2]  # one repeat has none
    return float(value), float(low), float(high), None


def _units(results: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """A task metric's unit is the experiment's: several experiments may have several."""
    for figure, (name, _) in FIGURES.items():
        said = [r["metrics"][name]["unit"] for r in results if "unit" in r["metrics"].get(name, {})]
        unit = " or ".join(dict.fromkeys(said)) or METRICS[name].unit
        yield from ((figure + end, unit) for end in ("", ".low", ".high"))


def runs_frame(rows: Iterable[Row]) -> pandas.DataFrame:
    """Rows as `harness export-runs --no-samples` writes them, without what only an import needs."""
    import pandas

    kinds = {"int": "Int64", "bool": "bool", "float": "float64"}
    wanted = [c for c in COLUMNS if c.name not in ARRAYS and c.name not in ("content_sha256", "session_record")]
    held: dict[str, list[Any]] = {column.name: [] for column in wanted}
    for row in rows:
        for name, values in held.items():
            values.append(row[name])
    frame = pandas.DataFrame({c.name: pandas.Series(held[c.name], dtype=kinds.get(c.kind, "string")) for c in wanted})
    frame["started_utc"] = pandas.to_datetime(frame["started_utc"], utc=True, format="ISO8601")
    frame.attrs["units"] = {c.name: unit for c in wanted if (unit := _unit_of(c)) is not None}
    return frame


def _unit_of(column: Column) -> str | None:
    if column.name == "accuracy":
        return None  # each experiment's own
    if column.kind == "float":
        return METRICS[column.name].unit if column.name in METRICS else "ms"
    return "ns" if column.name.endswith("_ns") else None
