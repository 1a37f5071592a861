"""What does not belong to the experiment: where things are kept, and how this call goes about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harness.executors import Executors


@dataclass(frozen=True, kw_only=True)
class Settings:
    store_url: str
    files: Path
    folder: Path = Path(".")
    label: str | None = None
    fresh: bool = False
    quick: bool = False
    max_minutes: float | None = None
    identify: bool = False
    kind: Literal["experiment", "measure"] = "experiment"
    executors: Executors = field(default_factory=Executors)
