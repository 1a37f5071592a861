"""Releases of one experiment on a simulated device, measured through the command line without building anything."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness import package as packages
from harness.cli import _guarded
from harness.package import Files
from harness.sim import world as worlds
from harness.sim.model import SimModel
from harness.sim.package import sim_package

DEVICES = """pi: {uri: "sim://pi5-fan?seed=4&run_sd=0.005", runner: {command: [sim-runner]}}
pi2: {uri: "sim://pi5-fan?seed=5&run_sd=0.005", runner: {command: [sim-runner]}}
away: {uri: "sim://pi5-fan?seed=6&run_sd=0.005", runner: {command: [sim-runner]}}
"""
PLAN: dict[str, Any] = {"repeats": 5, "min_seconds": 0.2, "memory": False}
NAMED: dict[str, Any] = {
    "name": "demo", "devices": ["pi"], "model": {"factory": "m:f", "example_inputs": {"shape": [1]}},
    "export": [{"exporter": "executorch", "label": "executorch"}],
}  # fmt: skip
SAME = {"fp32": 10.0, "int8": 5.0}
SLOWER = {"fp32": 10.0, "int8": 6.0}


def write_package(
    folder: Path,
    latency_ms: Mapping[str, float],
    *,
    sizes: Mapping[str, int] | None = None,
    build: str = "",
    pick: Mapping[str, Any] | None = None,
    plan: Mapping[str, Any] | None = None,
    **experiment: Any,
) -> None:
    """`build`: two packages with different texts hold different files of the same truth."""
    files = Files(folder.parent / f".{folder.name}")
    files.folder.mkdir(parents=True, exist_ok=True)
    models = {name: SimModel(latency_ms=ms, power_w=0.5, name=f"{name}{build}") for name, ms in latency_ms.items()}
    found = sim_package(models, files, sizes=sizes, pick=pick, **(PLAN | dict(plan or {})))
    own = dict(found.experiment) | NAMED | {"variants": [{"name": name} for name in latency_ms]} | experiment
    packages.write(dataclasses.replace(found, experiment=own), files, folder)


class Lab:
    """A working folder with devices.yaml and a store, and the command line in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stdout = self.stderr = ""

    def __call__(self, *arguments: str) -> int:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = _guarded([*arguments, "--store", f"sqlite:///{self.folder}/h.db"])
        self.stdout, self.stderr = out.getvalue(), err.getvalue()
        assert "Traceback" not in self.stderr
        return code

    def json(self, *arguments: str) -> tuple[int, Any]:
        code = self(*arguments, "--json")
        return code, json.loads(self.stdout)

    def package(self, name: str, latency_ms: Mapping[str, float], /, **more: Any) -> str:
        shutil.rmtree(self.folder / name, ignore_errors=True)
        write_package(self.folder / name, latency_ms, **more)
        return name

    def release(self, label: str, latency_ms: Mapping[str, float], *arguments: str, **more: Any) -> None:
        """Measures one (without a label where it is empty); it must succeed."""
        name = self.package(f"package-{label}", latency_ms, **({"build": label} | more))
        code = self("run", name, *(["--label", label] if label else []), *arguments)
        assert code == 0, self.stderr

    def says(self, code: int, *arguments: str, names: str | tuple[str, ...] = ()) -> None:
        """An expected failure is one message: nothing on stdout, no traceback."""
        assert self(*arguments) == code, self.stderr + self.stdout
        assert self.stdout == ""
        for text in (names,) if isinstance(names, str) else names:
            assert text in self.stderr, self.stderr


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`folder` becomes the working folder and holds all that the harness keeps."""
    for name in ("HARNESS_STORE", "HARNESS_ARTIFACTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HARNESS_CACHE", str(folder / "cache"))
    monkeypatch.chdir(folder)
    (folder / "devices.yaml").write_text(DEVICES)
    worlds._worlds.clear()
