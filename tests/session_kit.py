"""Made-up sessions for the analysis: builds, devices, runs with numbers known beforehand, and the document of them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np

from harness.analyze.results import document
from harness.analyze.stats import summary
from harness.types import (
    Artifact,
    Build,
    Cell,
    CheckSet,
    DeviceFacts,
    DeviceSpec,
    Measurement,
    Package,
    Run,
    Session,
    SessionDevice,
    TensorFile,
    TensorSpec,
)

SCHEMAS = Path(__file__).parent / "schema"
SPEC = TensorSpec(dtype="float32", shape=(1, 10))
CHECKED = TensorFile(spec=SPEC, sha256="e" * 64, samples=400)
SLOW = {"fp32": 1.0, "int8": 0.4, "slim": 0.7, "tiny": 0.2}  # ms
CORRECT = {"fp32": 396, "int8": 395, "slim": 394, "tiny": 300}  # of 400
SIZE = {"fp32": 1000_000, "int8": 260_000, "slim": 500_000, "tiny": 90_000}


def schema(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads((SCHEMAS / f"{name}.schema.json").read_text()))


def build(variant: str, **more: Any) -> Build:
    sha = hashlib.sha256(variant.encode()).hexdigest()
    size = SIZE.get(variant, 1000)
    artifact = Artifact(
        sha256=sha, suffix=".pte", size_bytes=size, compressed_bytes=size - 100, runtime="executorch",
        toolchain={"executorch": "1.5.1"},
    )  # fmt: skip
    facts = {"macs": 1000, "parameters": 200, "sparsity": 0.0, "delegated_fraction": 1.0}
    given = {"artifact": artifact, "facts": facts, "expected": (CHECKED,), "host_score": 0.99, "status": "ok"}
    given |= {"seed": 0, "exporter": "executorch", "backend": "xnnpack", "input": "default"}
    return Build(variant=variant, **(given | more))


def device(name: str = "local", **more: Any) -> SessionDevice:
    facts = DeviceFacts(device_id=f"id-{name}", abi="x86_64", cores=2)
    given = {"facts": facts} | more
    return SessionDevice(spec=DeviceSpec(name=name, uri="local"), **given)


def session(builds: Sequence[Build], devices: Sequence[SessionDevice] = (), **more: Any) -> Session:
    """A finished session; keywords that are not its fields go into the experiment."""
    fields = {f.name for f in dataclasses.fields(Session)}
    experiment: dict[str, Any] = {
        "name": "made-up", "reference": "fp32", "data": {"metric": {"name": "accuracy", "better": "higher"}},
        "objectives": ["latency_ms", "peak_memory_bytes", "size_bytes", "accuracy"],
        "measure": {"threads": [1], "cpus": ["any"], "repeats": 5, "memory": True},
        "pick": {"minimize": "latency_ms", "where": ["accuracy_drop <= 0.05"], "confidence": 0.9},
    }  # fmt: skip
    of_checks = ("has_data", "targets", "targets_absent")
    experiment |= {k: v for k, v in more.items() if k not in fields and k not in of_checks}
    package = Package(
        schema=1, experiment=experiment, yaml="", builds=tuple(builds), nulls={},
        checks={"default": CheckSet(input="default", inputs=(CHECKED,), targets=more.get("targets", CHECKED),
                                    has_data=more.get("has_data", True),
                                    targets_absent=more.get("targets_absent"))},
    )  # fmt: skip
    base: dict[str, Any] = {
        "id": "s1", "experiment": "made-up", "kind": "experiment", "label": None, "quick": False, "plan": {},
        "created_utc": "2026-01-02T03:04:05.000+00:00", "finished_utc": "2026-01-02T04:00:00.000+00:00",
        "package": package, "devices": tuple(devices) or (device(),),
    }  # fmt: skip
    return Session(**(base | {k: v for k, v in more.items() if k in fields}))


def run(b: Build, on: SessionDevice, purpose: Any, repeat: int, **more: Any) -> Run:
    assert on.facts
    cell = Cell(
        variant=b.variant, seed=b.seed, exporter=b.exporter, backend=b.backend, input=b.input,
        device_id=on.facts.device_id, threads=more.pop("threads", 1), cpus="any",
        context=on.spec.context,
    )  # fmt: skip
    name = f"{b.variant}-{b.seed}-{on.spec.name}-{purpose}-{repeat}-{more.get('attempt', 0)}"
    base: dict[str, Any] = {"attempt": 0, "counts": True, "status": "ok", "block": repeat}
    return Run(id=name, session="s1", cell=cell, purpose=purpose, repeat=repeat, **(base | more))


SNAPSHOT = {"zones_c": {"cpu-thermal": 45.0, "gpu": 41.0}, "loadavg": 0.25}


def conditions(repeat: int = 0, **more: Any) -> dict[str, Any]:
    """What surrounds a good latency run, as it is stored: a Pi on which the kernel took 1 % longer afterwards, and
    which spent 98 of 100 ticks at 2.4 GHz, on CPU 2 but for a tenth of the inferences."""
    found: dict[str, Any] = {
        "before": SNAPSHOT | {"zones_c": {"cpu-thermal": 45.0 + repeat, "gpu": 41.0}},
        "after": SNAPSHOT | {"zones_c": {"cpu-thermal": 55.0 + repeat}},
        "gate": {"state": "open", "waited_s": 10.0},
        "enrolled": {"sentinel_ns": 100_000.0, "sentinel_sd": 0.02, "rest": SNAPSHOT},
        "sentinel": [
            {"when": "before", "samples_ns": [100_000, 100_000, 130_000]},
            {"when": "after", "samples_ns": [101_000, 101_000, 90_000]},
        ],
        "clocks": [
            {"when": when, "policies": [{"policy": "policy0", "cpus": [0, 1, 2, 3], "time_in_state": ticks}]}
            for when, ticks in (("before", [[1_500_000, 10], [2_400_000, 50]]),
                                ("after", [[1_500_000, 12], [2_400_000, 148]]))
        ],
        "placement": [{"cpu_counts": {"2": 90, "3": 10}}],
        "prepared": {"set": {"governor": "performance"}, "not_set": {"airplane": "only Android has it"}},
    }  # fmt: skip
    return found | more


def sustained_run(b: Build, on: SessionDevice, **more: Any) -> Run:
    """Ten minutes: 1 ms in the first three, then 1.5 ms; the clock is known in the first minute only."""
    points = [
        {"t_s": 3.0 * i, "latency_ms": 1.0 if i < 60 else 1.5, "c": 50.0 + i / 10, "khz": 2_400_000 if i < 20 else None}
        for i in range(200)
    ]
    found = {
        "seconds": 600.0, "inferences": 450_000, "window_s": 60.0, "minute1_ms": 1.0, "minute1_ci95": [0.99, 1.01],
        "end_ms": 1.5, "end_ci95": [1.49, 1.51], "ratio": 1.5, "throttle_after_s": 180.0, "points": points,
    }  # fmt: skip
    return run(b, on, "sustained", 0, **({"summary": found} | more))


def profile_run(b: Build, on: SessionDevice, **more: Any) -> Run:
    rows = [("delegate call", "delegate call", 800.0, 0.8, 1), ("Convolution (NHWC)", "inside delegate", 700.0, 0.7, 4),
            ("aten::add.out", "operator", 150.0, 0.15, 2)]  # fmt: skip
    keys = ("name", "kind", "time_us", "share", "calls")
    found = {"operators": [dict(zip(keys, r, strict=True)) for r in rows], "traced_ms": 1.05, "untraced_ms": 1.0,
             "coverage": 0.95}  # fmt: skip
    return run(b, on, "profile", 0, **({"summary": found} | more))


def value(metric: str, *values: float) -> Measurement:
    return Measurement(metric=metric, values=values)


def latency_run(b: Build, on: SessionDevice, repeat: int, rng: np.random.Generator, **more: Any) -> Run:
    centre = SLOW.get(b.variant, 1.0) * np.exp(rng.normal(0, 0.005))
    found = summary((centre * 1e6 * np.exp(rng.normal(0, 0.02, 500))).astype(np.uint32))
    said = (value("load_ms", 2.0 + 0.1 * repeat), value("first_inference_ms", 5.0 + 0.1 * repeat))
    return run(b, on, "latency", repeat, **({"summary": found, "measurements": said} | more))


def memory_run(b: Build, on: SessionDevice, repeat: int, **more: Any) -> Run:
    peak = value("peak_memory_bytes", 5_000_000 + SIZE.get(b.variant, 1000) + 4096 * repeat)
    return run(b, on, "memory", repeat, measurements=(peak,), **more)


def accuracy_run(b: Build, on: SessionDevice, score: Any = None, **more: Any) -> Run:
    """`score`: 0 or 1 for each of 400 samples; by default the first CORRECT ones are right."""
    if score is None:
        score = np.arange(400) < CORRECT.get(b.variant, 390)
    score = np.asarray(score, dtype=np.float64)
    said = (value("accuracy", float(score.mean())), value("output_sqnr_db", 80.0), value("output_max_abs", 1e-4))
    return run(b, on, "accuracy", 0, **({"measurements": said, "arrays": {"score": score}} | more))


def null_run(on: SessionDevice, repeat: int) -> Run:
    null = Build(variant="(null)", seed=0, exporter="executorch", backend="", input="default", status="ok")
    return run(null, on, "memory", repeat, measurements=(value("peak_memory_bytes", 4_000_000 + 4096 * repeat),))


def all_runs(s: Session, seed: int = 0, repeats: int = 5, scores: Mapping[tuple[str, int], Any] = {}) -> list[Run]:
    """Every planned run, all well. `scores`: variant and seed -> its `accuracy_run`'s."""
    rng = np.random.default_rng(seed)
    out = []
    for on in s.devices:
        if on.facts is None:
            continue
        out += [null_run(on, r) for r in range(repeats)]
        for b in s.package.builds:
            if b.status == "ok":
                out += [latency_run(b, on, r, rng) for r in range(repeats)]
                out += [memory_run(b, on, r) for r in range(repeats)]
                out.append(accuracy_run(b, on, scores.get((b.variant, b.seed))))
    return out


def named(spec: DeviceSpec, facts: DeviceFacts | None) -> str:
    return spec.name


def documented(s: Session, runs: Sequence[Run]) -> dict[str, Any]:
    """The document, held to its schema and to strict JSON."""
    found = document(s, runs, "reports/made-up.html", named)
    json.dumps(found, allow_nan=False)
    schema("results").validate(found)
    for result in found["results"]:
        schema("measure").validate(result)
        for name, metric in result["metrics"].items():
            if isinstance(metric.get("ci95"), list):
                assert metric["ci95"][0] <= metric["value"] <= metric["ci95"][1], (name, metric)
    return found
