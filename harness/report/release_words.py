"""What comparisons and histories are called in text and in Markdown alike: cells, figures, changes, factors.

Rows are those of `compare --json` and `history --json`, already cleaned (hostile.clean)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.report import units
from harness.report.hostile import one_line
from harness.report.view import CELL, FORMATS, number

Row = Mapping[str, Any]
#: as they are listed: what must be looked at first
OUTCOMES = ("worse", "missing", "incomparable", "better", "inconclusive", "same")
#: the metric of a row that stands for a whole cell, the device of one that was built for none
EVERY = "*"
#: what a paired re-measurement said of it; None: there was none
CONFIRMED: dict[object, str] = {True: "confirmed by measuring again", False: "not confirmed by measuring again"}
#: what goes without saying where it is the same everywhere
_USUAL = (("cpus", "any"), ("input", "default"))
#: cell fields whose value says itself what it is
_PLAIN = ("backend", "context", "device_id")
#: so many factors stand beside a verdict; --json has them all
_MOVED = 6


def names(rows: Sequence[Row]) -> tuple[list[str], str]:
    """Each row's cell in as few words as tell it from the others, and the words that all of them share.

    What is None or EVERY is not known, or is said of all: it tells no row from another."""
    known: dict[str, list[Any]] = {
        k: list(dict.fromkeys(row[k] for row in rows if row.get(k) not in (None, EVERY))) for k in CELL
    }
    same = {k for k, found in known.items() if len(found) <= 1}
    if len({(row.get("device"), row.get("device_id")) for row in rows if row.get("device_id")}) == len(known["device"]):
        same.add("device_id")  # the name is enough
    shown = [k for k in CELL[1:] if k not in same]
    called = [
        " ".join([str(row["variant"] or "all"), *(_word(k, row[k]) for k in shown if row.get(k) not in (None, EVERY))])
        for row in rows
    ]
    told = [k for k in CELL[1:] if k in same and k not in ("device_id", "context", "seed")]
    shared = [_word(k, known[k][0]) for k in told if known[k] and (k, known[k][0]) not in _USUAL]
    return [one_line(name) for name in called], ", ".join(shared)


def _word(key: str, value: Any) -> str:
    if key == "exporter":
        return FORMATS.get(str(value), str(value))
    if key == "threads":
        return "1 thread" if value == 1 else f"{value} threads"
    return str(value) if key in _PLAIN else f"@{value}" if key == "device" else f"{key} {value}"


def values(row: Row) -> tuple[str, str]:
    """Base and head in one unit, `–` for what is not there."""
    metric = str(row["metric"])
    unit = str(row.get("unit") or "1")
    known = [number(row.get(side)) for side in ("base", "head")]
    scale = units.scale(unit, [v for v in known if v is not None], metric)
    first, second = (units.ABSENT if v is None else scale.value(v) for v in known)
    return first, second


def change(row: Row) -> str:
    """`1.052x (1.031 to 1.073)`; empty where there is no ratio."""
    ratio = number(row.get("ratio"))
    if ratio is None:
        return ""
    interval = row.get("ci95")
    if isinstance(interval, Sequence) and len(interval) == 2:
        return f"{times(ratio)}x ({times(interval[0])} to {times(interval[1])})"
    return f"{times(ratio)}x"


def times(ratio: float) -> str:
    """Four significant digits, never an exponent for what people meet."""
    if not ratio > 0 or ratio >= 1e6 or ratio < 1e-4:
        return f"{ratio:.3g}"
    return f"{ratio:.{max(0, 3 - math.floor(math.log10(ratio)))}f}"


def percent(fraction: float) -> str:
    """`3.1 %`: two digits, which is what a limit of detection deserves."""
    share = 100 * fraction
    return f"{share:.0f} %" if share >= 99.5 else f"{share:.2g} %"


def changed(metric: str, ratio: float) -> str:
    """`5.2 % slower`."""
    more, less = _DIRECTIONS.get(metric.partition(".")[0].rpartition("_")[2], ("higher", "lower"))
    return f"{percent(abs(ratio - 1))} {more if ratio > 1 else less}"


_DIRECTIONS = {
    "ms": ("slower", "faster"), "bytes": ("larger", "smaller"), "j": ("more energy", "less energy"),
}  # fmt: skip


def detectable(row: Row) -> str:
    """`could have seen 3.1 %`; empty where it was not worked out."""
    least = number(row.get("minimum_detectable"))
    return "" if least is None else f"could have seen {percent(least)}"


def moved(row: Row) -> str:
    """What else is not the same on both sides: `delegated_fraction 1 -> 0.6; os Android 15 -> Android 16`."""
    found = row.get("moved") or []
    told = [f"{one_line(str(m['factor']), 60)} {_side(m['base'])} -> {_side(m['head'])}" for m in found[:_MOVED]]
    more = [f"{len(found) - _MOVED} more"] if len(found) > _MOVED else []
    return "; ".join(told + more)


def moved_alike(row: Row, other: Row) -> bool:
    """Whether both are of one cell, with which the same things moved."""
    return cell_of(row) == cell_of(other) and bool(row["moved"] == other["moved"])


def _side(value: Any) -> str:
    text = "unknown" if value is None else str(value)
    return text[:12] if len(text) == 64 and text.isalnum() else one_line(text, 60)  # a hash is known by its beginning


def said_of_all(rows: Sequence[Row]) -> list[str]:
    """The parts of the reason that every row gives, which are then said once; none where there is but one row."""
    if len(rows) < 2:
        return []
    others = [_parts(row) for row in rows[1:]]
    return [part for part in _parts(rows[0]) if all(part in other for other in others)]


def _parts(row: Row) -> list[str]:
    return str(row.get("reason") or "").split("; ")


def notes(row: Row, said: Sequence[str] = ()) -> str:
    """What stands beside the figures: reason, confirmation, and for what cannot be told how little would have shown.

    `said`: parts of the reason that need no saying again."""
    least = detectable(row) if row["outcome"] == "inconclusive" else ""
    certain = "" if row.get("design") == "exact" else CONFIRMED.get(row.get("confirmed"), "")
    reason = "; ".join(part for part in _parts(row) if part not in said)
    return "; ".join(filter(None, (least, certain, one_line(reason))))


def budget(row: Row) -> str:
    """`latency_ms.p95 at most 40 ms: 38.1 ms, at the far end 39.2 ms: within`."""
    metric, least = str(row["metric"]), row["better"] == "higher"
    limit = f"{metric} {'at least' if least else 'at most'} {_figure(row, 'bound')}"
    if row["within"] is None:
        return f"{limit}: cannot be judged, {one_line(str(row.get('reason') or 'nothing was measured'))}"
    said = "within" if row["within"] else "below what is wanted" if least else "over budget"
    far = f", its 95 % interval reaches {_figure(row, 'far')}" if row["far"] not in (None, row["value"]) else ""
    reason = f"; {one_line(str(row['reason']))}" if row.get("reason") else ""
    return f"{limit}: {said}, {_figure(row, 'value')}{far}{reason}"


def _figure(row: Row, key: str) -> str:
    return units.human(str(row["unit"]), row[key], str(row["metric"]))


def alarm(row: Row) -> str:
    """`latency_ms since v1.3: 5.2 % slower, unconfirmed`."""
    said = CONFIRMED.get(row["confirmed"], "unconfirmed")
    reason = f"; {one_line(str(row['reason']))}" if row.get("reason") else ""
    since = one_line(str(row["label"] or "the newest session"))
    ratio = changed(str(row["metric"]), row["ratio"])
    return f"{row['metric']} since {since}: {ratio}, {said}{reason}"


def by_outcome(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """In the order of OUTCOMES; within one, the cell with the largest change first, a cell's metrics together."""
    return {outcome: _by_size([row for row in rows if row["outcome"] == outcome]) for outcome in OUTCOMES}


