"""What one session differs from the next: told from the stored sessions of the reference, or assumed and said so."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.proof import releases
from harness.analyze import unpaired
from harness.analyze.between import ASSUMED_SD, FEWEST, Spreads, mean_log, spread
from harness.analyze.compare import compare
from harness.analyze.counterparts import There
from harness.analyze.digest import CellDigest, Digest
from harness.analyze.stats import sd
from tests.releases_kit import CONDITIONS, noisy, one, row, runs, session


def reference(level: float, **changed: Any) -> CellDigest:
    return one("fp32", **({"metrics": {"latency_ms": runs(level, 1.01 * level)}} | changed))


def stored(*levels: float, **changed: Any) -> list[Digest]:
    return [session(f"s{i}", reference(level, **changed)) for i, level in enumerate(levels)]


LEVELS = (1.0, 1.1, 0.9, 1.05, 1.2, 1.0, 0.95)


def of(digests: list[Digest], base: CellDigest | None, head: CellDigest | None, metric: str = "latency_ms") -> Any:
    return Spreads(digests, ["fp32"]).of(base, head, metric)


def test_the_spread_is_the_sd_of_the_sessions_mean_logarithms() -> None:
    found = of(stored(*LEVELS), None, reference(1.0))
    assert found.sd == pytest.approx(sd([math.log(level) for level in LEVELS]))
    assert (found.sessions, found.assumed, found.df) == (7, False, 6)
    assert str(found) == f"between sessions: {100 * found.sd:.2g} % from 7 stored sessions"


def test_fewer_than_six_sessions_say_too_little() -> None:
    found = of(stored(*LEVELS[:5]), None, reference(1.0))
    assert (found.sd, found.sessions, found.assumed, found.df) == (ASSUMED_SD, 5, True, math.inf)
    assert str(found) == "between sessions: 5 % assumed, 5 stored"
    assert not of(stored(*LEVELS[:FEWEST]), None, reference(1.0)).assumed


@pytest.mark.parametrize(
    "changed",
    [
        {"artifact_sha256": "another"}, {"conditions": CONDITIONS | {"os": "another"}}, {"status": "invalid"},
        {"metrics": {"latency_ms": runs(1.0)}}, {"metrics": {}}, {"threads": 4}, {"backend": "portable"},
        {"metrics": {"latency_ms": runs(0.0, 1.0)}},
    ],
)  # fmt: skip
def test_only_sessions_of_the_same_file_under_the_same_conditions_count(changed: dict[str, Any]) -> None:
    digests = [*stored(*LEVELS), session("odd", reference(50.0, **changed))]
    assert of(digests, None, reference(1.0)).sessions == 7


def test_where_the_references_file_changed_the_one_that_is_better_known_is_taken() -> None:
    digests = [*stored(*LEVELS, artifact_sha256="old"), session("new", reference(2.0, artifact_sha256="new"))]
    sides = reference(1.0, artifact_sha256="old"), reference(2.0, artifact_sha256="new")
    assert of(digests, *sides).sessions == of(digests, *reversed(sides)).sessions == 7


def test_a_session_counts_once_and_without_a_reference_nothing_is_known() -> None:
    digests = stored(*LEVELS[:3])
    assert of(digests * 3, None, reference(1.0)).sessions == 3
    assert of(digests, None, None).assumed and of(digests, None, reference(1.0, artifact_sha256=None)).sessions == 0


def test_each_metric_has_its_own() -> None:
    digests = [session(f"{i}", reference(1.0, metrics={"load_ms": runs(i + 1, i + 1)})) for i in range(8)]
    found = Spreads(digests, ["fp32"])
    assert found.of(None, reference(1.0), "latency_ms").sessions == 0
    assert found.of(None, reference(1.0), "load_ms").sessions == 8


@given(st.lists(st.floats(-5, 5), max_size=30))
def test_a_spread_is_never_below_what_is_assumed_until_it_is_known(means: list[float]) -> None:
    found = spread(means)
    assert found.assumed == (len(means) < 6)
    assert found.sd == (ASSUMED_SD if found.assumed else sd(means))


def test_the_mean_needs_two_positive_runs() -> None:
    assert mean_log([1.0]) is None and mean_log([1.0, 0.0]) is None and mean_log([1.0, math.inf]) is None
    assert mean_log([1.0, math.e**2]) == pytest.approx(1.0)


@pytest.mark.parametrize(("quiet", "outcome"), [(True, "worse"), (False, "inconclusive")])
def test_a_device_that_is_known_to_be_steady_tells_smaller_changes(quiet: bool, outcome: str) -> None:
    rng = np.random.default_rng(0)
    levels = np.exp((0.004 if quiet else 0.08) * rng.standard_normal(9)).tolist()
    older = stored(*levels)
    base = session("x", reference(1.0), one(metrics={"latency_ms": noisy(5.0, 0.004)}))
    head = session("y", reference(1.0), one(metrics={"latency_ms": noisy(5.5, 0.004, seed=1)}))
    found = row(compare([base], [head], older))
    assert found.outcome == outcome and "from 9 stored sessions" in str(found.reason)


def test_degrees_of_freedom_are_those_of_welch_and_satterthwaite() -> None:
    """Two sessions of n runs without any spread between sessions: Welch's t-test of scipy."""
    from scipy import stats

    one_, two = (np.log(list(noisy(5.0, 0.05, n, seed=n).blocks.values())) for n in (4, 7))
    parts = [(float(x.var(ddof=1)) / x.size, x.size - 1) for x in (one_, two)]
    outcome = unpaired._judged(float(two.mean() - one_.mean()), [*parts, (0.0, math.inf)], True, 0.02)
    expected = stats.ttest_ind(two, one_, equal_var=False)
    assert outcome[3] == pytest.approx(expected.pvalue)
    assert outcome[2] == pytest.approx(tuple(np.exp(expected.confidence_interval(0.95))))


