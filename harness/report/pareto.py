"""Two objectives against each other, chosen on the page; below, the front over all objectives as it was reported.

The front of the two chosen axes is found on the page (pareto.js); the reported one, with its probabilities, comes
from the document and is never recomputed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from harness.interfaces import PageData, Section
from harness.report import templates, units
from harness.report.headline import percent
from harness.report.view import CELL, Row, View, number, view

#: the first of these that has numbers is the default of the vertical axis
_AGAINST = ("accuracy_drop", "accuracy", "size_bytes", "peak_memory_bytes")
_AGAINST_ON_VALIDATION = ("validation_drop", "validation_accuracy")
_AXIS_STATS = ("latency_ms.p90", "latency_ms.p99")
_SURE = 0.9


class Pareto:
    title: ClassVar[str] = "Trade-offs"

    def render(self, data: PageData) -> str | None:
        shown = view(data.document)
        axes = [key for key in shown.keys(stats=True) if "." not in key or key in _AXIS_STATS]
        axes = [key for key in axes if any(row.value(key) is not None for row in shown.ok)]
        if not axes:
            return None
        return templates.render(
            "pareto.html",
            chart=chart(shown, axes),
            devices=shown.devices,
            front=[front_row(shown, row) for row in _front(shown)],
            near=[f"{shown.labelled(e)} ({_percent(e)})" for e in data.document.get("near_front") or ()],
            robust=[robust_row(shown, entry) for entry in data.document.get("robust_front") or ()],
            columns=[shown.name(key) for key in _columns(shown)],
            dropped=data.document["objectives_dropped"],
        )


def chart(shown: View, axes: list[str]) -> dict[str, Any]:
    """What pareto.js draws: values already in the axis' unit, texts already formatted.

    A point's `place` is what it competes within: fronts are per device and input case. A variant with several seeds
    is one point, at its means: the luckiest training is not to be on the line."""
    x = "latency_ms" if "latency_ms" in axes else axes[0]
    against = (*_AGAINST_ON_VALIDATION, *_AGAINST) if shown.on_validation else _AGAINST
    y = next((key for key in against if key in axes and key != x), next((k for k in axes if k != x), x))
    return {
        "x": x,
        "y": y,
        "axes": [_axis(shown, key) for key in axes],
        "points": [_point(shown, row, axes) for row in shown.ok if not row.spoken_for],
        "sure": _SURE,
    }


def _axis(shown: View, key: str) -> dict[str, Any]:
    values = [v for row in shown.ok if (v := row.judged(key)) is not None]
    return {
        "key": key,
        "name": shown.name(key),
        "unit": shown.scale(key).unit,
        "better": shown.better(key),
        "log": min(values) > 0,
        "wide": min(values) > 0 and max(values) / min(values) > 5 and shown.unit(key) != "fraction",
    }


def _point(shown: View, row: Row, axes: list[str]) -> dict[str, Any]:
    factors = {key: shown.scale(key).factor for key in axes}
    values: list[list[float | None] | None] = []  # by axis
    for key in axes:
        value, (low, high) = row.judged(key), row.judged_ci(key) or (None, None)
        found = [v if v is None else _round(v * factors[key]) for v in (value, low, high)]
        values.append(None if value is None else found)
    return {
        "label": row.label,
        "index": row.index,
        "on": row.on,
        "variant": row.result["variant"],
        "format": row.format,
        "device": str(row.result["device"]),
        "place": [str(row.result["device"]), row.result["input"]],
        "picked": row.pick is not None,
        "front": row.probability,
        "chance": None if row.probability is None else percent(row.probability),
        "reported": row.front is not None,
        "caveats": row.caveats,
        "values": values,
        "texts": [shown.judged_text(row, key) if row.value(key) is not None else None for key in axes],
    }


def front_row(shown: View, row: Row) -> dict[str, Any]:
    """One line of the reported front's table."""
    probability = row.probability
    return {
        "label": row.label,
        "index": row.index,
        "on": row.on,
        "picked": row.pick is not None,
        "caveats": row.caveats,
        "tied": _tied(shown, row.front or {}),
        "texts": [shown.judged_text(row, key) for key in _columns(shown)],
        "probability": probability,
        "percent": percent(probability) if probability is not None else units.ABSENT,
        "sure": probability is not None and probability >= _SURE,
    }


def robust_row(shown: View, entry: Mapping[str, Any]) -> dict[str, Any]:
    """One line of the front over all devices: a variant that may be the best trade-off wherever it runs."""
    picked = shown.document["pick"]
    probability = number(entry.get("probability"))
    return {
        "label": shown.labelled(entry),
        "picked": bool(picked) and all(picked.get(key) == entry.get(key) for key in CELL),
        "tied": _tied(shown, entry),
        "probability": probability,
        "percent": _percent(entry),
        "sure": probability is not None and probability >= _SURE,
    }


def _tied(shown: View, entry: Mapping[str, Any]) -> list[str]:
    """What cannot be told apart from it, as variants' names or as cells."""
    return [shown.labelled(tied) if isinstance(tied, Mapping) else str(tied) for tied in entry.get("tied_with") or ()]


def _percent(entry: Mapping[str, Any]) -> str:
    probability = number(entry.get("probability"))
    return units.ABSENT if probability is None else percent(probability)


def _front(shown: View) -> list[Row]:
    """By device, the fastest first."""
    rows = [row for row in shown.rows if row.front is not None]
    return sorted(rows, key=lambda r: (-1 if r.on is None else r.on, r.value("latency_ms") or 0.0))


def _columns(shown: View) -> list[str]:
    on_test = ("accuracy", "accuracy_drop", "accuracy_drop_control")
    task = (*_AGAINST_ON_VALIDATION, "accuracy") if shown.on_validation else on_test
    wanted = ("latency_ms", *task, "size_bytes", "peak_memory_bytes", "energy_j")
    return [key for key in wanted if any(row.value(key) is not None for row in shown.ok)]


def _round(value: float) -> float:
    return float(f"{value:.6g}")


_: type[Section] = Pareto
