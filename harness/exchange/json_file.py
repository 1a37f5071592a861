"""Rows as one strict JSON array of objects, one a line: what `pandas.read_json` and every other tool reads.

JSON columns are values and not text, samples are lists, `etdump` is base64; every key is there, null where there is
nothing. Read line by line as it is written; a file that another program laid out anew is read whole."""

from __future__ import annotations

import base64
import codecs
import json
from collections.abc import Callable, Iterable, Iterator
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import Any

from harness.exchange.row import BY_NAME, COLUMNS, Column, Row, numbers
from harness.exchange.strict import once, refused
from harness.exchange.wrong import MOST_LINE, Wrong

#: a file of another layout is held in memory, several times its size
MOST_WHOLE_BYTES = 128 << 20


def write(rows: Iterable[Row], path: Path) -> Iterator[int]:
    """Yields how many rows are written so far."""
    keys = [(column.name, f"{json.dumps(column.name)}: ", _TOLD[column.kind]) for column in COLUMNS]
    with path.open("w", encoding="ascii", newline="\n") as stream:
        stream.write("[")
        for number, row in enumerate(rows, 1):
            told = [key + ("null" if (value := row[name]) is None else tell(value)) for name, key, tell in keys]
            stream.write(f"{',' if number > 1 else ''}\n{{{', '.join(told)}}}")
            yield number
        stream.write("\n]\n")


_TOLD: dict[str, Callable[[Any], str]] = {
    "text": encode_basestring_ascii,
    "int": str,
    "bool": json.dumps,
    "float": json.dumps,
    "json": str,
    "ns": numbers,
    "f8": numbers,
    "bytes": lambda values: f'"{base64.b64encode(values.tobytes()).decode("ascii")}"',
}


def read(path: Path) -> Iterator[Row]:
    """Values as `check` takes them. Raises Wrong for what is no such array, and for a value that cannot be read."""
    for number, found in enumerate(_objects(path), 1):
        if not isinstance(found, dict):
            raise Wrong(number, None, "an object", type(found).__name__)
        if found.keys() != BY_NAME.keys():
            raise Wrong(number, *_keys(found))
        yield {column.name: _meant(column, found[column.name], number) for column in COLUMNS}


def _keys(found: dict[str, Any]) -> tuple[str | None, str, str]:
    if missing := [name for name in BY_NAME if name not in found]:
        return missing[0], "that every key is there", f"none such among {', '.join(map(repr, list(found)[:5]))[:200]}"
    unknown = next(name for name in found if name not in BY_NAME)
    return unknown[:80], "the keys of export-runs and no others", "a key of another name"


def _objects(path: Path) -> Iterator[Any]:
    with path.open("rb") as stream:
        if stream.readline(64) != b"[\n" or not stream.peek(64).startswith((b'{"session": ', b"]")):
            yield from _whole(path)
            return
        number, last = 0, False
        while (line := stream.readline(MOST_LINE + 1)).strip() != b"]":
            number += 1
            if len(line) > MOST_LINE:
                raise Wrong(number, None, f"at most {MOST_LINE} bytes", "more")
            text = line.strip()
            if last or not text:
                raise Wrong(number, None, "a ] after the last object, a comma after any other", "none")
            last = not text.endswith(b",")
            yield _parsed(text if last else text[:-1], number)
        if (number and not last) or stream.read(64).strip():
            raise Wrong(number or None, None, "the end of the file after the ]", "more, or a comma before it")


def _whole(path: Path) -> Iterator[Any]:
    if path.stat().st_size > MOST_WHOLE_BYTES:
        raise Wrong(None, None, "one object a line, as export-runs writes them", "a large file of another layout")
    found = _parsed(path.read_bytes().removeprefix(codecs.BOM_UTF8), None)
    if not isinstance(found, list):
        raise Wrong(None, None, "an array of runs", type(found).__name__)
    yield from found


def _parsed(text: bytes, row: int | None) -> Any:
    try:
        return json.loads(text.decode(), object_pairs_hook=once, parse_constant=refused)
    except UnicodeDecodeError as error:
        raise Wrong(row, None, "text in UTF-8", f"the byte 0x{text[error.start]:02x}") from error
    except RecursionError:
        raise Wrong(row, None, "JSON of a few levels", "one of very many") from None
    except ValueError as error:
        raise Wrong(row, None, "JSON", str(error)[:200]) from error


def _meant(column: Column, value: Any, row: int) -> Any:
    if value is None:
        return None
    if column.kind == "json":
        return json.dumps(value)
    if column.kind == "bytes":
        try:
            return base64.b64decode(value, validate=True)
        except (TypeError, ValueError):
            raise Wrong(row, column.name, "base64", repr(value)[:80]) from None
    return value
