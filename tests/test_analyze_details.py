"""What stands beside the metrics, from made-up runs whose surroundings are known; and from hostile ones."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from harness.analyze.details import MOST_POINTS, conditions, details, operators, profile, sustained
from harness.analyze.rows import Planned, Row
from harness.types import DeviceFacts, DeviceSpec, Run, SessionDevice
from tests.session_kit import (
    all_runs,
    build,
    device,
    documented,
    null_run,
    profile_run,
    run,
    schema,
    session,
    sustained_run,
)
from tests.session_kit import conditions as surroundings

FP32, BOARD = build("fp32"), device("board")
PLANNED = Planned(threads=(1,), cpus=("any",), repeats=5, memory=False, sustained_minutes=10, profile=True, seed=7)


def timed(repeat: int = 0, **more: Any) -> Run:
    return run(FP32, BOARD, "latency", repeat, **({"conditions": surroundings(repeat)} | more))


def found(*runs: Run) -> dict[str, Any]:
    out = conditions(Row(build=FP32, device=BOARD, runs=runs), PLANNED)
    assert out is not None
    json.dumps(out, allow_nan=False)
    known = schema("measure")
    known.evolve(schema={"$ref": "#/$defs/conditions", "$defs": known.schema["$defs"]}).validate(out)
    return out


def test_a_cell_without_a_timed_run_has_no_conditions() -> None:
    assert conditions(Row(build=FP32, device=BOARD, runs=(null_run(BOARD, 0),)), PLANNED) is None


def test_readings_are_spans_and_medians_over_the_counted_runs() -> None:
    spoiled = timed(3, attempt=1, counts=False, status="invalid", reason="disturbed: 9 %")
    said = found(timed(0), timed(1), timed(2), spoiled)
    assert said["temperature_c"] == {"sensor": "hottest zone", "before": [45.0, 47.0], "after": [55.0, 57.0]}
    assert said["gate_wait_s"] == 40.0, "the spoiled attempt waited too"
    assert said["redone"] == {"runs": 1, "reasons": [{"reason": "disturbed: 9 %", "runs": 1}]}
    assert said["sentinel"] == {"median_change": pytest.approx(0.01), "limit": pytest.approx(0.06)}
    assert said["clocks"] == {"residency": pytest.approx(0.98), "khz": 2_400_000}
    assert said["cpus"] == {"2": 0.9, "3": 0.1}
    assert said["load"] == 0.25
    assert said["prepared"] == {
        "set": {"governor": "performance"},
        "not_set": [{"setting": "airplane", "reason": "only Android has it"}],
    }
    assert (said["enrolled"], said["burn_in"], said["seed"]) == (True, False, 7)


def test_where_no_run_counts_the_conditions_are_those_of_the_attempts() -> None:
    said = found(timed(0, counts=False, status="invalid", reason="throttled: 0x4"))
    assert said["temperature_c"]["after"] == [55.0, 55.0]


def test_reasons_that_differ_in_their_figures_are_counted_together() -> None:
    bad = {"counts": False, "status": "invalid"}
    said = found(timed(0), *(timed(1, attempt=i, reason=f"disturbed: {i} %", **bad) for i in (1, 2)),
                 timed(1, attempt=3, reason="suspended: it slept", **bad), timed(2, status="failed", counts=False,
                                                                                   reason="it crashed"))  # fmt: skip
    assert said["redone"] == {
        "runs": 3,
        "reasons": [{"reason": "disturbed", "runs": 2}, {"reason": "suspended: it slept", "runs": 1}],
    }


def test_burn_in_and_enrolment_are_told_as_they_were() -> None:
    bare = timed(0, conditions=surroundings(enrolled=None))
    assert found(bare)["enrolled"] is False
    assert found(bare)["sentinel"]["limit"] == {"absent": "the device's own spread is not known"}
    assert found(bare, run(FP32, BOARD, "burn_in", 0))["burn_in"] is True
    assert found(bare, run(FP32, BOARD, "burn_in", 0, status="failed", counts=False))["burn_in"] is False


@pytest.mark.parametrize(("snapshot", "sensor", "value"), [
    ({"skin_c": 31.0, "zones_c": {"cpu": 60.0}, "battery_c": 29.0}, "skin sensor", 31.0),
    ({"zones_c": {"cpu": 60.0, "gpu": 61.5}, "battery_c": 29.0}, "hottest zone", 61.5),
    ({"battery_c": 29.0}, "battery", 29.0),
])  # fmt: skip
def test_the_temperature_is_the_sensor_that_the_gate_goes_by(snapshot: Any, sensor: str, value: float) -> None:
    said = found(timed(conditions=surroundings(before=snapshot, after={})))["temperature_c"]
    assert said == {"sensor": sensor, "before": [value, value], "after": {"absent": "not read"}}


@pytest.mark.parametrize(("key", "gone", "reason"), [
    ("temperature_c", ("before", "after"), "no temperature was recorded"),
    ("gate_wait_s", ("gate",), "no gate was recorded"),
    ("sentinel", ("sentinel",), "the runner told no calibration kernel"),
    ("clocks", ("clocks",), "the time at each clock (time_in_state) could not be read"),
    ("cpus", ("placement",), "the runner did not tell on which CPUs it ran"),
    ("load", ("before",), "the device does not tell its load"),
])  # fmt: skip
def test_what_was_not_told_is_absent_with_its_reason(key: str, gone: tuple[str, ...], reason: str) -> None:
    kept = {k: v for k, v in surroundings().items() if k not in gone}
    assert found(timed(conditions=kept))[key] == {"absent": reason}


def test_only_the_policies_in_use_tell_the_clock_and_the_least_steady_one_counts() -> None:
    def policies(*ticks: list[list[int]]) -> list[dict[str, Any]]:
        return [{"policy": f"policy{i}", "cpus": [2 * i, 2 * i + 1], "time_in_state": t} for i, t in enumerate(ticks)]

    start = [[1000, 0], [2000, 0]]
    lines = [{"when": "before", "policies": policies(start, start, start)},
             {"when": "after", "policies": policies([[1000, 50], [2000, 50]], [[1000, 10], [2000, 90]],
                                                    [[1000, 1], [2000, 99]])}]  # fmt: skip
    ran = [{"cpu_counts": {"2": 50, "4": 50}}]
    said = found(timed(conditions=surroundings(clocks=lines, placement=ran)))
    assert said["clocks"] == {"residency": 0.9, "khz": 2000}, "policy0 idled, policy1 is less steady than policy2"


HOSTILE: list[Any] = [None, 3, "x", [], [None], {"a": {"b": []}}, [[1, 2, 3]], -5, float("nan"), 10**400]


@pytest.mark.parametrize("value", HOSTILE, ids=lambda v: repr(v)[:20])
@pytest.mark.parametrize("key", list(surroundings()))
def test_hostile_conditions_are_as_if_they_had_not_been_said(key: str, value: Any) -> None:
    found(timed(conditions=surroundings() | {key: value}))


def test_a_curve_has_its_points_and_gaps_where_nothing_was_read() -> None:
    curve = sustained(Row(build=FP32, device=BOARD, runs=(sustained_run(FP32, BOARD),)), PLANNED)
    assert {len(values) for values in curve.values()} == {200}
    assert (curve["t_s"][60], curve["latency_ms"][59], curve["latency_ms"][60]) == (180.0, 1.0, 1.5)
    assert curve["clock_khz"][19:21] == [2_400_000, None]


@pytest.mark.parametrize(("points", "length"), [
    ([{"t_s": 1.0, "latency_ms": 2.0}] * 1000, MOST_POINTS),
    ([{"t_s": 1.0, "latency_ms": "x"}, 5, None, {"t_s": 1.0, "latency_ms": 2.0, "c": float("inf")}], 1),
])  # fmt: skip
def test_a_curve_is_bounded_and_typed(points: Any, length: int) -> None:
    one = sustained_run(FP32, BOARD, summary={"points": points})
    curve = sustained(Row(build=FP32, device=BOARD, runs=(one,)), PLANNED)
    assert len(curve["t_s"]) == length
    assert set(curve["temperature_c"]) == {None}


def test_operators_are_typed_bounded_and_the_longest_first() -> None:
    rows = [{"name": "a", "time_us": 1.0}, {"name": "b" * 999, "time_us": 2.0, "share": 0.5, "calls": 3.0},
            {"name": 5, "time_us": 9.0}, {"name": "c", "time_us": -1}, {"name": "d"}, None, "x"]  # fmt: skip
    one = profile_run(FP32, BOARD, summary={"operators": rows, "traced_ms": "x", "untraced_ms": 1.0})
    row = Row(build=FP32, device=BOARD, runs=(one,))
    said = operators(row, PLANNED)
    assert isinstance(said, list)
    assert [o["name"][:2] for o in said] == ["bb", "a"]
    assert len(said[0]["name"]) == 200
    assert said[1] == {"name": "a", "kind": "operator", "time_us": 1.0, "share": {"absent": "not told"},
                       "calls": {"absent": "not told"}}  # fmt: skip
    no = {"absent": "not told"}
    assert profile(row, PLANNED) == {"traced_ms": no, "untraced_ms": 1.0, "coverage": no}


@pytest.mark.parametrize(("change", "reason"), [
    ({}, "no profile here"),
    ({"profile": False, "sustained_minutes": None}, None),
    ({"quick": True}, "a quick session measures none"),
])  # fmt: skip
def test_no_curve_and_no_profile_have_their_reason(change: dict[str, Any], reason: str | None) -> None:
    planned = dataclasses.replace(PLANNED, **change)
    failed = {"counts": False, "status": "failed", "reason": "no profile here"}
    row = Row(build=FP32, device=BOARD, runs=(run(FP32, BOARD, "profile", 0, **failed),
                                              run(FP32, BOARD, "sustained", 0, **failed)))  # fmt: skip
    assert sustained(row, planned) == {"absent": reason or "sustained_minutes not asked for"}
    assert operators(row, planned) == profile(row, planned) == {"absent": reason or "profile: false"}


def test_a_pair_without_a_device_has_only_reasons() -> None:
    row = Row(build=build("int8", status="skipped", reason="it cannot exist"))
    none = {"absent": "it cannot exist"}
    assert details(row, PLANNED, "it cannot exist") == {
        "simulated": False, "conditions": None, "sustained": none, "operators": none, "profile": none,
    }  # fmt: skip


@pytest.mark.parametrize(("uri", "simulated"), [("local", False), ("sim://pi5-fan?seed=3", True), ("ssh://sim", False)])
def test_a_simulated_device_is_known_by_its_scheme(uri: str, simulated: bool) -> None:
    on = SessionDevice(spec=DeviceSpec(name="board", uri=uri), facts=DeviceFacts(device_id="u", abi="x86_64", cores=4))
    s = session([FP32], [on])
    assert [r["simulated"] for r in documented(s, all_runs(s))["results"]] == [simulated]


def test_the_plan_says_what_was_asked_for() -> None:
    plan = {"sustained_minutes": 2.5, "profile": True, "seed": 12, "cold_loads": 3, "energy": "rapl"}
    planned = Planned.of(session([FP32], plan=plan, quick=True))
    known = (planned.sustained_minutes, planned.profile, planned.seed, planned.cold_loads, planned.energy)
    assert known == (2.5, True, 12, 3, "rapl")
    assert planned.quick
