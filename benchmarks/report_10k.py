"""How long `harness report` takes on a store of 10,000 runs with 5,000 samples each, and how large its page is.

    python benchmarks/report_10k.py [--runs N] [--samples N]

The runs are made up (their numbers mean nothing); the store, the command and the page are the real ones. The named
alternative is summarising every raw sample again, which the stored summaries save. Targets: < 10 s, < 15 MB."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import numpy as np

from harness.analyze import stats
from harness.store import Store
from harness.types import (
    Artifact,
    Build,
    Cell,
    DeviceFacts,
    DeviceSpec,
    Measurement,
    Package,
    Run,
    SessionDevice,
)

VARIANTS = 20
FACTS = DeviceFacts(device_id="00000000", abi="x86_64", cores=2)


def package() -> Package:
    builds = tuple(
        Build(
            variant=f"v{n:02}", seed=0, exporter="executorch", backend="xnnpack", input="default", status="ok",
            artifact=Artifact(sha256=f"{n:064}", suffix=".pte", size_bytes=1000 * (n + 1), compressed_bytes=900,
                              runtime="executorch", toolchain={}),
        )
        for n in range(VARIANTS)
    )  # fmt: skip
    experiment = {
        "name": "synthetic", "data": None, "reference": "v00", "objectives": ["latency_ms", "size_bytes"],
        "pick": {"minimize": "latency_ms", "where": [], "confidence": 0.9},
    }  # fmt: skip
    return Package(schema=1, experiment=experiment, yaml="", builds=builds, checks={}, nulls={})


def fill(store: Store, runs: int, samples: int) -> None:
    repeats = runs // VARIANTS
    plan = {"threads": [1], "cpus": ["any"], "repeats": repeats, "min_seconds": 1.0, "min_iterations": 100,
            "memory": False, "energy": "off", "accuracy_samples": 500, "seed": 0}  # fmt: skip
    spec = DeviceSpec(name="local", uri="local")
    session = store.begin(package=package(), plan=plan, plan_key="x", label=None, quick=False, devices=[spec])
    store.put_device(session, SessionDevice(spec=spec, facts=FACTS))
    chance = np.random.default_rng(0)
    for repeat in range(repeats):
        for n in range(VARIANTS):
            values = chance.lognormal(np.log(1e5 * (n + 1)), 0.05, samples).astype(np.uint64)
            cell = Cell(variant=f"v{n:02}", seed=0, exporter="executorch", backend="xnnpack", input="default",
                        device_id=FACTS.device_id, threads=1, cpus="any")  # fmt: skip
            store.append(
                Run(
                    id=uuid.uuid4().hex, session=session, cell=cell, purpose="latency", repeat=repeat, attempt=1,
                    counts=True, status="ok", block=repeat, position=n, started_utc=f"2026-01-01T00:00:{repeat:06}",
                    measurements=(Measurement(metric="load_ms", values=(1.0,)),), summary=stats.summary(values),
                    arrays={"latency_ns": values},
                )
            )  # fmt: skip
    store.finish(session)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=5_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="report-") as scratch:
        url = f"sqlite:///{scratch}/harness.db"
        store = Store.open(url, create=True)
        fill(store, options.runs, options.samples)
        size = (Path(scratch) / "harness.db").stat().st_size
        print(f"{options.runs} runs of {options.samples} samples: a store of {size / 1e6:.0f} MB")

        command = [sys.executable, "-m", "harness", "report", "--store", url, "-o", f"{scratch}/page.html"]
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONWARNINGS": "ignore"})
        report_s = time.perf_counter() - began
        page = (Path(scratch) / "page.html").stat().st_size

        began = time.perf_counter()
        for run in store.runs(arrays=True):
            stats.summary(run.arrays["latency_ns"])
        again_s = time.perf_counter() - began
    print(f"harness report: {report_s:.1f} s (target < 10), page {page / 1e6:.1f} MB (target < 15)")
    print(f"summarising every raw sample again: {again_s:.1f} s; the report takes {report_s / again_s:.2f}x of that")
    return 0 if report_s < 10 and page < 15e6 else 1


if __name__ == "__main__":
    sys.exit(main())
