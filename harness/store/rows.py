"""Sessions' devices and runs <-> rows of their tables."""

from __future__ import annotations

import dataclasses
import datetime
import json
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy.engine import RowMapping

from harness.store import blob
from harness.types import Cell, DeviceFacts, DeviceSpec, Measurement, Package, Run, SessionDevice

Slot = tuple[str, str, int]  # (cell key, purpose, repeat)
PACKAGE = TypeAdapter(Package)
SPEC = TypeAdapter(DeviceSpec)


def cell_key(cell: Cell) -> str:
    return json.dumps(dataclasses.asdict(cell), sort_keys=True, separators=(",", ":"))


def utc_now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def to_row(run: Run) -> dict[str, Any]:
    """The run as it stands in its table, but for its samples."""
    row = dataclasses.asdict(dataclasses.replace(run, arrays={}))
    del row["arrays"]
    return row | {
        "session_id": row.pop("session"),
        "cell_key": cell_key(run.cell),
        "variant": run.cell.variant,
        "device_id": run.cell.device_id,
        "caveats": list(run.caveats),
        "measurements": [dataclasses.asdict(m) for m in run.measurements],
    }


def to_device(row: RowMapping) -> SessionDevice:
    facts = row["facts"]
    return SessionDevice(
        spec=SPEC.validate_python(row["spec"]),
        facts=None if facts is None else DeviceFacts(**(facts | {"clusters": tuple(facts["clusters"])})),
        runners=row["runners"],
        unreached=row["unreached"],
    )


_RUN_FIELDS = [
    f.name for f in dataclasses.fields(Run) if f.name not in ("session", "cell", "caveats", "measurements", "arrays")
]


def to_run(row: RowMapping) -> Run:
    """Raises StoreError where its samples are damaged."""
    return Run(
        **{name: row[name] for name in _RUN_FIELDS},
        session=row["session_id"],
        cell=Cell(**row["cell"]),
        caveats=tuple(row["caveats"]),
        measurements=tuple(Measurement(**(m | {"values": tuple(m["values"])})) for m in row["measurements"]),
        arrays=blob.decode(row["blob"]) if row.get("blob") is not None else {},
    )
