"""Change points: the same as by plain loops over every cut, the guards one by one, and the tests in them as scipy's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analyze import edivisive
from harness.analyze.edivisive import MIN_SIDE, NEWEST_P, RANK_P, T_P, change_points, rank_p
from harness.errors import RunnerError

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

THRESHOLD = 0.02


# -- the reference: Matteson and James's statistic as it is written down, pair by pair --------------------------------


def mean_distance(one: Sequence[float], two: Sequence[float]) -> float:
    return math.fsum(abs(x - y) for x in one for y in two) / (len(one) * len(two))


def mean_within(one: Sequence[float]) -> float:
    pairs = [abs(x - y) for i, x in enumerate(one) for y in one[:i]]
    return math.fsum(pairs) / len(pairs)


def statistic(before: Sequence[float], behind: Sequence[float]) -> float:
    m, n = len(before), len(behind)
    energy = 2 * mean_distance(before, behind) - mean_within(before) - mean_within(behind)
    return m * n / (m + n) * energy


def passes(before: Sequence[float], behind: Sequence[float], t_p: float) -> bool:
    from scipy import stats

    ratio = float(np.median(behind) / np.median(before))
    if 1 / (1 + THRESHOLD) < ratio < 1 + THRESHOLD:
        return False
    rank = stats.mannwhitneyu(before, behind).pvalue
    spread = max(np.ptp(before), np.ptp(behind)) > 0
    p_value = stats.ttest_ind(before, behind).pvalue if spread else 0.0
    return bool(p_value <= t_p and rank <= RANK_P)


def first_changed(x: Sequence[float], at: int, end: int) -> int:
    one, two = float(np.median(x[:at])), float(np.median(x[at:end]))
    return next(i for i in range(at, end) if abs(x[i] - one) >= abs(x[i] - two))


def brute_force(x: Sequence[float], start: int = 0) -> Iterator[int]:
    """`start`: where the stretch lies in the series."""
    cuts = [(at, end) for at in range(MIN_SIDE, len(x)) for end in range(at + MIN_SIDE, len(x) + 1)]
    if not cuts:
        return
    scores = [statistic(x[:at], x[at:end]) for at, end in cuts]
    best = max(scores)
    at, end = next(cut for cut, score in zip(cuts, scores, strict=True) if score >= best - 1e-9 * abs(best))
    if passes(x[:at], x[at:end], T_P):
        yield start + first_changed(x, at, end)
        yield from brute_force(x[:at], start)
        yield from brute_force(x[at:], start + at)


def by_loops(x: Sequence[float]) -> list[int]:
    found = sorted(brute_force(x))
    last, at = (found[-1] if found else 0), len(x) - MIN_SIDE
    before, behind = x[last:at], x[at:]
    if len(before) >= MIN_SIDE and passes(before, behind, NEWEST_P) and np.median(behind) > np.median(before):
        found.append(last + first_changed(x[last:], at - last, len(x) - last))
    return found


def found_at(x: Sequence[float], **more: bool) -> list[int]:
    return [split.at for split in change_points(x, **more)]


def levels(*steps: tuple[int, float], sd: float = 0.01, seed: int = 0) -> list[float]:
    """So many points at each level, with Gaussian noise of `sd` of it."""
    rng = np.random.default_rng(seed)
    return [float(level * (1 + sd * rng.standard_normal())) for count, level in steps for _ in range(count)]


@pytest.mark.parametrize("seed", range(25))
def test_the_change_points_are_those_of_plain_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(3, 12, 3)
    steps = [(int(count), float(rng.choice([1.0, 1.03, 1.1, 0.9]))) for count in counts]
    x = levels(*steps, sd=float(rng.choice([0.002, 0.01, 0.03])), seed=seed)
    assert found_at(x) == by_loops(x)


def test_the_series_above_do_have_change_points() -> None:
    found = [found_at(levels((10, 1.0), (8, 1.1), (10, 0.95), sd=0.01, seed=seed)) for seed in range(10)]
    assert sum(len(points) == 2 for points in found) >= 9


@given(st.lists(st.tuples(st.integers(1, 9), st.sampled_from([1.0, 1.04, 1.2])), min_size=1, max_size=4), st.data())
@settings(max_examples=60)
def test_the_change_points_are_those_of_plain_loops_on_any_series(
    steps: list[tuple[int, float]], data: st.DataObject
) -> None:
    noise = st.floats(-0.02, 0.02)
    x = [level + data.draw(noise) for count, level in steps for _ in range(count)]
    if len(set(x)) == len(x):  # equal values tie cuts, which rounding then decides on either side
        assert found_at(x) == by_loops(x)


@given(st.lists(st.integers(-3, 3), max_size=30), st.floats(1e-3, 1e9))
def test_no_series_makes_it_fail_and_the_unit_does_not_matter(values: list[int], unit: float) -> None:
    x = [100.0 + v for v in values]
    found = change_points(x)
    assert found == sorted(found, key=lambda split: split.at)
    assert all(MIN_SIDE <= split.at < len(x) and split.ratio > 0 for split in found)
    assert [s.at for s in change_points([unit * v for v in x])] == [s.at for s in found]


# -- what is found ----------------------------------------------------------------------------------------------------


def test_a_step_and_the_step_back_are_both_found_in_a_long_series() -> None:
    x = levels((25, 1.0), (8, 1.05), (27, 1.0), sd=0.005)
    assert found_at(x) == [25, 33]
    assert [round(split.ratio, 2) for split in change_points(x)] == [1.05, 0.96]


def test_a_step_of_three_releases_is_found() -> None:
    x = levels((20, 1.0), (3, 1.05), sd=0.005)
    assert found_at(x) == [20]
    assert found_at(x[:-2]) == []  # one may be chance
    assert found_at(x[::-1]) == [3]


def test_what_is_named_is_the_first_release_that_has_changed() -> None:
    """With two changed, the cut that has three behind it lies one before them."""
    found = [found_at(levels((20, 1.0), (2, 1.05), sd=0.002, seed=seed)) for seed in range(100)]
    assert sum(at == [20] for at in found) >= 5
    assert {*map(tuple, found)} == {(), (20,)}


def test_values_without_any_spread_need_no_more() -> None:
    assert change_points([2.0] * 9 + [2.2] * 3) == [edivisive.Split(at=9, ratio=pytest.approx(1.1), p_value=0.0)]
    assert change_points([2.0] * 40) == []


@pytest.mark.parametrize(
    ("steps", "sd", "guard"),
    [
        (((30, 1.0), (30, 1.015)), 0.001, "practical"),
        (((8, 1.0), (3, 1.5)), 0.001, "ranks"),  # 2 / C(11, 3) = 0.012
    ],
)
def test_each_guard_holds_back(steps: tuple[tuple[int, float], ...], sd: float, guard: str) -> None:
    assert found_at(levels(*steps, sd=sd)) == [], guard


def test_a_wild_release_is_no_change() -> None:
    x = levels((20, 1.0), (3, 1.0))
    x[21] = 3.0
    assert found_at(x) == []


def test_of_the_newest_three_less_is_asked_and_only_for_the_worse() -> None:
    """Found by the rule for the newest three alone: p lies between its limit and the other's."""
    rng = np.random.default_rng(3)
    weak = 0
    for _ in range(200):
        x = 1 + 0.015 * rng.standard_normal(23)
        x[20:] += 0.05
        found = change_points(x)
        if len(found) == 1 and found[0].p_value > T_P:
            weak += 1
            assert found[0].at in (20, 21) and found[0].p_value <= NEWEST_P
            assert change_points(x, rising_is_worse=False) == []
            assert found_at(2 - x, rising_is_worse=False) == [found[0].at]
    assert weak >= 10


