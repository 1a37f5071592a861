"""Minutes of the same inference: latency, temperature and clock over time, and when the device began to slow down."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

from harness.interfaces import PageData, Section
from harness.report import templates, units
from harness.report.view import Row, View, number, view

NOT_ASKED = "sustained_minutes not asked for"
#: more numbers of a kind than this are thinned for drawing; the document has them all
_MOST_POINTS = 40_000
#: curves that one chart holds for the eye
_MOST_ROWS = 40
#: key in the document, name, unit there
_CURVES = (("latency_ms", "latency", "ms"), ("temperature_c", "temperature", "°C"), ("clock_khz", "clock", "kHz"))


class Sustained:
    title: ClassVar[str] = "Under sustained load"

    def render(self, data: PageData) -> str | None:
        shown = view(data.document)
        asked = [row for row in shown.ok if row.result["sustained"].get("absent") != NOT_ASKED]
        rows = [row for row in asked if "t_s" in row.result["sustained"]]
        if not asked:
            return None
        return templates.render(
            "sustained.html",
            chart=chart(rows) if rows else None,
            rows=[entry(shown, row) for row in rows],
            without=list(without(asked)),
        )


def chart(rows: list[Row]) -> dict[str, Any]:
    """What sustained.js draws: curves by kind in the kind's unit, None where there was no reading."""
    scales: dict[str, units.Scale] = {}
    every = max(1, math.ceil(sum(len(row.result["sustained"]["t_s"]) for row in rows) / _MOST_POINTS))
    for key, _, unit in _CURVES:
        values = [v for row in rows for raw in row.result["sustained"][key] if (v := number(raw)) is not None]
        if values:
            scales[key] = units.scale(unit, values)
    return {
        "every": every,
        "most": _MOST_ROWS,
        "kinds": [{"key": k, "name": name, "unit": scales[k].unit} for k, name, _ in _CURVES if k in scales],
        "rows": [
            {
                "label": row.label,
                "index": row.index,
                "on": row.on,
                "format": row.format,
                "device": str(row.result["device"]),
                "picked": row.pick is not None,
                "minutes": [_round((number(t) or 0.0) / 60) for t in row.result["sustained"]["t_s"][::every]],
                "curves": {k: _scaled(row.result["sustained"][k][::every], s.factor) for k, s in scales.items()},
            }
            for row in rows
        ],
    }


def _scaled(values: list[Any], factor: float) -> list[float | None]:
    return [None if (v := number(raw)) is None else _round(v * factor) for raw in values]


def entry(shown: View, row: Row) -> dict[str, Any]:
    """One line of the table."""
    first, last = row.value("sustained_ms.minute1"), row.value("sustained_ms.end")
    after = row.value("throttle_after_s")
    return {
        "label": row.label,
        "index": row.index,
        "on": row.on,
        "picked": row.pick is not None,
        "first": units.ABSENT if first is None else units.human("ms", first),
        "last": shown.text(row, "sustained_ms"),
        "ratio": units.ratio(last / first) if first and last else units.ABSENT,
        "after": units.seconds(after) if after is not None else row.absent("throttle_after_s") or units.ABSENT,
    }


def without(rows: list[Row]) -> Iterator[tuple[str, list[str]]]:
    """(reason, labels) of results that were to have a curve and have none."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if "absent" in row.result["sustained"]:
            found.setdefault(str(row.result["sustained"]["absent"]), []).append(row.label)
    yield from found.items()


def _round(value: float) -> float:
    return float(f"{value:.4g}")


_: type[Section] = Sustained
