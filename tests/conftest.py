"""Shared by all tests: the command line as a process, a cache of the tests' own, and a small built package."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from harness.devices import runners
from harness.paths import cache_dir
from tests.standins.phone import adb_server, arm64_phone, phone  # noqa: F401 - fixtures of all tests
from tests.standins.postgres import postgres  # noqa: F401
from tests.standins.sshd import sshd  # noqa: F401
from tests.together import one_thread, pytest_collection_modifyitems  # noqa: F401 - a hook

one_thread()

# the machines that run this are shared and noisy: an example that takes long is no finding
settings.register_profile("harness", deadline=None)
settings.load_profile("harness")


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


Harness = Callable[..., Done]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A HARNESS_CACHE that nothing else uses, but for SDKs and runners: content addressed and slow to make."""
    for runtime in ("executorch", "torchscript", "null"):
        runners.ensure(runtime, runners.host_target())
    own = tmp_path_factory.mktemp("cache")
    for name in ("sdk", "runners"):
        (own / name).symlink_to(cache_dir() / name)
    return own


@pytest.fixture(scope="session")
def environment(cache: Path) -> dict[str, str]:
    cleared = {k: v for k, v in os.environ.items() if not k.startswith("HARNESS_")}
    return cleared | {"HARNESS_CACHE": str(cache), "COLUMNS": "200"}


@pytest.fixture(scope="session")
def harness(environment: dict[str, str]) -> Harness:
    """`harness(*arguments, cwd=…)`: the command line in a process of its own."""

    def call(*arguments: str, cwd: Path, timeout_s: float = 300, **more: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "harness", *arguments],
            cwd=cwd, env=environment | more, capture_output=True, text=True, timeout=timeout_s,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

    return call


def listed(folder: Path, **uris: str) -> None:
    """devices.yaml in `folder`: these devices, taken as warm as they are.

    For tests that are not about heat: a stand-in's temperature never changes, and half a minute is waited at the
    first run on each before that is believed. That wait is test_gate.py's, and real in test_real_devices.py's first
    test (adb) and in test_everything_measured.py (SSH)."""
    entry = '{name}: {{uri: "{uri}", thermal: {{wait_minutes: 0}}}}\n'
    (folder / "devices.yaml").write_text("".join(entry.format(name=name, uri=uri) for name, uri in uris.items()))


def hears_ctrl_c() -> None:
    """For a started process: who started the tests in the background had Ctrl-C ignored, and that is inherited."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


MODEL = '''
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.ReLU(), torch.nn.Linear(64, 4))

    def forward(self, x):
        return self.layers(x)

def net():
    torch.manual_seed(0)
    return Net()

def data():
    """A task that a line can learn: which quarter of the vector is largest."""
    chance = torch.Generator().manual_seed(0)
    x = torch.randn(400, 16, generator=chance)
    y = x.reshape(-1, 4, 4).sum(2).argmax(1)
    items = [(x[i], int(y[i])) for i in range(len(x))]
    return {"train": items[:250], "calibration": items[:50], "test": items[250:]}
'''

CONFIG = """\
name: small
model: {factory: "small_model:net", example_inputs: {shape: [1, 16]}}
data: {factory: "small_model:data", metric: accuracy}
train: {device: cpu, batch_size: 32}
variants:
  - {name: fp32, steps: [{finetune: {epochs: 8, lr: 0.02}}]}
  - {name: int8, steps: [{finetune: {epochs: 8, lr: 0.02}}, {quantize_pt2e: {}}]}
export: [executorch, torchscript_lite]
measure: {repeats: 3, min_seconds: 0.05, accuracy_samples: all}
pick: {minimize: size_bytes, where: ["accuracy_drop <= 0.3"]}
"""


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: a model and an experiment of their own."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "small_model.py").write_text(MODEL)
    (folder / "small.yaml").write_text(CONFIG)
    return folder


@pytest.fixture(scope="session")
def package(project: Path, harness: Harness, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's experiment, built."""
    out = tmp_path_factory.mktemp("package") / "small"
    done = harness("build", str(project / "small.yaml"), "-o", str(out), cwd=tmp_path_factory.mktemp("build"))
    assert done.code == 0, done.stderr
    return out
