"""Results and values as the Python API and pytest's fixture hand them out: judged by intervals, never by luck."""

# ruff: noqa: SIM300 - on which side the bound stands is what is tested

from __future__ import annotations

import copy
import dataclasses
import operator
import pickle
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from harness.answers import Answer, Result, Value
from harness.errors import NotMeasured, Undecided, UsageError

#: latency 10 ms, 9.9 to 10.1; p99 absent; no interval of load_ms
DOCUMENT: dict[str, Any] = {
    "variant": "int8", "device": "pi", "device_id": "abc", "status": "ok", "reason": None, "caveats": ["noisy"],
    "simulated": False, "repeats": 5,
    "metrics": {
        "latency_ms": {
            "value": 10.0, "unit": "ms", "ci95": [9.9, 10.1], "p50": 10.0, "p95": 12.0, "source": "runner",
            "p99": {"absent": "a run has fewer than 368 samples"}, "ci95_of": {"p50": [9.9, 10.1], "p95": [11.5, 12.5]},
        },
        "load_ms": {"value": 3.0, "unit": "ms", "ci95": None, "source": "runner"},
        "energy_j": {"absent": "energy: off"},
        "size_bytes": {"value": 8_412_345, "unit": "bytes", "ci95": [8_412_345, 8_412_345], "source": "host"},
        "accuracy": {"value": 0.9, "unit": "perplexity", "ci95": [0.88, 0.92], "samples": 500, "source": "runner"},
    },
}  # fmt: skip
RESULT = Result(document=DOCUMENT)
LATENCY = RESULT.latency_ms


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (LATENCY < 40, "holds"),
        (LATENCY < 5, "fails"),
        (LATENCY < 10.01, "undecided"),
        (LATENCY > 5, "holds"),
        (LATENCY >= 40, "fails"),
        (LATENCY <= 10.0, "undecided"),
        (40 > LATENCY, "holds"),
        (5 > LATENCY, "fails"),
        (LATENCY.p95 < 12.1, "undecided"),
        (LATENCY.p95 < 13, "holds"),
        (RESULT.size_bytes < 8_412_346, "holds"),
        (RESULT.size_bytes <= 8_412_345, "holds"),
        (RESULT.size_bytes < 8_412_345, "fails"),
        (RESULT.load_ms < 40, "undecided"),
        (Result(document=DOCUMENT, confidence=0.5001).latency_ms < 10.01, "holds"),
    ],
    ids=str,
)
def test_a_bound_is_judged_by_the_interval(answer: Answer, outcome: str) -> None:
    assert answer.outcome == outcome
    if outcome == "undecided":
        for ask in (bool, operator.not_):
            with pytest.raises(Undecided):
                ask(answer)
    else:
        assert bool(answer) is (outcome == "holds")


@pytest.mark.parametrize("bound", [np.float64(40), np.float32(40), np.int64(40), np.uint8(40), Fraction(80, 2), 40])
def test_a_bound_may_stand_on_either_side_and_be_of_any_type_of_number(bound: Any) -> None:
    assert isinstance(bound > LATENCY, Answer) and isinstance(LATENCY < bound, Answer)
    assert bound > LATENCY and LATENCY < bound and not bound < LATENCY and not LATENCY >= bound
    assert 5 < LATENCY < bound


def test_undecided_says_the_value_its_interval_by_how_much_and_what_would_settle_it() -> None:
    with pytest.raises(Undecided) as raised:
        assert LATENCY < 10.01
    assert raised.value.what == (
        "<latency_ms 10 ms (9.9 to 10.1)> < 10.01: undecided (P 0.578 by 5 repeats; 0.95 is asked for)"
    )
    assert raised.value.hint is not None and "repeats would settle it" in raised.value.hint
    with pytest.raises(Undecided, match=r"no interval> < 40: undecided \(it has no interval\)\n  try: at least 2 rep"):
        assert RESULT.load_ms < 40
    with pytest.raises(Undecided, match="by 500 samples"):
        assert RESULT.accuracy > 0.9


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (LATENCY, "<latency_ms 10 ms (9.9 to 10.1)>"),
        (LATENCY.p99, "<latency_ms.p99 absent: a run has fewer than 368 samples>"),
        (RESULT.size_bytes, "<size_bytes 8,412,345 bytes>"),
        (RESULT.load_ms, "<load_ms 3 ms, no interval>"),
        (RESULT.accuracy, "<accuracy 0.9 perplexity (0.88 to 0.92)>"),
        (RESULT.macs, "<macs absent: not measured>"),
        (Result(document=DOCUMENT | {"simulated": True}).latency_ms, "<latency_ms simulated 10 ms (9.9 to 10.1)>"),
        (Result(document=DOCUMENT | {"simulated": True}).size_bytes, "<size_bytes 8,412,345 bytes>"),
    ],
)
def test_a_value_tells_itself_and_never_a_simulated_one_as_measured(value: Value, said: str) -> None:
    assert repr(value) == f"{value}" == said


