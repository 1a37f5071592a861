"""The terminal's last words: the table, the conditions and caveats, what is missing and why, the front, the pick.

Every text from outside goes through rich's `Text`, never through its markup, and is cleaned of control characters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.report import units
from harness.report.columns import DROPPED_FIRST, Column, columns, shared_line
from harness.report.headline import figures, headline, percent
from harness.report.hostile import clean, one_line
from harness.report.markdown import markdown
from harness.report.simulated import TAG, banner, imported
from harness.report.troubles import told
from harness.report.view import FORMATS, Row, View, view

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["markdown", "pick_lines", "summary"]

_TIED, _NEAR = 4, 8  # so many are named
_STATUS = {"ok": "green", "failed": "red", "invalid": "yellow", "skipped": "dim"}


def summary(document: Mapping[str, Any], console: Console, why_no_pick: str | None = None) -> None:
    """Prints the document. On a narrow console the less asked columns go, and a line says which."""
    from rich.text import Text

    shown = view(clean(document))
    said = banner(shown.document, "below")
    if said:
        console.print(Text(said, style="bold red"), soft_wrap=True)
    if elsewhere := imported(shown.document):
        console.print(Text(elsewhere, style="bold"), soft_wrap=True)
    if shown.rows:
        title = f"{shown.document['experiment']}{f' ({TAG})' if said else ''}"
        console.print(Text(f"{title}: {shared_line(shown)}", style="bold"), soft_wrap=True)
        table, hidden = _fitting(shown, console)
        console.print(table)
        if hidden:
            console.print(Text(f"not shown at this width: {', '.join(hidden)}", style="dim"), soft_wrap=True)
    for heading, lines in _blocks(shown, why_no_pick):
        console.print(Text(f"\n{heading}", style="bold"))
        for line in lines:
            console.print(Text(f"  {one_line(line)}"), soft_wrap=True)


def _fitting(shown: View, console: Console) -> tuple[Table, list[str]]:
    """The widest table that the console can show without folding, and the names of the columns left out."""
    from rich.measure import Measurement

    wanted = list(columns(shown))
    hidden: list[str] = []
    for key in DROPPED_FIRST:
        table = _table(shown, wanted)
        if Measurement.get(console, console.options.update(max_width=10_000), table).maximum <= console.width:
            return table, hidden
        hidden += [column.name for column in wanted if column.key == key]
        wanted = [column for column in wanted if column.key != key]
    return _table(shown, wanted), hidden


def _table(shown: View, wanted: Sequence[Column]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    for column in wanted:
        table.add_column(Text(column.head), justify="right" if column.numeric else "left", no_wrap=column.numeric)
    for row in shown.rows:
        style = "bold" if row.pick else "" if row.ok else "dim"
        table.add_row(*(Text(c.cell(row), style=_style(c, row)) for c in wanted), style=style)
    return table


def _style(column: Column, row: Row) -> str:
    return _STATUS.get(row.result["status"], "") if column.key == "status" else ""


def _blocks(shown: View, why_no_pick: str | None) -> Iterator[tuple[str, list[str]]]:
    """Heading and lines of what follows the table; the answer comes last, where the eye is."""
    yield from told(shown)
    if front := [_front_line(shown, row) for row in shown.rows if row.front]:
        yield "Front", front
    if near := list(_near_lines(shown)):
        yield "May belong to the front as well", near
    if robust := list(_robust_lines(shown)):
        yield "Front over all devices", robust
    yield "Pick", list(_pick_lines(shown, why_no_pick))


def _front_line(shown: View, row: Row) -> str:
    figures = [
        shown.judged_text(row, key) for key in ("latency_ms", "accuracy", "size_bytes") if row.value(key) is not None
    ]
    sure = units.ABSENT if row.probability is None else percent(row.probability)
    caveats = f" [{', '.join(row.caveats)}]" if row.caveats else ""
    pick = " <- pick" if row.pick else ""
    return f"{row.label}: {', '.join(figures)}{caveats} (on the front: {sure}{_tied(row.front)}){pick}"


def _tied(entry: Mapping[str, Any] | None) -> str:
    names = list((entry or {}).get("tied_with") or ())
    told = ", ".join(names[:_TIED]) + (f" and {len(names) - _TIED} more" if len(names) > _TIED else "")
    return f"; not told from {told}" if names else ""


def _near_lines(shown: View) -> Iterator[str]:
    entries = list(shown.document.get("near_front") or ())
    for entry in entries[:_NEAR]:
        yield from (f"{row.label} (on the front: {percent(entry['probability'])})" for row in shown.find(entry))
    if len(entries) > _NEAR:
        yield f"and {len(entries) - _NEAR} less probable ones"


def _robust_lines(shown: View) -> Iterator[str]:
    for entry in shown.document.get("robust_front") or ():
        chance = entry["probability"]
        sure = percent(chance) if isinstance(chance, float | int) else units.ABSENT
        what = {k: entry[k] for k in ("seed", "threads", "cpus") if k not in shown.shared}
        setting = "".join(f" {k} {v}" for k, v in what.items())
        name = f"{entry['variant']} {FORMATS.get(entry['exporter'], entry['exporter'])}{setting}"
        yield f"{name} (on the front: {sure}{_tied(entry)})"


def pick_lines(
    document: Mapping[str, Any], reason: str | None = None, closest: Mapping[str, Any] | None = None,
    further: Sequence[Mapping[str, Any]] = (),
) -> list[str]:  # fmt: skip
    """The document's `pick` in words, one line each; where it is None the `reason`, what came `closest`, and the
    `further` near misses.

    `picks` is left aside: the caller's pick may follow other constraints than the experiment's. Lines are cleaned."""
    shown, nearest = view(clean({**document, "picks": []})), clean(closest)
    lines = [said for said in (banner(shown.document, "below"), imported(shown.document)) if said]
    lines += list(_pick_lines(shown, None if reason is None else clean(reason)))
    if nearest and not shown.document["pick"]:
        lines += [f"Closest: {row.label}, {figures(shown, row)}" for row in shown.find(nearest)]
        lines += [_missed(miss) for miss in nearest.get("misses", ())]
        for other in clean(list(further)):
            misses = "; ".join(_missed(miss) for miss in other.get("misses", ()))
            lines += [f"Then: {row.label}: {misses}" for row in shown.find(other)]
    return [one_line(line) for line in lines]


def _missed(miss: Mapping[str, Any]) -> str:
    """One constraint that does not hold: `accuracy_drop <= 0.01 fails at 0.016, by 0.006`, what is unknown, what would
    help."""
    at = f" at {miss['value']:g}" if miss["value"] is not None else ""
    at += f", by {miss['short_by']:g}" if miss["short_by"] else ""
    return "; ".join(filter(None, (f"{miss['constraint']} {miss['outcome']}{at}", miss["why"], miss["needs"])))


def _pick_lines(shown: View, why_no_pick: str | None) -> Iterator[str]:
    head = headline(shown, why_no_pick)
    yield head.text
    yield from head.details
