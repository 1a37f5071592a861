"""Energy from a meter's raw readings: integration, guard bands, idle, uncertainty. Pure, and done once, here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.types import Run


def window(run: Run) -> Mapping[str, Any]:
    """`Run.summary` of an idle or energy run: what the meter says of exactly the runner's window."""
    return {}
