"""Memory, its parts, and file size as bars. Plain HTML and CSS: nothing to wait for, and a screen reader reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from harness.interfaces import PageData, Section
from harness.report import templates, units
from harness.report.view import Row, View, number, view

#: title, whole, part of it, and what the two are called
_PANELS = (
    ("Memory", "peak_memory_bytes", "model_memory_bytes", "peak of the process", "of that, the model"),
    ("File size", "size_bytes", "compressed_bytes", "the file", "under zstd 19"),
)
#: part of `peak_memory_bytes`, what it is called, its colour in page.css; the last stands beside its `parts`, which are
#: those of when loading is over
_PARTS = (
    ("model_mapped", "model file", 1),
    ("packed_weights", "packed weights", 2),
    ("arenas", "planned buffers", 3),
    ("other", "the rest", 8),
    ("transient_bytes", "while loading only", 4),
)


class Resources:
    title: ClassVar[str] = "Memory and size"

    def render(self, data: PageData) -> str | None:
        shown = view(data.document)
        panels = [p for spec in _PANELS if (p := panel(shown, *spec)) is not None]
        return templates.render("resources.html", panels=panels, parts=parts(shown)) if panels else None


def panel(shown: View, title: str, whole: str, part: str, whole_name: str, part_name: str) -> dict[str, Any] | None:
    """Bars of one kind, smallest first; None without a number."""
    rows = [row for row in _once_per_file(shown, whole) if row.value(whole) is not None]
    if not rows:
        return None
    most = max(row.value(whole) or 0.0 for row in rows) or 1.0
    rows.sort(key=lambda row: row.value(whole) or 0.0)
    return {
        "title": title,
        "names": (whole_name, part_name if any(row.value(part) is not None for row in rows) else None),
        "bars": [_bar(shown, row, whole, part, most) for row in rows],
    }


def _bar(shown: View, row: Row, whole: str, part: str, most: float) -> dict[str, Any]:
    value, inner = row.value(whole) or 0.0, row.value(part)
    unit = shown.unit(whole)
    return {
        "label": row.file_label if whole == "size_bytes" else row.label,
        "index": row.index,
        "on": None if whole == "size_bytes" else row.on,
        "picked": row.pick is not None,
        "whole": units.human(unit, value),
        "part": None if inner is None else units.human(unit, inner),
        "whole_percent": round(100 * value / most, 2),
        "part_percent": 0.0 if inner is None else round(100 * min(max(inner, 0.0), most) / most, 2),
    }


def parts(shown: View) -> dict[str, Any] | None:
    """The peak of each result by part, stacked; None where no runner told any."""
    rows = [row for row in shown.ok if _known_parts(row) and row.value("peak_memory_bytes")]
    if not rows:
        return None
    rows.sort(key=lambda row: row.value("peak_memory_bytes") or 0.0)
    most = _peak(rows[-1])
    return {"names": [(name, colour) for _, name, colour in _PARTS], "bars": [_stacked(row, most) for row in rows]}


def _stacked(row: Row, most: float) -> dict[str, Any]:
    known, left = _known_parts(row), 0.0
    pieces, words = [], []
    for key, name, colour in _PARTS:
        if key in known:
            width = min(max(100 * known[key] / most, 0.0), 100.0 - left)
            pieces.append({"left": round(left, 2), "width": round(width, 2), "colour": colour})
            left += width
            words.append(f"{name} {units.human('bytes', known[key])}")
        else:
            words.append(f"{name}: {_why_no_part(row, key)}")
    whole = units.human("bytes", _peak(row))
    return {
        "label": row.label,
        "index": row.index,
        "on": row.on,
        "picked": row.pick is not None,
        "whole": whole,
        "pieces": pieces,
        "words": words,
    }


def _peak(row: Row) -> float:
    return row.value("peak_memory_bytes") or 0.0


def _known_parts(row: Row) -> dict[str, float]:
    peak = row.metric("peak_memory_bytes")
    said = peak.get("parts")
    found = {key: number(said.get(key, peak.get(key))) for key, _, _ in _PARTS} if isinstance(said, Mapping) else {}
    return {key: value for key, value in found.items() if value is not None}


def _why_no_part(row: Row, key: str) -> str:
    peak = row.metric("peak_memory_bytes")
    said = peak["parts"].get(key, peak.get(key))
    return str(said.get("absent", units.ABSENT)) if isinstance(said, Mapping) else units.ABSENT


def _once_per_file(shown: View, key: str) -> list[Row]:
    """A file has one size, on however many devices it was measured."""
    if key != "size_bytes":
        return shown.ok
    seen: dict[str, Row] = {}
    for row in shown.ok:
        artifact = row.result.get("artifact") or {}
        if "sha256" in artifact and row.value(key) is not None:
            seen.setdefault(str(artifact["sha256"]), row)
    return list(seen.values())


_: type[Section] = Resources
