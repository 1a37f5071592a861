"""What the surroundings say of a run: conditions made up here, and what must be said of each."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analyze import surroundings
from harness.analyze.conditions import enrolment, judged
from harness.types import Cell, Enrolment, Run, Snapshot

REST = Snapshot(zones_c={"cpu": 40.0}, thermal_status=0, throttled=0, max_khz={"policy0": 2_000_000})
ENROLLED = Enrolment(sentinel_ns=4_000_000.0, sentinel_sd=0.01, rest=REST)
LOW, HIGH = 600_000, 2_000_000


def policy(name: str, cpus: list[int], low: int, high: int, max_khz: int = HIGH) -> dict[str, Any]:
    """`low`, `high`: ticks so far at either clock."""
    return {"policy": name, "cpus": cpus, "max_khz": max_khz, "time_in_state": [[LOW, low], [HIGH, high]]}


def clocks(*policies: dict[str, Any], when: str) -> dict[str, Any]:
    return {"when": when, "policies": list(policies)}


def sentinel(before: float, after: float) -> list[dict[str, Any]]:
    return [
        {"when": when, "samples_ns": [ms * 1e6, ms * 1e6 * 0.99, ms * 1e6 * 1.5]}
        for when, ms in (("before", before), ("after", after))
    ]


def good(**changes: Any) -> dict[str, Any]:
    """The conditions of a run that nothing spoiled, without a caveat."""
    asked: dict[str, Any] = {
        "before": dataclasses.asdict(REST),
        "after": dataclasses.asdict(REST),
        "gate": {"state": "open", "waited_s": 0.0},
        "sentinel": sentinel(4.0, 4.0),
        "clocks": [
            clocks(policy("policy0", [0, 1], 1000, 5000), policy("policy4", [4], 10, 10), when="before"),
            clocks(policy("policy0", [0, 1], 1004, 5196), policy("policy4", [4], 110, 110), when="after"),
        ],
        "placement": [{"cpus_allowed": "0x13", "cpu_counts": {"0": 900, "1": 100}, "cgroup": "0::/"}],
        "runner": {"cpu_mask": "0x13"},
    }
    return {key: value for key, value in (asked | changes).items() if value is not ...}


def after(**fields: Any) -> dict[str, Any]:
    return dataclasses.asdict(dataclasses.replace(REST, **fields))


def test_a_run_that_nothing_spoiled_is_good_and_has_no_caveat() -> None:
    assert judged(good(), ENROLLED) == ("ok", None, ())


SPOILED = [
    ({"sentinel": sentinel(4.0, 4.2)},
     "disturbed: the calibration kernel took 5.0 % longer behind the run than before it (limit 3.0 %)"),
    ({"sentinel": sentinel(4.0, 3.8)},
     "disturbed: the calibration kernel took 5.0 % less behind the run than before it (limit 3.0 %)"),
    ({"sentinel": sentinel(4.4, 4.4)},
     "slowed: the calibration kernel took 10.0 % longer before the run than at rest (limit 5.0 %)"),
    ({"after": after(throttled=0x4)}, "throttled: vcgencmd get_throttled was 0x4 after the run (throttled)"),
    ({"after": after(throttled=0x10001)},
     "throttled: vcgencmd get_throttled was 0x10001 after the run (under-voltage)"),
    ({"after": after(throttled=0x20000)}, "throttled: vcgencmd get_throttled went from 0x0 to 0x20000 (clock capped)"),
    ({"before": after(throttled=0x10000), "after": after(throttled=0x90000)},
     "throttled: vcgencmd get_throttled went from 0x10000 to 0x90000 (soft temperature limit)"),
    ({"after": after(thermal_status=1)}, "throttled: Android's thermal status was 1 after the run (0 is none)"),
    ({"after": after(max_khz={"policy0": 1_500_000})},
     "capped: policy0's limit fell from 2000000 to 1500000 kHz during the run"),
    ({"clocks": [clocks(policy("policy0", [0, 1], 0, 0), when="before"),
                 clocks(policy("policy0", [0, 1], 0, 200, max_khz=1_800_000), when="after")]},
     "capped: policy0's limit fell from 2000000 to 1800000 kHz during the run"),
    ({"placement": [{"cpu_counts": {"0": 500, "3": 1, "5": 2}}], "runner": {"cpu_mask": "0x3"}},
     "placement: ran on CPU 3, 5, outside the mask"),
    ({"placement": [{"cpu_counts": {"0": 500, "2": 1}}], "cpu_mask": "3", "runner": {"cpu_mask": "0xf"}},
     "placement: ran on CPU 2, outside the mask"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "reason"), SPOILED)
def test_what_spoils_a_run_is_named_with_its_figures(changes: dict[str, Any], reason: str) -> None:
    assert judged(good(**changes), ENROLLED)[:2] == ("invalid", reason)


FINE = [
    {"sentinel": sentinel(4.0, 4.11)},
    {"sentinel": sentinel(4.19, 4.19)},
    {"sentinel": sentinel(3.0, 3.0)},  # faster than at rest
    {"before": after(throttled=0x50000), "after": after(throttled=0x50000)},  # long before this run
    {"before": after(throttled=None), "after": after(throttled=0x50000)},  # perhaps long before this run
    {"before": after(thermal_status=2)},  # the gate's to judge
    {"after": after(max_khz={"policy0": 2_100_000, "policy7": 1})},
    {"before": after(max_khz={"policy4": 3_000_000}), "after": after(max_khz={"policy4": 1_000_000})},  # not its CPUs
    {"placement": [{"cpu_counts": {"0": 500, "3": 1}}], "cpu_mask": "any", "runner": {"cpu_mask": "0x3"}},
    {"after": ...},
    {"after": None, "before": None},
]


@pytest.mark.parametrize("changes", FINE)
def test_what_is_within_its_limits_is_not_held_against_a_run(changes: dict[str, Any]) -> None:
    assert judged(good(**changes), ENROLLED)[:2] == ("ok", None)


def test_the_cause_is_named_and_not_its_symptom() -> None:
    spoiled = good(sentinel=sentinel(5.0, 6.0), after=after(throttled=0x4, max_khz={"policy0": 1}), cpu_mask="0x8")
    causes = {"throttled": {"after": after(max_khz={"policy0": 1})}, "capped": {"after": after()}}
    causes |= {"placement": {"cpu_mask": "any"}, "disturbed": {"sentinel": sentinel(5.0, 5.0)}, "slowed": {}}
    for cause, cured in causes.items():  # each cured in its turn shows the next
        reason = judged(spoiled, ENROLLED)[1]
        assert reason is not None and reason.startswith(f"{cause}:")
        spoiled |= cured


def test_a_devices_own_spread_widens_the_limits() -> None:
    noisy = dataclasses.replace(ENROLLED, sentinel_sd=0.04)  # three of these: 12 %
    assert judged(good(sentinel=sentinel(4.0, 4.4)), noisy)[0] == "ok"
    assert judged(good(sentinel=sentinel(4.4, 4.4)), noisy)[0] == "ok"
    reason = judged(good(sentinel=sentinel(4.0, 4.6)), noisy)[1]
    assert reason is not None and "15.0 % longer behind" in reason and "(limit 12.0 %)" in reason


@pytest.mark.parametrize("enrolled", [None, Enrolment(), dataclasses.replace(ENROLLED, sentinel_sd=None)])
def test_where_the_spread_is_not_known_the_kernel_judges_nothing_and_that_is_said(enrolled: Enrolment | None) -> None:
    found = judged(good(sentinel=sentinel(8.0, 4.0)), enrolled)
    assert found == ("ok", None, ("sentinel_unknown",))


def clocked(low: int, high: int, *, counts: Any = ..., second: tuple[int, int] = (0, 0)) -> dict[str, Any]:
    """Ticks that were spent at either clock during the run; `second`: of CPU 4's policy."""
    runs_on = {"0": 100} if counts is ... else counts
    return good(
        cpu_mask="any",
        placement=[{"cpu_counts": runs_on}] if runs_on is not None else ...,
        clocks=[
            clocks(policy("policy0", [0, 1], 500, 700), policy("policy4", [4], 5, 5), when="before"),
            clocks(policy("policy0", [0, 1], 500 + low, 700 + high),
                   policy("policy4", [4], 5 + second[0], 5 + second[1]), when="after"),
        ],
    )  # fmt: skip