def test_numbers_units_and_intervals() -> None:
    assert (LATENCY.value, float(LATENCY), LATENCY.unit, LATENCY.ci95) == (10.0, 10.0, "ms", (9.9, 10.1))
    assert RESULT.load_ms.ci95 is None and LATENCY.absent is None
    assert (f"{LATENCY:.2f}", round(float(LATENCY.p95), 1)) == ("10.00", 12.0)
    assert RESULT.accuracy.unit == "perplexity"  # the experiment's own metric
    assert sorted([LATENCY.p95, LATENCY], key=float)[0].metric == "latency_ms"
    assert "p95" in dir(LATENCY) and "latency_ms" in dir(RESULT)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: RESULT.energy_j.value, "energy_j of int8 is absent: energy: off"),
        (lambda: RESULT.energy_j < 1, "energy_j of int8 is absent: energy: off"),
        (lambda: RESULT.energy_j == 1, "energy_j of int8 is absent: energy: off"),
        (lambda: LATENCY.p99.ci95, "fewer than 368"),
        (lambda: f"{RESULT.energy_j:.2f}", "energy: off"),
    ],
)
def test_what_is_absent_keeps_no_bound(ask: Callable[[], Any], says: str) -> None:
    with pytest.raises(NotMeasured, match=says):
        ask()


def test_what_is_not_ok_keeps_no_bound_however_fast_it_is() -> None:
    wrong = Result(document=DOCUMENT | {"status": "invalid", "reason": "it throttled"})
    assert wrong.latency_ms.value == 10.0
    for ask in (lambda: wrong.latency_ms < 40, lambda: wrong.size_bytes == 8_412_345):
        with pytest.raises(NotMeasured, match="int8: invalid: it throttled"):
            ask()


def test_equality_is_for_exact_figures_and_refused_for_measured_ones() -> None:
    assert RESULT.size_bytes == 8_412_345 and RESULT.size_bytes != 1 and 8_412_345 == RESULT.size_bytes
    assert RESULT.size_bytes == pytest.approx(8_412_345)
    for ask in (lambda: LATENCY == 10.0, lambda: LATENCY != 10.0, lambda: np.float64(10) == LATENCY):
        with pytest.raises(UsageError, match="equals no number"):
            ask()
    assert LATENCY is not None and LATENCY != "x" and LATENCY == LATENCY


def test_exact_figures_are_compared_with_each_other_and_measured_ones_are_not() -> None:
    size = DOCUMENT["metrics"]["size_bytes"] | {"value": 1000, "ci95": [1000, 1000]}
    document = DOCUMENT | {"metrics": DOCUMENT["metrics"] | {"size_bytes": size}}
    smaller = dataclasses.replace(RESULT.size_bytes, result=document)
    assert RESULT.size_bytes == RESULT.size_bytes and RESULT.size_bytes != smaller and smaller < RESULT.size_bytes
    assert sorted([RESULT.size_bytes, smaller])[0] is smaller and max(smaller, RESULT.size_bytes) is not smaller
    for ask in (lambda: LATENCY == RESULT.load_ms, lambda: LATENCY != RESULT.latency_ms, lambda: LATENCY == smaller,
                lambda: smaller != LATENCY):  # fmt: skip
        with pytest.raises(UsageError, match="two intervals are no bound"):
            ask()


def test_only_an_exact_whole_number_is_one() -> None:
    assert int(RESULT.size_bytes) == 8_412_345 and f"{RESULT.size_bytes:,d}" == "8,412,345"
    assert round(LATENCY, 1) == 10.0 and round(LATENCY) == 10
    for ask in (lambda: int(LATENCY), lambda: f"{LATENCY:d}"):
        with pytest.raises(UsageError, match="is not a whole number"):
            ask()



