"""Memory and file size as bars. Plain HTML and CSS: nothing to wait for, and a screen reader reads the numbers."""

from __future__ import annotations

from typing import Any, ClassVar

from harness.interfaces import PageData, Section
from harness.report import templates, units
from harness.report.view import Row, View, view

#: title, whole, part of it, and what the two are called
_PANELS = (
    ("Memory", "peak_memory_bytes", "model_memory_bytes", "peak of the process", "of that, the model"),
    ("File size", "size_bytes", "compressed_bytes", "the file", "under zstd 19"),
)


class Resources:
    title: ClassVar[str] = "Memory and size"

    def render(self, data: PageData) -> str | None:
        shown = view(data.document)
        panels = [p for spec in _PANELS if (p := panel(shown, *spec)) is not None]
        return templates.render("resources.html", panels=panels) if panels else None


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
        "picked": row.pick is not None,
        "whole": units.human(unit, value),
        "part": None if inner is None else units.human(unit, inner),
        "whole_percent": round(100 * value / most, 2),
        "part_percent": 0.0 if inner is None else round(100 * min(max(inner, 0.0), most) / most, 2),
    }


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
