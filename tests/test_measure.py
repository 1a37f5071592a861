"""What a runner wrote is data and may be anything: it becomes a Run with a reason, never an error of ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.devices.depot import Depot
from harness.devices.local import Local
from harness.measure import runner, session
from harness.types import DeviceSpec

NOTES: dict[str, Any] = {
    "run": "r1",
    "session": "s",
    "cell": {
        "variant": "a", "seed": 0, "exporter": "executorch", "backend": "xnnpack", "input": "default",
        "device_id": "x", "threads": 1, "cpus": "any", "context": "host",
    },
    "purpose": "latency",
    "repeat": 0,
    "block": 0,
    "position": 0,
    "attempt": 1,
    "artifact_sha256": "0",
    "started_utc": "2026-01-01T00:00:00.000+00:00",
    "conditions": {},
    "provenance": {},
}  # fmt: skip

BLOCK = {
    "type": "block", "phase": "steady", "start_ns": 0, "end_ns": 10, "start_boottime_ns": 0, "end_boottime_ns": 10,
    "samples_ns": [5, 5], "input_ns": [1, 1],
}  # fmt: skip
END = {"type": "end", "status": "ok"}


def lines(*items: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(item | {"seq": i, "t_ns": i}).encode() + b"\n" for i, item in enumerate(items))


def collected(tmp_path: Path, written: bytes, state: str = "exit 0") -> session.Attempt:
    depot = Depot(Local(DeviceSpec(name="local", uri="local")), str(tmp_path), "local")
    folder = Path(depot.run_dir("r1"))
    folder.mkdir(parents=True)
    (folder / "result.jsonl").write_bytes(written)
    (folder / "stderr").write_text("error while loading shared libraries: libx.so\nmore\n")
    return session.collect(depot, "r1", state, NOTES)


def test_a_whole_output_is_ok(tmp_path: Path) -> None:
    run = collected(tmp_path, lines({"type": "start", "boot_id": "b"}, BLOCK, END)).run
    assert (run.status, run.counts) == ("ok", True)
    assert run.arrays["latency_ns"].tolist() == [5, 5]


def test_truncated_output_is_cut_off_and_not_a_short_result(tmp_path: Path) -> None:
    whole = lines({"type": "start"}, BLOCK, END)
    for cut in (0, 1, 20, len(whole) // 2, len(whole) - 3):
        run = collected(tmp_path / str(cut), whole[:cut]).run
        assert (run.status, run.counts) == ("invalid", False)
        assert "cut off" in (run.reason or "")


HOSTILE = [
    b"no json at all\n{}\n",
    b'{"type": 3}\n\n',
    lines({"type": "start"}, END).replace(b'"seq": 1', b'"seq": 7'),
    lines({"type": "load"}, END),
    lines({"type": "load", "program_ns": "x", "method_ns": []}, END),
    lines({"type": "first", "ns": None}, END),
    lines(BLOCK | {"samples_ns": "many"}, END),
    lines(BLOCK | {"samples_ns": [-1]}, END),
    lines(BLOCK | {"samples_ns": [2**80]}, END),
    lines({"type": "block"}, END),
    lines({"type": "output"}, END),
    lines({"type": "output", "sha256": "x", "dtype": "../x", "shape": [1]}, END),
    b"\xff\xfe\x00\n\n",
    lines({"type": "start"}, END).replace(b'"t_ns": 0', b'"t_ns": %d' % 2**70),
    lines({"type": "start"}, END).replace(b'"t_ns": 0', b'"t_ns": "soon"'),
    lines({"type": "sentinel", "samples_ns": [1]}, END).replace(b"[1]", b"[NaN]"),
    lines({"type": "clocks", "policies": [[[[[[[[[]]]]]]]]]}, END),
    b"[" * 100_000 + b"\n\n",
]


@pytest.mark.parametrize("written", HOSTILE)
def test_hostile_output_is_a_failed_run_with_a_reason(tmp_path: Path, written: bytes) -> None:
    run = collected(tmp_path, written).run
    assert run.status == "failed"
    assert run.reason
    assert not run.counts


def test_a_device_that_slept_in_the_run_makes_it_invalid(tmp_path: Path) -> None:
    run = collected(tmp_path, lines(BLOCK | {"end_boottime_ns": 5_000_000}, END)).run
    assert run.status == "invalid"
    assert "slept" in (run.reason or "")


def test_how_a_process_ended_is_named(tmp_path: Path) -> None:
    assert runner.verdict(runner.Lines(lines=()), "exit 139") == ("failed", "the runner died by SIGSEGV")
    assert runner.verdict(runner.Lines(lines=()), "lost")[0] == "invalid"
    run = collected(tmp_path, b"", "exit 127").run
    assert run.status == "failed"
    assert "libx.so" in (run.reason or "")


def test_a_backend_that_the_runner_lacks_is_skipped(tmp_path: Path) -> None:
    error = {"type": "error", "stage": "load", "class": "backend_missing", "message": "needs QnnBackend"}
    run = collected(tmp_path, lines(error, {"type": "end", "status": "error"}), "exit 3").run
    assert (run.status, run.reason) == ("skipped", "needs QnnBackend; see docs/own-runner")
