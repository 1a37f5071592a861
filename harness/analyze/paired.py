"""A against B: how many times B's figure is A's, how sure that is, and what could have been seen at all.

Runs of one block lie close in time, so what drifts falls on both alike: the statistic is the mean over blocks of
log(B / A), its interval Student's t (MEASUREMENT 5.1). A percentile bootstrap of so few pairs rejects 14–18 % of equal
ones at a nominal 5 %, so none is used. Beside it stand a robust twin (signed_rank.py), the effect that so many pairs
can find, and a verdict that calls a difference only where it is also of practical size.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from harness.analyze.intervals import Interval, t_quantile
from harness.analyze.signed_rank import FEWEST, SignedRank, signed_rank
from harness.analyze.stats import few, sd

Verdict = Literal["better", "worse", "same", "inconclusive"]
#: a difference that is smaller matters to nobody, however sure it is
PRACTICAL = 0.02
ALPHA = 0.05
POWER = 0.8
_ROUNDING = 1e-12  # logarithms of equal ratios differ by this much


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """`ratio` is head / base with its 95 % interval; `hl_…` and `p_wilcoxon` are the robust twin's.

    `n`: pairs, or the smaller side's runs where nothing is paired. `minimum_detectable`: the relative change that so
    many runs of this spread find in 80 of 100 times at alpha = 0.05. What is None has its reason in `reasons`."""

    n: int
    ratio: float | None = None
    ci95: Interval | None = None
    p_value: float | None = None
    hl_ratio: float | None = None
    hl_ci95: Interval | None = None
    p_wilcoxon: float | None = None
    minimum_detectable: float | None = None
    verdict: Verdict = "inconclusive"
    reasons: tuple[str, ...] = ()


def compare_paired(
    base: Mapping[int, float], head: Mapping[int, float], *, lower_is_better: bool, threshold: float = PRACTICAL
) -> Comparison:
    """By {block of the schedule: that run's figure}; a block that only one side has is left out, and said.

    Raises RunnerError for a figure that is not finite."""
    shared = sorted(base.keys() & head.keys())
    lost = len(base.keys() ^ head.keys())
    reasons = (f"{lost} runs have no partner in their block",) if lost else ()
    one = few([base[b] for b in shared], "comparison")
    two = few([head[b] for b in shared], "comparison")
    if trouble := _no_ratio(one, two, "pairs"):
        return Comparison(n=len(shared), reasons=(*reasons, trouble))
    logs = [math.log(b) - math.log(a) for a, b in zip(one, two, strict=True)]
    found = _by_t(statistics.fmean(logs), sd(logs) / math.sqrt(len(logs)), len(logs) - 1, len(logs))
    robust = signed_rank(logs)
    if robust is None:
        reasons = (*reasons, f"no robust twin below {FEWEST} pairs")
    else:
        found = _with_twin(found, robust)
        if found.p_value is not None and (found.p_value < ALPHA) != (robust.p_value < ALPHA):
            reasons = (*reasons, f"the robust twin does not agree (p = {robust.p_value:.3f})")
    return _with_verdict(found, lower_is_better, threshold, reasons)


def compare_unpaired(
    base: Sequence[float], head: Sequence[float], *, lower_is_better: bool, threshold: float = PRACTICAL
) -> Comparison:
    """By one figure per run, from sessions that share no blocks: Welch's t (1947) on the logarithms.

    Blind to what drifted between the two: its interval holds only what differs from run to run. Degrees of freedom by
    Welch and Satterthwaite: (a + b)² / (a² / (n - 1) + b² / (m - 1)), a and b the squared standard errors."""
    one, two = few(base, "comparison"), few(head, "comparison")
    n = min(len(one), len(two))
    if trouble := _no_ratio(one, two, "runs of each"):
        return Comparison(n=n, reasons=(trouble,))
    logs = [math.log(v) for v in one], [math.log(v) for v in two]
    a, b = (sd(side) ** 2 / len(side) for side in logs)
    error = math.sqrt(a + b)
    df = (a + b) ** 2 / (a**2 / (len(one) - 1) + b**2 / (len(two) - 1)) if error > _ROUNDING else n - 1.0
    found = _by_t(statistics.fmean(logs[1]) - statistics.fmean(logs[0]), error, df, n)
    reasons = ("not paired: the runs share no blocks",)
    return _with_verdict(found, lower_is_better, threshold, reasons)


def minimum_detectable(error: float, df: float, power: float = POWER) -> float:
    """The relative change that a two-sided t-test at alpha = 0.05 finds with this power: exp(nc · error) - 1.

    `error`: the standard error of the mean log-ratio. nc solves P(T(df, nc) ≤ t) = 1 - power for the noncentral t (the
    other tail has no share in it at such a power): exact, where 2.8 · error is too small for few pairs."""
    from scipy.special import nctdtrinc

    noncentrality = float(nctdtrinc(df, 1 - power, _t(df)))
    return math.expm1(min(noncentrality * error, 700.0))


def _no_ratio(one: Sequence[float], two: Sequence[float], what: str) -> str | None:
    if min(len(one), len(two)) < 2:
        return f"fewer than 2 {what}"
    if min(*one, *two) <= 0:
        return "a figure is not positive: there is no ratio"
    return None


def _t(df: float) -> float:
    from scipy.special import stdtrit

    return t_quantile(int(df)) if float(df).is_integer() else float(stdtrit(df, 0.975))


def _by_t(centre: float, error: float, df: float, n: int) -> Comparison:
    """`centre` and `error` are of the log-ratio. Equal ratios have no spread to test against: no p-value then, but 1
    where they are all 1."""
    from scipy.special import stdtr

    spread = error > _ROUNDING
    p_value = 2 * float(stdtr(df, -abs(centre) / error)) if spread else None
    if not spread and abs(centre) <= _ROUNDING:
        p_value = 1.0
    half = _t(df) * error
    return Comparison(
        n=n, ratio=_exp(centre), ci95=(_exp(centre - half), _exp(centre + half)), p_value=p_value,
        minimum_detectable=minimum_detectable(error, df),
    )  # fmt: skip


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))  # exp(710) overflows


def _with_twin(found: Comparison, robust: SignedRank) -> Comparison:
    low, high = robust.interval
    return replace(
        found, hl_ratio=_exp(robust.estimate), hl_ci95=(_exp(low), _exp(high)), p_wilcoxon=robust.p_value
    )  # fmt: skip


def _with_verdict(
    found: Comparison, lower_is_better: bool, threshold: float, reasons: tuple[str, ...]
) -> Comparison:
    assert found.ratio is not None and found.ci95 is not None
    verdict, why = verdict_of(found.ratio, found.ci95, lower_is_better, threshold)
    if found.p_value is None:
        why = (*why, "all ratios are equal: there is no spread to test against")
    return replace(found, verdict=verdict, reasons=(*reasons, *why))


def verdict_of(
    ratio: float, ci95: Interval, lower_is_better: bool, threshold: float
) -> tuple[Verdict, tuple[str, ...]]:
    """`better`/`worse`: the interval leaves out 1 and the ratio is at least `threshold` away. `same`: the interval lies
    within the threshold. Else `inconclusive`, with the reason.

    The threshold is a factor, 1.02 and 1/1.02, so that exchanging the sides turns the verdict round."""
    edge = 1 + threshold
    low, high = ci95
    if (low > 1 or high < 1) and not 1 / edge < ratio < edge:
        return ("worse" if (ratio > 1) == lower_is_better else "better"), ()
    if 1 / edge < low and high < edge:
        return "same", ()
    if low > 1 or high < 1:
        why = f"it differs, but whether by {100 * threshold:g} % is open"
    else:
        why = f"the interval holds both no change and one of {100 * threshold:g} %"
    return "inconclusive", (why,)
