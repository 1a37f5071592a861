"""Since when: which points a series has, what they are divided by, where a segment begins, and what is told of."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.analyze.digest import Digest, Known
from harness.analyze.edivisive import change_points
from harness.analyze.history import Change, Series, alarms, as_json, history
from harness.types import Cell
from tests.releases_kit import CONDITIONS, cell, exact, one, runs, session

RNG = np.random.default_rng(0)


def release(
    number: int,
    latency_ms: float = 5.0,
    *,
    day: float = 1.0,
    beside: Mapping[str, Any] | None = None,
    reference: Mapping[str, Any] | None = None,
    **changed: Any,
) -> Digest:
    """One release: int8 at `latency_ms` and its reference at 10 ms on a day that makes both slower by `day`.

    `beside`: more metrics of int8. `reference`: changed fields of the reference; `changed`: of int8."""
    blocks = day * np.exp(0.02 * RNG.standard_normal(5))
    own, other = (level * blocks * np.exp(0.002 * RNG.standard_normal(5)) for level in (latency_ms, 10.0))
    metrics = {"latency_ms": runs(*own.tolist()), **(beside or {})}
    return session(
        f"v{number}",
        one("fp32", metrics={"latency_ms": runs(*other.tolist())}, **(reference or {})),
        one("int8", **{"metrics": metrics, **changed}),
        created_utc=f"2026-01-{number + 1:02}",
    )


def releases(count: int, since: int = 1000, ratio: float = 1.1, **changed: Any) -> list[Digest]:
    return [release(n, 5.0 * (ratio if n >= since else 1.0), **changed) for n in range(count)]


def days(count: int, since: int = 1000) -> list[Digest]:
    """With days that are up to 30 % slower."""
    found = np.random.default_rng(1).uniform(1.0, 1.3, count)
    return [release(n, 5.5 if n >= since else 5.0, day=float(day)) for n, day in enumerate(found)]


def series(stored: Sequence[Digest], metric: str = "latency_ms", variant: str = "int8", **more: Any) -> Series:
    return next(s for s in history(stored, [metric], **more) if s.cell.variant == variant)


def changes(found: Series) -> list[tuple[str | None, bool]]:
    return [(found.points[c.at].label, c.worse) for c in found.changes]


def constant(metric: str, values: Sequence[Known], **changed: Any) -> list[Digest]:
    return [release(n, beside={metric: value}, **changed) for n, value in enumerate(values)]


# -- points -----------------------------------------------------------------------------------------------------------


def test_a_point_is_the_median_over_blocks_of_what_the_reference_of_the_same_block_gives() -> None:
    own, other = runs(1.0, 2.0, 3.0, 4.0, 50.0), runs(2.0, 2.0, 2.0, 1.0, 10.0)
    stored = [session("v0", one("fp32", metrics={"latency_ms": other}), one("int8", metrics={"latency_ms": own}))]
    (point,) = series(stored).points
    assert (point.value, point.relative, point.runs) == (3.0, 1.5, 5)
    assert (point.label, point.sessions, point.segment, point.absent, point.left_out) == ("v0", ("v0",), 0, None, None)
    reference = series(stored, variant="fp32")
    assert reference.normalised is None and "this is the reference" in str(reference.reason)
    assert reference.points[0].relative == reference.points[0].value == 2.0


def test_only_blocks_that_hold_both_are_divided() -> None:
    own = Known(value=2.0, blocks={1: 2.0, 2: 2.0, 3: 2.0, 4: 2.0, 5: 8.0, 9: 100.0})
    other = Known(value=1.0, blocks={0: 5.0, 1: 1.0, 2: 1.0, 3: 1.0, 4: 1.0, 5: 1.0})
    stored = [session("v0", one("fp32", metrics={"latency_ms": other}), one("int8", metrics={"latency_ms": own}))]
    assert (series(stored).points[0].relative, series(stored).points[0].runs) == (2.0, 5)


def test_a_day_that_is_slow_for_all_is_no_change_and_a_slower_variant_is_one() -> None:
    assert changes(series(days(40))) == []
    assert changes(series(days(40, since=30))) == [("v30", True)]
    raw = series(days(40), variant="fp32")
    assert max(p.relative or 0 for p in raw.points) > 1.2 * min(p.relative or 0 for p in raw.points)


def test_sessions_of_one_label_are_one_point_and_each_without_a_label_is_its_own() -> None:
    first, second, third = release(0), release(1), release(2)
    again = replace(third, session="again", label="v0")
    bare = [replace(release(n), label=None) for n in (3, 4)]
    found = series([first, second, again, *bare])
    assert [(p.label, p.sessions, p.runs) for p in found.points] == [
        ("v0", ("v0", "again"), 10), ("v1", ("v1",), 5), (None, ("v3",), 5), (None, ("v4",), 5),
    ]  # fmt: skip
    assert found.points[0].created_utc == "2026-01-01"


def test_of_several_sessions_of_a_label_those_count_that_were_made_like_the_newest() -> None:
    other_os = replace(release(1, 9.0, conditions={**CONDITIONS, "os": "Debian 11"}), label="v0")
    found = series([other_os, release(0)])
    assert found.points[0].runs == 5 and found.points[0].sessions == ("v1", "v0")
    assert found.points[0].value == pytest.approx(5.0, rel=0.05)


def test_quick_sessions_never_come_in() -> None:
    assert history([replace(release(0), quick=True)]) == history([]) == []


def test_too_few_runs_are_shown_and_left_out_of_what_changed() -> None:
    few = {"latency_ms": runs(9.0, 9.1, 9.2, 9.1)}
    stored = [*releases(20), *(release(n, metrics=few) for n in range(20, 26)), release(26)]
    found = series(stored)
    assert [p.left_out for p in found.points[19:22]] == [None, "4 runs, 5 are needed", "4 runs, 5 are needed"]
    assert found.points[20].value == pytest.approx(9.1) and found.points[20].absent is None
    assert found.changes == ()


def test_what_failed_is_a_point_without_a_value_and_with_the_reason() -> None:
    failed = release(1, status="failed", reason="output check failed")
    lacking = release(2, metrics={"latency_ms": Known(absent="the runs lack it")})
    found = series([release(0), failed, lacking])
    assert [p.absent for p in found.points] == [None, "failed: output check failed", "the runs lack it"]
    assert [p.value is None for p in found.points] == [False, True, True]
    assert history([failed], ["latency_ms"])[0].cell.variant == "fp32"  # of int8 there is no value at all


def test_the_newest_release_gives_the_order_and_what_it_lacks_comes_last() -> None:
    old = session("v0", one("gone"), one("fp32"), one("int8"))
    new = session("v1", one("int8"), one("fp32"))
    assert [s.cell.variant for s in history([old, new], ["latency_ms"])] == ["int8", "fp32", "gone"]
    assert history([old, new], ["latency_ms"], devices=["elsewhere"]) == []
    assert len(history([old, new], ["latency_ms"], devices=["d1"])) == 3
    assert len(history([old, new], ["latency_ms"], devices=["phone"])) == 3


# -- the reference ----------------------------------------------------------------------------------------------------


def test_a_release_whose_reference_failed_is_left_out() -> None:
    stored = [*releases(12), release(12, 6.0, reference={"status": "invalid", "reason": "throttled"}), release(13)]
    found = series(stored)
    assert found.normalised == "fp32"
    assert found.points[12].left_out == "the reference fp32 is invalid: throttled"
    assert found.points[12].relative is None and found.points[12].value is not None
    assert found.changes == ()


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ([one("int8")], "the reference fp32 was not measured beside it"),
        ([one("int8"), one("fp32", status="failed", reason="crashed")], "the reference fp32 is failed: crashed"),
        ([one("int8"), one("fp32", metrics={})], "the reference fp32 shares no block with it"),
        ([one("int8"), one("fp32", threads=2)], "the reference fp32 was not measured beside it"),
    ],
)
def test_without_a_reference_the_series_is_raw_and_says_why(cells: Sequence[Any], reason: str) -> None:
    found = series([session("v0", *cells)])
    assert found.normalised is None and found.points[0].relative == found.points[0].value
    assert found.reason == f"{reason}: the series follows the device too"


def test_a_reference_made_anew_for_each_release_divides_nothing() -> None:
    stored = [release(n, day=1.3 if n >= 20 else 1.0, reference={"artifact_sha256": f"sha{n}"}) for n in range(26)]
    found = series(stored)
    assert found.normalised is None
    assert found.reason == "the reference fp32 is 26 files in 26 releases: the series follows the device too"
    assert changes(found) == [("v20", True)]
    assert found.changes[0].reason == f"not divided: {found.reason}"


def test_a_reference_that_became_another_file_begins_a_segment() -> None:
    stored = [release(n, 5.0 if n < 12 else 6.0, reference={"artifact_sha256": str(n // 12)}) for n in range(24)]
    found = series(stored)
    assert found.normalised == "fp32" and found.changes == ()
    assert [(i, p.began) for i, p in enumerate(found.points) if p.began] == [(12, ("reference",))]
    assert [p.segment for p in found.points] == [0] * 12 + [1] * 12


@pytest.mark.parametrize("metric", ["peak_memory_bytes", "size_bytes", "accuracy"])
def test_what_does_not_follow_the_device_is_not_divided(metric: str) -> None:
    found = series(constant(metric, [runs(100.0, 100.0, 100.0, 100.0, 100.0)]), metric)
    assert found.normalised is None and found.points[0].relative == 100.0 and found.reason


# -- segments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", ["os", "runner", "loader", "settings"])
def test_changed_conditions_begin_a_segment_and_never_an_alarm(factor: str) -> None:
    changed = {"conditions": {**CONDITIONS, factor: "another"}}
    stored = [*releases(20), *(release(n, 6.0, **changed) for n in range(20, 40))]
    found = series(stored)
    assert found.changes == () and alarms([found]) == []
    assert [(i, p.began) for i, p in enumerate(found.points) if p.began] == [(20, (factor,))]


def test_a_condition_that_is_not_known_is_as_before() -> None:
    bare = {k: v for k, v in CONDITIONS.items() if k != "loader"}
    stored = [release(0), release(1, conditions=bare), release(2)]
    assert [p.segment for p in series(stored).points] == [0, 0, 0]


def test_the_energy_source_matters_to_energy_only() -> None:
    energy = {"energy_j": runs(1.0, 1.0, 1.0, 1.0, 1.0)}
    stored = [
        release(n, beside=energy, conditions={**CONDITIONS, "energy source": source})
        for n, source in enumerate(["odpm", "gauge"])
    ]
    assert [p.began for p in series(stored, "energy_j").points] == [(), ("energy source",)]
    assert [p.segment for p in series(stored).points] == [0, 0]


def test_a_change_within_a_later_segment_is_found_there() -> None:
    changed = {"conditions": {**CONDITIONS, "os": "another"}}
    stored = [*releases(10), *(release(n, 5.0 if n < 25 else 5.5, **changed) for n in range(10, 40))]
    assert changes(series(stored)) == [("v25", True)]


def test_the_size_of_a_file_has_no_segments() -> None:
    stored = [release(n, beside={"size_bytes": exact(100.0)}) for n in range(2)]
    stored.append(release(2, beside={"size_bytes": exact(150.0)}, conditions={**CONDITIONS, "os": "another"}))
    found = series(stored, "size_bytes")
    assert [p.segment for p in found.points] == [0, 0, 0] and changes(found) == [("v2", True)]


# -- changes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([100, 103], [("v1", True)]),
        ([100, 97], [("v1", False)]),
        ([100, 101], []),
        ([100, 101, 102.5], [("v2", True)]),  # small steps add up
        ([100, 110, 110, 100], [("v1", True), ("v3", False)]),
    ],
)
def test_an_exact_figure_needs_no_test(sizes: Sequence[float], expected: list[tuple[str, bool]]) -> None:
    found = series(constant("size_bytes", [exact(v) for v in sizes]), "size_bytes")
    assert changes(found) == expected
    assert all(c.p_value is None and c.reason for c in found.changes)


def accuracies(*values: float) -> list[Known]:
    return [Known(value=v, low=v - 0.02, high=v + 0.02, lower_is_better=False) for v in values]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.95] * 6 + [0.94], [("v6", True)]),  # always the same until now: it is the file
        ([0.95] * 6 + [0.948], []),
        ([0.95] * 6 + [0.96], [("v6", False)]),
        ([0.95, 0.951, 0.949, 0.952, 0.948, 0.95, 0.93], []),  # trained anew each time: one may be chance
        ([0.951 + 0.001 * (n % 3) for n in range(12)] + [0.92, 0.921, 0.919], [("v12", True)]),
    ],
)
def test_the_task_metric_is_exact_where_it_repeats(values: Sequence[float], expected: list[tuple[str, bool]]) -> None:
    found = series(constant("accuracy", accuracies(*values)), "accuracy")
    assert changes(found) == expected and not found.lower_is_better


def test_of_a_metric_where_more_is_better_a_fall_is_what_is_looked_for_early() -> None:
    """Values whose newest three fall by so much that only the rule for a change to the worse finds it."""
    rng = np.random.default_rng(3)
    tried = [np.append(rng.normal(0.9, 0.0135, 20), rng.normal(0.855, 0.0135, 3)) for _ in range(100)]
    weak = [x for x in tried if change_points(x, 0.005, rising_is_worse=False) and not change_points(x, 0.005)]
    assert weak
    found = series(constant("accuracy", accuracies(*weak[0].tolist())), "accuracy")
    assert [worse for _, worse in changes(found)] == [True]


def test_memory_has_change_points_too() -> None:
    def of(level: float) -> Known:
        return runs(*(level * (1 + 0.002 * RNG.standard_normal(5))).tolist())

    stored = constant("peak_memory_bytes", [of(1e7) for _ in range(12)] + [of(1.1e7) for _ in range(3)])
    assert changes(series(stored, "peak_memory_bytes")) == [("v12", True)]


def test_a_threshold_of_ones_own() -> None:
    stored = constant("size_bytes", [exact(100.0), exact(110.0)])
    assert changes(series(stored, "size_bytes")) == [("v1", True)]
    found = series(stored, "size_bytes", thresholds={"size_bytes": 0.2})
    assert found.changes == () and found.threshold == 0.2


# -- alarms -----------------------------------------------------------------------------------------------------------


def told(stored: Sequence[Digest], accepted: str | None = None) -> list[str | None]:
    return [s.points[c.at].label for s, c in alarms(history(stored, ["latency_ms"]), accepted)]


def confirmed(found: Series, said: bool) -> Series:
    return replace(found, changes=tuple(replace(c, confirmed=said) for c in found.changes))


def test_a_step_to_the_worse_is_an_alarm_while_it_is_news() -> None:
    assert told(releases(23, since=20)) == ["v20"]
    assert told(releases(25, since=20)) == ["v20"]
    assert told(releases(26, since=20)) == []  # five releases have shown it, and nobody minded
    assert told(releases(23, since=20, ratio=0.9)) == []


def test_with_a_baseline_it_is_an_alarm_until_that_is_set_anew() -> None:
    stored = releases(40, since=20)
    assert told(stored, accepted="v5") == told(stored, accepted="v19") == ["v20"]
    assert told(stored, accepted="v20") == told(stored, accepted="v30") == []
    assert told(stored, accepted="unknown") == []
    assert told(releases(23, since=20), accepted="unknown") == ["v20"]


def test_what_was_taken_back_is_no_alarm_and_half_of_it_is_one() -> None:
    def taken_back(to: float) -> list[Digest]:
        levels = [5.0] * 20 + [6.0] * 8 + [to] * 8
        return [release(n, level) for n, level in enumerate(levels)]

    assert told(taken_back(5.0), accepted="v0") == []
    assert told(taken_back(5.5), accepted="v0") == ["v20"]


def test_an_alarm_that_was_refuted_or_lies_in_an_older_segment_is_none() -> None:
    found = series(releases(23, since=20))
    assert alarms([confirmed(found, True)]) and not alarms([confirmed(found, False)])
    newer = [*releases(23, since=20), release(23, 5.5, conditions={**CONDITIONS, "os": "another"})]
    assert changes(series(newer)) == [("v20", True)] and told(newer) == []


# -- as JSON ----------------------------------------------------------------------------------------------------------


def test_every_key_is_there_in_the_json() -> None:
    (row,) = as_json([series(releases(23, since=20))])
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert row.keys() >= set(Cell.__dataclass_fields__)
    told = {k: v for k, v in row.items() if k not in ("points", "changes") and k not in Cell.__dataclass_fields__}
    assert told == {
        "device": "phone", "metric": "latency_ms", "unit": "ms", "better": "lower", "threshold": 0.02,
        "normalised": "fp32", "reason": None,
    }  # fmt: skip
    assert row["points"][22].keys() == {
        "label", "sessions", "created_utc", "value", "relative", "runs", "segment", "began", "absent", "left_out",
    }  # fmt: skip
    (change,) = row["changes"]
    assert change.keys() == {"at", "label", "ratio", "p_value", "worse", "confirmed", "reason", "stands"}
    told = [change[key] for key in ("at", "label", "worse", "stands", "confirmed")]
    assert told == [20, "v20", True, True, None]


@pytest.mark.parametrize(
    "make",
    [
        lambda: [release(0)],
        lambda: [release(0), release(1)],
        lambda: [release(n, metrics={"latency_ms": runs(5.0)}) for n in range(9)],
        lambda: [release(n, metrics={"latency_ms": runs(*[5.0] * 5)}) for n in range(30)],
        lambda: constant("size_bytes", [exact(0.0), exact(0.0), exact(5.0)]),
        lambda: constant("accuracy", accuracies(0.9, 0.9, 0.9, 0.9, 0.0, 0.0)),
        lambda: constant("accuracy", accuracies(-3.0, -3.1, -2.9, -8.0, -8.1, -8.0)),
        lambda: [session("v0")],
    ],
)
def test_little_and_odd_input_gives_an_answer(make: Callable[[], list[Digest]]) -> None:
    found = history(make())
    assert json.dumps(as_json(found), allow_nan=False)
    assert all(isinstance(c, Change) and s.points[c.at].value is not None for s, c in alarms(found))


def test_cells_on_two_devices_are_two_series() -> None:
    stored = [session("v0", one("int8"), one("int8", device_id="d2", device="pi"))]
    assert [(s.cell, s.device) for s in history(stored, ["latency_ms"])] == [
        (cell("int8"), "phone"), (cell("int8", device_id="d2"), "pi"),
    ]  # fmt: skip


def test_releases_that_were_rejected_and_taken_back_are_no_alarm_for_the_next() -> None:
    levels = [*[5.0] * 10, *[5.5] * 4]
    rejected = [release(n, level) for n, level in enumerate(levels)]
    assert changes(series(rejected)) == [("v10", True)]
    assert [s.cell.variant for s, _ in alarms(history(rejected, ["latency_ms"]))] == ["int8"]
    taken_back = [*rejected, release(len(levels), 5.0)]
    assert changes(series(taken_back)) == [("v10", True)]
    assert [c["stands"] for c in as_json([series(taken_back)])[0]["changes"]] == [False]
    assert alarms(history(taken_back, ["latency_ms"])) == []
