"""How long `harness report` takes on a store of 200 variants × 5 devices × 30 labels, and how large its page is.

    python benchmarks/big_store.py [--variants N] [--devices N] [--labels N] [--keep DIR]

The numbers are made up (they mean nothing); the store, the command and the page are the real ones. The newest label has
its runs (10,000); the older ones are as `harness run` leaves them to history, as digests. The named alternative is
working the newest label's digest out of its runs once more. Targets: < 15 s, < 20 MB."""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import numpy as np
import zstandard

from harness import records
from harness.analyze import digest as digests
from harness.analyze import stats
from harness.store import Store
from harness.types import Artifact, Build, Cell, DeviceFacts, DeviceSpec, Measurement, Package, Run, SessionDevice

PLAN = {"threads": [1], "cpus": ["any"], "repeats": 5, "min_seconds": 1.0, "min_iterations": 100, "memory": True,
        "energy": "off", "accuracy_samples": 500, "seed": 0}  # fmt: skip
NAME = "large"


def package(variants: int) -> Package:
    builds = tuple(
        Build(
            variant=f"v{n:03}", seed=0, exporter="executorch", backend="xnnpack", input="default", status="ok",
            facts={"macs": 1e6 * (n + 1), "parameters": 1000 * (n + 1), "sparsity": 0.0, "delegated_fraction": 1.0},
            artifact=Artifact(sha256=f"{n:064}", suffix=".pte", size_bytes=1_000_000 - 4000 * n,
                              compressed_bytes=900_000 - 4000 * n, runtime="executorch", toolchain={}),
        )
        for n in range(variants)
    )  # fmt: skip
    experiment = {
        "name": NAME, "data": None, "reference": "v000", "measure": PLAN,
        "objectives": ["latency_ms", "peak_memory_bytes", "size_bytes"],
        "pick": {"minimize": "latency_ms", "where": [], "confidence": 0.9},
    }  # fmt: skip
    return Package(schema=1, experiment=experiment, yaml="", builds=builds, checks={}, nulls={})


def specs(devices: int) -> list[DeviceSpec]:
    return [DeviceSpec(name=f"phone{n}", uri=f"adb://serial{n}") for n in range(devices)]


def begun(store: Store, variants: int, devices: int, label: str) -> str:
    session = store.begin(
        package=package(variants), plan=PLAN, plan_key=label, label=label, quick=False, devices=specs(devices)
    )
    for n, spec in enumerate(specs(devices)):
        facts = DeviceFacts(device_id=f"{n:08}", abi="aarch64", cores=8, os="Android 16")
        store.put_device(session, SessionDevice(spec=spec, facts=facts, runners={"executorch": "a" * 64}))
    return session


def measured(store: Store, session: str, variants: int, devices: int, chance: np.random.Generator) -> None:
    """5 latency and 5 memory runs of every cell."""
    for repeat in range(5):
        for d in range(devices):
            for n in range(variants):
                cell = Cell(variant=f"v{n:03}", seed=0, exporter="executorch", backend="xnnpack", input="default",
                            device_id=f"{d:08}", threads=1, cpus="any", context="shell-bundle")  # fmt: skip
                centre = 1e6 * (d + 1) * (1.0 - 0.002 * n + 0.3 * ((7 * n) % 11) / 11)
                values = (centre * chance.lognormal(0, 0.02, 200)).astype(np.uint64)
                common = dict(session=session, cell=cell, repeat=repeat, attempt=1, counts=True, position=n)
                peak = 1e7 + 1e5 * ((13 * n) % 17) + chance.normal(0, 2e4)
                store.append(Run(
                    **common, id=uuid.uuid4().hex, purpose="memory", status="ok", block=repeat,
                    measurements=(Measurement(metric="peak_memory_bytes", values=(float(peak),)),),
                ))  # fmt: skip
                store.append(Run(
                    **common, id=uuid.uuid4().hex, purpose="latency", status="ok", block=10 + repeat,
                    started_utc=f"2026-01-01T00:00:{repeat:06}", summary=stats.summary(values),
                    measurements=(Measurement(metric="load_ms", values=(float(chance.lognormal(0, 0.05)),)),),
                ))  # fmt: skip


def older(newest: digests.Digest, session: str, label: str, day: int, chance: np.random.Generator) -> digests.Digest:
    """The same figures with the noise of another day; every tenth cell was 8 % faster before the 20th label."""
    cells = []
    for i, cell in enumerate(newest.cells):
        was = 0.92 if i % 10 == 0 and day < 20 else 1.0
        metrics = {
            name: known if not known.blocks or known.value is None else dataclasses.replace(
                known, value=known.value * was,
                blocks={b: v * was * float(chance.lognormal(0, 0.01)) for b, v in known.blocks.items()},
            )
            for name, known in cell.metrics.items()
        }  # fmt: skip
        cells.append(dataclasses.replace(cell, metrics=metrics))
    return dataclasses.replace(newest, session=session, label=label, cells=tuple(cells))


def fill(store: Store, variants: int, devices: int, labels: int) -> float:
    """Returns the seconds that one digest takes to make."""
    chance = np.random.default_rng(0)
    names = [f"v1.{n}" for n in range(labels)]
    sessions = [begun(store, variants, devices, name) for name in names]
    for session in sessions:
        store.finish(session)
    measured(store, sessions[-1], variants, devices, chance)
    began = time.perf_counter()
    newest = records.digest_of(store, sessions[-1])
    took = time.perf_counter() - began
    listed = {s["id"]: s for s in store.list_sessions()}
    for day, (session, name) in enumerate(zip(sessions[:-1], names, strict=False)):
        found = dataclasses.replace(
            older(newest, session, name, day, chance), created_utc=listed[session]["created_utc"]
        )
        packed = zstandard.ZstdCompressor(level=3).compress(digests.to_json(found))
        store.put_digest(session, records.made_of(listed[session]), packed)
    store.set_baseline(NAME, names[0])
    return took


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", type=int, default=200)
    parser.add_argument("--devices", type=int, default=5)
    parser.add_argument("--labels", type=int, default=30)
    parser.add_argument("--keep", type=Path, help="leave store and page in this folder")
    asked = parser.parse_args()
    folder = asked.keep or Path(tempfile.mkdtemp(prefix="large-"))
    folder.mkdir(parents=True, exist_ok=True)
    url = f"sqlite:///{folder}/harness.db"
    store = Store.open(url, create=True)
    again_s = fill(store, asked.variants, asked.devices, asked.labels)
    store.close()
    print(f"a store of {(folder / 'harness.db').stat().st_size / 1e6:.0f} MB")
    page = folder / "page.html"
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "harness", "report", "--store", url, "-o", str(page)], check=True,
        stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONWARNINGS": "ignore"},
    )  # fmt: skip
    report_s, size = time.perf_counter() - began, page.stat().st_size
    print(f"harness report: {report_s:.1f} s (target < 15), page {size / 1e6:.1f} MB (target < 20)")
    print(f"making one digest of its runs: {again_s:.1f} s; the whole report takes {report_s / again_s:.2f}x of that")
    return 0 if report_s < 15 and size < 20e6 else 1


if __name__ == "__main__":
    sys.exit(main())
