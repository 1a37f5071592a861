"""One run's samples in figures."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analyze import stats
from harness.errors import HarnessError

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

durations = st.lists(st.integers(1, 10**10), min_size=1, max_size=400)


@given(durations)
def test_percentiles_are_monotone_and_lie_between_the_least_and_the_greatest(samples: list[int]) -> None:
    figures = stats.summary(samples)
    ladder = [figures["min"], *(figures[p] for p in stats.PERCENTILES if p in figures), max(samples) / 1e6]
    assert all(a <= b * (1 + 1e-12) for a, b in itertools.pairwise(ladder))
    assert figures["quantiles"] == sorted(figures["quantiles"])
    assert len(figures["quantiles"]) == 101
    assert figures["quantiles"][50] == pytest.approx(figures["p50"])


@given(durations, st.randoms())
def test_the_order_of_samples_changes_nothing_but_the_autocorrelation(samples: list[int], random) -> None:
    shuffled = samples.copy()
    random.shuffle(shuffled)
    one, two = stats.summary(samples), stats.summary(shuffled)
    for figures in (one, two):
        figures.pop("lag1", None)
    assert one["quantiles"] == two["quantiles"]
    assert one["outliers"] == two["outliers"]
    assert one["bimodal"] == two["bimodal"]
    assert one["mean"] == pytest.approx(two["mean"])


@pytest.mark.parametrize(("name", "least"), [("p90", 36), ("p95", 72), ("p99", 368)])
def test_a_percentile_that_so_few_samples_cannot_bear_is_left_out(name: str, least: int) -> None:
    assert name not in stats.percentiles(np.arange(1.0, least))
    assert name in stats.percentiles(np.arange(1.0, least + 1))
    q = stats.PERCENTILES[name][0]
    assert q**least < 0.025 <= q ** (least - 1)


def test_figures_are_in_milliseconds() -> None:
    figures = stats.summary([1_000_000, 2_000_000, 3_000_000])
    assert (figures["n"], figures["p50"], figures["mean"], figures["min"], figures["sd"]) == (3, 2.0, 2.0, 1.0, 1.0)


def test_one_sample_is_a_run_without_spread() -> None:
    figures = stats.summary([5_000_000])
    assert figures["p50"] == figures["mean"] == figures["min"] == 5.0
    assert figures["sd"] == 0.0
    assert "lag1" not in figures
    assert figures["bimodal"] is False


def test_equal_samples_have_no_outliers_no_modes_and_no_correlation() -> None:
    figures = stats.summary([100_003] * 1000)
    assert (figures["outliers"], figures["bimodal"], figures["lag1"]) == (0, False, 0.0)


@pytest.mark.parametrize("bad", [[], [1.0, float("nan")], [1.0, float("inf")], [5, -1]])
def test_samples_that_cannot_be_durations_are_refused(bad: list[float]) -> None:
    with pytest.raises(HarnessError):
        stats.summary(bad)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200))
def test_autocorrelation_lies_between_minus_one_and_one(values: list[float]) -> None:
    assert -1.0 <= stats.lag1(values) <= 1.0


def test_a_slow_wave_is_correlated_and_noise_is_not() -> None:
    rng = np.random.default_rng(1)
    assert stats.lag1(np.sin(np.arange(1000) / 50)) > 0.95
    assert abs(stats.lag1(rng.normal(size=2000))) < 0.1
    assert stats.lag1([1.0, -1.0] * 50) < -0.9


def test_outliers_are_counted_and_not_removed() -> None:
    samples = [*np.random.default_rng(2).normal(1e6, 1e4, 1000), 3e6, 4e6]
    figures = stats.summary(samples)
    assert figures["outliers"] == 2
    assert figures["n"] == 1002
    assert stats.outliers([1.0] * 99 + [50.0]) == 1  # more than half are equal: MAD is 0


@pytest.mark.parametrize("shape", ["normal", "uniform", "exponential", "lognormal", "spikes"])
def test_one_mode_is_not_called_two(shape: str) -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        base = rng.normal(10.0, 0.3, 2000)
        samples = {
            "normal": base,
            "uniform": rng.uniform(8, 12, 2000),
            "exponential": 5 + rng.exponential(3, 2000),
            "lognormal": 10 * rng.lognormal(0, 0.6, 2000),
            "spikes": np.where(rng.random(2000) < 0.03, base * 3, base),
        }[shape]
        assert not stats.bimodal(np.quantile(samples, np.linspace(0, 1, 101)))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_two_modes_are_seen_when_they_are_apart_and_both_matter(share: float) -> None:
    rng = np.random.default_rng(4)
    samples = np.where(rng.random(2000) < share, rng.normal(10, 0.1, 2000), rng.normal(11, 0.1, 2000))
    assert stats.bimodal(np.quantile(samples, np.linspace(0, 1, 101)))
    close = np.where(rng.random(2000) < share, 10.0, 10.1)  # 1 % apart: nobody cares
    assert not stats.bimodal(np.quantile(close, np.linspace(0, 1, 101)))


def test_variation_between_runs_needs_two_runs() -> None:
    assert stats.between_run_cv([1.0]) is None
    assert stats.between_run_cv([]) is None
    assert stats.between_run_cv([2.0, 2.0, 2.0]) == 0.0
    assert stats.between_run_cv([9.0, 10.0, 11.0]) == pytest.approx(0.1)
