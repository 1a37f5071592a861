"""docs/ci.md as it is written: its own steps, in a checkout that is wiped between jobs, cancelled in every way."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from harness.store import Store
from tests.conftest import hears_ctrl_c
from tests.test_interrupted import runners_alive
from tests.undisturbed import planned_as

DOC = Path(__file__).resolve().parent.parent / "docs" / "ci.md"


def workflow() -> dict[str, Any]:
    block = re.search(r"```yaml\n(name: on-device.*?)```", DOC.read_text(), re.S)
    assert block is not None
    return dict(YAML(typ="safe").load(block[1]))


class Lab:
    """A self-hosted runner: its own folders outlive the checkout, which is made anew for each job."""

    def __init__(self, folder: Path, project: Path, environment: dict[str, str]) -> None:
        self.lab, self.project, self.workspace = folder / "lab", project, folder / "workspace"
        self.summary = folder / "summary.md"
        self.lab.mkdir()
        self.cache = self.lab / "cache"
        self.cache.mkdir()
        for name in ("sdk", "runners"):
            (self.cache / name).symlink_to((Path(environment["HARNESS_CACHE"]) / name).resolve())
        bin_folder = folder / "bin"
        bin_folder.mkdir()
        (bin_folder / "harness").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m harness "$@"\n')
        (bin_folder / "harness").chmod(0o755)
        job = workflow()["jobs"]["gate"]
        self.steps = {step["name"]: step["run"] for step in job["steps"] if "run" in step}
        own = {key: str(value).replace("/var/lib/harness", str(self.lab)) for key, value in job["env"].items()}
        path = f"{bin_folder}:{Path(sys.executable).parent}:{environment['PATH']}"
        root = str(DOC.parent.parent)
        self.environment = environment | own | {
            "PATH": path, "PYTHONPATH": root, "GITHUB_STEP_SUMMARY": str(self.summary),
        }  # fmt: skip

    def checkout(self) -> None:
        shutil.rmtree(self.workspace, ignore_errors=True)
        shutil.copytree(self.project, self.workspace)
        shutil.copyfile(self.workspace / "small.yaml", self.workspace / "experiment.yaml")

    def start(self, step: str, label: str) -> subprocess.Popen[str]:
        self.checkout()
        return subprocess.Popen(
            ["bash", "-eo", "pipefail", "-c", self.steps[step]], cwd=self.workspace, text=True,
            env=self.environment | {"LABEL": label}, stderr=subprocess.PIPE, start_new_session=True,
            preexec_fn=hears_ctrl_c,
        )  # fmt: skip

    def finish(self, step: str, label: str) -> int:
        job = self.start(step, label)
        _, said = job.communicate(timeout=400)
        assert "Traceback" not in said, said
        return job.returncode


@pytest.fixture
def lab(tmp_path: Path, project: Path, environment: dict[str, str]) -> Lab:
    return Lab(tmp_path, project, environment)


def test_the_workflow_of_the_documentation_bears_wiped_checkouts_and_cancelled_jobs(lab: Lab) -> None:
    assert lab.finish("release", "v1") == 0
    store = Store.open(lab.environment["HARNESS_STORE"])
    assert store.baseline("small") == "v1"

    device = lab.cache / "device"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        job = lab.start("gate", "abc123")
        began = time.monotonic()
        while not runners_alive(device):
            assert job.poll() is None and time.monotonic() - began < 200, job.communicate()[1]
            time.sleep(0.01)
        time.sleep(0.5)
        os.killpg(job.pid, number)
        job.communicate(timeout=60)
        assert job.returncode != 0
        if number != signal.SIGKILL:  # nobody can end a device's process after that but the next job
            assert runners_alive(device) == []

    assert lab.finish("gate", "abc123") == 0
    assert runners_alive(device) == []
    assert "passed" in lab.summary.read_text()
    assert str(lab.workspace) not in lab.summary.read_text()
    [session] = [s for s in store.list_sessions() if s["label"] == "abc123"]  # one, that went on
    assert session["finished_utc"] is not None
    counted = Counter(planned_as(run) for run in store.runs(session["id"]) if run.counts)
    assert set(counted.values()) == {1}
    store.close()


def test_without_a_baseline_the_gate_is_not_green(lab: Lab) -> None:
    assert lab.finish("gate", "abc123") == 3