def _by_size(rows: Sequence[Row]) -> list[Row]:
    largest: dict[Any, float] = {}
    for row in rows:
        largest[cell_of(row)] = max(largest.get(cell_of(row), 0.0), _size(row))
    return sorted(rows, key=lambda row: (-largest[cell_of(row)], [str(part) for part in cell_of(row)], -_size(row)))


def cell_of(row: Row) -> tuple[Any, ...]:
    return tuple(row.get(key) for key in CELL)


def _size(row: Row) -> float:
    ratio = number(row.get("ratio"))
    return abs(math.log(ratio)) if ratio is not None and ratio > 0 else 0.0


def tally(rows: Sequence[Row]) -> str:
    """`2 worse, 1 missing, 34 same`."""
    counts = [(len(found), outcome) for outcome, found in by_outcome(rows).items()]
    return ", ".join(f"{n} {outcome}" for n, outcome in counts if n) or "nothing was compared"


def alike(rows: Sequence[Row], called: Mapping[int, str]) -> list[tuple[str, list[str]]]:
    """Rows of one outcome by their reason: (reason, what it holds for), one cell's metrics together."""
    groups: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        cells = groups.setdefault(one_line(str(row.get("reason") or "no reason was given")), {})
        metrics = cells.setdefault(called[id(row)], [])
        if row["metric"] != EVERY:
            metrics.append(str(row["metric"]))
    return [
        (reason, [f"{name}: {', '.join(metrics)}" if metrics else name for name, metrics in cells.items()])
        for reason, cells in groups.items()
    ]
