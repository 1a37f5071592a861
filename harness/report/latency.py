"""Every usable result's latency distribution, fastest median first, from 101 quantiles pooled over its runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from harness.interfaces import PageData, Section
from harness.report import templates, units
from harness.report.view import Row, View, view

#: more rows than this are not read by eye: of each device the fastest are drawn, and any other as a single result
_MOST_ROWS = 100


class Latency:
    title: ClassVar[str] = "Latency"

    def render(self, data: PageData) -> str | None:
        shown = view(data.document)
        with_quantiles = [(row, data.quantiles_ms[row.index]) for row in shown.ok if _usable(data, row.index)]
        if not with_quantiles:
            return None
        with_quantiles.sort(key=lambda pair: pair[1][50])
        return templates.render(
            "latency.html",
            chart=chart(shown, with_quantiles),
            without=[row.label for row in shown.ok if not _usable(data, row.index)],
        )


def chart(shown: View, rows: Sequence[tuple[Row, Sequence[float]]]) -> dict[str, Any]:
    """What latency.js draws: quantiles 0, 1/100 … 1 in `unit`."""
    scale = units.scale("ms", [quantiles[50] for _, quantiles in rows])
    return {
        "unit": scale.unit,
        "most": _MOST_ROWS,
        "rows": [
            {
                "label": row.label,
                "index": row.index,
                "on": row.on,
                "format": row.format,
                "device": str(row.result["device"]),
                "caveats": row.caveats,
                "picked": row.pick is not None,
                "quantiles": [float(f"{q * scale.factor:.4g}") for q in quantiles],
                "text": shown.text(row, "latency_ms"),
            }
            for row, quantiles in rows
        ],
    }


def _usable(data: PageData, index: int) -> bool:
    quantiles = data.quantiles_ms.get(index, ())
    return len(quantiles) == 101 and all(q > 0 for q in quantiles)


_: type[Section] = Latency