@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: LATENCY < "40", "the bound is not a number"),
        (lambda: LATENCY < True, "the bound is not a number"),
        (lambda: LATENCY < float("nan"), "the bound is not a number"),
        (lambda: LATENCY < 10**400, "the bound is not a number"),
        (lambda: LATENCY < None, "the bound is not a number"),
        (lambda: LATENCY < RESULT.load_ms, "two intervals are no bound"),
        (lambda: sorted([LATENCY, RESULT.load_ms]), "r.latency_ms.value"),
        (lambda: bool(LATENCY), "neither true nor false"),
        (lambda: Value(metric="nonsense", result=DOCUMENT), "unknown metric"),
        (lambda: Value(metric="latency_ms.p97", result=DOCUMENT), "has no statistic"),
    ],
)
def test_what_means_nothing_is_refused(ask: Callable[[], Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        ask()


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: RESULT.latncy_ms, "did you mean 'latency_ms'"),
        (lambda: LATENCY.p97, "it has: p50, p90, p95"),
        (lambda: LATENCY.p95.p50, "latency_ms.p95 has no statistic"),
        (lambda: RESULT.size_bytes.p50, "has no statistic"),
    ],
)
def test_a_name_that_is_none_is_an_attribute_error_with_the_nearest(ask: Callable[[], Any], says: str) -> None:
    with pytest.raises(AttributeError, match=says):
        ask()


def test_there_is_no_arithmetic_that_would_lose_the_interval() -> None:
    with pytest.raises(TypeError):
        LATENCY * 2  # type: ignore[operator]
    with pytest.raises(TypeError):
        hash(LATENCY)


@pytest.mark.parametrize("thing", [RESULT, LATENCY, LATENCY.p95, LATENCY < 40], ids=repr)
def test_copies_and_what_others_ask_of_an_object_do_not_recurse(thing: Any) -> None:
    for made in (copy.copy(thing), copy.deepcopy(thing), pickle.loads(pickle.dumps(thing))):
        assert repr(made) == repr(thing) and type(made) is type(thing)
    unfinished = type(thing).__new__(type(thing))
    for name in ("_repr_html_", "__array__", "_ipython_canary_", "nothing", "metric", "document", "result"):
        for one in (thing, unfinished):
            assert hasattr(one, name) in (True, False)
    assert not hasattr(thing, "_repr_html_") and not hasattr(thing, "__array__")


def test_a_result_says_what_it_is() -> None:
    assert repr(RESULT) == "<int8 on pi, ok>"
    assert (RESULT.status, RESULT.reason, RESULT.caveats, RESULT.simulated) == ("ok", None, ("noisy",), False)
    failed = Result(document=DOCUMENT | {"status": "failed", "reason": "no", "device": None, "device_id": None})
    assert repr(failed) == "<int8 on None, failed: no>" and failed.device is None
    assert repr(Result(document=DOCUMENT | {"simulated": True})) == "<int8 on simulated pi, ok>"


@pytest.mark.parametrize(("answer", "truth"), [(LATENCY < 40, True), (LATENCY < 5, False)])
def test_an_answer_is_equal_to_its_truth_and_to_nothing_else(answer: Answer, truth: bool) -> None:
    assert (answer == truth) is True
    assert (answer != truth) is False
    assert (answer == (not truth)) is False
    assert answer != "holds"


@pytest.mark.parametrize("truth", [True, False])
def test_what_is_undecided_is_not_unlike_an_answer_either(truth: bool) -> None:
    undecided = LATENCY < 10.01
    with pytest.raises(Undecided):
        assert undecided != truth
    with pytest.raises(Undecided):
        assert undecided == truth


def test_what_had_not_come_while_it_was_watched_is_no_number() -> None:
    metrics = {
        "throttle_after_s": {"absent": "it did not slow down in 10 minutes"},
        "sustained_ms": {"value": 3.0, "unit": "ms", "unthrottled_s": 600},
    }
    after = Result(document=DOCUMENT | {"metrics": metrics}).throttle_after_s
    assert after.absent and "watched for 600 s" in after.absent
    assert "at least 600 s" in repr(after)
    assert after >= 600
    assert not after < 600
    for answer in (after <= 600, after > 600, after > 700, after < 700):
        assert answer.outcome == "undecided", answer
    for use in (lambda: after.value, lambda: float(after), lambda: after == 600, lambda: after.ci95):
        with pytest.raises((NotMeasured, UsageError)):
            use()


def test_the_number_of_a_result_that_is_not_ok_says_so() -> None:
    assert repr(Result(document=DOCUMENT | {"status": "invalid"}).latency_ms).endswith(", of a result that is invalid>")
