"""How long `harness export-runs` and `import-runs` take on 100,000 runs of 200 samples, and how much memory.

    python benchmarks/export_runs.py [--runs N] [--samples N] [--formats csv,json,parquet] [--keep DIR]

The numbers are made up (they mean nothing), their conditions and summaries are of the size that real ones have; the
store, the commands and the files are the real ones. The named alternative is pandas: the same runs and samples read
from the store into one frame, and its to_csv, to_json or to_parquet. Targets: an export < 30 s and < 1 GB in each."""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np

from harness.analyze import stats
from harness.store import Store, exact
from harness.store.rows import cell_key
from harness.types import (
    Artifact,
    Build,
    Cell,
    CheckSet,
    DeviceFacts,
    DeviceSpec,
    Package,
    SessionDevice,
    TensorFile,
    TensorSpec,
)

VARIANTS = 100
PORTION = 500
MEASURE = {"threads": [1], "cpus": ["any"], "repeats": 5, "min_seconds": 1.0, "min_iterations": 100, "memory": True,
           "energy": "off", "accuracy_samples": 500}  # fmt: skip


def package() -> Package:
    builds = tuple(
        Build(
            variant=f"v{n:03}", seed=0, exporter="executorch", backend="xnnpack", input="default", status="ok",
            artifact=Artifact(sha256=f"{n:064}", suffix=".pte", size_bytes=1_000_000, compressed_bytes=900_000,
                              runtime="executorch", toolchain={}),
        )
        for n in range(VARIANTS)
    )  # fmt: skip
    file = TensorFile(spec=TensorSpec(dtype="float32", shape=(1, 16)), sha256="b" * 64, samples=1)
    check = CheckSet(input="default", inputs=(file,), has_data=False)
    experiment = {"name": "large", "measure": MEASURE, "objectives": ["latency_ms"]}
    return Package(schema=1, experiment=experiment, yaml="", builds=builds, checks={"default": check}, nulls={})


def snapshot(chance: np.random.Generator) -> dict[str, Any]:
    return {
        "uptime_s": round(float(chance.uniform(1e3, 1e5)), 2),
        "zones_c": {f"thermal_zone{n}": round(float(chance.uniform(30, 50)), 1) for n in range(6)},
        "skin_c": None, "battery_c": 31.2, "battery_percent": 87, "charging": False, "thermal_status": 0,
        "throttled": None, "max_khz": {"policy0": 1800000, "policy4": 2600000},
        "governors": {"policy0": "schedutil", "policy4": "schedutil"}, "loadavg": 0.61, "screen_on": False,
    }  # fmt: skip


def conditions(chance: np.random.Generator) -> dict[str, Any]:
    """As a latency run on a phone has them: about 3 kB."""
    kernel = [int(v) for v in chance.normal(4.7e6, 5e4, 20)]
    return {
        "prepared": {"set": {}, "not_set": {}}, "cpu_mask": "any", "before": snapshot(chance),
        "gate": {"state": "open", "waited_s": float(chance.uniform(0, 1))},
        "enrolled": {"sentinel_ns": 4.7e6, "sentinel_sd": 0.007, "change_sd": None, "rest": snapshot(chance)},
        "runner": {"threads_requested": 1, "threads": 1, "cpu_mask": "0xff", "clock": "CLOCK_MONOTONIC_RAW",
                   "loader": "mmap", "locked": "none", "exec_to_main_ns": 3038394, "loop_overhead_ns": 55.2,
                   "backends": ["XnnpackBackend"], "runtime": "executorch", "version": "1.5.1"},
        "load": {"program_ns": 34271, "method_ns": 338078, "file_bytes": 72360, "arenas_bytes": 3248}, "memory": [],
        "end": {"status": "ok", "blocks": 28, "samples": 200, "ended_by": "enough", "involuntary_switches": 283},
        "sentinel": [{"when": "before", "samples_ns": kernel}, {"when": "after", "samples_ns": kernel[::-1]}],
        "placement": [{"cpus_allowed": "0xff", "cgroup": "0::/", "cpu_counts": {"0": 20574, "1": 64328}}],
        "after": snapshot(chance),
    }  # fmt: skip


def fill(store: Store, runs: int, samples: int) -> None:
    chance = np.random.default_rng(0)
    spec = DeviceSpec(name="phone", uri="adb://serial0", prepare={})
    facts = DeviceFacts(device_id="3f9a01c2", abi="aarch64", cores=8, os="Android 16", model="made up")
    session = store.begin(
        package=package(), plan=MEASURE | {"seed": 1}, plan_key="0" * 64, label="v1", quick=False, devices=[spec]
    )
    store.put_device(session, SessionDevice(spec=spec, facts=facts, runners={"executorch": "a" * 64}))
    provenance = {"harness": "0.1.0", "runner_sha256": "a" * 64, "os": "Android 16", "kernel": "Linux 6.1",
                  "runtime": "executorch 1.5.1"}  # fmt: skip
    with exact.writing(store) as writer:
        for first in range(0, runs, PORTION):
            rows = [_run(session, n, samples, provenance, chance) for n in range(first, min(first + PORTION, runs))]
            writer.runs(rows)
    store.finish(session)


