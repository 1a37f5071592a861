"""A real model on a simulated device: its outputs are computed by this computer's runner, its time is made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import foreign, pipeline
from harness.devices.bench import opened
from harness.devices.bundle import file_sha256
from harness.devices.spec import resolve
from harness.screen import Screen
from harness.settings import Settings
from harness.sim.model import made_up
from harness.store import Store
from tests.runner_kit import Models

pytest_plugins = ["tests.runner_kit"]


@pytest.mark.parametrize(("off", "status"), [(0.0, "ok"), (1.0, "failed")])
def test_the_outputs_of_a_real_model_are_computed(
    models: Models, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off: float, status: str
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(cache))
    x = np.fromfile(models.folder / "cnn.0.bin", np.float32).reshape(-1, 1, 1, 8, 8)[:1]
    np.savez(tmp_path / "in.npz", x[0])
    np.savez(tmp_path / "out.npz", models.expected["cnn"][0][0] + np.float32(off))
    spec, file = resolve("sim://pi5-fan?run_sd=0"), models.file("cnn.xnnpack.pte")
    settings = Settings(store_url=f"sqlite:///{tmp_path}/s.db", files=tmp_path / "files", quick=True)
    arguments: Any = (file, spec, [], tmp_path / "in.npz", tmp_path / "out.npz", 1, 2, settings, Screen())
    package, files = foreign.package_of(*arguments)
    session = pipeline.run_package(package, files, [spec], settings, Screen())
    store = Store.open(settings.store_url)
    try:
        runs = store.runs(session.id)
    finally:
        store.close()
    assert [run.status for run in runs if run.purpose == "check"] == [status]
    latency = [run.summary["p50"] for run in runs if run.purpose == "latency"]
    truth = made_up(file.stat().st_size).latency_ms
    assert latency == ([pytest.approx(truth, rel=0.02)] if status == "ok" else [])
    assert session.devices[0].spec.context == "shell-bundle"


def test_a_real_file_says_its_inputs_there_as_well(
    models: Models, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(cache))
    spec, file = resolve("sim://noisy-host"), models.file("pair.portable.pte")
    with opened(spec, lambda depot, run: None) as bench:
        model = bench.depot.put(file, file_sha256(file), ".pte")
        prefix = bench.runner("executorch")
        bench.depot.start("r", [*prefix, "--purpose", "load", "--run", "r", "--model", model, "--drop-cache"], b"{}")
        bench.depot.clock.sleep(5)
        told = bench.depot.transport.run(["cat", f"{bench.depot.run_dir('r')}/result.jsonl"]).stdout
    load = next(line for line in map(json.loads, told.splitlines()) if line["type"] == "load")
    assert load["inputs"] == [{"dtype": "float32", "shape": [2, 3]}] * 2
