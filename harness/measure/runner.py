"""The contract with the native runner: argv out, JSON lines in (device_scripts/README.md)."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import RunnerError
from harness.types import PlannedRun, Status

MAX_RESULT_BYTES = 512 << 20
MAX_DEPTH = 8  # of a line
MAX_WARMUP_S = 30.0
MAX_STEADY_S = 60.0


def argv(
    prefix: Sequence[str],
    run: str,
    planned: PlannedRun,
    model: str,
    inputs: Sequence[str],
    folder: str,
    lock: str,
    sysroot: str = "/",
) -> list[str]:
    """The runner's command line for one planned run; all paths are the device's."""
    purpose = "latency" if planned.purpose == "burn_in" else planned.purpose
    out = [*prefix, "--purpose", purpose, "--run", run, "--model", model, "--lock", lock]
    for index, (file, path) in enumerate(zip(planned.inputs, inputs, strict=True)):
        shape = ",".join(str(n) for n in file.spec.shape)
        out += ["--input", f"{index}:{file.spec.dtype}:{shape}:{path}"]
    out += ["--threads", str(planned.cell.threads or 1), "--cpus", planned.cpu_mask]
    if purpose in ("accuracy", "check", "profile"):
        out += ["--outputs", f"{folder}/out"]
    if sysroot != "/" and purpose in ("latency", "sustained", "sentinel"):
        out += ["--sysroot", sysroot]
    if purpose == "load":
        out += ["--drop-cache"]
    if purpose in ("idle", "energy", "sustained"):
        out += ["--seconds", f"{planned.min_seconds:g}"]
    if purpose == "latency":
        out += ["--min-seconds", f"{planned.min_seconds:g}", "--min-iterations", str(planned.min_iterations)]
        out += [
            "--max-seconds",
            f"{max(MAX_STEADY_S, planned.min_seconds):g}",
            "--max-warmup-seconds",
            f"{MAX_WARMUP_S:g}",
        ]
    return out


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    if math.isinf(value := float(text)):  # 1e999
        raise ValueError(f"{text[:40]} is too large")
    return value


def _deeper_than(value: Any, depth: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth == 0 or any(isinstance(one, dict | list) and _deeper_than(one, depth - 1) for one in inner)


@dataclass(frozen=True, kw_only=True)
class Lines:
    """A runner's output, read; a last line that was cut in the middle is left out."""

    lines: tuple[dict[str, Any], ...]

    def one(self, kind: str) -> dict[str, Any] | None:
        return next((line for line in self.lines if line["type"] == kind), None)

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["type"] == kind]

    def samples(self, phase: str, key: str) -> np.ndarray[Any, Any]:
        """The raw nanoseconds of every block of this phase, in order."""
        parts = [np.asarray(line[key], dtype=np.uint64) for line in self.all("block") if line["phase"] == phase]
        return np.concatenate(parts) if parts else np.empty(0, np.uint64)


def read(path: Path) -> Lines:
    """Raises RunnerError for what no runner of ours writes (a gap in seq, not JSON before the last line)."""
    if path.stat().st_size > MAX_RESULT_BYTES:
        raise RunnerError(f"the runner wrote more than {MAX_RESULT_BYTES} bytes")
    out: list[dict[str, Any]] = []
    raw = path.read_bytes().split(b"\n")
    for number, text in enumerate(raw):
        last = number == len(raw) - 1
        if not text:
            continue
        try:
            line = json.loads(text, parse_constant=_no_number, parse_float=_finite)
            if not isinstance(line, dict) or not isinstance(line.get("type"), str):
                raise ValueError("not an object with a type")
            if type(line.get("t_ns", 0)) is not int or not 0 <= line.get("t_ns", 0) < 1 << 63:
                raise ValueError("t_ns is no time")
            if _deeper_than(line, MAX_DEPTH):
                raise ValueError("it is nested too deep")
        except (ValueError, RecursionError) as error:
            if last:  # no newline behind it: the runner was stopped while it wrote
                break
            raise RunnerError(f"line {number + 1} of the runner's output is not understood: {error}") from error
        if line.get("seq") != len(out):
            raise RunnerError(f"line {number + 1} of the runner's output has seq {line.get('seq')!r}, not {len(out)}")
        out.append(line)
    return Lines(lines=tuple(out))


def verdict(lines: Lines, state: str) -> tuple[Status, str | None]:
    """What became of a run, from its lines and from how its process ended (a state of `Depot.poll`)."""
    if state == "deadline":
        return "failed", f"timed out: the runner hung and was ended; its last word was {_last_word(lines)}"
    if state == "oom":
        return "failed", "oom_killed: the device ran out of memory, and its kernel ended the runner"
    if state == "rebooted":
        return "invalid", "cut off: the device rebooted during the run"
    code = int(state.split()[1]) if state.startswith("exit ") else None
    if code is not None and code > 128:
        return "failed", _died(code - 128)
    error = lines.one("error")
    if error is not None:
        reason = f"{error.get('class', 'error')} at {error.get('stage', '?')}: {error.get('message', '')}"[:1000]
        if error.get("class") == "backend_missing":
            return "skipped", f"{error.get('message', '')}; see docs/own-runner"[:1000]
        if error.get("class") == "profile":
            return "skipped", str(error.get("message", ""))[:1000]
        return ("invalid" if error.get("class") == "busy" else "failed"), reason
    end = lines.one("end")
    if code and end is None:
        return "failed", f"the runner ended with exit {code} and said nothing"
    if code is None or end is None:
        return "invalid", "cut off: the runner did not write its end"
    if end.get("status") == "not_steady":
        return "invalid", f"not_steady: no steady state within {MAX_WARMUP_S:g} s of warm-up"
    if code != 0 or end.get("status") != "ok":
        return "failed", f"the runner ended with exit {code}, status {end.get('status')!r}"
    return "ok", None


def _last_word(lines: Lines) -> str:
    if not lines.lines:
        return "nothing at all"
    first, last = lines.lines[0], lines.lines[-1]
    try:
        return f"{last['type'][:20]!r}, {(int(last['t_ns']) - int(first['t_ns'])) / 1e9:.0f} s after its start"
    except (KeyError, TypeError, ValueError, OverflowError):
        return repr(last["type"][:20])


def _died(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    also = {
        "SIGKILL": " (the kernel out of memory, or somebody's kill)",
        "SIGILL": " (an instruction that this CPU lacks)",
        "SIGSYS": " (a blocked system call: run it from adb shell, not from an app)",
    }
    return f"the runner died by {name}{also.get(name, '')}"
