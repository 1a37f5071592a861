"""The profiles in the terminal: for each result its longest operators, and what tracing them cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.report import units
from harness.report.hostile import clean, one_line
from harness.report.operators import NOT_ASKED, cost, without
from harness.report.simulated import TAG
from harness.report.view import Row, number, view

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_MOST = 8


def profiles(document: Mapping[str, Any], console: Console) -> None:
    """Prints nothing where no profile was asked for."""
    from rich.text import Text

    asked = [row for row in view(clean(document)).ok if row.result["operators"] != {"absent": NOT_ASKED}]
    for row in asked:
        if isinstance(row.result["operators"], list):
            tag = f" ({TAG})" if row.result["simulated"] else ""
            console.print(Text(f"\nTime per operator, {one_line(row.label)}{tag}", style="bold"), soft_wrap=True)
            console.print(_table(row))
            console.print(Text(f"  {cost(row)}"), soft_wrap=True)
    for reason, labels in without(asked):
        console.print(Text(f"\nno profile: {one_line(', '.join(labels))}: {one_line(reason)}"), soft_wrap=True)


def _table(row: Row) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    found = row.result["operators"]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    for head in ("operator", "kind", "time", "share", "calls"):
        table.add_column(head, justify="left" if head in ("operator", "kind") else "right")
    for said in found[:_MOST]:
        share, calls = number(said["share"]), number(said["calls"])
        cells = (
            one_line(str(said["name"]), 60),
            str(said["kind"]),
            units.human("ms", (number(said["time_us"]) or 0.0) / 1000),
            units.ABSENT if share is None else f"{share * 100:.1f} %",
            units.ABSENT if calls is None else f"{calls:.0f}",
        )
        table.add_row(*(Text(cell) for cell in cells))
    if len(found) > _MOST:
        table.add_row(Text(f"{len(found) - _MOST} more, in the JSON and in the trace", style="dim"))
    return table