CLOCKS = [
    (clocked(10, 190), ()),
    (clocked(11, 189), ("freq_unstable",)),
    (clocked(190, 10), ()),  # steady at the lower clock: steady
    (clocked(0, 200, second=(100, 100)), ()),  # the run was never there
    (clocked(0, 200, second=(100, 100), counts={"0": 96, "4": 4}), ()),  # only passed through
    (clocked(0, 200, second=(100, 100), counts={"0": 90, "4": 10}), ("freq_unstable",)),
    (clocked(1, 18), ("clock_unknown",)),  # too few ticks to tell
    (clocked(-10, 200), ("clock_unknown",)),  # counters that began anew
    (clocked(0, 200, second=(0, 200), counts=None), ("clock_unknown",)),  # which of two was the run's
    (clocked(0, 200, counts={"9": 5}), ("clock_unknown",)),
    (good(clocks=...), ("clock_unknown",)),
    (good(clocks=[clocks(when="before"), clocks(when="after")]), ("clock_unknown",)),
    (good(clocks=[clocks({"policy": "p", "cpus": [0]}, when=w) for w in ("before", "after")]), ("clock_unknown",)),
]


@pytest.mark.parametrize(("conditions", "caveats"), CLOCKS)
def test_clocks_are_steady_unsteady_or_not_known(conditions: Mapping[str, Any], caveats: tuple[str, ...]) -> None:
    assert judged(conditions, ENROLLED) == ("ok", None, caveats)


