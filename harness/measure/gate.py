"""The thermal gate: no run begins on a device that is hot, throttled, or has not come to rest.

It never measures anyway: what does not cool within its time is an `invalid` run with the reason `gate_timeout`.
What the calibration kernel says is judged after the run (analyze/conditions.py); here only sensors are asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from harness.clock import Clock
from harness.types import Enrolment, Snapshot

TIMEOUT = "gate_timeout"  # how the reason of a run begins that was not made for it
POLL_S = 5.0
WAIT_MINUTES = 10.0
BATTERY_C = 35.0
#: the skin may be so much warmer than it was at rest
SKIN_RISE_C = 2.0

# Thermal zones are judged where no Android tells how hot is too hot. A die falls by tens of degrees in the seconds
# after a load, the board and the heat sink around it take minutes, and waiting for these would be waiting for nothing:
# what a zone at 60 °C is about to do, it does at 50 °C too, since processors throttle from 80 °C (Raspberry Pi) or
# 95 °C (laptops) on. So a zone may be 10 °C above its own rest, and anything up to 60 °C is cool.
ZONE_RISE_C = 10.0
ZONE_COOL_C = 60.0
#: what a zone may have whose rest is unknown: below the first throttling
ZONE_UNKNOWN_C = 75.0
#: a zone beyond this is a sensor that is not fitted: no processor runs there
ZONE_STUCK_C = 110.0

#: at rest is what has not become cooler by more than this within so long
SETTLED_FALL_C = 1.0
SETTLED_S = 30.0

STATUSES = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")  # Android's
#: the low bits of vcgencmd get_throttled: what is so just now (raspberrypi.com, os.html#get_throttled)
THROTTLED_NOW = ("under-voltage", "clock capped", "throttled", "soft temperature limit")


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


@dataclass(frozen=True, kw_only=True)
class _Obstacle:
    """One sensor that keeps the gate shut. `told`: the same for whoever watches, in whole degrees, so that a device
    which cools over minutes is not told of at each hundredth."""

    reason: str
    told: str


def cooled(
    look: Callable[[], Snapshot],
    enrolment: Enrolment | None,
    limits: Limits,
    clock: Clock,
    tell: Callable[[str], None] = lambda text: None,
    patience_s: float | None = None,
) -> Gate:
    """Waits until the device may be measured. `patience_s` replaces the limit's minutes (0: one look).

    What `look` or `tell` raises is let pass: a link that fails, a user who interrupts."""
    rest = enrolment.rest if enrolment else None
    patience = limits.wait_minutes * 60 if patience_s is None else patience_s
    began, waited = clock.now(), 0.0  # looking is not waiting
    while True:
        snapshot = look()
        obstacle = _alarm(snapshot, limits) or _warmer(snapshot, rest)
        if obstacle is None:
            state: Literal["open", "unknown"] = "open" if _has_sensor(snapshot) else "unknown"
            return Gate(state=state, snapshot=snapshot, waited_s=waited)
        if waited >= patience:
            return _timeout(obstacle, snapshot, waited)
        tell(obstacle.told)
        clock.sleep(POLL_S)
        waited = clock.now() - began


def settled(look: Callable[[], Snapshot], limits: Limits, clock: Clock, tell: Callable[[str], None]) -> Gate:
    """Waits until a device that nobody has enrolled yet does not get cooler any more: what it is like at rest.

    One that still cools when the time is over is taken as it is, unless it is throttled or its battery is hot."""
    began = clock.now()
    history: list[tuple[float, float]] = []  # (seconds, °C), oldest first
    patience = limits.wait_minutes * 60
    while True:
        snapshot = look()
        waited = clock.now() - began
        obstacle, celsius = _alarm(snapshot, limits), _celsius(snapshot)
        if celsius is not None:
            history.append((waited, celsius))
        if obstacle is None and (celsius is None or waited >= patience or _at_rest(history)):
            return Gate(state="open" if _has_sensor(snapshot) else "unknown", snapshot=snapshot, waited_s=waited)
        if waited >= patience:
            assert obstacle is not None
            return _timeout(obstacle, snapshot, waited)
        tell(obstacle.told if obstacle else "it is coming to rest")
        clock.sleep(POLL_S)


def _timeout(obstacle: _Obstacle, snapshot: Snapshot, waited_s: float) -> Gate:
    waited = f"after a wait of {waited_s / 60:.1f} minutes"
    if not waited_s:
        waited = "not waited for again: it did not cool before"
    reason = f"{obstacle.reason}, {waited}"
    return Gate(state="timeout", snapshot=snapshot, waited_s=waited_s, reason=reason)


def _alarm(now: Snapshot, limits: Limits) -> _Obstacle | None:
    """What is too hot whatever the device is like at rest."""
    if now.thermal_status:
        name = STATUSES[now.thermal_status] if now.thermal_status < len(STATUSES) else "unknown"
        return _said(f"Android's thermal status is {now.thermal_status} ({name}), limit 0")
    if bits := (now.throttled or 0) & 0xF:
        names = ", ".join(name for bit, name in enumerate(THROTTLED_NOW) if bits >> bit & 1)
        return _said(f"vcgencmd get_throttled is {now.throttled:#x} ({names}), limit: none of these now")
    return _over("the battery", now.battery_c, limits.battery_c)


def _warmer(now: Snapshot, rest: Snapshot | None) -> _Obstacle | None:
    """What is warmer than the device is at rest."""
    if rest is not None and rest.skin_c is not None and (found := _over("skin", now.skin_c, rest.skin_c + SKIN_RISE_C)):
        return found
    if now.thermal_status is not None:
        return None
    resting = {} if rest is None else rest.zones_c
    rises = {name: celsius - _zone_limit(resting.get(name)) for name, celsius in _zones(now).items()}
    if not rises:
        return None
    worst = max(rises, key=rises.__getitem__)
    return _over(f"thermal zone {worst}", now.zones_c[worst], _zone_limit(resting.get(worst)))


def _zone_limit(rest_c: float | None) -> float:
    return ZONE_UNKNOWN_C if rest_c is None else max(rest_c + ZONE_RISE_C, ZONE_COOL_C)


def _over(sensor: str, celsius: float | None, limit_c: float) -> _Obstacle | None:
    if celsius is None or celsius <= limit_c:
        return None
    return _Obstacle(
        reason=f"{sensor} is at {celsius:.1f} °C, limit {limit_c:.1f} °C",
        told=f"{sensor} is at {math.ceil(celsius)} °C, limit {limit_c:.1f} °C",
    )


def _said(text: str) -> _Obstacle:
    return _Obstacle(reason=text, told=text)


def _zones(now: Snapshot) -> dict[str, float]:
    return {name: celsius for name, celsius in now.zones_c.items() if celsius <= ZONE_STUCK_C}


def _celsius(now: Snapshot) -> float | None:
    """The one temperature by which a device is seen to cool."""
    return now.skin_c if now.skin_c is not None else max(_zones(now).values(), default=now.battery_c)


def _has_sensor(now: Snapshot) -> bool:
    said = (now.thermal_status, now.skin_c, now.battery_c, now.throttled)
    return bool(_zones(now)) or any(value is not None for value in said)


def _at_rest(history: list[tuple[float, float]]) -> bool:
    """Whether the newest reading is no more than 1 °C below that of 30 s before."""
    now_s, celsius = history[-1]
    earlier = [c for at_s, c in history if now_s - at_s >= SETTLED_S]
    return bool(earlier) and earlier[-1] - celsius <= SETTLED_FALL_C
