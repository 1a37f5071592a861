"""The thermal gate, by a clock and snapshots that are made up here: no device, no waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from harness.measure import gate
from harness.measure.gate import Gate, Limits, cooled, settled
from harness.types import Enrolment, Snapshot

REST = Enrolment(rest=Snapshot(skin_c=30.0, zones_c={"cpu": 45.0, "pch": 65.0}))


class FakeClock:
    """Sleeping takes no time but this clock's. `step_s`: what every look at it takes, as on a real one."""

    def __init__(self) -> None:
        self.t = 1000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.t

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        self.t += seconds


class FakeDevice:
    """Answers each look by `at(seconds since the first)`; a test that never ends fails."""

    def __init__(self, at: Callable[[float], Snapshot]) -> None:
        self.clock, self.at, self.looks = FakeClock(), at, 0
        self.told: list[str] = []

    def look(self) -> Snapshot:
        self.looks += 1
        assert self.looks < 10_000
        return self.at(self.clock.t - 1000.0)

    def cooled(self, enrolment: Enrolment | None = None, limits: Limits | None = None, **more: Any) -> Gate:
        return cooled(self.look, enrolment, limits or Limits(), self.clock, self.told.append, **more)

    def settled(self, limits: Limits | None = None) -> Gate:
        return settled(self.look, limits or Limits(), self.clock, self.told.append)


def always(**fields: Any) -> FakeDevice:
    return FakeDevice(lambda seconds: Snapshot(**fields))


def scripted(snapshots: Iterable[Snapshot]) -> FakeDevice:
    left: Iterator[Snapshot] = iter(snapshots)
    return FakeDevice(lambda seconds: next(left))


HOT = [
    ({"thermal_status": 1}, None, "Android's thermal status is 1 (light), limit 0"),
    ({"thermal_status": 3, "skin_c": 30.0}, REST, "Android's thermal status is 3 (severe), limit 0"),
    ({"thermal_status": 0, "skin_c": 32.1}, REST, "skin is at 32.1 °C, limit 32.0 °C"),
    ({"battery_c": 35.5}, None, "the battery is at 35.5 °C, limit 35.0 °C"),
    ({"throttled": 0x50004}, REST, "vcgencmd get_throttled is 0x50004 (throttled), limit: none of these now"),
    ({"throttled": 0x9}, None, "get_throttled is 0x9 (under-voltage, soft temperature limit)"),
    ({"zones_c": {"cpu": 60.5, "pch": 70.0}}, REST, "thermal zone cpu is at 60.5 °C, limit 60.0 °C"),
    ({"zones_c": {"cpu": 60.0, "pch": 75.5}}, REST, "thermal zone pch is at 75.5 °C, limit 75.0 °C"),
    ({"zones_c": {"cpu": 75.5}}, None, "thermal zone cpu is at 75.5 °C, limit 75.0 °C"),
    ({"zones_c": {"new": 76.0}, "throttled": 0}, REST, "thermal zone new is at 76.0 °C, limit 75.0 °C"),
]
COOL = [
    ({"thermal_status": 0}, None),
    ({"thermal_status": 0, "skin_c": 32.0, "battery_c": 35.0}, REST),
    ({"thermal_status": 0, "skin_c": 45.0}, None),  # how warm it is at rest is not known: only the status tells
    ({"thermal_status": 0, "zones_c": {"cpu": 95.0}}, REST),  # Android judges its own zones
    ({"throttled": 0x50000}, REST),  # was throttled once, is not now
    ({"zones_c": {"cpu": 60.0, "pch": 75.0}}, REST),
    ({"zones_c": {"cpu": 75.0}}, None),
    ({"zones_c": {"unfitted": 127.0}, "throttled": 0}, None),
    ({"battery_c": 20.0}, None),
]


@pytest.mark.parametrize(("fields", "enrolment", "reason"), HOT)
def test_a_hot_device_is_never_measured_anyway(fields: Any, enrolment: Enrolment | None, reason: str) -> None:
    device = always(**fields)
    found = device.cooled(enrolment)
    assert found.state == "timeout"
    assert found.reason is not None and reason in found.reason
    assert found.reason.endswith("after a wait of 10.0 minutes")
    assert found.snapshot == Snapshot(**fields)
    assert 600 <= found.waited_s <= 605
    assert device.looks == 121 and set(device.clock.slept) == {gate.POLL_S}
    assert len(device.told) == 120  # at each poll that is followed by another


@pytest.mark.parametrize(("fields", "enrolment"), COOL)
def test_a_cool_device_does_not_wait(fields: Any, enrolment: Enrolment | None) -> None:
    device = always(**fields)
    assert device.cooled(enrolment) == Gate(state="open", snapshot=Snapshot(**fields))
    assert (device.looks, device.told) == (1, [])


@pytest.mark.parametrize("fields", [{}, {"zones_c": {"unfitted": 127.0}}, {"loadavg": 9.0, "max_khz": {"policy0": 1}}])
def test_without_any_thermal_sensor_nothing_is_gated_and_that_is_said(fields: Any) -> None:
    for found in (always(**fields).cooled(REST), always(**fields).settled()):
        assert (found.state, found.waited_s, found.reason) == ("unknown", 0.0, None)


