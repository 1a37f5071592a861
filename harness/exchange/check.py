"""Rows from elsewhere -> runs for a store. Nothing of a row is believed: its types, its bounds, what it says twice."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np

from harness.analyze import stats
from harness.errors import HarnessError
from harness.exchange import session as sessions
from harness.exchange import strict
from harness.exchange.row import ARRAYS, CELL, COLUMNS, JSONS, Column, Row, as_kind, content_sha256, derived
from harness.exchange.session import HEX32, Known
from harness.exchange.wrong import MOST_JSON, MOST_RUNS, MOST_SAMPLES, MOST_TEXT, Wrong
from harness.metrics import METRICS, TASK_METRICS
from harness.store.rows import cell_key
from harness.types import NULL_VARIANT, Cell, Purpose, Status

Columns = Mapping[str, Any]
CONTEXTS = ("host", "shell-bundle", "shell-ndk", "app")
_WORD = re.compile(r"[a-z0-9_]{1,64}")
_MOST = {"start_boottime_ns": 2**63, "end_boottime_ns": 2**63}  # of whole numbers; others fit 32 bits
_MOST_VALUES = 100_000
_MOST_NUMBER = 1e18  # of a measurement or a figure, in its metric's unit; sums and squares of these are finite
_MOST_OUTPUT = 1e39  # what outputs of 32 bits can differ by
_MOST_OVERHEAD_NS = 1e9
_SIGNED = {"output_sqnr_db", *TASK_METRICS}  # a task metric of the user's may be anything
_CLOSE = 1e-9  # of a figure that was computed by another version of numpy


class Checker:
    """Takes a file's rows in their order; of each session the first has its record."""

    def __init__(self) -> None:
        self.sessions: dict[str, Known] = {}
        self._taken: dict[Any, int] = {}
        self._rows: Counter[str] = Counter()

    def __call__(self, number: int, row: Row) -> tuple[Known | None, Columns, Mapping[str, Any]]:
        """The session if it is new, the run's columns (JSON as text), its samples. Raises Wrong."""
        if number > MOST_RUNS:
            raise Wrong(number, None, f"at most {MOST_RUNS} runs", "more")
        known, new = self._session(number, row)
        _check_scalars(number, row)
        jsons = {name: _parsed(number, name, row[name]) for name in JSONS}
        row |= {name: strict.canonical(value) for name, value in jsons.items()}
        arrays = {name: _array(number, name, row[name]) for name in ARRAYS if row[name] is not None}
        row |= arrays
        _check_shapes(number, row, jsons)
        _check_said_twice(number, row, jsons, known)
        cell = _cell(number, row, known)
        self._once(number, row, cell)
        if (own := content_sha256(row)) != row["content_sha256"]:
            told = f"{own[:12]}…, as the row gives it"
            found = f"{row['content_sha256']!r:.13}…: the row was changed, or damaged"
            raise Wrong(number, "content_sha256", told, found)
        self._rows[known.id] += 1
        return new, _run(row, cell), arrays

    def whole(self) -> None:
        """Behind the last row. Raises Wrong where rows of a session are missing: the rest would tell another story."""
        for known in self.sessions.values():
            if (rows := self._rows[known.id]) != known.runs:
                raise Wrong(None, None, f"{known.runs} runs of session {known.id[:8]}, as its record says", f"{rows}")

    def _session(self, number: int, row: Row) -> tuple[Known, Known | None]:
        identity, record = row["session"], row["session_record"]
        known = self.sessions.get(identity) if isinstance(identity, str) else None
        if record is None and known is None:
            raise Wrong(number, "session_record", "the record of a session in its first row", "none")
        if record is None:
            assert known is not None
            return known, None
        if known is not None:
            raise Wrong(number, "session_record", "none but in a session's first row", "another")
        try:
            new = sessions.read(record)
        except ValueError as error:
            raise Wrong(number, "session_record", "what a store holds of a session", str(error)[:400]) from error
        if new.id != identity:
            raise Wrong(number, "session", new.id, f"{identity!r:.80}")
        row["session_record"] = strict.canonical(json.loads(record))
        self.sessions[new.id] = new
        return new, new

    def _once(self, number: int, row: Row, cell: Cell) -> None:
        """A run is there once, an attempt too, and one attempt counts; as the store's constraints have it."""
        slot = (row["session"], cell, row["purpose"], row["repeat"])
        keys = [("run", row["run"]), ("attempt", (*slot, row["attempt"]))]
        keys += [("counts", slot)] if row["counts"] else []
        for column, key in keys:
            if (before := self._taken.setdefault((column, key), number)) != number:
                expected = "no second one that counts" if column == "counts" else "no second one of the same"
                raise Wrong(number, column, f"{expected} (row {before})", f"{row[column]!r:.80}")