def test_behind_a_level_that_is_not_positive_there_is_no_ratio() -> None:
    assert found_at([0.0] * 20 + [1.0] * 20) == []
    assert found_at([1.0] * 20 + [0.0] * 20) == [20]
    assert found_at([-1.0] * 20 + [-2.0] * 20) == []


def test_a_value_that_is_not_finite_is_refused() -> None:
    with pytest.raises(RunnerError):
        change_points([1.0] * 10 + [math.nan])
    assert change_points([]) == []


# -- the rank test ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 4), (3, 9), (3, 57), (5, 5), (8, 150), (9, 12), (40, 60)])
def test_the_rank_test_is_scipys(m: int, n: int) -> None:
    from scipy import stats

    rng = np.random.default_rng(m * n)
    for shift in (0.0, 0.5, 2.0):
        before, behind = rng.normal(size=m), rng.normal(shift, size=n)
        assert rank_p(before, behind) == pytest.approx(stats.mannwhitneyu(before, behind).pvalue)
        tied, too = np.append(np.round(before), 0.0), np.append(np.round(behind), 0.0)
        expected = stats.mannwhitneyu(tied, too, method="asymptotic").pvalue
        assert rank_p(tied, too) == pytest.approx(1.0 if math.isnan(expected) else expected)


def test_the_rank_test_allows_the_smallest_sides_that_the_page_says() -> None:
    def apart(m: int, n: int) -> float:
        return rank_p(np.arange(m, dtype=float), 100 + np.arange(n, dtype=float))

    assert apart(9, 3) <= RANK_P < apart(8, 3)
    assert apart(6, 4) <= RANK_P < apart(5, 4)
