"""The output check: what it lets pass, what it refuses, and that it never gives way to odd outputs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from harness.analyze.check import FLOORS_DB, CheckResult, output_check

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(500, 10)).astype(np.float32)


def off_by(db: float, signal: np.ndarray = LOGITS) -> np.ndarray:
    """`signal` with noise of exactly that signal-to-noise ratio."""
    noise = np.random.default_rng(1).normal(size=signal.shape)
    noise *= np.sqrt((signal.astype(float) ** 2).sum() / (noise**2).sum()) / 10 ** (db / 20)
    return signal + noise


def check(got: np.ndarray, precision: str = "fp32", **more) -> CheckResult:
    return output_check([LOGITS], [got], precision=precision, has_data=more.pop("has_data", True), **more)


def test_equal_outputs_are_200_db() -> None:
    found = check(LOGITS.copy(), top1=True)
    assert (found.ok, found.sqnr_db, found.max_abs, found.agreement) == (True, 200.0, 0.0, 1.0)


@pytest.mark.parametrize("precision", list(FLOORS_DB))
def test_each_precision_has_its_floor(precision: str) -> None:
    floor = FLOORS_DB[precision]
    assert check(off_by(floor + 0.5), precision).ok
    below = check(off_by(floor - 0.5), precision)
    assert not below.ok
    assert below.sqnr_db == pytest.approx(floor - 0.5, abs=0.01)
    assert f"{floor:g} dB" in str(below.reason)


def test_static_int8_without_data_or_calibration_fails_below_5_db_and_warns_below_25() -> None:
    assert not check(off_by(4), "static_int8", has_data=False).ok
    warned = check(off_by(20), "static_int8", has_data=False)
    assert warned.ok and warned.caveats == ("low_sqnr",)
    assert check(off_by(30), "static_int8", has_data=False).caveats == ()
    assert not check(off_by(50), has_data=False).ok  # others keep their floor


def test_the_users_own_floor_replaces_all_others() -> None:
    assert check(off_by(20), "fp32", min_sqnr_db=15).ok
    assert not check(off_by(30), "static_int8", min_sqnr_db=35).ok
    assert not check(off_by(10), "static_int8", has_data=False, min_sqnr_db=15).ok


def test_weight_only_int8_that_kept_its_top_1_but_lost_its_outputs_is_refused() -> None:
    found = check(LOGITS * 1.4e6, "dynamic", top1=True)
    assert not found.ok
    assert found.agreement == 1.0
    assert found.sqnr_db == pytest.approx(-123, abs=1)


def test_top_1_counts_only_where_it_is_asked_for_and_there_is_data() -> None:
    close = np.zeros((100, 2), np.float32)
    close[:, 0], close[:, 1] = 100.0, 99.999
    flipped = close.copy()
    flipped[:5] = flipped[:5, ::-1]

    def ask(**more):
        return output_check([close], [flipped], precision="fp32", **more)

    assert ask(has_data=True).ok
    assert ask(has_data=False, top1=True).ok
    refused = ask(has_data=True, top1=True)
    assert not refused.ok and refused.agreement == 0.95
    assert "top-1" in str(refused.reason)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_finite_always_fail(value: float) -> None:
    broken = LOGITS.copy()
    broken[3, 3] = value
    assert not check(broken, min_sqnr_db=-500).ok
    same = output_check([broken], [broken.copy()], precision="fp32", has_data=True)
    assert not same.ok and same.sqnr_db is None
    assert "not finite" in str(same.reason)


def test_the_worst_leaf_decides() -> None:
    good, bad = LOGITS.copy(), off_by(10)
    found = output_check([LOGITS, LOGITS], [good, bad], precision="fp32", has_data=True)
    assert not found.ok
    assert "in output 1" in str(found.reason)
    assert found.max_abs == pytest.approx(float(np.abs(bad - LOGITS).max()))


@pytest.mark.parametrize(
    "got",
    [[], [LOGITS, LOGITS], [LOGITS[:10]], [LOGITS.reshape(10, 500)]],
    ids=["none", "too many", "fewer samples", "another shape"],
)
def test_outputs_of_another_number_or_shape_fail_with_a_reason(got: list[np.ndarray]) -> None:
    found = output_check([LOGITS], got, precision="fp32", has_data=True)
    assert not found.ok and found.reason and found.sqnr_db is None


def test_integers_and_booleans_are_signals_too() -> None:
    labels = np.arange(1000)
    assert output_check([labels], [labels.copy()], precision="fp32", has_data=True).sqnr_db == 200.0
    assert not output_check([labels], [labels[::-1]], precision="static_int8", has_data=True).ok
    flags = RNG.random(1000) < 0.5
    assert not output_check([flags], [~flags], precision="static_int8", has_data=True).ok
    huge = np.array([2**60])
    assert output_check([huge], [huge + 1], precision="fp32", has_data=True).sqnr_db != 200.0


def test_outputs_of_nothing_but_zeros_are_equal_or_wrong() -> None:
    zeros = np.zeros((4, 3), np.float32)
    assert output_check([zeros], [zeros.copy()], precision="fp32", has_data=True).ok
    found = output_check([zeros], [zeros + 1e-3], precision="fp32", has_data=True)
    assert not found.ok and found.sqnr_db == -200.0


floats = arrays.arrays(np.float32, (4, 3), elements=st.floats(allow_nan=True, allow_infinity=True, width=32))


@given(floats, floats)
def test_whatever_comes_the_answer_is_finite_and_only_equal_outputs_are_200_db(one, two) -> None:
    found = output_check([one], [two], precision="static_int8", has_data=False, top1=True)
    assert found.ok == (found.reason is None)
    if found.sqnr_db is not None:
        assert -200.0 <= found.sqnr_db <= 200.0
        assert (found.sqnr_db == 200.0) == np.array_equal(one, two)
        assert np.isfinite(found.max_abs)


@given(floats.filter(lambda a: np.isfinite(a).all()), st.floats(-3, 3))
def test_a_shift_is_as_large_one_way_as_the_other(one, shift: float) -> None:
    there = output_check([one], [one + shift], precision="fp32", has_data=True)
    back = output_check([one], [one - shift], precision="fp32", has_data=True)
    assert there.max_abs == pytest.approx(back.max_abs, rel=1e-3, abs=1e-6)
