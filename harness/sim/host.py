"""What a real model answers on the simulated device: this computer's own runner computes it, from the pushed files."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.sim.world import File, Process, World

TIMEOUT_S = 600
_TOLD = 2000  # characters of stderr
_PATHS = ("--model", "--outputs")


def compute(world: World, argv: Sequence[str], seconds: float) -> Process | None:
    """The run made here, its lines at the device's time; None where a file is not on this computer.

    It takes `seconds` of the device's time. `argv`: the bundle's loader and entry, then the runner's flags."""
    start = list(argv).index("--purpose")
    entry = world.files.get(argv[start - 1])
    if entry is None or entry.local is None:
        return None
    with tempfile.TemporaryDirectory(prefix="harness-sim-") as scratch:
        out = Path(scratch)
        words = _here(world, list(argv[start:]), out)
        if words is None:
            return None
        try:
            command = [str(entry.local), *words]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            said = f"computing it here failed: {error}"[:_TOLD].encode()
            now = world.t
            return Process(argv=argv, start_t=now, end_t=now, exit_code=4, stderr=said, runner=True)
        files = {f"out/{path.name}": File(data=path.read_bytes()) for path in out.iterdir() if path.is_file()}
    lines = [(world.t + seconds, _retimed(line, world.t + seconds)) for line in done.stdout.splitlines(keepends=True)]
    return Process(
        argv=argv,
        start_t=world.t,
        end_t=world.t + seconds,
        exit_code=done.returncode if done.returncode >= 0 else 128 - done.returncode,
        lines=lines,
        stderr=done.stderr[:_TOLD],
        files=files,
        runner=True,
    )


def loaded(world: World, argv: Sequence[str]) -> Process | None:
    """The model loaded here and nothing more; None where a file is not on this computer. `argv`: of any purpose."""
    words = list(argv)
    start, model = words.index("--purpose"), words.index("--model")
    return compute(world, [*words[:start], "--purpose", "load", *words[model : model + 2]], 0.0)


def described(process: Process) -> dict[str, Any]:
    """What a file that was loaded says of its inputs and outputs, as far as its format tells."""
    for _, line in process.lines:
        said = json.loads(line)
        if said.get("type") == "load":
            return {key: said[key] for key in ("inputs", "outputs") if key in said}
    return {}


def _here(world: World, words: list[str], out: Path) -> list[str] | None:
    """The runner's flags with this computer's paths; where it runs and on how many threads does not change outputs."""
    said: list[str] = []
    flags = iter(words)
    for flag in flags:
        if not flag.startswith("--") or flag == "--drop-cache":
            continue
        value = next(flags, "")
        if flag in ("--cpus", "--threads", "--lock", "--sysroot"):
            continue
        path = value.split(":", 3)[-1] if flag == "--input" else value
        if flag in ("--model", "--input"):
            file = world.files.get(path)
            if file is None or file.local is None:
                return None
            value = f"{value[: len(value) - len(path)]}{file.local}"
        elif flag == "--outputs":
            value = str(out)
        said += [flag, value]
    return said


def _retimed(line: bytes, t: float) -> bytes:
    try:
        said = json.loads(line)
        return json.dumps(said | {"t_ns": round(t * 1e9)}).encode() + b"\n"
    except (ValueError, TypeError):
        return line
