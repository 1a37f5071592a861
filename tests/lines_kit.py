"""A runner's made-up lines -> the Run that they become, by the same way as a real one's."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from harness.devices.depot import Depot
from harness.devices.local import Local
from harness.judging import summarised
from harness.measure import session as measuring
from harness.types import DeviceSpec, Run

Line = dict[str, Any]
START: Line = {"type": "start", "runtime": "executorch", "version": "1.5.1", "loader": "mmap", "locked": "none",
               "page_size": 4096, "exec_to_main_ns": 20_000_000}  # fmt: skip
LOAD: Line = {"type": "load", "program_ns": 1_000_000, "method_ns": 4_000_000, "file_bytes": 8_000_000}
FIRST: Line = {"type": "first", "ns": 7_000_000, "input_ns": 10}
END: Line = {"type": "end", "status": "ok", "blocks": 0, "samples": 0}

_NOTES: dict[str, Any] = {
    "run": "r1", "session": "s1", "attempt": 1, "block": 0, "position": 0, "artifact_sha256": "0",
    "started_utc": "2026-01-01T00:00:00.000+00:00", "conditions": {}, "provenance": {},
    "cell": {"variant": "fp32", "seed": 0, "exporter": "executorch", "backend": "xnnpack", "input": "default",
             "device_id": "id-local", "threads": 1, "cpus": "any", "context": "host"},
}  # fmt: skip


def collected(purpose: str, *lines: Line, repeat: int = 0, state: str = "exit 0") -> Run:
    """The Run of these lines (`seq` and `t_ns` are put to them), with its summary where it is ok."""
    notes = _NOTES | {"purpose": purpose, "repeat": repeat, "block": repeat, "run": f"{purpose}-{repeat}"}
    with tempfile.TemporaryDirectory() as workdir:
        depot = Depot(Local(DeviceSpec(name="local", uri="local")), workdir, "local")
        folder = Path(depot.run_dir(notes["run"]))
        folder.mkdir(parents=True)
        text = "".join(json.dumps({"seq": i, "t_ns": i} | line) + "\n" for i, line in enumerate(lines))
        (folder / "result.jsonl").write_text(text)
        (folder / "stderr").touch()
        run = measuring.collect(depot, notes["run"], state, notes).run
    return summarised(run) if run.status == "ok" else run
