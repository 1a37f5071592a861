"""95 % intervals: they hold the estimate, and they cover."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analyze import intervals
from harness.errors import HarnessError

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

positive = st.floats(1e-6, 1e6)
bits = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200)


@given(st.lists(positive, min_size=2, max_size=20))
def test_the_interval_over_runs_holds_the_median_and_stays_positive(values: list[float]) -> None:
    interval = intervals.over_runs(values)
    assert interval is not None
    assert 0 < interval[0] <= statistics.median(values) <= interval[1] < math.inf


@given(st.lists(positive, min_size=2, max_size=20), st.randoms(), st.floats(0.01, 100))
def test_the_interval_over_runs_knows_neither_order_nor_unit(values: list[float], random, unit: float) -> None:
    shuffled = [v * unit for v in values]
    random.shuffle(shuffled)
    one, two = intervals.over_runs(values), intervals.over_runs(shuffled)
    assert one is not None and two is not None
    assert two == pytest.approx([end * unit for end in one], rel=1e-6)


def test_one_run_has_no_interval_and_equal_runs_have_one_of_no_width() -> None:
    assert intervals.over_runs([3.0]) is None
    assert intervals.over_runs([]) is None
    assert intervals.over_runs([3.0] * 5) == pytest.approx((3.0, 3.0))


def test_runs_that_are_zero_or_negative_get_a_plain_t_interval() -> None:
    low, high = intervals.over_runs([0.0, 1.0, 2.0]) or (0, 0)
    assert low < 0 < 1 < high


def test_nan_is_refused() -> None:
    with pytest.raises(HarnessError, match="not finite"):
        intervals.over_runs([1.0, math.nan])


def test_the_interval_over_five_runs_covers_the_truth_95_times_in_100() -> None:
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(2000):
        low, high = intervals.over_runs(np.exp(rng.normal(0.0, 0.02, 5)).tolist()) or (1, 0)
        held += low <= 1.0 <= high
    assert 0.93 < held / 2000 < 0.98


@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_the_interval_within_a_run_covers_the_median_of_correlated_samples(correlation: float) -> None:
    rng = np.random.default_rng(6)
    held = 0
    for _ in range(300):
        noise = rng.normal(size=1000)
        for i in range(1, 1000):
            noise[i] = correlation * noise[i - 1] + math.sqrt(1 - correlation**2) * noise[i]
        low, high = intervals.within_run(np.exp(0.03 * noise)) or (1, 0)
        held += low <= 1.0 <= high
    assert held / 300 > 0.90


def test_order_statistics_alone_lie_about_correlated_samples() -> None:
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(200):
        noise = rng.normal(size=500)
        for i in range(1, 500):
            noise[i] = 0.9 * noise[i - 1] + math.sqrt(1 - 0.81) * noise[i]
        low, high = intervals.order_interval(noise) or (1, 0)
        held += low <= 0.0 <= high
    assert held / 200 < 0.7


@given(st.lists(positive, min_size=1, max_size=200))
def test_intervals_within_a_run_hold_its_median_or_are_absent(samples: list[float]) -> None:
    for interval in (intervals.order_interval(samples), intervals.batch_interval(samples)):
        assert interval is None or interval[0] <= float(np.median(samples)) <= interval[1]


def test_five_samples_have_no_95_percent_order_interval_and_six_have_their_range() -> None:
    assert intervals.order_interval([1, 2, 3, 4, 5]) is None
    assert intervals.order_interval([1, 2, 3, 4, 5, 6]) == (1.0, 6.0)
    # the tables of the sign test: n = 8 ranks 1 and 8, n = 20 ranks 6 and 15
    assert intervals.order_interval(range(1, 9)) == (1.0, 8.0)
    assert intervals.order_interval(range(1, 21)) == (6.0, 15.0)


@given(st.integers(1, 5000), st.data())
def test_wilson_holds_the_fraction_and_stays_within_zero_and_one(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    low, high = intervals.wilson(k, n)
    assert 0.0 <= low <= k / n <= high <= 1.0
    assert (low, high) == pytest.approx([1 - end for end in reversed(intervals.wilson(n - k, n))])


def test_wilson_is_the_published_one() -> None:
    assert intervals.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)  # Newcombe 1998, table I
    with pytest.raises(HarnessError):
        intervals.wilson(3, 2)


def test_the_paired_interval_is_the_published_one() -> None:
    # Newcombe, Stat. Med. 17 (1998) 2635, method 10: 36, 12, 2, 0 gives 0.0569 to 0.3404
    one = [1] * 36 + [1] * 12 + [0] * 2
    two = [1] * 36 + [0] * 12 + [1] * 2
    assert intervals.paired_difference(one, two) == pytest.approx((0.0569, 0.3404), abs=5e-5)
    # Fagerland, Lydersen and Laake (Stat. Med. 33, 2014): 1, 1, 7, 12 gives -0.507 to -0.026
    one = [1, 1] + [0] * 19
    two = [1, 0] + [1] * 7 + [0] * 12
    assert intervals.paired_difference(one, two) == pytest.approx((-0.507, -0.026), abs=5e-4)


@given(bits)
def test_the_paired_interval_holds_the_difference_and_turns_with_the_sides(pairs: list[tuple[bool, bool]]) -> None:
    one, two = ([float(p[i]) for p in pairs] for i in (0, 1))
    low, high = intervals.paired_difference(one, two) or (1, -1)
    difference = statistics.fmean(one) - statistics.fmean(two)
    assert -1 <= low <= difference + 1e-12 and difference - 1e-12 <= high <= 1
    back = intervals.paired_difference(two, one)
    assert back == pytest.approx((-high, -low), abs=1e-9)


def test_variants_that_agree_on_every_sample_still_have_the_width_that_so_many_samples_allow() -> None:
    scores = [1.0] * 989 + [0.0] * 11
    low, high = intervals.paired_difference(scores, scores) or (0, 0)
    assert -0.006 < low < 0 < high < 0.006
    wider = intervals.paired_difference(scores[-100:], scores[-100:]) or (0, 0)
    assert wider[1] > high


def test_the_paired_interval_covers() -> None:
    rng = np.random.default_rng(8)
    held = 0
    for _ in range(600):
        reference = rng.random(400) < 0.95
        variant = np.where(rng.random(400) < 0.04, ~reference, reference)
        truth = 0.95 - (0.95 * 0.96 + 0.05 * 0.04)
        low, high = intervals.paired_difference(reference, variant) or (1, 0)
        held += low <= truth <= high
    assert held / 600 > 0.93


def test_scores_that_are_not_fractions_get_a_paired_t_interval() -> None:
    low, high = intervals.paired_difference([0.5, 0.7, 0.9], [0.4, 0.5, 0.9]) or (1, 0)
    assert low < 0.1 < high
    assert intervals.paired_difference([0.5], [0.25]) is None
    with pytest.raises(HarnessError, match="paired"):
        intervals.paired_difference([1, 0], [1])


@given(positive, positive, st.floats(0, 100), st.floats(0, 100))
def test_the_interval_of_a_difference_holds_it_and_is_as_wide_as_its_wider_part(
    one: float, two: float, left: float, right: float
) -> None:
    low, high = intervals.difference_of(one, (one - left, one + left), two, (two - right, two + right))
    assert low <= one - two <= high
    assert high - low >= 2 * max(left, right) * (1 - 1e-6) - 1e-6