def test_it_opens_at_the_first_look_that_finds_it_cool() -> None:
    device = scripted(Snapshot(battery_c=c) for c in (37.26, 36.9, 36.2, 35.1, 35.0, 34.0))
    found = device.cooled()
    assert (found.state, found.waited_s, found.snapshot.battery_c) == ("open", 20.0, 35.0)
    # whole degrees: a device that cools over minutes is not told of at each tenth
    assert device.told == ["the battery is at 38 °C, limit 35.0 °C", *["the battery is at 37 °C, limit 35.0 °C"] * 2,
                           "the battery is at 36 °C, limit 35.0 °C"]  # fmt: skip


def test_limits_come_from_the_devices_entry() -> None:
    limits = Limits.of({"battery_c": 40, "wait_minutes": 0.5})
    assert always(battery_c=39.9).cooled(limits=limits).state == "open"
    found = always(battery_c=40.1).cooled(limits=limits)
    assert (found.state, found.waited_s) == ("timeout", 30.0)
    assert found.reason == "the battery is at 40.1 °C, limit 40.0 °C, after a wait of 0.5 minutes"
    assert Limits.of({}) == Limits(battery_c=35.0, wait_minutes=10.0)


@pytest.mark.parametrize("state", ["open", "timeout"])
def test_without_patience_there_is_exactly_one_look(state: str) -> None:
    device = always(battery_c=50.0 if state == "timeout" else 20.0)
    assert device.cooled(patience_s=0.0).state == state
    assert (device.looks, device.clock.slept, device.told) == (1, [], [])


@pytest.mark.parametrize("wait", [cooled, settled])
def test_what_a_look_raises_is_let_pass(wait: Any) -> None:
    def lost() -> Snapshot:
        raise ConnectionError("the cable")

    more = (REST, Limits()) if wait is cooled else (Limits(),)
    with pytest.raises(ConnectionError, match="the cable"):
        wait(lost, *more, FakeClock(), lambda text: None)


# -- coming to rest ----------------------------------------------------------------------------------------------------


def falling(start: float, floor: float, per_s: float) -> Callable[[float], float]:
    return lambda seconds: max(start - per_s * seconds, floor)


@pytest.mark.parametrize("sensor", ["skin", "zone", "battery"])
def test_a_device_is_at_rest_when_it_has_not_cooled_for_half_a_minute(sensor: str) -> None:
    curve = falling(34.0, 30.0, 0.05)  # cools until 80 s: by 1 °C within the last 30 s at 90 s

    def at(seconds: float) -> Snapshot:
        c = curve(seconds)
        return {
            "skin": Snapshot(skin_c=c, zones_c={"modem": 80.0 - c}, thermal_status=0),
            "zone": Snapshot(zones_c={"cpu": c, "board": 25.0}),
            "battery": Snapshot(battery_c=c),
        }[sensor]

    device = FakeDevice(at)
    found = device.settled()
    assert (found.state, found.waited_s) == ("open", 90.0)
    assert set(device.told) == {"it is coming to rest"}


@pytest.mark.parametrize("celsius", [40.0, 74.0])
def test_even_a_steady_device_is_watched_for_half_a_minute(celsius: float) -> None:
    assert always(zones_c={"cpu": celsius}).settled().waited_s == 30.0


def test_without_a_temperature_a_clear_status_is_rest_enough() -> None:
    for fields in ({"thermal_status": 0}, {"throttled": 0}):
        found = always(**fields).settled()
        assert (found.state, found.waited_s) == ("open", 0.0)


def test_one_that_still_cools_when_the_time_is_over_is_taken_as_it_is() -> None:
    found = FakeDevice(lambda seconds: Snapshot(zones_c={"cpu": 100.0 - seconds / 20})).settled()
    assert (found.state, found.waited_s) == ("open", 600.0)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"thermal_status": 2, "skin_c": 40.0}, "status is 2 (moderate)"),
        ({"throttled": 0x2, "zones_c": {"cpu": 50.0}}, "0x2 (clock capped)"),
        ({"battery_c": 36.0}, "the battery is at 36.0 °C"),
    ],
)
def test_but_not_one_that_is_throttled_or_has_a_hot_battery(fields: Any, reason: str) -> None:
    found = always(**fields).settled(Limits(wait_minutes=2))
    assert (found.state, found.waited_s) == ("timeout", 120.0)
    assert found.reason is not None and reason in found.reason and "2.0 minutes" in found.reason


def test_an_alarm_that_clears_late_opens_without_a_time_out() -> None:
    device = FakeDevice(lambda seconds: Snapshot(skin_c=30.0, thermal_status=1 if seconds < 300 else 0))
    found = device.settled()
    assert (found.state, found.waited_s) == ("open", 300.0)


def test_the_time_spent_looking_counts_as_waiting() -> None:
    device = always(battery_c=50.0)
    plain = device.look

    def slow() -> Snapshot:
        device.clock.t += 55.0
        return plain()

    found = cooled(slow, None, Limits(), device.clock, device.told.append)
    assert found.state == "timeout"
    assert device.looks == 11
