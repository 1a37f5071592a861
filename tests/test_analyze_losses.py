"""What was lost: against the reference and the control, on the device and on validation, and how surprising that is."""

from __future__ import annotations

import base64
import dataclasses
import zlib
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_rel

from harness.analyze.intervals import paired_difference, wilson
from harness.analyze.pick import decide
from harness.analyze.results import raw_values
from harness.analyze.significance import paired_p_value
from harness.types import Build, Constraint
from tests.session_kit import accuracy_run, all_runs, build, documented, session, value

DROP = Constraint(metric="accuracy_drop", op="<=", bound=0.05)


def right(count: int, of: int = 400) -> Any:
    """The first `count` samples are right: of two such, the worse is wrong wherever the better is."""
    return np.arange(of) < count


VARIANTS = [
    {"name": "fp32", "control": None},
    {"name": "slim", "control": "control-6ep"},
    {"name": "int8", "control": None},
    {"name": "control-6ep", "control": None},
]
BUILDS = [build(v["name"]) for v in VARIANTS]  # type: ignore[arg-type]
SCORES = {("fp32", 0): right(396), ("slim", 0): right(394), ("int8", 0): right(395), ("control-6ep", 0): right(398)}


def metrics_of(found: dict[str, Any]) -> dict[tuple[str, int], dict[str, Any]]:
    return {(r["variant"], r["seed"]): r["metrics"] for r in found["results"]}


def test_the_loss_against_the_control_is_what_compression_alone_costs() -> None:
    s = session(BUILDS, variants=VARIANTS)
    slim = metrics_of(documented(s, all_runs(s, scores=SCORES)))["slim", 0]
    assert slim["accuracy_drop"]["value"] == pytest.approx(2 / 400)
    found = slim["accuracy_drop_control"]
    assert found["value"] == pytest.approx(4 / 400)
    assert (found["control"], found["samples"], found["unit"], found["source"]) == (
        "control-6ep", 400, "fraction", "device")  # fmt: skip
    assert found["ci95"] == pytest.approx(list(paired_difference(right(398), right(394)) or ()))
    # 4 samples are right by the control only, none by the variant only: 2 · (1/2)^4
    assert found["p_value"] == pytest.approx(0.125)
    assert slim["accuracy_drop"]["p_value"] == pytest.approx(0.5)


def test_who_has_no_control_says_why() -> None:
    s = session(BUILDS, variants=VARIANTS)
    found = metrics_of(documented(s, all_runs(s, scores=SCORES)))
    no_longer = "this variant trains no longer than the reference"
    assert {name[0]: m["accuracy_drop_control"].get("absent") for name, m in found.items()} == {
        "fp32": no_longer, "slim": None, "int8": no_longer, "control-6ep": "this is the control"}  # fmt: skip
    for variants in ([], [{"name": "fp32"}, {"name": "slim"}]):  # an experiment that knows nothing of controls
        s = session(BUILDS, variants=variants)
        for metrics in metrics_of(documented(s, all_runs(s))).values():
            assert metrics["accuracy_drop_control"] == {"absent": "the experiment has no control"}


def test_a_control_that_failed_or_was_left_out_is_named() -> None:
    failed = build("control-6ep", status="failed", reason="it raised", artifact=None)
    s = session([*BUILDS[:3], failed], variants=VARIANTS)
    slim = metrics_of(documented(s, all_runs(s)))["slim", 0]
    assert slim["accuracy_drop_control"] == {"absent": "the control control-6ep is failed: it raised"}
    s = session(BUILDS[:3], variants=VARIANTS)
    slim = metrics_of(documented(s, all_runs(s)))["slim", 0]
    assert slim["accuracy_drop_control"] == {
        "absent": "the control control-6ep has no result of this format, threads and cpus"}  # fmt: skip