def _check_scalars(number: int, row: Row) -> None:
    for column in COLUMNS:
        if column.kind in _CHECKS and not (column.null and row[column.name] is None):
            expected = _CHECKS[column.kind](column, row[column.name])
            if expected is not None:
                raise Wrong(number, column.name, expected, f"{row[column.name]!r:.80}")


def _text(column: Column, value: Any) -> str | None:
    good = type(value) is str and len(value) <= MOST_TEXT and strict.sound(value)
    return None if good else f"a text of at most {MOST_TEXT} characters"


def _int(column: Column, value: Any) -> str | None:
    most = _MOST.get(column.name, 2**31)
    return None if type(value) is int and 0 <= value < most else f"a whole number from 0 below {most}"


def _float(column: Column, value: Any) -> str | None:
    try:
        good = type(value) in (int, float) and math.isfinite(value)
    except OverflowError:  # a whole number beyond a float
        good = False
    return None if good else "a finite number"


def _bool(column: Column, value: Any) -> str | None:
    return None if type(value) is bool else "true or false"


_CHECKS: Mapping[str, Any] = {"text": _text, "int": _int, "float": _float, "bool": _bool}


def _parsed(number: int, name: str, value: Any) -> Any:
    try:
        if type(value) is not str:
            raise ValueError("none")
        return strict.parsed(value, MOST_JSON)
    except ValueError as error:
        raise Wrong(number, name, "strict JSON", str(error)[:200]) from error


def _array(number: int, name: str, value: Any) -> Any:
    kind = ARRAYS[name]
    try:
        if isinstance(value, bytes):
            found = np.frombuffer(value, np.uint8)
        elif isinstance(value, np.ndarray):
            found = value
        else:
            found = _listed(value, kind)
        if found.size > MOST_SAMPLES:
            raise ValueError
        return as_kind(found, kind, name)
    except (TypeError, ValueError, OverflowError, HarnessError):
        expected = {"ns": "whole numbers from 0 below 2^64", "f8": "numbers", "bytes": "bytes"}[kind]
        told = f"at most {MOST_SAMPLES} {expected}"
        raise Wrong(number, name, told, f"{value!r:.80}") from None


def _listed(value: Any, kind: str) -> Any:
    """A JSON list of numbers, of which null is NaN."""
    wanted: set[type] = {int} if kind == "ns" else {float, int, type(None)} if kind == "f8" else set()
    if type(value) is not list or len(value) > MOST_SAMPLES or set(map(type, value)) - wanted:
        raise ValueError
    if kind == "ns":
        return np.array(value, np.uint64)
    return np.array([math.nan if v is None else v for v in value], np.float64)


def _check_shapes(number: int, row: Row, jsons: Mapping[str, Any]) -> None:
    """That the values can be what their columns say."""

    def must(good: bool, column: str, expected: str) -> None:
        if not good:
            raise Wrong(number, column, expected, f"{jsons.get(column, row[column])!r:.80}")

    must(re.fullmatch(HEX32, row["run"]) is not None, "run", "an id of 32 hexadecimal digits")
    must(row["purpose"] in get_args(Purpose), "purpose", f"one of {', '.join(get_args(Purpose))}")
    must(row["status"] in get_args(Status), "status", f"one of {', '.join(get_args(Status))}")
    must(row["attempt"] >= 1, "attempt", "a whole number from 1")
    must(not row["counts"] or row["status"] == "ok", "counts", f"false where the status is {row['status']}")
    must((row["reason"] is None) == (row["status"] == "ok"), "reason", f"as a run that is {row['status']} has it")
    must(not row["started_utc"] or sessions.utc(row["started_utc"]), "started_utc", "a moment in UTC up to now")
    must(re.fullmatch("(?:[0-9a-f]{64})?", row["artifact_sha256"]) is not None, "artifact_sha256", "a SHA-256")
    must(all(map(_WORD.fullmatch, row["caveats"].split(" "))) or not row["caveats"], "caveats", "words")
    must(_are_measurements(jsons["measurements"]), "measurements", "what was measured, as the harness has it")
    must(type(jsons["summary"]) is dict, "summary", "an object")
    must(all(_small(v) for v in jsons["summary"].values()), "summary", f"figures below {_MOST_NUMBER:g}")
    must(type(jsons["provenance"]) is dict, "provenance", "an object")
    must(_are_conditions(jsons["conditions"]), "conditions", "an object, its `runner` as runners tell it")


def _are_measurements(found: Any) -> bool:
    return type(found) is list and all(
        type(one) is dict
        and one.keys() == {"metric", "values", "phase", "source"}
        and one["metric"] in METRICS
        and type(one["phase"]) is str
        and type(one["source"]) is str
        and type(one["values"]) is list
        and 0 < len(one["values"]) <= _MOST_VALUES
        and all(_can_be(one["metric"], v) for v in one["values"])
        for one in found
    )


