"""The document as rows that sections can ask: labels short enough to read, values, intervals, reasons.

A result's label is its variant and format, and of the rest only what differs between results.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from harness.analyze.seeds import represented
from harness.metrics import METRICS, TASK_METRICS
from harness.report import units

#: what identifies a result (the contract's cell, and the device's name)
CELL = ("variant", "seed", "exporter", "backend", "input", "device", "device_id", "threads", "cpus", "context")
FORMATS = {"executorch": ".pte", "torchscript_lite": ".ptl"}
LABELS = {
    "latency_ms": "latency p50",
    "first_inference_ms": "first inference",
    "cold_load_ms": "cold load",
    "sustained_ms": "sustained latency",
    "throttle_after_s": "time to throttle",
    "throughput_ips": "throughput",
    "peak_memory_bytes": "peak memory",
    "model_memory_bytes": "model memory",
    "size_bytes": "file size",
    "compressed_bytes": "zstd size",
    "output_max_abs": "output max diff",
    "output_sqnr_db": "output SQNR",
    "macs": "MACs",
    "delegated_fraction": "delegated",
}
_FIRST = ("latency_ms", *TASK_METRICS, "size_bytes", "peak_memory_bytes", "energy_j")
#: how a loss of `accuracy`, and of a metric by another name, are called
_TASK_NAMES = {
    "accuracy": ("accuracy", "{}"),
    "accuracy_drop": ("accuracy drop", "{} loss"),
    "accuracy_drop_control": ("drop against control", "{} loss against control"),
    "validation_accuracy": ("validation accuracy", "validation {}"),
    "validation_drop": ("validation drop", "validation {} loss"),
}
_OF_FILE = ("seed", "backend", "input")
#: the statistic that is a metric's value, which has no column of its own
_HEADLINE = ("p50", "end")
_SUFFIXES = ("_ms", "_bytes", "_j", "_w", "_ips", "_db")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One result: `front` and `pick` are its entries in the document, None where it is in neither.

    `file_label` leaves out where and how it ran: one file has one size on every device. `spoken_for`: another seed's
    result stands for this one in front and pick. `on`: the number of its device in `View.devices`, None for what is
    the same for all of them."""

    index: int
    result: Mapping[str, Any]
    label: str
    file_label: str
    front: Mapping[str, Any] | None = None
    pick: Mapping[str, Any] | None = None
    spoken_for: bool = False
    on: int | None = None

    @property
    def ok(self) -> bool:
        return bool(self.result["status"] == "ok")

    @property
    def format(self) -> str:
        return FORMATS.get(self.result["exporter"], str(self.result["exporter"]))

    @property
    def probability(self) -> float | None:
        """Of being on the reported front; None off it, and where it could not be told."""
        return number(self.front.get("probability")) if self.front else None

    @property
    def caveats(self) -> list[str]:
        return list(self.result.get("caveats") or ())

    def metric(self, key: str) -> Mapping[str, Any]:
        found = self.result["metrics"].get(key.partition(".")[0])
        return found if isinstance(found, Mapping) else {}

    def value(self, key: str) -> float | None:
        """The number of `metric` or `metric.stat`; None where it was not measured."""
        return number(self.metric(key).get(key.partition(".")[2] or "value"))

    def ci(self, key: str) -> tuple[float, float] | None:
        """The 95 % interval of the headline statistic; the other statistics have none."""
        return _interval(self.metric(key).get("ci95")) if "." not in key else None

    def seeds(self, key: str) -> Mapping[str, Any] | None:
        """`mean`, `sd`, `n`, `values` and `ci95` over the variant's trainings; None where there is but one."""
        found = self.metric(key).get("seeds") if "." not in key else None
        return found if isinstance(found, Mapping) else None

    def judged(self, key: str) -> float | None:
        """The number that front and pick take: the mean over its trainings where there are several."""
        found = self.seeds(key)
        return number(found.get("mean")) if found else self.value(key)

    def judged_ci(self, key: str) -> tuple[float, float] | None:
        found = self.seeds(key)
        return _interval(found.get("ci95")) if found else self.ci(key)

    @property
    def why(self) -> Mapping[str, Any] | None:
        """Predicted and measured speed-up with what explains them; None where there is no comparison."""
        found = self.result.get("why")
        return found if isinstance(found, Mapping) and "absent" not in found else None

    def absent(self, key: str) -> str | None:
        """Why the metric (or the statistic) has no number."""
        metric = self.metric(key)
        stat = metric.get(key.partition(".")[2]) if "." in key else None
        reason = stat.get("absent") if isinstance(stat, Mapping) else metric.get("absent")
        return None if reason is None else str(reason)


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """All rows of a document, in its order. `shared`: cell fields that are the same for every measured row.

    What is asked for each row of a large document is worked out once and kept."""

    document: Mapping[str, Any]
    rows: tuple[Row, ...]
    shared: Mapping[str, Any] = field(default_factory=dict)
    _scales: dict[str, units.Scale] = field(default_factory=dict, repr=False)
    _units: dict[str, str] = field(default_factory=dict, repr=False)
    _called: dict[str, str] = field(default_factory=dict, repr=False)

    @cached_property
    def ok(self) -> list[Row]:
        return [row for row in self.rows if row.ok]

    @cached_property
    def devices(self) -> list[str]:
        return _devices([row.result for row in self.rows])

    def on(self, device: Any) -> int | str | None:
        """The number of a device; None for all of them, `none` for one that this session does not have."""
        if device is None or device == "*":
            return None
        return self.devices.index(str(device)) if str(device) in self.devices else "none"

    @property
    def picks(self) -> list[Mapping[str, Any]]:
        """Each device's own pick; none in a quick session."""
        return list(self.document["picks"] or ())

    def find(self, cell: Mapping[str, Any] | None) -> list[Row]:
        """The rows that a front's or a pick's cell means: one, several where it has `*`, none if it is unknown."""
        if not cell:
            return []
        keys = [k for k in CELL if k in cell and cell[k] != "*"]
        near = self._by_variant.get(cell["variant"], []) if "variant" in keys else self.rows
        return [r for r in near if all(r.result.get(k) == cell[k] for k in keys)]

    @cached_property
    def _by_variant(self) -> dict[Any, list[Row]]:
        found: dict[Any, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.result["variant"], []).append(row)
        return found

    def labelled(self, cell: Mapping[str, Any]) -> str:
        """What a cell is called on this page, whether this session has it or another one did."""
        rows = self.find(cell)
        if len(rows) == 1:
            return rows[0].label
        first = f"{cell['variant']} {FORMATS.get(cell['exporter'], cell['exporter'])}"
        rest = {k: cell.get(k) for k in CELL[1:] if k not in ("exporter", "device_id")}
        unusual = {k: v for k, v in rest.items() if v not in (None, "*") and self.shared.get(k) != v}
        if self._usual.get(cell["exporter"]) == cell.get("backend"):
            unusual.pop("backend", None)
        return " ".join([first, *(_short(k, v) for k, v in unusual.items())])

    @cached_property
    def _usual(self) -> dict[Any, Any]:
        """Exporter -> its backend, where it has but one."""
        pairs = {(row.result["exporter"], row.result["backend"]) for row in self.rows}
        exporters = [exporter for exporter, _ in pairs]
        return {exporter: backend for exporter, backend in pairs if exporters.count(exporter) == 1}

    def reference(self, row: Row) -> Row | None:
        """The reference variant's result beside `row` (same format, device, threads …), if it is usable.

        The document does not name the reference: it is the variant whose drop is exactly 0 with no spread, else
        the first (the default of the experiment file)."""
        zero = (r for r in self.rows if r.value("accuracy_drop") == 0 and r.ci("accuracy_drop") == (0, 0))
        name = next(zero, self.rows[0]).result["variant"]
        same = [k for k in CELL if k not in ("variant", "seed")]
        beside = [r for r in self.ok if r.result["variant"] == name and all(r.result[k] == row.result[k] for k in same)]
        seeds = [r for r in beside if r.result["seed"] == row.result["seed"]]
        return next(iter(seeds or beside), None)

    def keys(self, *, stats: bool = False) -> list[str]:
        """Metrics with a number in any result: what people ask for first, then as METRICS has them, then unknown."""
        seen = {name for row in self.rows for name in row.result["metrics"]}
        known = [name for name in dict.fromkeys((*_FIRST, *METRICS)) if name in seen]
        every = [key for name in [*known, *sorted(seen - METRICS.keys())] for key in _with_stats(name, stats)]
        return [key for key in every if any(row.value(key) is not None for row in self.rows)]

    def scale(self, key: str) -> units.Scale:
        if key not in self._scales:
            self._scales[key] = units.scale(self.unit(key), self.values(key), key)
        return self._scales[key]

    def values(self, key: str) -> list[float]:
        return [v for row in self.rows if (v := row.value(key)) is not None]

    def unit(self, key: str) -> str:
        if key not in self._units:
            self._units[key] = self._unit(key)
        return self._units[key]

    def _unit(self, key: str) -> str:
        given = (row.metric(key).get("unit") for row in self.rows if row.value(key) is not None)
        return str(next((u for u in given if u), ""))

    def name(self, key: str) -> str:
        """How people call it; a task metric of the user's own keeps its name."""
        if key not in self._called:
            self._called[key] = self._name(key)
        return self._called[key]

    def _name(self, key: str) -> str:
        base, _, stat = key.partition(".")
        if stat:
            return f"{self.name(base).removesuffix(' p50')} {stat}"
        if base in _TASK_NAMES:
            usual, other = _TASK_NAMES[base]
            return usual if self.task in (None, "accuracy") else other.format(self.task)
        own = next((row.metric(base).get("name") for row in self.rows if row.metric(base).get("name")), None)
        return str(own or LABELS.get(base) or _plain(base))

    @cached_property
    def task(self) -> str | None:
        """The name of the task metric, where any result has it."""
        given = (r.metric(k).get("name") for k in ("accuracy", "validation_accuracy") for r in self.rows)
        return next((str(name) for name in given if name), None)

    @property
    def on_validation(self) -> bool:
        """Whether front and pick were judged on the validation split."""
        return bool(self.document.get("selected_on") == "validation")

    def better(self, key: str) -> str:
        """`lower` or `higher`; the metric's object may say otherwise than METRICS (a word error rate)."""
        base = key.partition(".")[0]
        said = next((r.metric(base).get("better") for r in self.rows if r.metric(base).get("better")), None)
        return str(said or (METRICS[base].better if base in METRICS else "lower"))

    def text(self, row: Row, key: str) -> str:
        """`21.3 µs ±0.2`, or the dash where there is no number."""
        return self._text(key, row.value(key), row.ci(key))

    def judged_text(self, row: Row, key: str) -> str:
        """The same of what front and pick take: `98.1 % ±0.9 (3 seeds)` where there are several."""
        found = row.seeds(key)
        of = f" ({found['n']} seeds)" if found else ""
        return self._text(key, row.judged(key), row.judged_ci(key)) + of

    def _text(self, key: str, value: float | None, ci: tuple[float, float] | None) -> str:
        if value is None:
            return units.ABSENT
        scale = units.scale(self.unit(key), [value], key)
        number, half = units.spread(value * scale.factor, ci and (ci[0] * scale.factor, ci[1] * scale.factor))
        return f"{number}{scale.suffix}{' ' + half if half else ''}"

    def over_seeds(self, row: Row, key: str) -> str | None:
        """`98.1 sd 0.3 (3 seeds)` in the column's scale."""
        found = row.seeds(key)
        if found is None:
            return None
        factor = self.scale(key).factor
        return f"{units.mean_sd(found['mean'] * factor, found['sd'] * factor)} ({found['n']} seeds)"


