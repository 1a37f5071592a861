"""A session's answer as a small table of HTML: what a notebook shows of an `Outcome`. Every text is escaped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from harness.report.columns import columns, shared_line
from harness.report.headline import headline
from harness.report.hostile import clean, one_line
from harness.report.simulated import banner
from harness.report.view import Row, View, view

MOST_ROWS = 50


def table(document: Mapping[str, Any]) -> str:
    """The table that `harness run` prints, the first 50 rows of it, and below it what failed and what to ship."""
    shown = view(clean(document))
    wanted = [*columns(shown)]
    heads = _row("th", [column.head for column in wanted] + [""])
    rows = [
        _row("td", [column.cell(row) for column in wanted] + [_mark(row)], bold=bool(row.pick))
        for row in shown.rows[:MOST_ROWS]
    ]
    lines = [one_line(line) for line in _lines(shown)]
    title = [said] if (said := banner(shown.document, "below")) else []
    title += [f"{shown.document['experiment']}: {shared_line(shown)}"]
    return (
        f'<div class="harness-outcome">{"".join(f"<p><b>{escape(line)}</b></p>" for line in title)}'
        f"<table><thead>{heads}</thead><tbody>{''.join(rows)}</tbody></table>"
        f"{''.join(f'<p>{escape(line)}</p>' for line in lines)}</div>"
    )


def _lines(shown: View) -> Iterator[str]:
    if (left_out := len(shown.rows) - MOST_ROWS) > 0:
        yield f"and {left_out} more; frame() has all"
    for row in [row for row in shown.rows if row.result["reason"]][:MOST_ROWS]:
        yield f"{row.label}: {row.result['status']}: {row.result['reason']}"
    answer = headline(shown, None)
    yield from (answer.text, *answer.details)


def _mark(row: Row) -> str:
    return "pick" if row.pick else "front" if row.front else ""


def _row(kind: str, cells: list[str], bold: bool = False) -> str:
    style = ' style="font-weight:bold"' if bold else ""
    return f"<tr{style}>{''.join(f'<{kind}>{escape(cell)}</{kind}>' for cell in cells)}</tr>"