def _can_be(metric: str, value: Any) -> bool:
    """A value of this metric. Beyond these bounds, analyses would come to infinity."""
    most = _MOST_OUTPUT if metric == "output_max_abs" else _MOST_NUMBER
    return type(value) in (int, float) and abs(value) < most and (value >= 0 or metric in _SIGNED)


def _small(value: Any) -> bool:
    if type(value) is list:
        return all(map(_small, value))
    return type(value) not in (int, float) or abs(value) < _MOST_NUMBER


def _are_conditions(found: Any) -> bool:
    """What the analysis takes as it is; the rest it takes for what a device may have made up."""
    if type(found) is not dict or type(runner := found.get("runner", {})) is not dict:
        return False
    texts = all(type(runner.get(key, "")) is str for key in ("runtime", "version"))
    overhead = runner.get("loop_overhead_ns", 0)
    return texts and type(overhead) in (int, float) and 0 <= overhead < _MOST_OVERHEAD_NS


def _check_said_twice(number: int, row: Row, jsons: Mapping[str, Any], known: Known) -> None:
    own = known.head.session
    for name in ("experiment", "label", "quick"):
        if row[name] != own[name]:
            raise Wrong(number, name, f"{own[name]!r}, as its session has it", f"{row[name]!r:.80}")
    try:
        figures = derived(jsons["measurements"], jsons["summary"])
    except (TypeError, ValueError, OverflowError):
        raise Wrong(number, "summary", "figures that are numbers", f"{jsons['summary']!r:.80}") from None
    for name, value in figures.items():
        if row[name] != value:
            raise Wrong(number, name, f"{value!r}, as its measurements or its summary have it", f"{row[name]!r}")
    if row["purpose"] in ("latency", "burn_in") and jsons["summary"]:
        _check_summary(number, row, jsons["summary"])


def _check_summary(number: int, row: Row, summary: Mapping[str, Any]) -> None:
    """A latency's figures are those of its samples."""
    try:
        own = stats.summary(row["latency_ns"] if row["latency_ns"] is not None else [])
    except HarnessError as error:
        raise Wrong(number, "latency_ns", "the samples that its summary is of", error.what) from error
    if missing := {"n", "p50", "mean", "min", "quantiles"} - summary.keys():
        raise Wrong(number, "summary", f"a {', '.join(sorted(missing))}", "none")
    for name, value in summary.items():
        if name not in own or not _close(value, own[name]):
            raise Wrong(number, "summary", f"{name} = {own.get(name)!r:.60}, as its samples give it", f"{value!r:.60}")


def _close(one: Any, other: Any) -> bool:
    if type(one) is list and type(other) is list:
        return len(one) == len(other) and all(map(_close, one, other))
    if type(one) in (int, float) and type(other) in (int, float):
        return math.isclose(one, other, rel_tol=_CLOSE, abs_tol=1e-12)
    return type(one) is type(other) and bool(one == other)


def _cell(number: int, row: Row, known: Known) -> Cell:
    """Raises Wrong for a cell that is none of its session's."""
    if row["device_id"] not in known.device_ids:
        raise Wrong(number, "device_id", "a device of its session", f"{row['device_id']!r:.80}")
    build = tuple(row[name] for name in ("variant", "seed", "exporter", "backend", "input"))
    nobody = build == (NULL_VARIANT, 0, row["exporter"], "", "default") and row["exporter"] in known.runtimes
    if build not in known.builds and not nobody:
        raise Wrong(number, "variant", "a build of its session", ", ".join(f"{part!r:.60}" for part in build))
    if row["context"] not in CONTEXTS:
        raise Wrong(number, "context", f"one of {', '.join(CONTEXTS)}", f"{row['context']!r:.80}")
    if row["artifact_sha256"] and row["artifact_sha256"] not in known.files:
        raise Wrong(number, "artifact_sha256", "a file of its session", row["artifact_sha256"])
    if not 0 < len(row["cpus"]) <= 64 or not row["cpus"].isprintable():
        raise Wrong(number, "cpus", "a choice of CPUs", f"{row['cpus']!r:.80}")
    if row["threads"] == 0:
        raise Wrong(number, "threads", "a number of threads", "0")
    return Cell(**{name: row[name] for name in CELL})


def _run(row: Row, cell: Cell) -> Columns:
    """The columns of the table `runs`."""
    same = (
        "variant", "device_id", "purpose", "repeat", "attempt", "counts", "status", "reason", "block", "position",
        "started_utc", "boot_id", "start_boottime_ns", "end_boottime_ns", "artifact_sha256", *JSONS,
    )  # fmt: skip
    return {name: row[name] for name in same} | {
        "id": row["run"],
        "session_id": row["session"],
        "cell_key": cell_key(cell),
        "cell": strict.canonical({name: row[name] for name in CELL}),
        "caveats": strict.canonical(row["caveats"].split(" ") if row["caveats"] else []),
    }
