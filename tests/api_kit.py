"""For tests of the Python API: a package of two variants on a simulated device, measured in a second."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.release_kit import DEVICES, SAME, write_package

ROOT = Path(__file__).resolve().parent.parent
PLAN = {"repeats": 3, "min_seconds": 0.05}


def lab(folder: Path, name: str = "package", **more: object) -> Path:
    """devices.yaml and a package in `folder`, which is given back."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "devices.yaml").write_text(DEVICES)
    write_package(folder / name, SAME, plan=PLAN, pick={"minimize": "latency_ms"}, **more)  # type: ignore[arg-type]
    return folder


def python(*arguments: str, folder: Path, timeout_s: float = 120, **more: str) -> subprocess.CompletedProcess[str]:
    """A Python of its own with `folder` as its working folder and nothing of HARNESS_* set but `more`."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HARNESS_")}
    environment |= {"PYTHONPATH": str(ROOT)} | more
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout_s
    )
