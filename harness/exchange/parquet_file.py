"""Rows as Parquet: typed columns, zstd. JSON columns are text, samples are lists, `etdump` is binary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import ToolchainError
from harness.exchange.row import COLUMNS, Column, Row
from harness.exchange.wrong import MOST_RUNS, MOST_SAMPLES, Wrong

GROUP_ROWS = 5_000
GROUP_BYTES = 64 << 20  # of samples, in memory
READ_ROWS = 64
#: what one row group of a file may claim: ours hold far less
MOST_GROUP_ROWS = 100_000
MOST_GROUP_BYTES = 2 << 30


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

    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            _check(file, _schema(arrow))
            for batch in file.iter_batches(batch_size=READ_ROWS, use_threads=False):
                yield from _rows(batch)
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
        if not _same(kind, field.type):
            raise Wrong(0, column.name, f"a column of {field.type}", str(kind)[:80])
    if len(found.names) != len(COLUMNS):
        raise Wrong(0, None, "the columns of export-runs and no others", f"{len(found.names)} columns")
    if about.num_rows > MOST_RUNS:
        raise Wrong(None, None, f"at most {MOST_RUNS} runs", f"{about.num_rows}")
    for number in range(about.num_row_groups):
        group = about.row_group(number)
        values = max(group.column(i).num_values for i in range(group.num_columns))
        if group.num_rows > MOST_GROUP_ROWS or group.total_byte_size > MOST_GROUP_BYTES or values > 4 * MOST_SAMPLES:
            told = f"{group.num_rows} rows and {group.total_byte_size} bytes"
            raise Wrong(0, None, "row groups as export-runs writes them", f"one of {told}")


def _same(found: Any, ours: Any) -> bool:
    """A list's inner field may have another name, as other programs and versions call it."""
    if str(ours).startswith("list"):
        return str(found).startswith("list") and bool(found.value_type == ours.value_type)
    return bool(found == ours)


def _rows(batch: Any) -> Iterator[Row]:
    names = batch.schema.names
    columns = {
        column.name: _values(column, batch.column(names.index(column.name))) for column in COLUMNS
    }
    for position in range(batch.num_rows):
        yield {name: values[position] for name, values in columns.items()}


def _values(column: Column, found: Any) -> list[Any]:
    if column.kind not in ("ns", "f8"):
        return list(found.to_pylist())
    return [
        None if not item.is_valid else item.values.to_numpy(zero_copy_only=False) for item in found
    ]
