"""Two releases compared: the design that the figures allow, what may not be compared, what is missing, the verdict."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analyze.compare import Compared, as_json, compare, verdict
from harness.analyze.digest import JUDGED, CellDigest, Digest, Known
from harness.analyze.paired import compare_paired
from tests.releases_kit import CONDITIONS, cell, exact, noisy, one, row, runs, scored, session

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

TURNED = {"worse": "better", "better": "worse"}


def both(base: CellDigest, head: CellDigest, **asked: Any) -> list[Compared]:
    """Sessions of their own."""
    return compare([session("1", base)], [session("2", head)], [], **asked)


def together(base: CellDigest, head: CellDigest, **asked: Any) -> list[Compared]:
    """In the same blocks."""
    return compare([session("1", base)], [session("1", head)], [], **asked)


def latency(*values: float, **changed: Any) -> CellDigest:
    return one(metrics={"latency_ms": runs(*values)}, **changed)


# paired


def test_the_same_session_is_compared_block_by_block() -> None:
    base, head = noisy(5.0, n=10), noisy(5.5, n=10, seed=1)
    found = row(together(one(metrics={"latency_ms": base}), one(metrics={"latency_ms": head})))
    expected = compare_paired(base.blocks, head.blocks, lower_is_better=True)
    assert (found.design, found.outcome, found.n) == ("paired", "worse", 10)
    assert (found.ratio, found.ci95, found.p_value) == (expected.ratio, expected.ci95, expected.p_value)
    assert found.minimum_detectable == expected.minimum_detectable and found.base == base.value


def test_what_drifts_with_both_is_no_change_in_one_session_and_hides_it_in_two() -> None:
    drift = [1.0, 1.3, 1.7, 2.0, 2.4, 2.9]
    base = latency(*drift)
    head = latency(*[1.1 * d * f for d, f in zip(drift, [1, 1.001, 0.999, 1.002, 1, 0.998], strict=True)])
    assert row(together(base, head)).outcome == "worse"
    assert row(both(base, head)).outcome == "inconclusive"


def test_the_very_same_result_on_both_sides_is_not_tested() -> None:
    shared = one(metrics={"latency_ms": noisy(5.0), "size_bytes": exact(10.0)})
    for metric in ("latency_ms", "size_bytes"):
        found = row(together(shared, shared), metric)
        assert (found.outcome, found.ratio, found.ci95, found.p_value) == ("same", 1.0, None, None)
        assert found.reason == "the same file"


def test_without_a_shared_block_there_is_no_verdict() -> None:
    head = replace(runs(9.0, 9.0), blocks={7: 9.0, 8: 9.0})
    found = row(together(latency(1.0, 1.0), one(metrics={"latency_ms": head})))
    assert found.outcome == "inconclusive" and found.reason == "the two share no block"


def test_equal_ratios_have_no_p_value_and_are_not_of_the_family() -> None:
    found = row(together(latency(1.0, 1.0, 1.0), latency(2.0, 2.0, 2.0)))
    assert (found.outcome, found.p_value, found.q_value) == ("worse", None, None)
    assert "no spread" in str(found.reason)
    same = row(together(latency(1.0, 1.0, 1.0), latency(1.0, 1.0, 1.0, artifact_sha256="other")))
    assert same.outcome == "same"


def test_a_robust_twin_that_does_not_agree_is_told() -> None:
    values = [1.05, 1.06, 1.05, 1.04, 1.05, 1.06, 1.05, 1.05, 1.06, 1.05, 1.05, 1.06, 0.35]
    found = row(together(latency(*[1.0] * 13), latency(*values)))
    assert "the robust twin does not agree" in str(found.reason)


# unpaired


@pytest.mark.parametrize("turn", [False, True])
def test_a_whole_device_that_was_slower_is_no_change_of_a_variant(turn: bool) -> None:
    """Both are 40 % slower on the second day, the reference too."""
    days = [
        session(day, one("fp32", metrics={"latency_ms": noisy(10 * f, seed=1)}), one(metrics={"latency_ms": noisy(f)}))
        for day, f in (("1", 1.0), ("2", 1.4))
    ]
    base, head = reversed(days) if turn else days
    found = compare([base], [head], days)
    assert row(found).ratio == pytest.approx(1.0) and row(found).outcome == "inconclusive"
    assert "divided by the reference fp32" in str(row(found).reason)
    reference = row(found, variant="fp32")
    assert reference.ratio == pytest.approx(1 / 1.4 if turn else 1.4)
    assert "this is the reference itself" in str(reference.reason)


def test_a_variant_twice_as_slow_beside_a_steady_reference_is_worse() -> None:
    reference = one("fp32", metrics={"latency_ms": noisy(10, seed=1)})
    found = compare(
        [session("1", reference, one())], [session("2", reference, latency(10, 10.2, 9.9, 10.1, 10))], []
    )
    assert row(found).outcome == "worse" and row(found).design == "unpaired"
    assert row(found).ratio == pytest.approx(2.0, rel=0.02)
    assert row(found, variant="fp32").outcome == "inconclusive"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"artifact_sha256": "new"}, "its file changed"),
        ({"artifact_sha256": None}, "its file changed"),
        ({"status": "invalid"}, "the reference fp32 is invalid"),
        ({"metrics": {}}, "the reference fp32 has no such figure"),
        ({"metrics": {"latency_ms": runs(3.0)}}, "the reference fp32 was run once only"),
        ({"threads": 4}, "no reference of this format, threads and cpus"),
    ],
)
def test_without_a_steady_reference_nothing_is_divided_and_that_is_said(changed: dict[str, Any], reason: str) -> None:
    steady = {"latency_ms": noisy(10, seed=1)}
    base = session("1", one("fp32", metrics=steady), one())
    head = session("2", one("fp32", **({"metrics": {"latency_ms": noisy(30, seed=2)}} | changed)), one())
    found = row(compare([base], [head], []))
    assert reason in str(found.reason)
    assert found.ratio == pytest.approx(1.0)  # divided by the head's 30 ms it were 1/3


def test_the_reference_may_have_another_backend() -> None:
    reference = one("fp32", backend="portable", metrics={"latency_ms": noisy(10, seed=1)})
    found = row(compare([session("1", reference, one())], [session("2", reference, one())], []))
    assert "divided by the reference fp32" in str(found.reason)


def test_peak_memory_is_not_divided_by_the_references() -> None:
    days = [
        session(
            day, one("fp32", metrics={"peak_memory_bytes": noisy(f, seed=3)}),
            one(metrics={"peak_memory_bytes": noisy(1.0)}),
        )
        for day, f in (("1", 1.0), ("2", 3.0))
    ]  # fmt: skip
    found = row(compare([days[0]], [days[1]], days), "peak_memory_bytes")
    assert found.ratio == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("ratio", "outcome"), [(1.10, "inconclusive"), (1.30, "worse"), (1 / 1.30, "better"), (1.0, "inconclusive")]
)
def test_worse_needs_the_whole_interval_beyond_the_threshold(ratio: float, outcome: str) -> None:
    found = row(both(one(), one(metrics={"latency_ms": noisy(5.0 * ratio)})))
    assert found.outcome == outcome and found.ci95
    edge = 1 + found.threshold
    assert (found.ci95[0] > edge or found.ci95[1] < 1 / edge) == (outcome != "inconclusive")
    assert found.minimum_detectable and 0.2 < found.minimum_detectable < 0.3


def test_what_excludes_one_but_not_the_threshold_is_open() -> None:
    found = row(both(one(), one(metrics={"latency_ms": noisy(5.0 * 1.19)}), thresholds={"latency_ms": 0.10}))
    assert found.ci95 and 1 < found.ci95[0] < 1.10
    assert found.outcome == "inconclusive" and "it differs, but whether by 10 % is open" in str(found.reason)


def test_more_sessions_of_a_label_narrow_the_interval() -> None:
    base, head = [session(f"1{i}", one()) for i in range(4)], [session(f"2{i}", one()) for i in range(4)]
    one_each, four_each = (row(compare(base[:n], head[:n], [])) for n in (1, 4))
    assert one_each.ci95 and four_each.ci95
    widths = [math.log(high / low) for low, high in (one_each.ci95, four_each.ci95)]
    assert widths[1] == pytest.approx(widths[0] / 2, rel=0.02)
    assert four_each.n == 4 * one_each.n


@pytest.mark.parametrize("together_", [False, True])
def test_a_single_run_gives_no_verdict(together_: bool) -> None:
    base, head = latency(1.0), latency(9.0, artifact_sha256="new")
    found = row(together(base, head) if together_ else both(base, head))
    assert (found.outcome, found.ci95, found.p_value) == ("inconclusive", None, None)
    assert "fewer than 2" in str(found.reason)


def test_a_session_of_one_run_beside_one_of_five_is_left_out() -> None:
    base = [session("1", one()), session("2", latency(99.0))]
    found = row(compare(base, [session("3", one())], []))
    assert found.ratio == pytest.approx(1.0)


def test_all_values_equal_unpaired_still_has_the_spread_between_sessions() -> None:
    found = row(both(latency(1, 1, 1), latency(1.1, 1.1, 1.1)))
    assert found.outcome == "inconclusive" and found.p_value is not None
    assert "between sessions: 5 % assumed, 0 stored" in str(found.reason)


@pytest.mark.parametrize("together_", [False, True])
@pytest.mark.parametrize("odd", [0.0, -1.0, math.nan, math.inf])
def test_a_figure_that_has_no_logarithm_gives_no_verdict(odd: float, together_: bool) -> None:
    head = replace(noisy(5.0), blocks={0: odd, 1: 5.0, 2: 5.0})
    compared = (together if together_ else both)(one(), one(metrics={"latency_ms": head}))
    assert row(compared).outcome == "inconclusive" and "not positive" in str(row(compared).reason)


def test_what_is_measured_once_a_session_gets_no_verdict() -> None:
    found = row(both(*(one(metrics={"sustained_ms": Known(value=v)}) for v in (1.0, 9.0))), "sustained_ms")
    assert (found.outcome, found.ratio, found.ci95) == ("inconclusive", 9.0, None)
    assert "once a session" in str(found.reason)


@pytest.mark.parametrize("together_", [False, True])
@pytest.mark.parametrize(("lower_is_better", "outcome"), [(True, "better"), (False, "worse")])
def test_the_metrics_direction_says_what_is_worse(together_: bool, lower_is_better: bool, outcome: str) -> None:
    base, head = (
        one(metrics={"energy_j": replace(noisy(level, seed=int(level)), lower_is_better=lower_is_better)})
        for level in (9.0, 3.0)
    )
    assert row((together if together_ else both)(base, head), "energy_j").outcome == outcome


@pytest.mark.parametrize(("head", "outcome"), [(1.0, "same"), (1.01, "same"), (1.03, "worse"), (0.9, "better")])
def test_where_no_session_ever_differed_the_ratio_alone_decides(head: float, outcome: str) -> None:
    def peak(level: float) -> CellDigest:
        return one("fp32", metrics={"peak_memory_bytes": runs(level, level, level)})

    stored = [session(f"{i}", peak(1.0)) for i in range(8)]
    found = row(compare([session("8", peak(1.0))], [session("9", peak(head))], stored), "peak_memory_bytes", "fp32")
    assert (found.outcome, found.p_value, found.ratio) == (outcome, None, pytest.approx(head))
    assert "no run or session differs from another" in str(found.reason)


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_a_figure_that_is_not_finite_is_none(odd: float) -> None:
    found = row(both(one(), one(metrics={"latency_ms": replace(noisy(5.0), value=odd)})))
    assert (found.outcome, found.head) == ("missing", None)


# exact


@pytest.mark.parametrize(
    ("base", "head", "outcome"),
    [
        (100, 100, "same"), (100, 101, "same"), (100, 103, "worse"), (103, 100, "better"), (0, 0, "inconclusive"),
        (0, 5, "inconclusive"), (-1, 5, "inconclusive"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("metric", ["size_bytes", "compressed_bytes"])
def test_sizes_are_compared_as_they_are(base: float, head: float, outcome: str, metric: str) -> None:
    unlike = one(metrics={metric: exact(head)}, conditions={"os": "another", "runner": "another"})
    found = row(both(one(metrics={metric: exact(base)}), unlike), metric)
    assert (found.outcome, found.p_value, found.q_value, found.ci95) == (outcome, None, None, None)
    assert found.outcome == "inconclusive" or found.design == "exact"


def test_a_threshold_of_ones_own_is_used() -> None:
    base, head = one(metrics={"size_bytes": exact(100)}), one(metrics={"size_bytes": exact(103)})
    found = row(both(base, head, thresholds={"size_bytes": 0.05}), "size_bytes")
    assert (found.outcome, found.threshold, found.reason) == ("same", 0.05, "it differs by less than 5 %")


# accuracy


def accurate(correct: list[float], **changed: Any) -> CellDigest:
    known, scores = scored(correct)
    return one(metrics={"accuracy": known}, scores=scores, **changed)


def test_accuracy_is_compared_sample_by_sample() -> None:
    right = [1.0] * 490 + [0.0] * 10
    found = row(both(accurate(right), accurate([0.0] * 15 + right[15:])), "accuracy")
    assert (found.outcome, found.design, found.n, found.threshold) == ("worse", "samples", 500, 0.005)
    assert found.p_value == pytest.approx(2 * 0.5**15) and found.ratio == pytest.approx(475 / 490)
    back = row(both(accurate([0.0] * 15 + right[15:]), accurate(right)), "accuracy")
    assert back.outcome == "better"


def test_a_metric_where_less_is_better_turns_the_verdict() -> None:
    def errors(values: list[float]) -> CellDigest:
        made = accurate(values)
        return replace(made, metrics={"accuracy": replace(made.metrics["accuracy"], lower_is_better=True)})

    noise = np.random.default_rng(0).random(200).tolist()
    found = row(both(errors(noise), errors([v + 0.5 for v in noise])), "accuracy")
    assert found.outcome == "worse"


def test_the_same_file_with_the_same_scores_is_the_same_however_few_they_are() -> None:
    few = [1.0, 1.0, 0.0]
    assert row(both(accurate(few), accurate(few)), "accuracy").outcome == "same"
    other = row(both(accurate(few), accurate(few, artifact_sha256="new")), "accuracy")
    assert other.outcome == "inconclusive"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"scores": ""}, "no score per sample"),
        ({"scores": scored([1.0, 0.0])[1]}, "100 and 2 samples"),
        ({"scores": scored([math.nan] * 100)[1]}, "not finite"),
        ({"conditions": {}}, "not known to be the same"),
    ],
)
def test_samples_that_do_not_belong_together_are_compared_by_their_intervals(
    changed: dict[str, Any], reason: str
) -> None:
    head = replace(accurate([1.0] * 90 + [0.0] * 10, artifact_sha256="new"), **changed)
    found = row(both(accurate([1.0] * 90 + [0.0] * 10), head), "accuracy")
    assert (found.design, found.outcome) == ("unpaired", "inconclusive")
    assert reason in str(found.reason) and found.p_value == pytest.approx(1.0)


def test_several_trainings_are_not_paired_by_sample() -> None:
    right = [1.0] * 90 + [0.0] * 10
    cells = [accurate(right, seed=seed) for seed in (0, 1)]
    changed = [accurate(right[::-1], seed=seed, artifact_sha256="new") for seed in (0, 1)]
    for found in compare([session("1", *cells)], [session("2", *changed)], []):
        assert found.design == "unpaired" and "several trainings" in str(found.reason)


def test_an_accuracy_without_any_interval_gets_no_verdict() -> None:
    base, head = (one(metrics={"accuracy": Known(value=v, lower_is_better=False)}) for v in (0.9, 0.1))
    found = row(both(base, head), "accuracy")
    assert (found.outcome, found.ci95) == ("inconclusive", None) and "there is no interval" in str(found.reason)


def test_an_accuracy_of_zero_has_no_ratio_and_is_judged_all_the_same() -> None:
    half = [1.0, 0.0] * 45
    fallen = row(both(accurate(half), accurate([0.0] * 90)), "accuracy")
    assert (fallen.outcome, fallen.ratio, fallen.ci95) == ("worse", None, None)
    risen = row(both(accurate([0.0] * 90), accurate(half)), "accuracy")
    assert (risen.outcome, risen.ratio) == ("better", None) and "not positive" in str(risen.reason)


@pytest.mark.parametrize(("side", "outcome"), [("head", "missing"), ("base", "same")])
def test_what_the_newest_session_of_a_release_broke_is_not_hidden_by_an_older_one(side: str, outcome: str) -> None:
    good = one(metrics={"size_bytes": exact(100)})
    broken = replace(good, status="failed", reason="wrong output")
    sides = {"base": [session("1", good)], "head": [session("2", good)]}
    sides[side].append(session("3", broken, created_utc="2027"))
    [found] = compare(sides["base"], sides["head"], [])
    assert found.outcome == outcome
    assert str(found.reason).startswith(side) and "wrong output" in str(found.reason)


def test_sessions_of_another_file_than_the_newest_are_left_out_and_told() -> None:
    def cell(file: str, level: float) -> CellDigest:
        return one(artifact_sha256=file, metrics={"latency_ms": noisy(level)})

    old = [session(str(i), cell("a", 1.0)) for i in range(3)]
    head = [*old[1:], session("9", cell("b", 2.0), created_utc="2027")]
    found = row(compare(old[:1], head, []), "latency_ms")
    assert found.ratio == pytest.approx(2.0, rel=0.05)
    assert "2 of 3 sessions left out (they measured another file)" in str(found.reason)


# conditions


def everything(level: float = 1.0, **changed: Any) -> CellDigest:
    known: dict[str, Known] = {
        m: noisy(level, seed=i) for i, m in enumerate(JUDGED) if m not in ("accuracy", "size_bytes", "compressed_bytes")
    }
    known |= {"size_bytes": exact(100 * level), "compressed_bytes": exact(50 * level)}
    accuracy, scores = scored([1.0] * 90 + [0.0] * 10)
    return one(metrics=known | {"accuracy": accuracy}, scores=scores, **changed)


TIMES = {"latency_ms", "first_inference_ms", "load_ms", "cold_load_ms", "sustained_ms"}
MEASURED = TIMES | {"energy_j", "peak_memory_bytes", "accuracy"}


@pytest.mark.parametrize(
    ("factor", "unlike"),
    [
        ("os", MEASURED), ("runner", MEASURED), ("runtime", MEASURED), ("loader", MEASURED), ("settings", MEASURED),
        ("inputs", MEASURED - {"peak_memory_bytes"}), ("energy source", {"energy_j"}),
    ],
)  # fmt: skip
def test_a_condition_that_differs_forbids_what_depends_on_it(factor: str, unlike: set[str]) -> None:
    head = everything(2.0, conditions=CONDITIONS | {factor: "other"})
    found = both(everything(), head)
    assert {r.metric for r in found if r.outcome == "incomparable"} == unlike
    for r in found:
        if r.metric in unlike:
            assert r.reason == f"{factor}: {CONDITIONS[factor]} -> other"
            assert (r.ratio, r.ci95, r.design) == (None, None, None) and r.base and r.head
            assert factor in [m.factor for m in r.moved]
    across = both(everything(), head, across=frozenset([factor]))
    assert not [r for r in across if r.outcome == "incomparable"]
    assert all((f"across {factor}: " in str(r.reason)) == (r.metric in unlike) for r in across)


def test_another_runner_may_bring_another_runtime() -> None:
    head = everything(conditions=CONDITIONS | {"runner": "bbbb", "runtime": "executorch 1.6"})
    found = row(both(everything(), head, across=frozenset(["runner"])))
    assert found.outcome != "incomparable"
    assert "across runner: aaaa -> bbbb; runtime: executorch 1.5.1 -> executorch 1.6" in str(found.reason)
    assert row(both(everything(), head, across=frozenset(["os"]))).outcome == "incomparable"


@pytest.mark.parametrize("side", [0, 1])
def test_what_only_one_side_knows_forbids_nothing(side: int) -> None:
    sides = [everything(), everything(conditions={})]
    found = both(sides[side], sides[1 - side])
    assert not [r for r in found if r.outcome == "incomparable"]


def test_of_several_sessions_those_that_are_like_the_newest_are_compared() -> None:
    """Of the base one was measured before the update of the OS, when everything took three times as long."""
    old = latency(15.0, 15.1, 14.9, conditions=CONDITIONS | {"os": "Debian 11"})
    found = row(compare([session("1", old), session("2", one())], [session("3", one())], []))
    assert found.ratio == pytest.approx(1.0) and "base: 1 of 2 sessions left out" in str(found.reason)


# what moved


def test_a_regression_names_what_moved_with_it_the_likeliest_first() -> None:
    facts = {"delegated_fraction": 1.0, "macs": 7599872.0, "made by torch": "2.13", "load average": 0.1}
    now = {"delegated_fraction": 0.6123456, "macs": 7599872.0, "made by torch": "2.14", "load average": 0.3}
    base, head = one(facts=facts), latency(9, 9, 9.1, facts=now, artifact_sha256="0123456789abcdef")
    found = row(both(base, head))
    assert found.outcome == "worse"
    assert [(m.factor, m.base, m.head) for m in found.moved] == [
        ("artifact", "sha-int8", "0123456789ab"),
        ("delegated_fraction", "1", "0.6123"),
        ("made by torch", "2.13", "2.14"),
    ]
    assert not row(both(base, replace(head, metrics=base.metrics))).moved


# missing


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize(("status", "reason"), [("failed", "no output"), ("invalid", "throttled"), ("skipped", "no x")])
def test_a_cell_that_is_ok_on_one_side_only_is_missing(side: int, status: Any, reason: str) -> None:
    sides = [one(), one(status=status, reason=reason, metrics={})]
    (found,) = both(*(sides if side == 0 else sides[::-1]))
    assert (found.metric, found.outcome, found.cell) == ("*", "missing", cell())
    assert found.reason == f"{'base' if side else 'head'}: {status}: {reason}"


def test_failed_on_both_sides_is_missing_and_skipped_on_both_is_nothing() -> None:
    broken, skipped = (one(status=s, metrics={}) for s in ("failed", "skipped"))
    (found,) = both(broken, broken)
    assert (found.outcome, found.reason) == ("missing", "base: failed; head: failed")
    assert both(skipped, skipped) == []
    assert len(both(broken, skipped)) == 1


def test_a_variant_of_one_side_only_is_one_row() -> None:
    base, head = session("1", one(), one("old")), session("2", one("new"), one())
    found = compare([base], [head], [])
    lost = [(r.cell.variant, r.metric, r.reason) for r in found if r.outcome == "missing"]
    assert lost == [("new", "*", "base: not planned"), ("old", "*", "head: not planned")]
    assert both(one(), one("new", status="skipped", metrics={}))[0].cell.variant == "int8"
    assert len(both(one(), one("new", status="skipped", metrics={}))) == 1


def unbuilt(variant: str, status: str) -> tuple[str, str, str, str, str]:
    return variant, "executorch", "default", status, "no such operator"


def test_what_is_not_built_any_more_is_missing() -> None:
    head = session("2", unbuilt=(unbuilt("int8", "failed"),))
    (found,) = compare([session("1", one())], [head], [])
    assert (found.outcome, found.cell) == ("missing", cell())
    assert found.reason == "head: not built: failed: no such operator"


@pytest.mark.parametrize(
    ("base", "head", "reason"),
    [
        ("skipped", "skipped", None),
        ("failed", "failed", "base: not built: failed: no such operator; head: not built: failed: no such operator"),
        ("failed", None, "base: not built: failed: no such operator; head: not planned"),
        (None, "skipped", None),
    ],
)
def test_what_neither_side_built(base: str | None, head: str | None, reason: str | None) -> None:
    sides = [session(n, unbuilt=(unbuilt("int8", s),) if s else ()) for n, s in (("1", base), ("2", head))]
    found = compare([sides[0]], [sides[1]], [])
    assert [r.reason for r in found] == ([reason] if reason else [])
    for document in as_json(found):
        assert (document["device"], document["device_id"], document["backend"], document["seed"]) == ("*", *[None] * 3)


@pytest.mark.parametrize("side", [0, 1])
def test_a_device_that_was_not_reached_is_one_row_beside_what_it_gave_before(side: int) -> None:
    away = one(status="failed", reason="device not reached", device_id="", metrics={})
    sides = (one(), away) if side == 0 else (away, one())
    (found,) = both(*sides)
    assert (found.outcome, found.cell.device_id) == ("missing", "d1")
    assert found.reason == f"{'base' if side else 'head'}: failed: device not reached"
    others = both(one(device="another"), away)
    assert len(others) == 2


def test_a_backend_that_ignores_threads_is_known_before_it_ran() -> None:
    (found,) = both(one(threads=None), one(threads=1, status="failed", reason="crashed", metrics={}))
    assert (found.cell.threads, found.reason) == (None, "head: failed: crashed")
    (found,) = both(one(threads=None, status="failed"), one(threads=1, status="failed", metrics={}))
    assert found.outcome == "missing"


def test_a_unit_is_never_compared_with_another() -> None:
    found = both(one(device_id="d1"), one(device_id="d2"))
    assert [r.outcome for r in found] == ["missing", "missing"]


def test_a_metric_of_one_side_only_is_missing_and_of_none_is_nothing() -> None:
    head = one(metrics={"latency_ms": noisy(5.0), "energy_j": Known(absent="the meter was away")})
    base = one(metrics={"latency_ms": noisy(5.0), "energy_j": noisy(1.0), "load_ms": Known(absent="x")})
    found = both(base, head)
    assert [r.metric for r in found] == ["latency_ms", "energy_j"]
    assert (found[1].outcome, found[1].reason, found[1].head) == ("missing", "head: the meter was away", None)
    assert found[1].base is not None


def test_a_failed_session_beside_a_usable_one_is_said() -> None:
    head = [session("2", one(status="failed", reason="crashed", metrics={})), session("3", one())]
    found = row(compare([session("1", one())], head, []))
    assert found.outcome == "inconclusive" and "head: 1 of 2 sessions left out (failed: crashed)" in str(found.reason)


def test_the_rows_are_in_the_heads_order_and_what_it_lacks_comes_last() -> None:
    base, head = session("1", one("a"), one("b"), one("c")), session("2", one("c"), one("x"), one("a"))
    found = compare([base], [head], [])
    assert [r.cell.variant for r in found] == ["c", "a", "x", "b"]


# the family, the verdict, JSON


def test_one_of_many_that_stands_out_by_chance_is_no_difference() -> None:
    """p = 0.03 alone is `worse`; beside 19 that differ in nothing it is not."""
    rng = np.random.default_rng(2)
    base = {b: 1.0 for b in range(10)}
    logs = rng.standard_normal(10)
    logs = 0.035 + 0.042 * (logs - logs.mean()) / logs.std(ddof=1)
    head = dict(enumerate(np.exp(logs).tolist()))

    def known(blocks: dict[int, float]) -> dict[str, Known]:
        return {"latency_ms": Known(value=1.0, blocks=blocks)}

    odd = one(metrics=known(base)), one(metrics=known(head))
    alone = row(together(*odd))
    assert alone.outcome == "worse" and alone.p_value == pytest.approx(alone.q_value) and 0.02 < alone.p_value < 0.05
    quiet = {b: float(math.exp(0.001 * (-1) ** b)) for b in range(10)}
    others = [(one(f"v{i}", metrics=known(base)), one(f"v{i}", metrics=known(quiet))) for i in range(19)]
    sides = [session("1", *cells) for cells in zip(odd, *others, strict=True)]
    found = row(compare([sides[0]], [sides[1]], []))
    assert found.outcome == "inconclusive" and found.q_value and found.q_value > 0.05
    assert "seemed worse" in str(found.reason) and found.moved == ()


@pytest.mark.parametrize(
    ("outcomes", "allowed", "expected"),
    [
        ([], 0, "incomparable"),
        (["same"], 0, "same"),
        (["same", "inconclusive"], 0, "inconclusive"),
        (["same", "inconclusive", "better"], 0, "better"),
        (["better", "missing"], 0, "incomparable"),
        (["better", "missing"], 1, "better"),
        (["same", "missing", "incomparable"], 1, "incomparable"),
        (["missing"], 5, "incomparable"),
        (["worse", "missing"], 0, "worse"),
        (["better", "worse"], 0, "worse"),
    ],
)
def test_the_verdict_of_a_whole_comparison(outcomes: list[Any], allowed: int, expected: str) -> None:
    made = row(both(one(), one()))
    assert verdict([replace(made, outcome=outcome) for outcome in outcomes], allowed) == expected


def test_json_has_every_key_always() -> None:
    base, head = session("1", everything(), one("old")), session("2", everything(2.0, artifact_sha256="new"))
    found = compare([base], [head], [])
    documents = as_json(found)
    json.dumps(documents, allow_nan=False)
    assert {frozenset(d) for d in documents} == {frozenset((
        "variant", "seed", "exporter", "backend", "input", "device", "device_id", "threads", "cpus", "context",
        "metric", "unit", "base", "head", "ratio", "ci95", "outcome", "minimum_detectable", "reason", "design", "n",
        "p_value", "q_value", "threshold", "moved", "confirmed",
    ))}  # fmt: skip
    size = next(d for d in documents if d["metric"] == "size_bytes")
    assert (size["unit"], size["ratio"], size["outcome"], size["ci95"]) == ("bytes", 2.0, "worse", None)
    assert size["moved"] == [{"factor": "artifact", "base": "sha-int8", "head": "new"}]
    timed = next(d for d in documents if d["metric"] == "latency_ms")
    assert isinstance(timed["ci95"], list) and timed["device"] == "phone"
    assert (documents[-1]["metric"], documents[-1]["unit"]) == ("*", None)


def test_a_metric_of_ones_own_is_no_fraction() -> None:
    base, head = session("1", accurate([3.0, 2.5]), task="wer"), session("2", accurate([3.0, 2.6]), task="wer")
    assert as_json(compare([base], [head], []))[0]["unit"] == "1"


# whatever comes

odd_values = st.one_of(st.floats(1e-3, 1e3), st.sampled_from([0.0, -1.0, math.nan, math.inf, 5e-324]))
knowns = st.builds(
    Known,
    value=st.one_of(st.none(), odd_values), low=st.one_of(st.none(), odd_values), high=st.one_of(st.none(), odd_values),
    lower_is_better=st.booleans(), blocks=st.dictionaries(st.integers(0, 6), odd_values, max_size=6),
    absent=st.one_of(st.none(), st.just("not measured")),
)  # fmt: skip
cells = st.builds(
    lambda cell, status, sha, metrics, conditions, facts, scores: CellDigest(
        cell=cell, device="phone", status=status, artifact_sha256=sha, metrics=metrics, conditions=conditions,
        facts=facts, scores=scored(scores)[1] if scores else "",
    ),
    st.builds(
        cell, st.sampled_from(["fp32", "int8"]), seed=st.integers(0, 1), threads=st.sampled_from([None, 1]),
        device_id=st.sampled_from(["", "d1"]),
    ),
    st.sampled_from(["ok", "ok", "ok", "failed", "skipped", "invalid"]),
    st.sampled_from([None, "a", "b"]),
    st.dictionaries(st.sampled_from(JUDGED), knowns, max_size=4),
    st.dictionaries(st.sampled_from(["os", "inputs"]), st.sampled_from(["x", "y"])),
    st.dictionaries(st.sampled_from(["macs", "load average"]), odd_values | st.just("text")),
    st.lists(st.sampled_from([0.0, 1.0, 0.5, math.nan]), max_size=3),
)  # fmt: skip
sessions = st.builds(
    lambda name, cells, unbuilt: session(name, *cells, unbuilt=tuple(unbuilt)),
    st.sampled_from("1234"),
    st.lists(cells, max_size=4, unique_by=lambda c: c.cell),
    st.lists(st.builds(unbuilt, st.sampled_from(["int8", "new"]), st.sampled_from(["failed", "skipped"])), max_size=2),
)
sides = st.lists(sessions, max_size=2, unique_by=lambda d: d.session)


@settings(max_examples=400)
@given(sides, sides, sides)
def test_whatever_the_digests_hold_there_is_an_answer_that_can_be_written(
    base: list[Digest], head: list[Digest], stored: list[Digest]
) -> None:
    found = compare(base, head, stored, across=frozenset(["os"]))
    verdict(found)
    json.dumps(as_json(found), allow_nan=False)
    for r in found:
        assert r.reason or r.outcome in ("worse", "better", "same")
        assert r.ratio is None or r.ratio > 0
        assert r.outcome not in ("worse", "better") or r.ratio is not None


@given(
    st.lists(st.floats(0.1, 10), min_size=2, max_size=6), st.lists(st.floats(0.1, 10), min_size=2, max_size=6),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_exchanging_the_sides_turns_the_verdict_round(
    one_: list[float], two: list[float], paired: bool, lower_is_better: bool
) -> None:
    ends = [one(metrics={"latency_ms": runs(*v, lower_is_better=lower_is_better)}) for v in (one_, two)]
    asked = together if paired else both
    there, back = row(asked(*ends)), row(asked(*reversed(ends)))
    assert back.outcome == TURNED.get(there.outcome, there.outcome)
    if there.ratio and back.ratio and there.ci95 and back.ci95:
        assert back.ratio == pytest.approx(1 / there.ratio)
        assert back.ci95 == pytest.approx((1 / there.ci95[1], 1 / there.ci95[0]))


@given(st.floats(0.1, 10), st.floats(0.1, 10), st.booleans())
def test_one_run_is_never_judged(value: float, other: float, paired: bool) -> None:
    base, head = latency(value), latency(other, artifact_sha256="new")
    assert row((together if paired else both)(base, head)).outcome == "inconclusive"