def view(document: Mapping[str, Any]) -> View:
    """The document's rows, labelled. Front and pick entries that match no result are ignored.

    Picked is what the document's `pick` names; only where it names none, what each device's own pick does."""
    results = document["results"]
    measured = [r for r in results if r["device"] is not None] or results
    shared = {k: measured[0][k] for k in CELL if measured and all(r[k] == measured[0][k] for r in measured)}
    bare = View(document=document, rows=tuple(_rows(results, shared)), shared=shared)
    fronts = {row.index: entry for entry in document["front"] for row in bare.find(entry)}
    entries = [document["pick"]] if document["pick"] else bare.picks
    picks = {row.index: entry for entry in entries for row in bare.find(entry)}
    others = represented(results)
    rows = (
        replace(r, front=fronts.get(r.index), pick=picks.get(r.index), spoken_for=r.index in others) for r in bare.rows
    )
    return View(document=document, rows=tuple(rows), shared=shared)


def _rows(results: Sequence[Mapping[str, Any]], shared: Mapping[str, Any]) -> Iterator[Row]:
    pairs = {(r["exporter"], r["backend"]) for r in results}
    usual = {e for e, _ in pairs if sum(e == other for other, _ in pairs) == 1}  # its backend goes without saying
    devices = _devices(results)
    for index, result in enumerate(results):
        first = f"{result['variant']} {FORMATS.get(result['exporter'], result['exporter'])}"
        hidden = {"exporter", *shared} | ({"backend"} if result["exporter"] in usual else set())
        hidden |= {"device_id"} if "device" not in shared else set()
        rest = {k: _short(k, result[k]) for k in CELL[1:] if k not in hidden and result.get(k) is not None}
        file = [text for key, text in rest.items() if key in _OF_FILE]
        yield Row(
            index=index, result=result, label=" ".join([first, *rest.values()]), file_label=" ".join([first, *file]),
            on=None if result["device"] is None else devices.index(str(result["device"])),
        )  # fmt: skip


def _devices(results: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(str(r["device"]) for r in results if r["device"] is not None))


def _interval(ci: Any) -> tuple[float, float] | None:
    if not isinstance(ci, Sequence) or isinstance(ci, str) or len(ci) != 2:
        return None
    low, high = number(ci[0]), number(ci[1])
    return None if low is None or high is None or low > high else (low, high)


def _short(key: str, value: Any) -> str:
    return {"seed": f"seed {value}", "threads": f"{value}T", "device": f"@{value}"}.get(key, str(value))


def _with_stats(name: str, stats: bool) -> list[str]:
    known = METRICS[name].stats if name in METRICS else ()
    return [name, *(f"{name}.{s}" for s in known if s not in _HEADLINE)] if stats else [name]


def _plain(name: str) -> str:
    suffix = next((s for s in _SUFFIXES if name.endswith(s)), "")
    return name.removesuffix(suffix).replace("_", " ")


def number(value: Any) -> float | None:
    real = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if real else None
