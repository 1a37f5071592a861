"""What is wrong with a file that is to be imported: where, what was expected, what was found."""

from __future__ import annotations

#: an export of ours stays far below these: beyond them a file is not read on
MOST_LINE = 256 << 20  # characters
MOST_RUNS = 2_000_000
MOST_TEXT = 20_000
MOST_JSON = 4 << 20  # characters; a session's own record MOST_RECORD
MOST_RECORD = 32 << 20
MOST_SAMPLES = 16_000_000
DEEPEST = 32


class Wrong(Exception):
    """`row`: the file's first run is 1; 0 is its head, None the file as a whole."""

    def __init__(self, row: int | None, column: str | None, expected: str, found: str) -> None:
        super().__init__(expected, found)
        self.row, self.column, self.expected, self.found = row, column, expected, found

    def __str__(self) -> str:
        where = [f"row {self.row}" if self.row else "the file's head" if self.row == 0 else ""]
        where += [f"column {self.column}" if self.column else ""]
        told = ", ".join(part for part in where if part)
        return f"{told}{': ' if told else ''}expected {self.expected}, found {self.found}"
