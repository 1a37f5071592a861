"""The variant to ship: constraints judged by how probably they hold, and honest answers where nothing fits."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analyze.constraints import judge
from harness.analyze.pick import Decision, decide
from harness.types import Constraint

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

SCHEMA = jsonschema.Draft202012Validator(
    json.loads((Path(__file__).parent / "schema" / "pick.schema.json").read_text())
)
DROP = Constraint(metric="accuracy_drop", op="<=", bound=0.01)


def metric(value: float, spread: float | None = 0.0, **more: Any) -> dict[str, Any]:
    ci95 = {"absent": "one repeat"} if spread is None else [value - spread, value + spread]
    return {"value": value, "unit": "", "ci95": ci95, "source": "runner", **more}


def result(variant: str, latency: float | None, drop: float = 0.0, **more: Any) -> dict[str, Any]:
    """Latency with ±1 %, drop with ±0.002 on 1,000 samples."""
    width = more.pop("width", 0.01)
    metrics = {
        "latency_ms": {"absent": "not timed"} if latency is None else metric(latency, latency * width),
        "accuracy_drop": metric(drop, more.pop("drop_width", 0.002), samples=1000),
        "size_bytes": metric(more.pop("size", 1000)),
    }
    base = {
        "variant": variant, "seed": 0, "exporter": "executorch", "backend": "xnnpack", "input": "default",
        "device": "local", "device_id": "x", "threads": 1, "cpus": "any", "context": "host",
        "status": "ok", "reason": None, "repeats": 5, "metrics": metrics,
    }  # fmt: skip
    return base | more


def asked(results: list[dict[str, Any]], *where: Constraint, **more: Any) -> Decision:
    """The decision, held to the schema of `pick --json`."""
    found = decide(results, where=where, **more)
    SCHEMA.validate(json.loads(json.dumps(
        {"pick": found.pick, "reason": found.reason, "closest": found.closest}, allow_nan=False)))  # fmt: skip
    return found


SLOW, GOOD, LOSSY = result("fp32", 1.0), result("int8", 0.5, 0.002), result("tiny", 0.2, 0.05)


def test_the_fastest_for_which_all_constraints_hold_is_picked() -> None:
    pick = asked([SLOW, GOOD, LOSSY], DROP).pick
    assert pick and pick["variant"] == "int8"
    assert pick["runner_up"]["variant"] == "fp32"
    assert pick["binding"] == "accuracy_drop <= 0.01"
    assert pick["probability"] > 0.99


def test_without_a_constraint_nothing_binds() -> None:
    pick = asked([SLOW, GOOD, LOSSY]).pick
    assert pick and (pick["variant"], pick["binding"]) == ("tiny", None)


def test_a_constraint_that_changes_nothing_does_not_bind() -> None:
    pick = asked([SLOW, GOOD, result("slow-and-lossy", 3.0, 0.05)], DROP).pick
    assert pick and pick["variant"] == "int8" and pick["binding"] is None


def test_of_two_constraints_the_one_that_costs_most_binds() -> None:
    small = Constraint(metric="size_bytes", op="<", bound=900)
    results = [result("a", 1.0, size=100), result("b", 0.5, size=5000), result("c", 0.2, 0.5, size=100)]
    pick = asked(results, small, DROP).pick
    assert pick and (pick["variant"], pick["binding"]) == ("a", "accuracy_drop <= 0.01")


def test_where_only_two_constraints_together_hold_the_pick_back_the_commoner_one_binds() -> None:
    small = Constraint(metric="size_bytes", op="<", bound=900)
    results = [result("a", 1.0, size=100), result("b", 0.5, 0.5, size=5000), result("c", 2.0, 0.5, size=100)]
    pick = asked(results, small, DROP).pick
    assert pick and (pick["variant"], pick["binding"]) == ("a", "accuracy_drop <= 0.01")


def test_a_constraint_that_probably_holds_is_not_one_that_holds() -> None:
    close = result("close", 0.2, 0.009, drop_width=0.004)
    found = asked([SLOW, close], DROP)
    assert found.pick and found.pick["variant"] == "fp32"
    assert found.pick["probability"] < 0.7  # `close` may well fit and be better
    (open_,) = found.undecided
    assert open_["variant"] == "close"
    assert open_["misses"][0]["outcome"] == "undecided"
    samples = int(open_["misses"][0]["needs"].split()[1].replace(",", ""))
    enough = result("close", 0.2, 0.009, drop_width=0.004 * math.sqrt(1000 / samples))
    assert judge(enough, DROP, 0.9).outcome == "holds"
    assert asked([SLOW, close], DROP, confidence=0.6).pick["variant"] == "close"


def test_nothing_fits_is_an_answer_that_names_the_closest_and_how_far_it_is() -> None:
    found = asked([LOSSY, result("worse", 0.1, 0.2)], DROP)
    assert found.pick is None
    assert found.closest and found.closest["variant"] == "tiny"
    assert found.closest["misses"][0]["short_by"] == pytest.approx(0.04)
    assert "closest is tiny" in str(found.reason)


def test_if_nothing_is_usable_the_commonest_reason_is_the_answer() -> None:
    broken = [result(v, None, status="failed", reason="no space left") for v in "ab"]
    assert asked(broken).reason == "no result can be used: no space left"
    assert asked([]).reason == "there are no results"
    assert asked([result("a", None)]).reason == "no result has latency_ms: not timed"


def test_what_is_not_ranked_is_not_picked() -> None:
    unranked = result("odd", 0.1, reason="not ranked: no peak_memory_bytes")
    invalid = result("wild", 0.01, status="invalid", reason="not steady")
    pick = asked([unranked, invalid, SLOW]).pick
    assert pick and pick["variant"] == "fp32"


def test_a_metric_that_was_not_measured_can_neither_hold_nor_fail() -> None:
    unknown = result("a", 1.0)
    unknown["metrics"]["accuracy_drop"] = {"absent": "no data in the experiment"}
    found = asked([unknown], DROP)
    assert found.pick is None
    assert "no data in the experiment" in str(found.reason)


def test_one_repeat_decides_nothing_about_time_and_asks_for_more() -> None:
    once = result("a", 1.0)
    once["metrics"]["latency_ms"]["ci95"] = {"absent": "one repeat has no interval"}
    found = asked([once], Constraint(metric="latency_ms", op="<=", bound=100))
    assert found.pick is None and "at least 2 repeats" in str(found.reason)
    pick = asked([once, result("b", 2.0)]).pick
    assert pick and pick["probability"] == {"absent": "latency_ms has no interval"}


@pytest.mark.parametrize(("op", "holds"), [("<=", True), (">=", True), ("<", False), (">", False)])
def test_an_exact_value_on_the_bound_is_compared_and_not_guessed(op: Any, holds: bool) -> None:
    judged = judge(result("a", 1.0, size=1000), Constraint(metric="size_bytes", op=op, bound=1000), 0.9)
    assert judged.outcome == ("holds" if holds else "fails")
    assert judged.probability in (0.0, 1.0)


def test_a_value_on_the_bound_with_spread_is_settled_by_no_number_of_samples() -> None:
    judged = judge(result("a", 1.0, 0.01), DROP, 0.9)
    assert (judged.outcome, judged.probability) == ("undecided", pytest.approx(0.5))
    assert "no number" in str(judged.needs)


def test_another_statistic_is_judged_by_its_own_interval() -> None:
    own = result("a", 1.0)
    own["metrics"]["latency_ms"] |= {"p99": 3.0, "ci95_of": {"p99": [2.0, 4.5]}}
    assert judge(own, Constraint(metric="latency_ms.p99", op="<", bound=3.1), 0.9).outcome == "undecided"
    assert judge(own, Constraint(metric="latency_ms.p99", op="<", bound=9), 0.9).outcome == "holds"
    assert judge(own, Constraint(metric="latency_ms.p90", op="<", bound=9), 0.9).why == "latency_ms has no p90"


def test_bounds_that_a_time_can_never_reach_are_answers_and_no_errors() -> None:
    assert judge(SLOW, Constraint(metric="latency_ms", op="<", bound=-1), 0.9).outcome == "fails"
    assert judge(SLOW, Constraint(metric="latency_ms", op=">", bound=0), 0.9).outcome == "holds"


def test_higher_is_better_takes_the_largest() -> None:
    results = [result("a", 1.0), result("b", 2.0)]
    results[0]["metrics"]["throughput_ips"], results[1]["metrics"]["throughput_ips"] = metric(1000, 5), metric(500, 5)
    pick = asked(results, minimize="throughput_ips").pick
    assert pick and pick["variant"] == "a" and pick["probability"] > 0.99


@given(
    st.floats(0.01, 100), st.floats(0, 0.5), st.sampled_from(["<=", ">=", "<", ">"]), st.floats(0.01, 100),
    st.floats(0.51, 0.99),
)  # fmt: skip
def test_a_constraint_and_its_opposite_have_probabilities_that_sum_to_one(
    value: float, width: float, op: Any, bound: float, confidence: float
) -> None:
    opposite: Any = {"<=": ">", ">": "<=", ">=": "<", "<": ">="}[op]
    own = result("a", value, width=width)
    one = judge(own, Constraint(metric="latency_ms", op=op, bound=bound), confidence)
    two = judge(own, Constraint(metric="latency_ms", op=opposite, bound=bound), confidence)
    assert one.probability is not None and two.probability is not None
    assert 0 <= one.probability <= 1
    assert one.probability + two.probability == pytest.approx(1.0)
    expected = "holds" if one.probability >= confidence else "fails" if one.probability <= 1 - confidence else None
    assert one.outcome == (expected or "undecided")


many = st.lists(
    st.tuples(st.floats(0.1, 10), st.floats(-0.05, 0.05), st.floats(0.001, 0.3)), min_size=1, max_size=7, unique=True
)


@settings(max_examples=40)
@given(many, st.randoms())
def test_the_pick_fits_is_the_least_that_does_and_does_not_hang_on_the_order(
    drawn: list[tuple[float, float, float]], shuffle: random.Random
) -> None:
    results = [result(f"v{i}", ms, drop, width=w) for i, (ms, drop, w) in enumerate(drawn)]
    found = asked(results, DROP)
    fits = [r for r in results if judge(r, DROP, 0.9).outcome == "holds"]
    if not fits:
        assert found.pick is None and found.reason and found.closest
        return
    assert found.pick
    best = min(fits, key=lambda r: r["metrics"]["latency_ms"]["value"])
    chosen = next(r for r in results if r["variant"] == found.pick["variant"])
    assert chosen in fits
    assert chosen["metrics"]["latency_ms"]["value"] == best["metrics"]["latency_ms"]["value"]
    assert 0.0 <= found.pick["probability"] <= 1.0
    shuffled = results.copy()
    shuffle.shuffle(shuffled)
    assert asked(shuffled, DROP) == found


def on(device: str, *results: dict[str, Any]) -> list[dict[str, Any]]:
    return [r | {"device": device, "device_id": f"id-{device}"} for r in results]


def test_over_devices_the_choice_whose_worst_ratio_is_least_is_robust() -> None:
    results = [
        *on("phone", result("a", 1.0), result("b", 1.5), result("c", 4.0)),
        *on("board", result("a", 90.0), result("b", 35.0), result("c", 30.0)),
    ]
    pick = asked(results).pick
    assert pick and (pick["variant"], pick["device"], pick["device_id"]) == ("b", "*", "*")
    assert pick["runner_up"]["device"] == "*"
    assert pick["probability"] > 0.99


def test_what_does_not_fit_on_one_device_is_not_robust() -> None:
    results = [
        *on("phone", result("a", 1.0), result("b", 1.5)),
        *on("board", result("a", 9.0, 0.3), result("b", 35.0)),
    ]
    pick = asked(results, DROP).pick
    assert pick and (pick["variant"], pick["binding"]) == ("b", "accuracy_drop <= 0.01")
    gone = [*on("phone", result("a", 1.0)), *on("board", result("a", 9.0, status="failed", reason="unreachable"))]
    found = asked(gone)
    assert found.pick is None and "all 2 places" in str(found.reason)


def test_named_input_cases_are_weighed_like_devices() -> None:
    results = [
        result("a", 1.0, input="short"), result("a", 90.0, input="long"),
        result("b", 1.5, input="short"), result("b", 35.0, input="long"),
    ]  # fmt: skip
    pick = asked(results).pick
    assert pick and (pick["variant"], pick["device"], pick["input"]) == ("b", "local", "*")


def test_the_probability_of_the_best_of_two_equals_is_a_half() -> None:
    pick = asked([result("a", 1.0, width=0.05), result("b", 1.0001, width=0.05)]).pick
    assert pick and 0.45 < pick["probability"] < 0.55
