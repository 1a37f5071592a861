"""Energy for each inference with all that belongs to the number: gross, idle, the meter, its rails and period, how
sure it is; or the reason why there is none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from harness.interfaces import PageData, Section
from harness.report import templates, units
from harness.report.view import Row, View, number, view

OFF = "energy: off"


class Energy:
    title: ClassVar[str] = "Energy"

    def render(self, data: PageData) -> str | None:
        shown = view(data.document)
        rows = [row for row in shown.ok if row.metric("energy_j") and row.absent("energy_j") != OFF]
        if not rows:
            return None
        measured = [entry(shown, row) for row in rows if row.value("energy_j") is not None]
        return templates.render("energy.html", rows=measured, without=list(without(rows)))


def entry(shown: View, row: Row) -> dict[str, Any]:
    """One line of the table, every figure as text; what the meter did not tell is a dash."""
    found = row.metric("energy_j")
    rails = found.get("rails")
    return {
        "label": row.label,
        "index": row.index,
        "on": row.on,
        "picked": row.pick is not None,
        "net": shown.text(row, "energy_j"),
        "gross": _figure(found, "gross", "J"),
        "power": shown.text(row, "power_w"),
        "idle": _figure(found, "idle_w", "W"),
        "source": str(found.get("source")),
        "rails": ", ".join(map(str, rails)) if isinstance(rails, list) and rails else units.ABSENT,
        "period": _figure(found, "period_s", "s"),
        "uncertainty": _figure(found, "uncertainty", "fraction"),
        "windows": _windows(found),
        "not_used": _not_used(found),
    }


def _windows(found: Mapping[str, Any]) -> str:
    count, length = number(found.get("windows")), number(found.get("seconds"))
    if count is None:
        return units.ABSENT
    return f"{count:.0f} of {units.seconds(length)}" if length is not None else f"{count:.0f}"


def _not_used(found: Mapping[str, Any]) -> str:
    """Blocks that tell nothing, by reason."""
    said = found.get("not_used")
    return "; ".join(f"{one['reason']} ({one['runs']})" for one in said) if isinstance(said, list) else ""


def _figure(found: Mapping[str, Any], key: str, unit: str) -> str:
    value = number(found.get(key))
    return units.ABSENT if value is None else units.human(unit, value)


def without(rows: list[Row]) -> Iterator[tuple[str, list[str]]]:
    """(reason, labels) of usable results without the number."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.value("energy_j") is None:
            found.setdefault(row.absent("energy_j") or "not measured", []).append(row.label)
    yield from found.items()


_: type[Section] = Energy