def test_a_usable_control_without_a_score_says_what_it_lacks() -> None:
    s = session([*BUILDS[:3], build("control-6ep", calibrated=False)], variants=VARIANTS)
    slim = metrics_of(documented(s, all_runs(s)))["slim", 0]
    assert slim["accuracy_drop_control"] == {
        "absent": "the control control-6ep has no score: calibrated on example inputs"}  # fmt: skip


def test_seeds_are_compared_with_the_control_of_their_own_seed_else_of_its_first() -> None:
    builds = [build("fp32"), *(build(v, seed=seed) for v in ("slim", "control-6ep") for seed in (0, 1))]
    scores = {("slim", 0): right(390), ("slim", 1): right(392), ("control-6ep", 0): right(398)}
    scores |= {("control-6ep", 1): right(396)}
    s = session(builds, variants=VARIANTS)
    found = metrics_of(documented(s, all_runs(s, scores=scores)))
    assert found["slim", 0]["accuracy_drop_control"]["value"] == pytest.approx(8 / 400)
    assert found["slim", 1]["accuracy_drop_control"]["value"] == pytest.approx(4 / 400)
    s = session(builds[:-1], variants=VARIANTS)
    found = metrics_of(documented(s, all_runs(s, scores=scores)))
    assert found["slim", 1]["accuracy_drop_control"]["value"] == pytest.approx(6 / 400)


def test_the_p_value_is_that_of_the_exact_test_on_discordant_pairs() -> None:
    rng = np.random.default_rng(0)
    for chance in (0.02, 0.2, 0.5):
        one, two = rng.random(200) < 0.9, rng.random(200) < 0.9 - chance
        lost, won = int((one & ~two).sum()), int((~one & two).sum())
        assert paired_p_value(one, two) == pytest.approx(binomtest(lost, lost + won).pvalue, rel=1e-9)
    assert paired_p_value(right(5, 10), right(5, 10)) == 1.0


def test_scores_that_are_not_right_or_wrong_take_the_paired_t_test() -> None:
    rng = np.random.default_rng(1)
    one = rng.normal(size=50)
    two = one + rng.normal(0.1, 0.3, 50)
    assert paired_p_value(one, two) == pytest.approx(float(ttest_rel(one, two).pvalue), rel=1e-9)
    assert paired_p_value(one, one) == 1.0
    assert paired_p_value([0.25], [0.75]) is None
    assert paired_p_value([0.25, 0.5], [0.5, 0.75]) is None, "no spread, no test"


def test_the_reference_and_what_has_no_scores_have_no_p_value() -> None:
    s = session(BUILDS)
    runs = [accuracy_run(b, s.devices[0], arrays={}, measurements=(value("accuracy", 0.9),)) for b in BUILDS]
    runs += [r for r in all_runs(s) if r.purpose != "accuracy"]
    for metrics in metrics_of(documented(s, runs)).values():
        assert metrics["accuracy_drop"]["p_value"] is None
    found = metrics_of(documented(s, all_runs(s)))
    assert found["fp32", 0]["accuracy_drop"]["p_value"] is None
    assert found["slim", 0]["accuracy_drop"]["p_value"] is not None


def validated(b: Build, known: Any, **more: Any) -> Build:
    packed = zlib.compress(np.asarray(known, dtype="<f4").tobytes())
    said = {"value": float(np.mean(known)), "samples": len(known), "scores": base64.b64encode(packed).decode()}
    return dataclasses.replace(b, validation=said | more)


#: on validation `slim` is good and `int8` is bad; on the test split it is the other way round
ON_VALIDATION = [validated(BUILDS[0], right(98, 100)), validated(BUILDS[1], right(97, 100)),
                 validated(BUILDS[2], right(60, 100))]  # fmt: skip
ON_TEST = {("fp32", 0): right(396), ("slim", 0): right(240), ("int8", 0): right(396)}
RULE = {"minimize": "latency_ms", "where": ["accuracy_drop <= 0.1"], "confidence": 0.8}


