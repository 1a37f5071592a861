"""One attempt -> one Run: one process with one purpose on an opened device, followed to its end."""

from __future__ import annotations

import dataclasses
import datetime
import json
import tempfile
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from harness.clock import Clock, stopping
from harness.errors import DeviceError, HarnessError, RunnerError, TransportError
from harness.measure import etdump, footprint, intervals, runner
from harness.types import Cell, Measurement, PlannedRun, Run, Status, TensorSpec

__all__ = ["Attempt", "Interrupted", "collect", "measure", "refused", "stopping"]


class Interrupted(Exception):
    """The user interrupted; what was stored stays, the next start continues."""


#: runs that nothing should disturb before they can have ended
TIMED = ("latency", "burn_in", "idle", "energy", "sustained")
LONGEST_SLEEP_S = 35.0  # the lease is renewed at each look
START_S = 15.0  # seconds in which a started process must have begun
DEVICE_GRACE_S = 60.0  # beyond the host's deadline: then the device itself ends the run


class Depot(Protocol):
    """What this stage needs of a device's folder (harness.devices.depot.Depot)."""

    def put(self, local: Path, sha256: str, suffix: str = "") -> str: ...
    def start(self, run: str, argv: list[str], notes: bytes, limit_s: float) -> str: ...
    def poll(self, run: str) -> str: ...
    def end(self, run: str) -> str: ...
    def run_dir(self, run: str) -> str: ...
    def remove(self, path: str) -> None: ...
    @property
    def transport(self) -> Any: ...
    @property
    def clock(self) -> Clock: ...


NO_LINES = runner.Lines(lines=())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attempt:
    """A Run and, for `check` and `accuracy`, what the model answered: one array of shape (samples, *call) per leaf.
    `lines` is the runner's own account."""

    run: Run
    outputs: tuple[np.ndarray[Any, Any], ...] = ()
    lines: runner.Lines = NO_LINES


def measure(
    planned: PlannedRun,
    *,
    depot: Depot,
    prefix: list[str],
    lock: str,
    session: str,
    attempt: int,
    files: Callable[[str, str], Path],
    conditions: Mapping[str, Any],
    provenance: Mapping[str, Any],
    sysroot: str = "/",
) -> Attempt:
    """Runs it and waits. Raises TransportError when the link fails; everything else becomes a Run.

    `files(sha256, suffix)` is the host's copy of an artifact or tensor file. `sysroot` goes before what the runner
    reads below /sys."""
    notes = _notes(planned, session, attempt, conditions, provenance)
    identity = str(notes["run"])
    model = depot.put(
        files(planned.artifact.sha256, planned.artifact.suffix), planned.artifact.sha256, planned.artifact.suffix
    )
    inputs = [depot.put(files(file.sha256, ".bin"), file.sha256, ".bin") for file in planned.inputs]
    folder = depot.run_dir(identity)
    command = runner.argv(prefix, identity, planned, model, inputs, folder, lock, sysroot)
    try:
        depot.start(identity, command, json.dumps(notes).encode(), deadline_s(planned) + DEVICE_GRACE_S)
        return collect(depot, identity, _follow(depot, identity, planned), notes)
    except TransportError:
        raise  # the run may go on without us; it is collected or ended before anything else is started
    except BaseException:
        depot.end(identity)
        depot.remove(folder)
        raise


