"""What the surroundings of a run say of it: disturbed, throttled, capped, on unknown clocks. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.types import Enrolment, Run, Status


def enrolment(runs: Sequence[Run]) -> Enrolment | None:
    """What these sentinel runs (of one device and one setting of cpus) say of it at rest; None for none that counts."""
    return None


def judged(conditions: Mapping[str, Any], enrolled: Enrolment | None) -> tuple[Status, str | None, tuple[str, ...]]:
    """(status, reason, caveats) of a timed run, by its conditions alone. Only ever `ok` or `invalid`."""
    return "ok", None, ()
