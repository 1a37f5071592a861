"""Rows as Parquet: typed columns, zstd. JSON columns are text, samples are lists, `etdump` is binary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import ToolchainError
from harness.exchange.row import COLUMNS, JSONS, Column, Row
from harness.exchange.wrong import MOST_JSON, MOST_RECORD, MOST_RUNS, MOST_SAMPLES, MOST_TEXT, Wrong

GROUP_ROWS = 5_000
GROUP_BYTES = 64 << 20  # of samples and JSON, in memory
READ_ROWS = 64
READ_BYTES = 32 << 20  # of samples, in memory
#: what one row group of a file may claim, as it is encoded and as it is in memory: ours hold far less
MOST_GROUP_ROWS = 100_000
MOST_GROUP_BYTES = 512 << 20


def write(rows: Iterable[Row], path: Path) -> Iterator[int]:
    """Yields how many rows are written so far. Raises ToolchainError where pyarrow is missing."""
    arrow = _arrow()
    import pyarrow.parquet as parquet

    schema = _schema(arrow)
    held: list[Row] = []
    size = 0
    with parquet.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True) as writer:
        for number, row in enumerate(rows, 1):
            held.append(row)
            size += sum(value.nbytes for value in row.values() if isinstance(value, np.ndarray))
            size += sum(len(row[name] or "") for name in (*JSONS, "session_record"))
            if len(held) >= GROUP_ROWS or size >= GROUP_BYTES:
                writer.write_batch(_batch(arrow, schema, held))
                held, size = [], 0
            yield number
        if held:
            writer.write_batch(_batch(arrow, schema, held))


def _arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ToolchainError("parquet needs pyarrow", 'pip install "ondevice-harness[parquet]"') from error
    return pyarrow


def _schema(arrow: Any) -> Any:
    kinds = {
        "text": arrow.string(), "int": arrow.int64(), "bool": arrow.bool_(), "float": arrow.float64(),
        "json": arrow.string(), "ns": arrow.list_(arrow.uint64()), "f8": arrow.list_(arrow.float64()),
        "bytes": arrow.binary(),
    }  # fmt: skip
    return arrow.schema([arrow.field(c.name, kinds[c.kind], nullable=c.null) for c in COLUMNS])


def _batch(arrow: Any, schema: Any, rows: Sequence[Row]) -> Any:
    made = [_column(arrow, field.type, column, [row[column.name] for row in rows])
            for column, field in zip(COLUMNS, schema, strict=True)]  # fmt: skip
    return arrow.RecordBatch.from_arrays(made, schema=schema)


def _column(arrow: Any, kind: Any, column: Column, values: Sequence[Any]) -> Any:
    if column.kind == "bytes":
        return arrow.array([None if v is None else v.tobytes() for v in values], kind)
    if column.kind not in ("ns", "f8"):
        return arrow.array(values, kind)
    offsets = np.cumsum([0, *(0 if v is None else v.size for v in values)], dtype=np.int32)
    known = [v for v in values if v is not None]
    dtype = np.uint64 if column.kind == "ns" else np.float64
    flat = np.concatenate([np.zeros(0, dtype), *known]).astype(dtype, copy=False)
    absent = arrow.array([v is None for v in values])
    return arrow.ListArray.from_arrays(arrow.array(offsets), arrow.array(flat), kind, mask=absent)


def read(path: Path) -> Iterator[Row]:
    """Values as `check` takes them, the lists as numpy arrays. Raises Wrong for another table, or a damaged one, and
    ToolchainError where pyarrow is missing."""
    arrow = _arrow()
    import pyarrow.parquet as parquet

    # as dictionaries: a few bytes may say that a long text is in thousands of rows
    texts = [column.name for column in COLUMNS if column.kind in ("text", "json", "bytes")]
    number = 1
    try:
        with parquet.ParquetFile(path) as file:
            _check(file, _schema(arrow))
        with parquet.ParquetFile(path, read_dictionary=texts, page_checksum_verification=True) as file:
            for group in range(file.metadata.num_row_groups):
                size = _batch_rows(file.metadata.row_group(group))
                for batch in file.iter_batches(size, row_groups=[group], use_threads=False):
                    yield from _rows(batch, number)
                    number += batch.num_rows
    except (arrow.ArrowException, OSError, MemoryError, OverflowError, ValueError) as error:
        raise Wrong(None, None, "a whole Parquet file", f"a damaged one: {str(error).splitlines()[0][:200]}") from error


def _check(file: Any, schema: Any) -> None:
    found, about = file.schema_arrow, file.metadata
    for column, field in zip(COLUMNS, schema, strict=True):
        position = found.get_field_index(column.name)
        if position < 0:
            told = "no such column" if "session" in found.names else "another table"
            raise Wrong(0, None, f"a column {column.name}", told)
        kind = found.field(position).type
        if not _same(kind, field.type) and not (field.nullable and str(kind) == "null"):
            raise Wrong(0, column.name, f"a column of {field.type}", str(kind)[:80])
    if len(found.names) != len(COLUMNS):
        raise Wrong(0, None, "the columns of export-runs and no others", f"{len(found.names)} columns")
    if about.num_rows > MOST_RUNS:
        raise Wrong(None, None, f"at most {MOST_RUNS} runs", f"{about.num_rows}")
    for number in range(about.num_row_groups):
        group = about.row_group(number)
        size = max(group.total_byte_size, _samples_bytes(group))
        if group.num_rows > MOST_GROUP_ROWS or size > MOST_GROUP_BYTES:
            told = f"row group {number} of {group.num_rows} rows and {size} bytes"
            expected = f"row groups of at most {MOST_GROUP_ROWS} rows and {MOST_GROUP_BYTES} bytes"
            raise Wrong(0, None, expected, told)


def _samples_bytes(group: Any) -> int:
    """In memory: in the file, a value that is repeated takes next to nothing."""
    chunks = [group.column(i) for i in range(group.num_columns)]
    return 8 * sum(int(chunk.num_values) for chunk in chunks if "." in chunk.path_in_schema)


def _batch_rows(group: Any) -> int:
    fitting = READ_BYTES * int(group.num_rows) // max(_samples_bytes(group), 1)
    return max(1, min(READ_ROWS, fitting))


def _same(found: Any, ours: Any) -> bool:
    """Other programs have offsets of 64 bits (`large_`), and call a list's inner field otherwise."""
    kind = str(found).removeprefix("large_")
    if str(ours).startswith("list"):
        return kind.startswith("list") and bool(found.value_type == ours.value_type)
    return kind == str(ours)


def _rows(batch: Any, first: int) -> Iterator[Row]:
    """One at a time: a row's texts may be long, though all rows have the same. `first`: the number of its first row."""
    names = batch.schema.names
    columns = [(column, batch.column(names.index(column.name))) for column in COLUMNS]
    for position in range(batch.num_rows):
        yield {column.name: _value(column, values, position, first + position) for column, values in columns}


def _value(column: Column, values: Any, position: int, row: int) -> Any:
    item = values[position]
    if not item.is_valid:
        return None
    if column.kind in ("ns", "f8"):
        return item.values.to_numpy(zero_copy_only=False)
    if column.kind not in ("text", "json", "bytes"):
        return item.as_py()
    text, most = item.value, _most_bytes(column)  # the value of the dictionary, which is not copied yet
    if (size := text.as_buffer().size) > most:
        raise Wrong(row, column.name, f"at most {most} bytes", f"{size}")
    return text.as_py()


def _most_bytes(column: Column) -> int:
    """A character of UTF-8 has up to four."""
    if column.name == "session_record":
        return 4 * MOST_RECORD
    return {"text": 4 * MOST_TEXT, "json": 4 * MOST_JSON, "bytes": MOST_SAMPLES}[column.kind]