def refused(
    planned: PlannedRun,
    *,
    session: str,
    attempt: int,
    status: Status,
    reason: str,
    conditions: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> Run:
    """The record of a run that was not begun: the device was not in the state for it."""
    return _run(_notes(planned, session, attempt, conditions, provenance), NO_LINES, status, reason)


def _notes(
    planned: PlannedRun, session: str, attempt: int, conditions: Mapping[str, Any], provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """What stands beside a run on the device, so that another host can tell whose it is."""
    return {
        "schema": 1,
        "run": uuid.uuid4().hex,
        "session": session,
        "cell": dataclasses.asdict(planned.cell),
        "purpose": planned.purpose,
        "repeat": planned.repeat,
        "block": planned.block,
        "position": planned.position,
        "attempt": attempt,
        "artifact_sha256": planned.artifact.sha256,
        "started_utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        "conditions": dict(conditions),
        "provenance": dict(provenance),
    }


def _follow(depot: Depot, run: str, planned: PlannedRun) -> str:
    """Waits for the end, asking seldom: each look costs the device a process. Ends the run at its deadline.

    Raises DeviceError when the run does not begin, Interrupted when the user interrupts."""
    clock, timed, latest = depot.clock, planned.purpose in TIMED, deadline_s(planned)
    began, pause, most = clock.now(), 0.02, 0.2
    if timed:  # one look in the warm-up, for what dies at once; then none before it can have ended
        clock.sleep(0.3)
        if depot.poll(run) in ("waiting", "running"):
            clock.sleep(min(0.9 + planned.min_seconds, LONGEST_SLEEP_S))
        pause, most = 0.1, 1.0
    while (state := depot.poll(run)) in ("waiting", "running"):
        if stopping.is_set():
            raise Interrupted
        elapsed = clock.now() - began
        if state == "waiting" and elapsed > START_S:
            raise DeviceError(f"the runner did not begin within {START_S:g} s", "is the device's disk full?")
        if elapsed > latest:
            depot.end(run)
            return "deadline"
        left = planned.min_seconds - elapsed if timed else 0.0
        clock.sleep(min(left, LONGEST_SLEEP_S) if left > most else pause)
        pause = min(pause * 1.5, most)
    return state


def deadline_s(planned: PlannedRun) -> float:
    """Seconds that a run may take before it is ended, beyond what the runner's own caps allow."""
    if planned.purpose in TIMED:  # a last iteration may begin just before each cap
        return 2 * (runner.MAX_WARMUP_S + max(runner.MAX_STEADY_S, planned.min_seconds)) + 120
    samples = planned.inputs[0].samples if planned.inputs else 1
    return 300.0 + (2.0 * samples if planned.purpose in ("check", "accuracy") else 0.0)


def collect(depot: Depot, identity: str, state: str, notes: Mapping[str, Any]) -> Attempt:
    """The Run of a process that has ended, from what it left in its folder. What it wrote is data and may be anything.

    Raises TransportError when the link fails."""
    with tempfile.TemporaryDirectory(prefix="harness-") as scratch:
        try:
            path = Path(scratch) / "result.jsonl"
            depot.transport.pull(f"{depot.run_dir(identity)}/result.jsonl", path)
            lines = runner.read(path)
            status: Status
            reason: str | None
            status, reason = runner.verdict(lines, state)
            if status == "failed" and lines.one("error") is None:
                reason = f"{reason}{_last_words(depot, identity, Path(scratch))}"
            outputs = _outputs(depot, identity, lines, Path(scratch)) if status == "ok" else ()
            run = _run(notes, lines, status, reason)
            if status == "ok" and run.purpose == "profile":
                traced = etdump.collect(depot, identity, lines, Path(scratch))
                run = dataclasses.replace(run, arrays=dict(run.arrays) | traced)
            return Attempt(run=run, outputs=outputs, lines=lines)
        except TransportError:
            raise
        except HarnessError as error:
            reason = error.what
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            reason = f"the runner's output is not understood: {type(error).__name__}: {error}"[:500]
    return Attempt(run=_run(notes, NO_LINES, "failed", reason))


def _last_words(depot: Depot, run: str, scratch: Path) -> str:
    """The first line that the process wrote to stderr: a loader's message, say."""
    depot.transport.pull(f"{depot.run_dir(run)}/stderr", scratch / "stderr")
    with (scratch / "stderr").open("rb") as stream:
        line = stream.readline(400).decode("utf-8", "replace").strip()
    return f": {line}" if line else ""


def _outputs(depot: Depot, run: str, lines: runner.Lines, scratch: Path) -> tuple[np.ndarray[Any, Any], ...]:
    import hashlib

    out = []
    for index, line in enumerate(lines.all("output")):
        local = scratch / f"{index}.bin"  # our own name, never the device's
        depot.transport.pull(f"{depot.run_dir(run)}/out/{index}.bin", local)
        if hashlib.sha256(local.read_bytes()).hexdigest() != line["sha256"]:
            raise RunnerError(f"output {index} arrived damaged")
        out.append(read_tensors(local, line["dtype"], line["shape"]))
    return tuple(out)


def read_tensors(path: Path, dtype: str, shape: list[int]) -> np.ndarray[Any, Any]:
    """A raw tensor file as one array of shape (calls, *shape). Raises RunnerError where the size does not fit."""
    try:
        spec = TensorSpec(dtype=dtype, shape=tuple(int(n) for n in shape))
        return np.fromfile(path, spec.numpy).reshape(-1, *spec.shape)
    except (KeyError, ValueError, TypeError) as error:
        raise RunnerError(f"tensor file of dtype {dtype!r}, shape {shape!r} does not fit its size") from error


def _run(notes: Mapping[str, Any], lines: runner.Lines, status: Any, reason: str | None) -> Run:
    start, load, first = lines.one("start") or {}, lines.one("load"), lines.one("first")
    found = []
    if load is not None:
        name = "cold_load_ms" if notes["purpose"] == "load" else "load_ms"
        found.append(Measurement(metric=name, values=((load["program_ns"] + load["method_ns"]) / 1e6,), phase="load"))
    if first is not None:
        found.append(Measurement(metric="first_inference_ms", values=(first["ns"] / 1e6,), phase="first"))
    if notes["purpose"] == "memory" and (peak := footprint.peak_bytes(lines)) is not None:
        found.append(Measurement(metric="peak_memory_bytes", values=(float(peak),), phase="peak"))
    blocks = lines.all("block")
    arrays = {}
    if notes["purpose"] == "sustained":
        arrays = intervals.arrays(lines)
        if status == "ok" and (why := intervals.stopped(lines)):
            status, reason = "invalid", why
    elif blocks:
        arrays = {
            "latency_ns": lines.samples("steady", "samples_ns"),
            "input_ns": lines.samples("steady", "input_ns"),
            "warmup_ns": lines.samples("warmup", "samples_ns"),
        }
        slept = sum(
            (b["end_boottime_ns"] - b["start_boottime_ns"]) - (b["end_ns"] - b["start_ns"]) > 1_000_000 for b in blocks
        )
        if slept and status == "ok":
            status, reason = "invalid", f"suspended: the device slept during {slept} of {len(blocks)} blocks"
    return Run(
        id=notes["run"],
        session=notes["session"],
        cell=Cell(**notes["cell"]),
        purpose=notes["purpose"],
        repeat=notes["repeat"],
        attempt=notes["attempt"],
        counts=status == "ok",
        status=status,
        reason=reason,
        caveats=_caveats(notes["purpose"], lines),
        block=notes["block"],
        position=notes["position"],
        started_utc=notes["started_utc"],
        boot_id=boot if isinstance(boot := start.get("boot_id"), str) else None,
        start_boottime_ns=lines.lines[0].get("t_ns") if lines.lines else None,
        end_boottime_ns=lines.lines[-1].get("t_ns") if lines.lines else None,
        artifact_sha256=notes["artifact_sha256"],
        measurements=tuple(found),
        conditions=dict(notes["conditions"])
        | {"runner": _account(start), "load": _load(load), "memory": _memory(lines), "end": _end(lines)}
        | _surroundings(lines),
        provenance=dict(notes["provenance"]) | ({"runtime": _runtime(start)} if "runtime" in start else {}),
        arrays=arrays,
    )


def _caveats(purpose: str, lines: runner.Lines) -> tuple[str, ...]:
    if purpose == "memory" and footprint.suspect(lines):
        return ("suspect",)
    cache = lines.one("cache") or {}
    proven = cache.get("dropped") is True and cache.get("resident_pages_after", 0) == 0
    return ("cache_unknown",) if purpose == "load" and not proven else ()


def _account(start: Mapping[str, Any]) -> dict[str, Any]:
    """What the runner says of itself, each value of the kind that it must be."""
    kinds: dict[str, type | tuple[type, ...]] = {
        "threads_requested": int,
        "threads": int,
        "cpu_mask": str,
        "clock": str,
        "loader": str,
        "locked": str,
        "exec_to_main_ns": int,
        "loop_overhead_ns": (int, float),
        "backends": list,
        "runtime": str,
        "version": str,
    }
    return {key: start[key] for key, kind in kinds.items() if isinstance(start.get(key), kind)}


def _runtime(start: Mapping[str, Any]) -> str:
    return f"{start['runtime']} {start.get('version', '')}".strip()


def _surroundings(lines: runner.Lines) -> dict[str, Any]:
    """The calibration kernel, the clocks and the CPUs around the timed part, the metered window, the dropped cache:
    each line of the runner as it said it, under its type."""
    kinds = ("sentinel", "clocks", "placement", "window", "cache")
    return {kind: [_said(line) for line in found] for kind in kinds if (found := lines.all(kind))}


def _load(load: Mapping[str, Any] | None) -> dict[str, Any]:
    """How long the parts of loading took, the file's size, the planned buffers (where the runtime has any)."""
    keys = ("program_ns", "method_ns", "file_bytes", "arenas_bytes")
    return {key: load[key] for key in keys if isinstance(load.get(key), int)} if load else {}


def _memory(lines: runner.Lines) -> list[dict[str, Any]]:
    return [_said(line) for line in lines.all("memory")]


def _end(lines: runner.Lines) -> dict[str, Any]:
    return _said(lines.one("end") or {})


def _said(line: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in line.items() if k not in ("type", "seq", "t_ns")}
