"""Rows as CSV (RFC 4180, UTF-8): what spreadsheets and `pandas.read_csv` read.

null is an empty cell, and so is an empty text where null cannot be; where it can, what is empty is a lone apostrophe.
A text that a spreadsheet would take for a formula (it begins with = + - @, a tab or an end of line), or that begins
with an apostrophe, has one before it, which an import takes away:
https://owasp.org/www-community/attacks/CSV_Injection. JSON columns and samples are JSON, numbers have all their digits,
`etdump` is base64, before which there is an apostrophe too where it begins with +."""

from __future__ import annotations

import base64
import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.exchange.row import BY_NAME, COLUMNS, Column, Row, numbers
from harness.exchange.wrong import MOST_LINE, Wrong

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "'")


def write(rows: Iterable[Row], path: Path) -> Iterator[int]:
    """Yields how many rows are written so far."""
    cells = [(column.name, _TOLD[column.kind], column.kind == "text" and column.null) for column in COLUMNS]
    with path.open("w", encoding="utf-8", newline="") as stream:
        stream.write(",".join(BY_NAME) + "\n")
        for number, row in enumerate(rows, 1):
            told = [
                "" if (value := row[name]) is None else "'" if nullable and not value else tell(value)
                for name, tell, nullable in cells
            ]
            stream.write(",".join(told) + "\n")
            yield number


def _quoted(text: str) -> str:
    """Much sooner than csv.writer, which looks at each character of a long cell."""
    return '"{}"'.format(text.replace('"', '""'))


@lru_cache(maxsize=1024)  # most columns of texts have few
def _text(value: str) -> str:
    told = f"'{value}" if value.startswith(_FORMULA) else value
    return _quoted(told) if _SPECIAL.search(told) else told


_SPECIAL = re.compile(r'[,"\r\n]|^ | $')
_TOLD: dict[str, Callable[[Any], str]] = {
    "text": _text,
    "int": str,
    "bool": str,
    "float": repr,
    "json": _quoted,
    "ns": lambda values: _quoted(numbers(values)),
    "f8": lambda values: _quoted(numbers(values)),
    "bytes": lambda values: _text(base64.b64encode(values.tobytes()).decode("ascii")) or "'",
}


def read(path: Path) -> Iterator[Row]:
    """Values as `check` takes them. Raises Wrong for what is no such table, and for a cell that cannot be read."""
    csv.field_size_limit(MOST_LINE)
    with path.open(encoding="utf-8-sig", newline="") as stream:  # a spreadsheet may put a mark before it
        table = csv.reader(_lines(stream), strict=True)
        names = _row(table, 0)
        if names is None or names != list(BY_NAME):
            raise Wrong(0, *_header(names or []))
        number = 0
        while (cells := _row(table, number := number + 1)) is not None:
            if len(cells) != len(COLUMNS):
                raise Wrong(number, None, f"{len(COLUMNS)} cells", f"{len(cells)} (line {table.line_num} of the file)")
            yield {column.name: _meant(column, cell, number) for column, cell in zip(COLUMNS, cells, strict=True)}


def _lines(stream: Any) -> Iterator[str]:
    while line := stream.readline(MOST_LINE + 1):
        if len(line) > MOST_LINE:
            raise csv.Error(f"a line of more than {MOST_LINE} characters")
        yield line


def _row(table: Any, number: int) -> list[str] | None:
    try:
        return next(table, None)
    except UnicodeDecodeError as error:
        raise Wrong(number, None, "text in UTF-8", f"the byte 0x{error.object[error.start]:02x}") from error
    except csv.Error as error:
        raise Wrong(number, None, "a line of CSV", str(error)) from error


def _header(names: list[str]) -> tuple[str | None, str, str]:
    if len(names) == 1 and names[0].startswith(("session;", "session\t")):
        return None, "a comma between two cells", f"{names[0][7]!r}, as some spreadsheets save it"
    for name in (name for name in BY_NAME if name not in names):
        return None, f"a column {name}", "no such column" if "session" in names else "another table, or none"
    return None, "the columns of export-runs in their order, and no others", ", ".join(names)[:200]


def _meant(column: Column, cell: str, row: int) -> Any:
    if column.kind == "text":
        if not cell:
            return None if column.null else ""
        return cell[1:] if cell.startswith("'") else cell
    if not cell:
        return None
    try:
        return _PARSED[column.kind](cell)
    except (KeyError, ValueError, RecursionError):
        raise Wrong(row, column.name, _EXPECTED[column.kind], repr(cell[:80])) from None


def _whole(cell: str) -> int:
    if not (cell.isascii() and cell.removeprefix("-").isdecimal()):
        raise ValueError(cell)  # int() takes 1_000, and digits of other scripts
    return int(cell)


_PARSED: dict[str, Any] = {
    "int": _whole,
    "bool": {"True": True, "False": False}.__getitem__,
    "float": json.loads,
    "json": str,
    "ns": json.loads,
    "f8": json.loads,
    "bytes": lambda cell: base64.b64decode(cell.removeprefix("'"), validate=True),
}
_EXPECTED = {
    "int": "a whole number", "bool": "True or False", "float": "a number", "ns": "a JSON list of whole numbers",
    "f8": "a JSON list of numbers", "bytes": "base64",
}  # fmt: skip
