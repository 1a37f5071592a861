"""Minutes of the same inference: latency, temperature and clock over time, and when the device began to throttle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.types import Run


def summary(run: Run) -> Mapping[str, Any]:
    """`Run.summary` of a sustained run, from its arrays."""
    return {}
