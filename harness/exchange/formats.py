"""The file formats by name. Each is a module of two functions: `write(rows, path)`, `read(path)`."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.exchange.row import Row
from harness.exchange.wrong import Wrong

NAMES = ("csv", "json", "parquet")


def by_name(path: Path) -> str | None:
    """The format that the file's name ends with."""
    ending = path.suffix[1:].lower()
    return ending if ending in NAMES else None


def by_content(path: Path) -> str:
    """The format of a file, whatever it is called. Raises UsageError for a store, Wrong where there is nothing."""
    with path.open("rb") as stream:
        start = stream.read(64)
    if start.startswith(b"SQLite format 3\0"):
        raise UsageError(f"{path} is a store, and no file of runs", f"harness store copy sqlite:///{path} TO")
    if start.startswith(b"PAR1"):
        return "parquet"
    if not start.strip():
        raise Wrong(None, None, "what export-runs wrote", "an empty file")
    text = start.removeprefix(codecs.BOM_UTF8).lstrip()
    return "json" if text[:1] in (b"[", b"{") else "csv"


def write(form: str, rows: Iterable[Row], path: Path) -> Iterator[int]:
    """Yields how many rows are written so far. Raises OSError, and ToolchainError where a library is missing."""
    found: Iterator[int] = _module(form).write(rows, path)
    return found


def read(form: str, path: Path) -> Iterator[Row]:
    """Rows as `check` takes them. Raises Wrong, OSError, and ToolchainError where a library is missing."""
    found: Iterator[Row] = _module(form).read(path)
    return found


def _module(form: str) -> Any:
    return import_module(f"harness.exchange.{form}_file")
