"""What does not belong to the experiment: where things are kept, and how this call goes about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from harness.executors import Executors
from harness.types import Kind


@dataclass(frozen=True, kw_only=True)
class Settings:
    store_url: str
    files: Path
    folder: Path = Path(".")
    devices_file: Path | None = None  # the user's devices.yaml, where it was named
    label: str | None = None
    fresh: bool = False
    quick: bool = False
    max_minutes: float | None = None
    identify: bool = False
    carried: bool = False  # a package from elsewhere: of the code it names, only what lies in `folder` is run
    kind: Kind = "experiment"
    executors: Executors = field(default_factory=Executors)