def test_the_error_of_the_mean_of_several_sessions_is_theirs_over_how_many() -> None:
    there = [
        There(session=str(n), found=one(metrics={"load_ms": noisy(2.0, 0.3, n, seed=n)}), reference=None)
        for n in (3, 6)
    ]
    logs = [np.log(list(t.found.metrics["load_ms"].blocks.values())) for t in there]
    found = unpaired._side(there, "load_ms", divided=False)
    assert found and found.centre == pytest.approx(np.mean([x.mean() for x in logs])) and found.runs == 9
    assert found.parts == tuple((pytest.approx(x.var(ddof=1) / x.size / 4), x.size - 1) for x in logs)


def test_with_an_assumed_spread_alone_the_interval_is_the_normal_distributions() -> None:
    _, ratio, ci95, p_value, detectable, _ = unpaired._judged(0.0, [(0.01, math.inf)], True, 0.02)
    assert (ratio, p_value) == (1.0, 1.0)
    assert math.log(ci95[1]) == pytest.approx(0.196, rel=0.002)
    assert detectable == pytest.approx(1.02 * math.exp(0.28016) - 1, rel=0.002)


def test_the_spread_of_both_the_figure_and_the_reference_is_in_the_interval() -> None:
    """No spread within: what is left is 5 % assumed, twice for two sessions, 1.5 times for what is divided."""
    cells = [one(v, metrics={"latency_ms": runs(*[level] * 3)}) for v, level in (("fp32", 9.0), ("int8", 5.0))]
    found = compare([session("1", *cells)], [session("2", *cells)], [])
    for variant, effects in (("int8", 1.5), ("fp32", 1.0)):
        ci95 = row(found, variant=variant).ci95
        assert ci95 and math.log(ci95[1]) == pytest.approx(1.962 * math.sqrt(effects * 2 * 0.05**2), rel=0.001)


def test_a_comparison_that_forgets_the_sessions_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the proof is there for: without the spread between sessions unchanged labels are called worse."""
    rng = np.random.default_rng(0)
    good = releases.unchanged("", releases.labels(releases.APART, 0, 30, rng), True)
    monkeypatch.setattr(unpaired, "UNSHARED", 0.0)
    bad = releases.unchanged("", releases.labels(releases.APART, 0, 30, rng), True)
    assert [r.held for r in good] == [True, True] and [r.held for r in bad] == [False, False]
