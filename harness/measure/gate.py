"""The thermal gate: no run begins on a device that is hot, throttled, or has not come to rest.

It never measures anyway: what does not cool within its time is an `invalid` run with the reason `gate_timeout`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from harness.clock import Clock
from harness.types import Enrolment, Snapshot

TIMEOUT = "gate_timeout"  # how the reason of a run begins that was not made for it
POLL_S = 5.0
WAIT_MINUTES = 10.0
BATTERY_C = 35.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """`battery_c`: the warmest battery that may be measured. `wait_minutes`: how long it may take to cool."""

    battery_c: float = BATTERY_C
    wait_minutes: float = WAIT_MINUTES

    @classmethod
    def of(cls, thermal: Mapping[str, Any]) -> Limits:
        """From a device's `thermal:` entry."""
        return cls(
            battery_c=float(thermal.get("battery_c", BATTERY_C)),
            wait_minutes=float(thermal.get("wait_minutes", WAIT_MINUTES)),
        )


@dataclass(frozen=True, kw_only=True)
class Gate:
    """`unknown`: no thermal source can be read, so nothing is gated. `reason`: of a time-out, what kept it shut."""

    state: Literal["open", "unknown", "timeout"]
    snapshot: Snapshot
    waited_s: float = 0.0
    reason: str | None = None


def cooled(
    look: Callable[[], Snapshot],
    enrolment: Enrolment | None,
    limits: Limits,
    clock: Clock,
    tell: Callable[[str], None] = lambda text: None,
    patience_s: float | None = None,
) -> Gate:
    """Waits until the device may be measured. `patience_s` replaces the limit's minutes (0: one look)."""
    return Gate(state="unknown", snapshot=look())


def settled(look: Callable[[], Snapshot], limits: Limits, clock: Clock, tell: Callable[[str], None]) -> Gate:
    """Waits until a device that nobody has enrolled yet does not get cooler any more: what it is like at rest."""
    return Gate(state="unknown", snapshot=look())
