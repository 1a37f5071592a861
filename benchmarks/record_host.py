"""Records the noise of this computer for the simulated device `recorded-host`.

    python -m benchmarks.record_host FILE.pte

Runs the real runner on the file in fresh processes, and writes the median of each run, the calibration kernel around
it, and the iterations of one run. Leave the computer alone meanwhile: what it is disturbed by is recorded too."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from harness.devices import runners

TARGET = Path(__file__).resolve().parent.parent / "harness" / "sim" / "data" / "recorded-host.json"
RUNS, SAMPLES = 60, 4000


def one_run(binary: Path, model: Path, inputs: list[str], seconds: float) -> list[dict[str, Any]]:
    """The runner's lines. Raises CalledProcessError."""
    argv = [str(binary), "--purpose", "latency", "--model", str(model), *inputs, "--min-seconds", str(seconds)]
    done = subprocess.run(argv, capture_output=True, check=True, timeout=300)
    return [json.loads(line) for line in done.stdout.splitlines()]


def described(binary: Path, model: Path, scratch: Path) -> list[str]:
    """--input arguments of made-up inputs, as the file describes its own."""
    done = subprocess.run([str(binary), "--purpose", "load", "--model", str(model)], capture_output=True, check=True)
    load = next(line for line in map(json.loads, done.stdout.splitlines()) if line["type"] == "load")
    out = []
    for index, tensor in enumerate(load["inputs"]):
        file = scratch / f"{index}.bin"
        np.random.default_rng(index).random(tensor["shape"]).astype(tensor["dtype"]).tofile(file)
        out += ["--input", f"{index}:{tensor['dtype']}:{','.join(map(str, tensor['shape']))}:{file}"]
    return out


def busy() -> tuple[int, int]:
    """(ticks that were not idle, all ticks) of all CPUs so far."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def record(model: Path, runs: int, seconds: float, runtime: str) -> dict[str, Any]:
    binary = runners.ensure(runtime, runners.host_target()).binary
    medians: list[float] = []
    around: dict[str, list[float]] = {"before": [], "after": []}
    longest: list[int] = []
    start, began = busy(), time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        inputs = described(binary, model, Path(scratch))
        for number in range(runs):
            lines = one_run(binary, model, inputs, seconds)
            samples = [ns for x in lines if x["type"] == "block" and x["phase"] == "steady" for ns in x["samples_ns"]]
            medians.append(statistics.median(samples))
            for line in lines:
                if line["type"] == "sentinel":
                    around[line["when"]].append(statistics.median(line["samples_ns"]))
            longest = max(longest, samples, key=len)
            print(f"{number + 1}/{runs}: {medians[-1] / 1e3:.1f} µs", flush=True)
    end, wall = busy(), time.monotonic() - began
    out: dict[str, Any] = {
        "recorded": {
            "utc": time.strftime("%Y-%m-%d", time.gmtime()), "system": f"{platform.system()} {platform.release()}",
            "machine": platform.machine(), "runs": runs, "seconds": seconds,
            "busy_share": round((end[0] - start[0]) / max(1, end[1] - start[1]), 2), "wall_s": round(wall),
        },
        "medians_ns": [round(value) for value in medians],
        "samples_ns": longest[:SAMPLES],
    }  # fmt: skip
    return out | {f"sentinel_{when}_ns": [round(v) for v in found] for when, found in around.items() if found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--runtime", default="executorch")
    parser.add_argument("-o", "--out", type=Path, default=TARGET)
    args = parser.parse_args()
    found = record(args.model, args.runs, args.seconds, args.runtime)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
