"""The one row shape of every exchange format: a run, flat, what people read first and then all that it is.

A row is a dict of `COLUMNS`, in their order. Its values by `Column.kind`:

    text, int, bool, float    str, int, bool, float; None where `null`
    json                      JSON as text, as `canonical` writes it
    ns, f8, bytes             one array of samples (`ARRAYS`), None where the run has none of that name

`derived` columns are for readers: they follow from the others, and an import works them out anew."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from harness.errors import StoreError
from harness.store.blob import compact
from harness.store.values import not_finite, visible
from harness.types import Cell

Kind = Literal["text", "int", "bool", "float", "json", "ns", "f8", "bytes"]
Row = dict[str, Any]
Array = np.ndarray[Any, Any]
SCHEMA = 1

#: samples by name, in the order in which runs have them: whole numbers (nanoseconds, counts), floats, or bytes
ARRAYS: Mapping[str, Kind] = {
    "latency_ns": "ns", "input_ns": "ns", "warmup_ns": "ns",
    "sustained_t_s": "f8", "sustained_length_s": "f8", "sustained_iterations": "ns", "sustained_p50_ms": "f8",
    "sustained_mean_ms": "f8", "sustained_ns": "ns", "sustained_counts": "ns", "sustained_c": "f8",
    "sustained_c_index": "ns", "sustained_khz": "ns", "sustained_khz_index": "ns",
    "etdump": "bytes", "traced_ns": "ns", "untraced_ns": "ns", "energy_t_s": "f8", "energy_values": "f8", "score": "f8",
}  # fmt: skip
#: metrics that a run has one value of
METRICS = (
    "load_ms", "cold_load_ms", "first_inference_ms", "peak_memory_bytes", "accuracy", "output_sqnr_db",
    "output_max_abs",
)  # fmt: skip
FIGURES = ("p50", "p90", "p95", "p99", "mean", "min")
CELL = ("variant", "seed", "exporter", "backend", "input", "device_id", "threads", "cpus", "context")
JSONS = ("measurements", "summary", "conditions", "provenance")


@dataclass(frozen=True, kw_only=True)
class Column:
    name: str
    kind: Kind
    null: bool = False
    derived: bool = False


def _of(kind: Kind, names: str, derived: bool = False) -> tuple[Column, ...]:
    """A name that ends in ? may be null."""
    return tuple(
        Column(name=name.rstrip("?"), kind=kind, null=name.endswith("?"), derived=derived) for name in names.split()
    )


COLUMNS = (
    *_of("text", "session experiment label?"), *_of("bool", "quick"), *_of("text", "run variant"), *_of("int", "seed"),
    *_of("text", "exporter backend input device_id"), *_of("int", "threads?"), *_of("text", "cpus context purpose"),
    *_of("int", "repeat attempt"), *_of("bool", "counts"), *_of("text", "status reason? caveats"),
    *_of("int", "block position"), *_of("text", "started_utc artifact_sha256"),
    *_of("float", " ".join(f"{name}?" for name in METRICS), derived=True),
    *_of("float", " ".join(f"latency_{figure}_ms?" for figure in FIGURES), derived=True),
    *_of("text", "boot_id?"), *_of("int", "start_boottime_ns? end_boottime_ns?"), *_of("json", " ".join(JSONS)),
    *(Column(name=name, kind=kind, null=True) for name, kind in ARRAYS.items()),
    *_of("text", "content_sha256?", derived=True), *_of("json", "session_record?"),
)  # fmt: skip
BY_NAME = {column.name: column for column in COLUMNS}
_AS_STORED = (
    "purpose", "repeat", "attempt", "counts", "status", "block", "position", "started_utc", "artifact_sha256",
    "boot_id", "start_boottime_ns", "end_boottime_ns",
)  # fmt: skip
_TEXTS = [column.name for column in COLUMNS if column.kind == "text" and not column.derived]
_SCALARS = [column.name for column in COLUMNS if not column.derived and column.kind in ("text", "int", "bool")]
#: (`reason` or a JSON column, its text) -> what may leave this computer of it
Tell = Callable[[str, str], str]
_ENCODE = json.JSONEncoder(allow_nan=False).encode
_ENCODE_LIST = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


def flat(
    session: Mapping[str, Any],
    run: Mapping[str, Any],
    arrays: Mapping[str, Array] | None,
    record: str | None,
    tell: Tell = lambda name, text: text,
) -> Row:
    """A run of the table `runs` (JSON as text) as a row. `session`: its row of the table `sessions`.

    `arrays` None leaves the samples out, and with them the hash of the whole. `record`: for the first row of a session.
    Raises StoreError for what no file of ours can hold."""
    where = f"run {run['id']}"
    measurements, summary = (loads(run[name], where) for name in ("measurements", "summary"))
    row: Row = dict.fromkeys(BY_NAME)
    row |= {"session": run["session_id"], "run": run["id"], "context": Cell.context, **loads(run["cell"], where)}
    row |= {name: session[name] for name in ("experiment", "label", "quick")}
    row |= {name: run[name] for name in _AS_STORED}
    row["caveats"] = _words(loads(run["caveats"], where), where)
    row["reason"] = run["reason"] and tell("reason", run["reason"])
    row |= {name: tell(name, _as_written(run[name], f"{where}: {name}")) for name in JSONS}
    row |= derived(measurements, summary)
    row["session_record"] = record
    row |= {name: visible(row[name]) for name in _TEXTS if row[name]}
    if arrays is not None:
        row |= {name: as_kind(values, ARRAYS.get(name), f"{where}: {name}") for name, values in arrays.items()}
        row["content_sha256"] = content_sha256(row)
    if len(row) != len(BY_NAME):
        raise StoreError(f"{where} has {', '.join(row.keys() - BY_NAME.keys())}, which no export knows")
    return row


def _words(caveats: Any, where: str) -> str:
    told = " ".join(caveats)
    if told.split() != caveats:
        raise StoreError(f"{where}: caveats {caveats!r:.80} are no words")
    return told


def derived(measurements: Any, summary: Any) -> Row:
    """The columns for readers: each metric of one value, and the figures of the latency in ms."""
    single = {m["metric"]: float(m["values"][0]) for m in measurements if len(m["values"]) == 1}
    return {name: single.get(name) for name in METRICS} | {
        f"latency_{figure}_ms": float(summary[figure]) if figure in summary else None for figure in FIGURES
    }


def content_sha256(row: Row) -> str:
    """Of all that a row is made of: whatever was changed in a file by hand or by chance, this does not fit it."""
    found = hashlib.sha256(json.dumps([row[name] for name in _SCALARS]).encode())
    for name in (*JSONS, "session_record"):
        found.update(f"\n{row[name] or ''}".encode())
    for name in ARRAYS:
        if (values := row[name]) is not None:
            found.update(f"\n{name} {values.dtype.str} {values.size}\n".encode())
            found.update(np.ascontiguousarray(values).data)
    return found.hexdigest()


def as_kind(values: Array, kind: Kind | None, where: str) -> Array:
    """An array of samples in the one dtype that its values have in a store. Raises StoreError."""
    if kind == "ns" and values.dtype.str == "<u4":
        return values
    if kind == "ns" and values.dtype.kind in "iu" and not (values.size and int(values.min()) < 0):
        return compact(values)
    if kind == "f8" and values.dtype.kind == "f":
        return np.where(np.isnan(values), np.nan, values).astype("<f8")
    if kind == "bytes" and values.dtype.str == "|u1":
        return values
    raise StoreError(f"{where}: {values.dtype} samples, which no export knows")


def loads(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise StoreError(f"{where} is damaged: {error}", "restore the store from a copy") from error


def _as_written(text: str, where: str) -> str:
    """The text of a column, which a store has as `dumps` writes it, but for what older ones let through."""
    strange = not text.isascii() or "\n" in text or "NaN" in text or "Infinity" in text
    return dumps(loads(text, where), where) if strange else text


def dumps(value: Any, where: str) -> str:
    """JSON as every export has it: ASCII, one line. Raises StoreError for what is no JSON."""
    try:
        return _ENCODE(value)
    except ValueError as error:
        raise StoreError(f"{where}: {not_finite(value)} is not a finite number") from error


def numbers(values: Array) -> str:
    """An array as JSON: floats exactly, NaN as null, the infinities as numbers too large for a float."""
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return _ENCODE_LIST(values.tolist())
    return f"[{','.join(map(_number, values.tolist()))}]"


def _number(value: float) -> str:
    if math.isnan(value):
        return "null"
    return repr(value) if math.isfinite(value) else f"{'-' * (value < 0)}1e999"
