"""A against B: the paired t-interval, its robust twin, what could have been seen, the verdict, families of tests."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analyze.families import q_values
from harness.analyze.intervals import batch_interval, batches_of, rank_lag1
from harness.analyze.paired import Comparison, compare_paired, compare_unpaired, minimum_detectable, verdict_of
from harness.analyze.signed_rank import signed_rank
from harness.errors import RunnerError

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

figure = st.floats(1e-3, 1e3)
pairs = st.lists(st.tuples(figure, figure), min_size=2, max_size=25)


def blocks(values: Sequence[float]) -> dict[int, float]:
    return dict(enumerate(values))


def compared(values: Sequence[tuple[float, float]], lower_is_better: bool = True) -> Comparison:
    one, two = zip(*values, strict=True)
    return compare_paired(blocks(one), blocks(two), lower_is_better=lower_is_better)


def noisy(ratio: float, sd: float, n: int, seed: int = 0) -> list[tuple[float, float]]:
    """Pairs that drift 20 % together and differ by `ratio`, run by run with `sd`."""
    rng = np.random.default_rng(seed)
    drift = np.linspace(1.0, 1.2, n)
    a, b = np.exp(rng.normal(0, sd, (2, n))) * drift
    return list(zip(a.tolist(), (ratio * b).tolist(), strict=True))


@given(pairs)
def test_the_ratio_lies_in_its_interval_and_exchanging_the_sides_turns_everything_round(
    values: list[tuple[float, float]],
) -> None:
    there, back = compared(values), compared([(b, a) for a, b in values])
    assert there.ratio is not None and back.ratio is not None and there.ci95 and back.ci95
    assert there.ci95[0] <= there.ratio <= there.ci95[1]
    assert back.ratio == pytest.approx(1 / there.ratio)
    assert back.ci95 == pytest.approx((1 / there.ci95[1], 1 / there.ci95[0]))
    turned = {"better": "worse", "worse": "better"}
    assert back.verdict == turned.get(there.verdict, there.verdict)
    assert back.p_value == pytest.approx(there.p_value, abs=1e-9) if there.p_value else back.p_value == there.p_value


@pytest.mark.parametrize("n", [2, 5, 10, 40])
def test_the_t_test_is_scipys(n: int) -> None:
    from scipy import stats

    values = noisy(1.01, 0.02, n)
    logs = [math.log(b / a) for a, b in values]
    expected = stats.ttest_1samp(logs, 0.0)
    found = compared(values)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.ci95 == pytest.approx(tuple(np.exp(expected.confidence_interval(0.95))))
    assert found.n == n


@pytest.mark.parametrize(("n", "m"), [(2, 2), (5, 5), (5, 12), (20, 3)])
def test_the_unpaired_test_is_welchs(n: int, m: int) -> None:
    from scipy import stats

    rng = np.random.default_rng(n)
    one, two = np.exp(rng.normal(0, 0.01, n)), np.exp(rng.normal(0.02, 0.03, m))
    expected = stats.ttest_ind(np.log(two), np.log(one), equal_var=False)
    found = compare_unpaired(one.tolist(), two.tolist(), lower_is_better=True)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.ci95 == pytest.approx(tuple(np.exp(expected.confidence_interval(0.95))))
    assert found.hl_ratio is None and "not paired" in found.reasons[0]


@pytest.mark.parametrize("n", [6, 7, 10, 30, 100])
def test_the_signed_rank_test_is_scipys_exact_one(n: int) -> None:
    from scipy import stats

    values = np.random.default_rng(n).normal(0.2, 1.0, n)
    found = signed_rank(values.tolist())
    assert found is not None
    assert found.p_value == pytest.approx(stats.wilcoxon(values, method="exact").pvalue)
    assert found.interval[0] <= found.estimate <= found.interval[1]
    # the interval holds exactly the shifts that the test does not reject
    inside, outside = (found.interval[0] + 1e-6, found.interval[0] - 1e-6)
    assert stats.wilcoxon(values - inside, method="exact").pvalue > 0.05
    assert stats.wilcoxon(values - outside, method="exact").pvalue <= 0.05


def test_ties_and_zeros_are_counted_exactly() -> None:
    # |x| = 1, 1, 1, 2, 2, 3 has doubled ranks 4, 4, 4, 9, 9, 12; one of the 64 sign patterns sums to 0, three to 4
    assert signed_rank([-1, 1, 1, 2, 2, 3]).p_value == pytest.approx(2 * (1 + 3) / 64)  # type: ignore[union-attr]
    assert signed_rank([0, 0, -1, 1, 1, 2, 2, 3]).p_value == pytest.approx(2 * 4 / 64)  # type: ignore[union-attr]
    assert signed_rank([0.0] * 6).p_value == 1.0  # type: ignore[union-attr]


def test_beyond_a_hundred_pairs_the_approximation_takes_over_without_a_step() -> None:
    from scipy import stats

    values = np.random.default_rng(3).normal(0.2, 1.0, 130)
    found = signed_rank(values.tolist())
    assert found is not None
    assert found.p_value == pytest.approx(stats.wilcoxon(values, method="exact").pvalue, rel=0.02)


def test_below_six_pairs_there_is_no_robust_twin_and_that_is_said() -> None:
    found = compared(noisy(1.0, 0.01, 5))
    assert (found.hl_ratio, found.hl_ci95, found.p_wilcoxon) == (None, None, None)
    assert "no robust twin below 6 pairs" in found.reasons
    assert compared(noisy(1.0, 0.01, 6)).p_wilcoxon is not None


def test_one_wild_block_blinds_the_mean_and_not_the_robust_twin() -> None:
    values = noisy(1.05, 0.005, 12)
    values[3] = (values[3][0], values[3][1] * 0.3)
    found = compared(values)
    assert found.p_value is not None and found.p_wilcoxon is not None and found.hl_ratio is not None
    assert found.p_value > 0.05 > found.p_wilcoxon
    assert found.hl_ratio == pytest.approx(1.05, abs=0.01)
    assert any("robust twin does not agree" in reason for reason in found.reasons)


@pytest.mark.parametrize(
    ("sd", "needed"),
    [(0.01, (18, 7, 5, 3)), (0.015, (38, 11, 7, 4)), (0.03, (144, 38, 18, 8))],
)
def test_the_pairs_that_an_effect_needs_are_those_of_the_exact_noncentral_t(
    sd: float, needed: tuple[int, ...]
) -> None:
    """MEASUREMENT 5.1: pairs for 80 % power at 1, 2, 3 and 5 %, by the standard deviation from run to run."""
    for effect, n in zip((0.01, 0.02, 0.03, 0.05), needed, strict=True):
        # its table takes the effect on the log scale as it stands; one pair more or less by that
        seen = {k: math.log1p(minimum_detectable(sd * math.sqrt(2 / k), k - 1)) for k in (n - 1, n, n + 1) if k > 1}
        assert seen[n + 1] <= effect
        assert seen.get(n - 1, math.inf) > effect


def test_the_minimum_detectable_effect_is_found_80_times_in_100() -> None:
    n, sd = 8, 0.01
    effect = minimum_detectable(sd * math.sqrt(2 / n), n - 1)
    found = [compared(noisy(1 + effect, sd, n, seed)).p_value for seed in range(1500)]
    assert np.mean([p is not None and p < 0.05 for p in found]) == pytest.approx(0.8, abs=0.04)


def test_equal_sides_are_called_different_5_times_in_100_though_both_drift() -> None:
    found = [compared(noisy(1.0, 0.01, 10, seed)) for seed in range(2000)]
    assert np.mean([c.p_value is not None and c.p_value < 0.05 for c in found]) == pytest.approx(0.05, abs=0.02)
    assert np.mean([c.p_wilcoxon is not None and c.p_wilcoxon < 0.05 for c in found]) == pytest.approx(0.05, abs=0.02)
    assert np.mean([c.verdict in ("better", "worse") for c in found]) < 0.02


@pytest.mark.parametrize(
    ("ratio", "ci95", "lower_is_better", "verdict"),
    [
        (1.05, (1.03, 1.07), True, "worse"),
        (1.05, (1.03, 1.07), False, "better"),
        (0.95, (0.93, 0.97), True, "better"),
        (0.95, (0.93, 0.97), False, "worse"),
        (1.00, (0.99, 1.01), True, "same"),
        (1.01, (1.005, 1.015), True, "same"),  # it differs, and nobody needs to care
        (1.01, (1.005, 1.03), True, "inconclusive"),
        (1.05, (0.99, 1.11), True, "inconclusive"),
        (1.00, (0.90, 1.10), True, "inconclusive"),
    ],
)
def test_the_verdict_has_a_practical_threshold_and_three_states(
    ratio: float, ci95: tuple[float, float], lower_is_better: bool, verdict: str
) -> None:
    found, reasons = verdict_of(ratio, ci95, lower_is_better, 0.02)
    assert found == verdict
    assert bool(reasons) == (verdict == "inconclusive")


def test_the_threshold_can_be_chosen() -> None:
    values = noisy(1.03, 0.001, 10)
    one, two = (blocks(side) for side in zip(*values, strict=True))
    assert compare_paired(one, two, lower_is_better=True).verdict == "worse"
    assert compare_paired(one, two, lower_is_better=True, threshold=0.05).verdict == "same"


def test_what_shares_no_block_is_left_out_and_said() -> None:
    one, two = {0: 1.0, 1: 1.1, 2: 1.0, 9: 50.0}, {0: 1.1, 1: 1.2, 2: 1.15, 8: 0.01}
    found = compare_paired(one, two, lower_is_better=True)
    assert found.n == 3 and found.ratio is not None and 1.0 < found.ratio < 1.2
    assert "2 runs have no partner in their block" in found.reasons


@pytest.mark.parametrize(
    ("one", "two", "reason"),
    [
        ({}, {}, "fewer than 2 pairs"),
        ({0: 1.0}, {0: 1.0}, "fewer than 2 pairs"),
        ({0: 1.0, 1: 1.0}, {2: 1.0, 3: 1.0}, "fewer than 2 pairs"),
        ({0: 0.0, 1: 1.0}, {0: 1.0, 1: 1.0}, "not positive"),
    ],
)
def test_where_nothing_can_be_compared_the_reason_stands_in_the_numbers_place(
    one: dict[int, float], two: dict[int, float], reason: str
) -> None:
    found = compare_paired(one, two, lower_is_better=True)
    assert (found.ratio, found.ci95, found.p_value, found.verdict) == (None, None, None, "inconclusive")
    assert any(reason in said for said in found.reasons)


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(RunnerError, match="not finite"):
        compare_paired({0: 1.0, 1: math.nan}, {0: 1.0, 1: 1.0}, lower_is_better=True)
    with pytest.raises(RunnerError, match="not finite"):
        compare_unpaired([1.0, math.inf], [1.0, 1.0], lower_is_better=True)


def test_without_any_spread_there_is_no_p_value_and_a_plain_verdict() -> None:
    same = compared([(1.0, 1.0)] * 4)
    assert (same.verdict, same.p_value, same.ci95) == ("same", 1.0, (1.0, 1.0))
    worse = compared([(1.0, 2.0)] * 4)
    assert (worse.verdict, worse.p_value) == ("worse", None)
    assert any("no spread" in reason for reason in worse.reasons)


@given(st.lists(st.floats(0, 1), max_size=30))
def test_q_values_are_scipys(p_values: list[float]) -> None:
    from scipy.stats import false_discovery_control

    expected = false_discovery_control(p_values, method="bh") if p_values else []
    assert q_values(p_values) == pytest.approx(list(expected))


def test_what_has_no_p_value_is_not_of_the_family() -> None:
    assert q_values([0.01, None, 0.04]) == [0.02, None, 0.04]
    assert q_values([None, None]) == [None, None]


def test_a_family_of_equal_sides_is_told_of_no_difference() -> None:
    rng = np.random.default_rng(1)
    wrong = [any(q is not None and q <= 0.05 for q in q_values(rng.random(20).tolist())) for _ in range(1000)]
    alone = [bool((rng.random(20) <= 0.05).any()) for _ in range(1000)]
    assert np.mean(wrong) == pytest.approx(0.05, abs=0.025) and np.mean(alone) > 0.5


def _autocorrelated(rho: float, n: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=n)
    for i in range(1, n):
        noise[i] = rho * noise[i - 1] + math.sqrt(1 - rho * rho) * noise[i]
    return noise


def test_spikes_do_not_hide_what_correlates_the_rest() -> None:
    noise = 0.03 * _autocorrelated(0.9, 2000, 0)
    noise[::50] += 5.0
    assert rank_lag1(noise) > 0.7
    assert rank_lag1([2.0] * 10) == 0.0
    assert rank_lag1([1, 1, 1, 5, 5, 5]) == pytest.approx(rank_lag1([0, 0, 0, 1, 1, 1]))


def test_strongly_correlated_samples_get_fewer_and_longer_batches() -> None:
    assert batches_of(_autocorrelated(0.0, 2000, 1)) == 20
    assert 5 <= batches_of(_autocorrelated(0.9, 2000, 1)) < 10
    assert batches_of(_autocorrelated(0.9, 200, 1)) == 5
    held = [batch_interval(_autocorrelated(0.9, 1000, seed)) or (1, 0) for seed in range(300)]
    assert np.mean([low <= 0.0 <= high for low, high in held]) > 0.90