def _run(session: str, n: int, samples: int, provenance: Any, chance: np.random.Generator) -> Any:
    cell = Cell(variant=f"v{n % VARIANTS:03}", seed=0, exporter="executorch", backend="xnnpack", input="default",
                device_id="3f9a01c2", threads=1, cpus="any", context="shell-bundle")  # fmt: skip
    latency = (1e6 * chance.lognormal(0, 0.02, samples)).astype(np.uint64)
    load_ms = float(chance.lognormal(0, 0.05))
    measured = [{"metric": "load_ms", "values": [load_ms], "phase": "load", "source": "runner"}]
    told = {"cell": dataclasses.asdict(cell), "caveats": [], "measurements": measured,
            "summary": stats.summary(latency), "conditions": conditions(chance), "provenance": provenance}  # fmt: skip
    row = {
        "id": uuid.uuid4().hex, "session_id": session, "cell_key": cell_key(cell), "variant": cell.variant,
        "device_id": cell.device_id, "purpose": "latency", "repeat": n // VARIANTS, "attempt": 1, "counts": True,
        "status": "ok", "reason": None, "block": n // VARIANTS, "position": n % VARIANTS,
        "started_utc": f"2026-01-01T{n // 3600 % 24:02}:{n // 60 % 60:02}:{n % 60:02}.000+00:00",
        "boot_id": "a90335f4-740b-4cb5-82bf-9235578b1122", "start_boottime_ns": 10**12 + n,
        "end_boottime_ns": 10**12 + n + 10**9, "artifact_sha256": f"{n % VARIANTS:064}",
    } | {name: json.dumps(value) for name, value in told.items()}  # fmt: skip
    return row, {"latency_ns": latency, "input_ns": latency // 100, "warmup_ns": latency[: samples // 10]}


#: run in a process of its own, of which the last line says CPU seconds and the most memory in kB
_COUNTED = """
import contextlib, resource, sys
sys.path.insert(0, sys.argv.pop(1))
try:
    if sys.argv[1] == "pandas":
        import export_runs
        export_runs.with_pandas(*sys.argv[2:])
    else:
        from harness.cli import main
        main(sys.argv[1:])
except SystemExit as end:
    if end.code:
        raise
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
"""


def timed(*words: str) -> tuple[float, float, float]:
    """(seconds, of which CPU seconds, MB at most)."""
    began = time.perf_counter()
    command = [sys.executable, "-c", _COUNTED, str(Path(__file__).parent), *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    cpu_s, most_kb = map(float, done.stdout.splitlines()[-1].split())
    return time.perf_counter() - began, cpu_s, most_kb / 1024


def told(took_s: float, cpu_s: float, most_mb: float, file: Path | None = None) -> str:
    size = "" if file is None else f", {file.stat().st_size / 1e6:.0f} MB"
    return f"{took_s:.1f} s ({cpu_s:.1f} s CPU), at most {most_mb:.0f} MB of memory{size}"


def with_pandas(url: str, form: str, out: str) -> None:
    """What the same costs where all runs become one frame."""
    import pandas

    store = Store.open(url)
    rows = [
        {"run": run.id, "session": run.session, **dataclasses.asdict(run.cell), "purpose": run.purpose,
         "repeat": run.repeat, "status": run.status,
         "conditions": json.dumps(run.conditions), "summary": json.dumps(run.summary),
         "provenance": json.dumps(run.provenance), **{name: values.tolist() for name, values in run.arrays.items()}}
        for run in store.runs(arrays=True)
    ]  # fmt: skip
    store.close()
    frame = pandas.DataFrame(rows)
    if form == "csv":
        frame.to_csv(out, index=False)
    elif form == "json":
        frame.to_json(out, orient="records", indent=1)
    else:
        frame.to_parquet(out, index=False, compression="zstd")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--formats", default="csv,json,parquet")
    parser.add_argument("--imports", action="store_true", help="time import-runs as well")
    parser.add_argument("--keep", type=Path, help="leave the store and the files in this folder")
    asked = parser.parse_args()
    folder = asked.keep or Path(tempfile.mkdtemp(prefix="export-"))
    folder.mkdir(parents=True, exist_ok=True)
    url = f"sqlite:///{folder}/harness.db"
    if not (folder / "harness.db").exists():
        store = Store.open(url, create=True)
        fill(store, asked.runs, asked.samples)
        store.close()
    size_mb = (folder / "harness.db").stat().st_size / 1e6
    print(f"{asked.runs} runs of {asked.samples} samples: {size_mb:.0f} MB of store")
    kept = True
    for form in asked.formats.split(","):
        out, other = folder / f"runs.{form}", folder / f"pandas.{form}"
        ours = timed("export-runs", "--store", url, "-o", str(out))
        theirs = timed("pandas", url, form, str(other))
        kept &= ours[0] < 30 and ours[2] < 1000
        print(f"{form}: {told(*ours, out)}")
        print(f"{form} by pandas: {told(*theirs, other)}; ours takes {ours[0] / theirs[0]:.2f}x of that time")
        if asked.imports:
            print(f"{form} import: {told(*timed('import-runs', str(out), '--store', f'sqlite:///{folder}/{form}.db'))}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