def test_a_lone_clock_needs_no_placement() -> None:
    alone = [clocks(policy("policy0", [0, 1], 0, n), when=w) for w, n in (("before", 100), ("after", 300))]
    assert judged(good(clocks=alone, placement=...), ENROLLED) == ("ok", None, ())


@pytest.mark.parametrize("gate", [{"state": "unknown", "waited_s": 0.0}, None, ...])
def test_what_was_not_gated_says_so(gate: Any) -> None:
    assert judged(good(gate=gate), ENROLLED) == ("ok", None, ("thermal_unknown",))


def test_an_invalid_run_keeps_its_caveats() -> None:
    status, _, caveats = judged(good(after=after(throttled=1), gate=..., clocks=..., sentinel=...), ENROLLED)
    assert (status, caveats) == ("invalid", ("clock_unknown", "thermal_unknown", "sentinel_unknown"))


def test_a_run_that_is_made_to_heat_is_judged_only_by_how_it_began() -> None:
    hot = after(throttled=0x4, thermal_status=3, max_khz={"policy0": 1})
    throttled = good(after=hot, sentinel=sentinel(4.0, 8.0), clocks=clocked(100, 100)["clocks"])
    assert judged(throttled, ENROLLED)[0] == "invalid"
    assert judged(throttled, ENROLLED, heats=True) == ("ok", None, ())
    assert judged(throttled | {"sentinel": sentinel(4.0, 8.0)[:1]}, ENROLLED, heats=True) == ("ok", None, ())
    began_slow = judged(good(sentinel=sentinel(5.0, 8.0)), ENROLLED, heats=True)
    assert began_slow[0] == "invalid" and began_slow[1] is not None and began_slow[1].startswith("slowed")


# -- enrolment ---------------------------------------------------------------------------------------------------------


def sentinel_run(repeat: int, ms: float, **more: Any) -> Run:
    cell = Cell(variant="(null)", seed=0, exporter="", backend="", input="", device_id="d", threads=1, cpus="any")
    conditions = {"sentinel": sentinel(ms, 99.0), "before": after(battery_c=20.0 + repeat)}
    base: dict[str, Any] = {"purpose": "sentinel", "attempt": 0, "counts": True, "status": "ok"}
    return Run(id=str(repeat), session="s", cell=cell, repeat=repeat, **(base | {"conditions": conditions} | more))


def test_a_device_is_enrolled_by_the_median_and_the_spread_from_run_to_run() -> None:
    each = (4.0, 4.1, 3.9, 4.4, 4.05)
    found = enrolment([sentinel_run(i, ms) for i, ms in enumerate(each)])
    assert found is not None and found.sentinel_ns == 4.05e6
    logs = [math.log(ms) for ms in each]
    mean = sum(logs) / 5
    assert found.sentinel_sd == pytest.approx(math.sqrt(sum((x - mean) ** 2 for x in logs) / 4))
    assert found.rest == dataclasses.replace(REST, battery_c=24.0)


def test_the_last_run_by_its_repeat_tells_the_rest_whatever_the_order() -> None:
    found = enrolment([sentinel_run(2, 4.0), sentinel_run(0, 4.0), sentinel_run(1, 4.0)])
    assert found is not None and found.rest is not None and found.rest.battery_c == 22.0
    assert (found.sentinel_ns, found.sentinel_sd) == (4.0e6, None)  # three runs tell no spread


def test_what_does_not_count_enrols_nothing() -> None:
    assert enrolment([]) is None
    others = [sentinel_run(0, 4.0, counts=False, status="invalid"), sentinel_run(1, 4.0, purpose="latency")]
    assert enrolment(others) is None
    silent = enrolment([sentinel_run(i, 4.0, conditions={}) for i in range(5)])
    assert silent == Enrolment()