def test_without_being_asked_nothing_is_validated() -> None:
    s = session(ON_VALIDATION)
    found = documented(s, all_runs(s))
    assert found["selected_on"] == "test"
    for metrics in metrics_of(found).values():
        assert metrics["validation_accuracy"] == metrics["validation_drop"] == {"absent": "select_on: test"}


def test_validation_scores_have_their_own_interval_and_paired_loss() -> None:
    s = session(ON_VALIDATION, select_on="validation")
    found = metrics_of(documented(s, all_runs(s)))
    slim = found["slim", 0]["validation_accuracy"]
    assert (slim["value"], slim["samples"], slim["source"], slim["name"]) == (
        pytest.approx(0.97), 100, "host", "accuracy")  # fmt: skip
    assert slim["ci95"] == pytest.approx(list(wilson(97, 100)))
    drop = found["slim", 0]["validation_drop"]
    assert drop["value"] == pytest.approx(0.01) and drop["p_value"] == 1.0
    assert drop["ci95"] == pytest.approx(list(paired_difference(right(98, 100), right(97, 100)) or ()))
    assert found["fp32", 0]["validation_drop"]["ci95"] == [0, 0]


def test_selection_on_validation_never_looks_at_the_test_split() -> None:
    objectives = ["latency_ms", "accuracy"]
    by_test = session(ON_VALIDATION, pick=RULE, objectives=objectives)
    assert documented(by_test, all_runs(by_test, scores=ON_TEST))["pick"]["variant"] == "int8"
    s = session(ON_VALIDATION, pick=RULE, objectives=objectives, select_on="validation")
    found = documented(s, all_runs(s, scores=ON_TEST))
    assert found["selected_on"] == "validation"
    assert (found["pick"]["variant"], found["pick"]["binding"]) == ("slim", "validation_drop <= 0.1")
    assert {f["variant"] for f in found["front"]} == {"fp32", "slim", "int8"}
    worse = {**ON_TEST, ("fp32", 0): right(1), ("slim", 0): right(0)}
    again = documented(s, all_runs(s, scores=worse))
    assert (again["pick"], again["front"]) == (found["pick"], found["front"])
    assert metrics_of(again)["slim", 0]["accuracy"]["value"] == 0, "it is only reported"


def test_a_pick_asked_again_is_judged_on_the_same_split() -> None:
    s = session(ON_VALIDATION, select_on="validation")
    runs = all_runs(s, scores=ON_TEST)
    found = documented(s, runs)
    again = decide(
        found["results"], where=[DROP], confidence=0.6, raw=raw_values(s, runs), selected_on=found["selected_on"]
    )
    assert again.pick and again.pick["variant"] == "slim"
    most = decide(found["results"], minimize="accuracy", raw=raw_values(s, runs), selected_on="validation").pick
    assert most and most["variant"] == "fp32"
    assert (
        "validation_accuracy" in raw_values(s, runs)[1].samples and "validation_drop" in raw_values(s, runs)[1].samples
    )


@pytest.mark.parametrize("scores", [None, "", "no base64!", base64.b64encode(b"no zlib").decode(), 7,
                                    base64.b64encode(zlib.compress(bytes(4 * 99))).decode(),
                                    base64.b64encode(zlib.compress(bytes(4 * 10**7))).decode()])  # fmt: skip
def test_validation_scores_that_cannot_be_read_leave_the_value_without_an_interval(scores: Any) -> None:
    s = session([validated(b, right(98, 100), scores=scores) for b in BUILDS], select_on="validation")
    found = metrics_of(documented(s, all_runs(s)))["slim", 0]
    assert found["validation_accuracy"]["ci95"] == {"absent": "the metric gives no score per sample"}
    assert found["validation_drop"]["value"] == 0


def test_a_build_without_validation_says_so() -> None:
    s = session([ON_VALIDATION[0], BUILDS[1]], select_on="validation")
    found = metrics_of(documented(s, all_runs(s)))["slim", 0]
    assert found["validation_accuracy"] == {"absent": "the build has no score on the validation split"}
