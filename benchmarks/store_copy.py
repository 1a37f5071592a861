"""How long `harness store copy` takes for 100,000 runs with samples, beside SQLite's own backup of the same file.

    python benchmarks/store_copy.py [--runs N] [--sessions N] [--samples N] [--to URL] [--keep DIR]

The numbers are made up (they mean nothing); the stores and the command are the real ones. `--to`: an empty PostgreSQL
database instead of a second file. The named alternative, `sqlite3.Connection.backup`, copies pages: it can neither
merge, nor check, nor go to a server. Target: 100,000 runs from file to file in less than 60 s."""

from __future__ import annotations

import argparse
import dataclasses
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from sqlalchemy import insert

from harness.store import Store, blob
from harness.store.store import cell_key
from harness.store.tables import runs, samples
from harness.types import Cell, DeviceSpec, Package

CELL = Cell(variant="v", seed=0, exporter="executorch", backend="xnnpack", input="default", device_id="3f9a01c2",
            threads=1, cpus="any", context="host")  # fmt: skip


def fill(store: Store, sessions: int, each: int, size: int) -> None:
    chance = np.random.default_rng(0)
    package = Package(schema=1, experiment={"name": "large"}, yaml="", builds=(), checks={}, nulls={})
    for n in range(sessions):
        session = store.begin(
            package=package, plan={"seed": n}, plan_key=str(n), label=f"v1.{n}", quick=False,
            devices=[DeviceSpec(name="local", uri="local")],
        )  # fmt: skip
        names = [f"{n:016x}{i:016x}" for i in range(each)]
        rows = [row(session, name, i, chance) for i, name in enumerate(names)]
        latencies = (1e6 * chance.lognormal(0, 0.02, (each, size))).astype(np.uint32)
        blobs = [{"run_id": k, "blob": blob.encode({"latency_ns": v})} for k, v in zip(names, latencies, strict=True)]
        with store.engine.begin() as connection:
            connection.execute(insert(runs), rows)
            connection.execute(insert(samples), blobs)
        store.finish(session)


def row(session: str, identity: str, number: int, chance: np.random.Generator) -> dict[str, object]:
    cell = dataclasses.replace(CELL, variant=f"v{number // 5}")
    return dict(
        id=identity, session_id=session, cell_key=cell_key(cell), variant=cell.variant, device_id=cell.device_id,
        cell=dataclasses.asdict(cell), purpose="latency", repeat=number % 5, attempt=1, counts=True, status="ok",
        reason=None, caveats=[], block=0, position=number, started_utc=f"2026-01-01T00:00:{number:06}",
        boot_id="b" * 36, start_boottime_ns=1, end_boottime_ns=2, artifact_sha256="a" * 64,
        measurements=[{"metric": "load_ms", "values": [float(chance.normal())], "phase": "steady"}] * 4,
        summary={f"p{k}": float(v) for k, v in enumerate(chance.normal(size=20))},
        conditions={"runner": {"loop_overhead_ns": 3.0}, "soc_c": [float(v) for v in chance.normal(size=20)]},
        provenance={"harness": "1.0", "runner": "c" * 64},
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--to", help="default another SQLite file")
    parser.add_argument("--keep", type=Path, help="leave the stores in this folder")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="store-copy-") as temporary:
        folder = asked.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        source = folder / "source.db"
        store = Store.open(f"sqlite:///{source}", create=True)
        fill(store, asked.sessions, asked.runs // asked.sessions, asked.samples)
        store.close()
        backup_s = backed_up(source, folder / "backup.db")
        copy = [sys.executable, "-m", "harness", "store", "copy", f"sqlite:///{source}"]
        took = []
        for _ in range(2):
            began = time.perf_counter()
            subprocess.run([*copy, asked.to or f"sqlite:///{folder}/target.db"], check=True, stderr=subprocess.DEVNULL)
            took.append(time.perf_counter() - began)
        peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"{asked.runs} runs, {source.stat().st_size / 1e6:.0f} MB: {took[0]:.1f} s (target < 60), "
              f"again with nothing new {took[1]:.1f} s, at most {peak_mb:.0f} MB of memory")  # fmt: skip
        print(f"SQLite's backup of the file: {backup_s:.2f} s; the copy takes {took[0] / backup_s:.0f}x of that")
        return 0 if took[0] < 60 else 1


def backed_up(source: Path, target: Path) -> float:
    began = time.perf_counter()
    with sqlite3.connect(source) as one, sqlite3.connect(target) as two:
        one.backup(two)
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