def timed_run(repeat: int, after_ms: float) -> Run:
    return sentinel_run(repeat, 4.0, purpose="latency", conditions={"sentinel": sentinel(4.0, after_ms)})


QUIET = [sentinel_run(i, ms) for i, ms in enumerate((4.0, 4.01, 3.99, 4.0, 4.0))]


def test_a_machine_that_was_quiet_only_while_it_was_enrolled_has_the_limit_of_its_later_runs() -> None:
    changes = (0.04, -0.05, 0.06, -0.04, 0.05, -0.06, 0.04, -0.05)
    restless = [timed_run(i, 4.0 * (1 + change)) for i, change in enumerate(changes)]
    strict, wide = enrolment(QUIET), enrolment(QUIET, since=restless)
    shaken = good() | {"sentinel": sentinel(4.0, 4.24)}
    assert judged(shaken, strict)[0] == "invalid"
    assert judged(shaken, wide)[0] == "ok"
    assert enrolment(QUIET, since=restless[:7]) == strict  # of seven no spread is told


def test_a_device_that_slows_down_in_every_run_has_no_wider_limit_for_it() -> None:
    hot = [timed_run(i, 4.4 + 0.01 * (i % 3)) for i in range(12)]
    status, reason, _ = judged(good() | {"sentinel": sentinel(4.0, 4.4)}, enrolment(QUIET, since=hot))
    assert status == "invalid" and reason is not None and "10.0 % longer" in reason


# -- hostile -----------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["before", "after", "policy0", "0x3", "0", 10**400, -1, 2.5]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(["when", "samples_ns", "policies", "policy", "cpus", "max_khz", "time_in_state", "cpu_counts",
                         "cpu_mask", "state", "throttled", "thermal_status", "zones_c", "0", "x"]), inner, max_size=5),
    max_leaves=20,
)  # fmt: skip
KEYS = ("before", "after", "gate", "sentinel", "clocks", "placement", "runner", "cpu_mask")


@given(st.dictionaries(st.sampled_from(KEYS), JSON))
def test_hostile_json_never_raises(conditions: dict[str, Any]) -> None:
    for enrolled in (None, ENROLLED):
        status, reason, caveats = judged(good() | conditions, enrolled)
        assert (status == "ok") == (reason is None) and len(set(caveats)) == len(caveats)
    enrolment([sentinel_run(i, 4.0, conditions=conditions) for i in range(5)])


HOSTILE = [
    {"sentinel": [{"when": "before", "samples_ns": [math.nan, -1, 0, True, "5", None, 10**400, math.inf, 1e300]}]},
    {"sentinel": {"when": "before"}},
    {"placement": [{"cpu_counts": {"-1": 5, "99999": 5, "²": 5, "0": -3, "1": True, "2": 1.5}}]},
    {"runner": {"cpu_mask": "0x" + "f" * 100_000}},
    {"runner": "0x1"},
    {"after": {"throttled": -1, "thermal_status": True, "max_khz": {"policy0": -5}, "zones_c": 7}},
    {"after": after(max_khz={"policy0": 10**400})},
    {"clocks": [{"when": "before", "policies": [[], 1, {"policy": 5}, {"policy": "p", "time_in_state": [[1]]}]}]},
]


@pytest.mark.parametrize("changes", HOSTILE)
def test_nonsense_is_as_if_it_had_not_been_said(changes: dict[str, Any]) -> None:
    assert judged(good(**changes), ENROLLED)[:2] == ("ok", None)


def test_of_the_kernels_samples_only_times_count() -> None:
    samples = [math.nan, -1, 0, True, "5", None, 10**400, math.inf, 1e300, 4e6, 5e6, 9e6]
    conditions = {"sentinel": [{"when": "before", "samples_ns": samples}, {"when": "after", "samples_ns": [0]}]}
    assert surroundings.sentinel_ns(conditions, "before") == 5e6
    assert surroundings.sentinel_ns(conditions, "after") is None


def test_a_snapshot_comes_back_as_it_was_stored() -> None:
    stored = Snapshot(
        uptime_s=5.5, zones_c={"cpu": 41.5}, skin_c=30.0, battery_c=28.0, battery_percent=80, charging=False,
        thermal_status=0, throttled=0x50000, max_khz={"policy0": 5}, governors={"policy0": "x"}, loadavg=0.5,
        screen_on=True,
    )  # fmt: skip
    assert surroundings.snapshot({"before": dataclasses.asdict(stored)}, "before") == stored
    assert surroundings.snapshot({"before": {key: "x" for key in dataclasses.asdict(stored)}}, "before") == Snapshot()
