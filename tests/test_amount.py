"""How many repeats are enough: who gets one more, with whom, and why the others do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from harness.analyze.amount import MAX_REPEATS, Amount, next_repeat
from harness.analyze.draws import Raw
from harness.analyze.intervals import over_runs
from harness.analyze.measured import absent, exact, metric_object
from harness.types import Constraint

Variant = tuple[Mapping[str, Any], Raw]


def variant(
    name: str, runs: Sequence[float], *, size: int = 1000, accuracy: float = 0.9, blocks: Sequence[int] | None = None,
    **more: Any,
) -> Variant:  # fmt: skip
    """A result whose latency runs had these medians, in blocks 0, 1, …"""
    value = float(np.exp(np.mean(np.log(runs))))
    metrics = {
        "latency_ms": metric_object("latency_ms", value, over_runs(list(runs), value), "runner"),
        "size_bytes": exact("size_bytes", size, "host"),
        "accuracy": exact("accuracy", accuracy, "device"),
    }
    metrics |= more.pop("metrics", {})
    result = {
        "variant": name, "seed": 0, "exporter": "executorch", "backend": "xnnpack", "input": "default",
        "device": "local", "device_id": "x", "threads": 1, "cpus": "any", "context": "host",
        "status": "ok", "reason": None, "repeats": len(runs), "metrics": metrics,
    }  # fmt: skip
    at = dict(zip(blocks or range(len(runs)), map(float, runs), strict=True))
    return result | more, Raw(blocks={"latency_ms": at})


def runs(latency: float, sd: float, count: int = 5, seed: int = 0) -> list[float]:
    """Medians of runs with exactly the scatter `sd` about `latency`; another seed (0 to 3) is uncorrelated with it."""
    noise = np.random.default_rng(0).standard_normal((count, 5))
    noise[:, 0] = 1.0
    z = np.linalg.qr(noise)[0][:, 1 + seed] * np.sqrt(count - 1)
    return [float(v) for v in latency * np.exp(sd * z)]


def asked(variants: Sequence[Variant], **more: Any) -> Amount:
    said: dict[str, Any] = {"objectives": ("latency_ms", "size_bytes"), "target_ci": 0.01, "minimize": None} | more
    return next_repeat([r for r, _ in variants], [raw for _, raw in variants], **said)


FAST, SLOW = variant("fast", runs(1.0, 0.02)), variant("slow", runs(2.0, 0.02, seed=1))


def test_a_place_that_is_clear_needs_no_more_repeats() -> None:
    found = asked([FAST, SLOW])
    assert found.settled and found.reason == "every result is settled"
    assert found.why == {0: "its place is clear", 1: "its place is clear"}


def test_two_that_are_close_get_one_more_together_and_the_one_far_off_does_not() -> None:
    close = variant("close", runs(1.02, 0.02, seed=2))
    found = asked([FAST, SLOW, close])
    assert found.cells == (0, 2)
    assert "on the front with a probability of 0." in found.why[0]
    assert found.why[1] == "its place is clear"
    assert found.reason.startswith("2 of 3 results get one more repeat: on the front")


def test_what_nothing_can_dominate_needs_none_however_close_it_is() -> None:
    smaller = variant("smaller", runs(1.01, 0.02, seed=2), size=999)
    larger = variant("larger", runs(1.01, 0.02, seed=3), size=1001)
    assert asked([smaller]).settled
    assert asked([smaller, larger]).cells == (0, 1)  # only the larger one's place hangs on the latency
    assert asked([smaller, larger]).why[0] == "a rival of one that is not settled"


def test_equal_ones_come_to_an_end_as_soon_as_they_are_known_to_be_within_two_percent() -> None:
    known = [variant("a", runs(1.0, 0.005, 6, seed=1)), variant("b", runs(1.001, 0.005, 6, seed=2))]
    assert asked(known, target_ci=0.0001).settled  # though either is on the front with about one half
    unknown = [variant("a", runs(1.0, 0.02, 6, seed=1)), variant("b", runs(1.001, 0.02, 6, seed=2))]
    assert asked(unknown, target_ci=0.0001).cells == (0, 1)
    apart = [variant("a", runs(1.0, 0.02, 6, seed=1)), variant("b", runs(1.03, 0.02, 6, seed=2))]
    assert asked(apart, target_ci=0.0001).cells == (0, 1)


def test_what_shakes_a_block_does_not_keep_two_apart_from_being_compared() -> None:
    shaken = np.exp(0.1 * np.random.default_rng(0).standard_normal(6))
    paired = [variant(n, (np.array(runs(v, 0.002, 6, seed=1)) * shaken).tolist()) for n, v in (("a", 1.0), ("b", 1.05))]
    assert asked(paired).settled
    other = [variant("a", runs(1.0, 0.1, 6, seed=1)), variant("b", runs(1.05, 0.1, 6, seed=2))]
    assert asked(other).cells == (0, 1)


def test_narrow_means_narrow_at_three_checks_in_a_row() -> None:
    steady = runs(1.0, 0.003, 8, seed=1)
    rival = variant("rival", runs(1.006, 0.05, 8, seed=2))
    assert asked([variant("a", steady), rival]).why[0] == "a rival of one that is not settled"
    lucky = [1.0, 1.04, 1.04, 1.0, 1.02, 1.02, 1.02, 1.02]
    width = {n: (over_runs(lucky[:n]) or (0, 9))[1] / (over_runs(lucky[:n]) or (1, 9))[0] for n in (6, 8)}
    target = width[8] ** 0.5 - 1 + 1e-6  # reached now for the first time
    assert width[6] ** 0.5 - 1 > target
    assert "on the front" in asked([variant("a", lucky), rival], target_ci=target).why[0]
    assert asked([variant("a", lucky), rival], target_ci=width[6] ** 0.5 - 1 + 1e-6).why[0].startswith("a rival")


def test_narrow_intervals_end_it_even_where_the_place_stays_open() -> None:
    both = [variant("a", runs(1.0, 0.004, 12, seed=1)), variant("b", runs(1.003, 0.004, 12, seed=2))]
    found = asked(both, target_ci=0.03)
    assert found.settled


def test_twenty_repeats_are_the_end_whether_they_count_or_not() -> None:
    close = [variant("a", runs(1.0, 0.05, 5, seed=1)), variant("b", runs(1.03, 0.05, 5, seed=2))]
    assert asked(close).cells == (0, 1)
    assert asked(close, spent={0: MAX_REPEATS, 1: 6}).cells == (1,)
    found = asked(close, spent={0: MAX_REPEATS, 1: MAX_REPEATS})
    assert found.settled and found.why[0] == "it has had 20 repeats"
    many = [variant("a", runs(1.0, 0.05, 20, seed=1)), variant("b", runs(1.03, 0.05, 20, seed=2))]
    assert asked(many).settled
    assert asked(many, cap=30).cells == (0, 1)


@pytest.mark.parametrize(("bound", "open_"), [(1.005, True), (0.5, False), (1.5, False), (1.05, False)])
def test_near_a_constraint_there_is_one_more(bound: float, open_: bool) -> None:
    where = [Constraint(metric="latency_ms", op="<=", bound=bound)]
    found = asked([FAST, SLOW], where=where)
    assert found.cells == ((0,) if open_ else ())
    if open_:
        assert "latency_ms <= 1.005 is undecided" in found.why[0]


def test_what_no_latency_run_can_settle_gets_none() -> None:
    drop = metric_object("accuracy_drop", 0.01, (0.0, 0.02), "device", samples=100)
    unsure = variant("unsure", runs(1.0, 0.02), metrics={"accuracy_drop": drop})
    where = [Constraint(metric="accuracy_drop", op="<=", bound=0.01)]
    assert asked([unsure, SLOW], where=where).settled
    memory = [metric_object("peak_memory_bytes", v, (v * 0.9, v * 1.1), "runner") for v in (5e6, 5.01e6)]
    pair = [
        variant(n, runs(v, 0.02, seed=k), metrics={"peak_memory_bytes": memory[k]})
        for k, (n, v) in enumerate((("a", 1.0), ("b", 0.5)))
    ]
    assert asked(pair, objectives=("latency_ms", "peak_memory_bytes")).settled


def test_the_race_for_the_pick_is_run_among_those_that_fit() -> None:
    """All three are on the front for sure, by their sizes; which one is fastest is open."""
    three = [
        variant(n, runs(v, 0.05, seed=k), size=1000 - k, accuracy=a)
        for k, (n, v, a) in enumerate((("a", 1.0, 0.92), ("b", 1.03, 0.91), ("c", 1.01, 0.80)))
    ]
    objectives = ("latency_ms", "size_bytes", "accuracy")
    where = [Constraint(metric="accuracy", op=">=", bound=0.85)]
    assert asked(three[1:], objectives=objectives).settled
    found = asked(three[:2], objectives=objectives, minimize="latency_ms", where=where)
    assert found.cells == (0, 1) and found.why[0] == "in the race for the pick"
    found = asked(three, objectives=objectives, minimize="latency_ms", where=where)
    assert 2 not in found.cells
    assert asked(three[:2], objectives=objectives, minimize="size_bytes", where=where).settled


def test_what_is_not_ranked_gets_none_and_keeps_its_reason() -> None:
    broken = variant("broken", runs(1.0, 0.02), status="invalid", reason="throttled")
    odd = variant("odd", runs(1.0, 0.02), metrics={"size_bytes": absent("nobody weighed it")})
    found = asked([broken, FAST, odd])
    assert found.settled
    assert found.why[0] == "throttled"
    assert "nobody weighed it" in found.why[2]


def test_one_repeat_has_no_interval_and_gets_a_second() -> None:
    once = variant("once", [1.0])
    found = asked([once, SLOW])
    assert found.cells == (0,) and found.why[0] == "latency_ms has no interval yet"
    where = [Constraint(metric="latency_ms", op="<=", bound=5.0)]
    assert asked([once], where=where, objectives=("size_bytes",)).cells == (0,)


def test_input_cases_are_fronts_of_their_own() -> None:
    close = variant("close", runs(1.02, 0.02, seed=2), input="long")
    assert asked([FAST, close]).settled
    assert asked([FAST, variant("close", runs(1.02, 0.02, seed=2))]).cells == (0, 1)


def test_of_several_trainings_the_one_that_stands_for_them_is_repeated() -> None:
    first = variant("trained", runs(1.0, 0.02))
    second = variant("trained", runs(1.0, 0.02, seed=3), seed=7)
    close = variant("close", runs(1.02, 0.02, seed=2))
    found = asked([first, second, close])
    assert found.cells == (0, 2) and found.why[1] == "represented by seed 0"


def test_more_is_better_turns_the_sides_round() -> None:
    def of(name: str, latency: Sequence[float]) -> Variant:
        thousandth = [1000 / v for v in latency]
        metric = metric_object("throughput_ips", float(np.median(thousandth)), over_runs(thousandth), "derived")
        result, _ = variant(name, latency, metrics={"throughput_ips": metric})
        return result, Raw(blocks={"throughput_ips": dict(enumerate(thousandth))})

    fast, slow, close = of("f", runs(1.0, 0.02)), of("s", runs(2.0, 0.02, seed=1)), of("c", runs(1.02, 0.02, seed=2))
    objectives = ("throughput_ips", "size_bytes")
    assert asked([fast, slow], objectives=objectives).settled
    assert asked([fast, slow, close], objectives=objectives).cells == (0, 2)
    near = [of("a", runs(1.0, 0.005, 6, seed=1)), of("b", runs(1.001, 0.005, 6, seed=2))]
    assert asked(near, objectives=objectives, target_ci=0.0001).settled


def test_the_answer_hangs_on_nothing_but_what_was_measured() -> None:
    close = variant("close", runs(1.02, 0.02, seed=2))
    assert asked([FAST, SLOW, close]) == asked([FAST, SLOW, close])
    there, back = asked([FAST, SLOW, close]), asked([close, SLOW, FAST])
    assert there.cells == (0, 2) == back.cells


def test_nothing_at_all_is_settled() -> None:
    assert asked([]) == Amount()
