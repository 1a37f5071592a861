"""Fetching a profile: the trace that the runner wrote beside its lines, whole and no larger than allowed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from harness.errors import RunnerError
from harness.measure import runner

MAX_BYTES = 64 << 20  # kMaxTraceBytes in device_scripts/runner/profile.h
MAX_ITERATIONS = 64


class Depot(Protocol):
    def run_dir(self, run: str) -> str: ...
    @property
    def transport(self) -> Any: ...


def collect(depot: Depot, run: str, lines: runner.Lines, scratch: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of a profile run: `etdump` (bytes of the file), `traced_ns` and `untraced_ns` (uint64, one per
    execution).

    Raises RunnerError where the runner told of no profile, or the file is not what it told; TransportError."""
    line = lines.one("profile")
    if line is None:
        raise RunnerError("the runner told of no profile")
    told = line.get("bytes")
    if type(told) is not int or not 0 < told <= MAX_BYTES:
        raise RunnerError(f"the profile has {told!r} bytes; at most {MAX_BYTES}")
    arrays = {key: _durations(line, key) for key in ("traced_ns", "untraced_ns")}
    local = scratch / "profile.etdump"  # our own name, never the device's
    depot.transport.pull(f"{depot.run_dir(run)}/out/profile.etdump", local)
    if local.stat().st_size != told:
        raise RunnerError(f"the profile has {local.stat().st_size} bytes and not the {told} that were told")
    content = local.read_bytes()
    if hashlib.sha256(content).hexdigest() != line.get("sha256"):
        raise RunnerError("the profile arrived damaged")
    return {"etdump": np.frombuffer(content, np.uint8), **arrays}


def _durations(line: Mapping[str, Any], key: str) -> np.ndarray[Any, Any]:
    values = line.get(key)
    good = isinstance(values, list) and 0 < len(values) <= MAX_ITERATIONS
    if not good or not all(type(v) is int and 0 <= v < 2**63 for v in values or ()):
        raise RunnerError(f"the profile's {key} are no times")
    return np.asarray(values, np.uint64)
