"""One metric of one cell from sessions that share no blocks: what a session differs from the next is in the interval.

Each session gives one mean logarithm a side, of times and energy that of value / reference in the same block, since
the reference was interleaved with everything else. Its squared error has these parts, added up:
- of each session what its runs leave open, s² / n, over the squared number of sessions of that side;
- between.py's tau², times 1/sessions of the base + 1/sessions of the head; where a figure is divided by the reference,
  UNSHARED times that.
Degrees of freedom by Welch and Satterthwaite: (Σ parts)² / Σ (part² / df of the part). A verdict needs the whole
interval beyond the practical threshold. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.analyze.between import Spread, Spreads
from harness.analyze.counterparts import There
from harness.analyze.intervals import Interval, t_quantile
from harness.analyze.judgement import NO_RATIO, Judgement, Outcome, percent
from harness.analyze.paired import minimum_detectable
from harness.analyze.stats import sd

ONE_RUN = "fewer than 2 runs a session: there is no spread to judge by"
#: what the device's state of the day falls on alike; peak memory does not depend on it
DIVIDED = frozenset(("latency_ms", "first_inference_ms", "load_ms", "cold_load_ms", "energy_j"))
#: both the figure and the reference have a session's effect of variance tau², and what these share cancels:
#: 2 (1 - share) tau² are left, of a share that is not known. At 1/4, pairs of releases in which nothing changed and
#: nothing is shared have something `worse` in 4 % (at 1/2: in 7 %, at 0: in 2 %), and a latency that grew by 30 %
#: is found in 85 % (100 %, 29 %) where 5 % are assumed (benchmarks/proof/releases.py)
UNSHARED = 1.5
_ROUNDING = 1e-12  # logarithms of equal ratios differ by this much
_NORMAL_DF = 1000  # Student's t is the normal distribution from there on, to three digits


@dataclass(frozen=True, kw_only=True)
class _Mean:
    """`centre`: mean logarithm of one session, or of so many; `parts`: (squared error, its degrees of freedom)."""

    centre: float
    parts: tuple[tuple[float, float], ...]
    runs: int
    sessions: int = 1


def unpaired(
    metric: str,
    base: Sequence[There],
    head: Sequence[There],
    spreads: Spreads,
    *,
    lower_is_better: bool,
    threshold: float,
) -> Judgement:
    """`base`, `head`: sessions that know the metric. Without the figures, which the caller has."""
    if not all(_positive(_blocks(there, metric).values()) for there in (*base, *head)):
        return Judgement(outcome="inconclusive", design="unpaired", reasons=(NO_RATIO,))
    raw = _why_raw(metric, base, head)
    one, two = (_side(side, metric, divided=raw is None) for side in (base, head))
    if one is None or two is None:
        names = [name for name, side in (("base", one), ("head", two)) if side is None]
        reason = f"{' and '.join(names)}: {ONE_RUN}"
        return Judgement(outcome="inconclusive", design="unpaired", reasons=(reason,))
    tau = spreads.of(base[-1].reference, head[-1].reference, metric)
    of_sessions = (1.0 if raw else UNSHARED) * tau.sd**2 * (1 / one.sessions + 1 / two.sessions)
    parts = [*one.parts, *two.parts, (of_sessions, tau.df)]
    found = _judged(two.centre - one.centre, parts, lower_is_better, threshold)
    return Judgement(
        outcome=found[0], design="unpaired", ratio=found[1], ci95=found[2], p_value=found[3],
        minimum_detectable=found[4], n=min(one.runs, two.runs),
        reasons=(*found[5], *_design(base, head, raw, tau)),
    )  # fmt: skip


def _positive(values: Iterable[float]) -> bool:
    return all(v > 0 and math.isfinite(v) for v in values)


def _blocks(there: There, metric: str) -> Mapping[int, float]:
    return there.found.metrics[metric].blocks


def _design(base: Sequence[There], head: Sequence[There], raw: str | None, tau: Spread) -> list[str]:
    reference = head[-1].reference
    name = reference.cell.variant if reference else ""
    said = [raw or f"divided by the reference {name} of the same session", str(tau)]
    if base[-1].found.artifact_sha256 == head[-1].found.artifact_sha256 is not None:
        said.insert(0, "the file is the same on both sides")
    return [reason for reason in said if reason]


def _why_raw(metric: str, base: Sequence[There], head: Sequence[There]) -> str | None:
    """Why the figures are not divided by the reference's; None where they are."""
    if metric not in DIVIDED:
        return "not divided by the reference: it is no time or energy"
    files = set()
    for there in (*base, *head):
        reference = there.reference
        if reference is None:
            return "not divided: a session has no reference of this format, threads and cpus"
        if there.is_reference:
            return "this is the reference itself: the whole device may have changed"
        if reference.status != "ok":
            return f"not divided: the reference {reference.cell.variant} is {reference.status}"
        known = reference.metrics.get(metric)
        if known is None or known.value is None or not _positive(known.blocks.values()):
            return f"not divided: the reference {reference.cell.variant} has no such figure"
        if len(known.blocks) < 2:
            return f"not divided: the reference {reference.cell.variant} was run once only"
        files.add(reference.artifact_sha256)
    if len(files) > 1 or None in files:
        return "not divided by the reference: its file changed"
    return None


def _side(side: Sequence[There], metric: str, divided: bool) -> _Mean | None:
    """The mean over the sessions that have 2 runs, which is what tells a spread; None where none has."""
    found = []
    for there in side:
        reference = there.reference.metrics[metric].blocks if divided and there.reference else None
        if one := _session(_blocks(there, metric), reference):
            found.append(one)
    if not found:
        return None
    return _Mean(
        centre=statistics.fmean(one.centre for one in found),
        parts=tuple((part / len(found) ** 2, df) for one in found for part, df in one.parts),
        runs=sum(one.runs for one in found),
        sessions=len(found),
    )


def _session(own: Mapping[int, float], reference: Mapping[int, float] | None) -> _Mean | None:
    """By block where the two share blocks, else by the difference of the means."""
    if reference is None:
        return _mean([math.log(v) for v in own.values()])
    shared = own.keys() & reference.keys()
    if len(shared) >= 2:
        return _mean([math.log(own[b]) - math.log(reference[b]) for b in sorted(shared)])
    one, two = (_mean([math.log(v) for v in values.values()]) for values in (own, reference))
    if one is None or two is None:
        return None
    return _Mean(centre=one.centre - two.centre, parts=(*one.parts, *two.parts), runs=one.runs)


def _mean(logs: Sequence[float]) -> _Mean | None:
    if len(logs) < 2:
        return None
    part = sd(logs) ** 2 / len(logs)
    return _Mean(centre=statistics.fmean(logs), parts=((part, len(logs) - 1),), runs=len(logs))


def _judged(
    centre: float, parts: Sequence[tuple[float, float]], lower_is_better: bool, threshold: float
) -> tuple[Outcome, float, Interval, float | None, float, tuple[str, ...]]:
    """(outcome, ratio, interval, p-value, minimum detectable, why); `centre` is the log-ratio."""
    total = sum(part for part, _ in parts)
    error, edge = math.sqrt(total), 1 + threshold
    ratio = _exp(centre)
    if error <= _ROUNDING:
        outcome, why = verdict_beyond(ratio, (ratio, ratio), lower_is_better, threshold)
        return outcome, ratio, (ratio, ratio), None, threshold, (*why, "no run or session differs from another")
    weight = sum(part**2 / df for part, df in parts)
    df = min(total**2 / weight if weight > 0 else math.inf, float(_NORMAL_DF))
    t = _t(df)
    ci95 = _exp(centre - t * error), _exp(centre + t * error)
    outcome, why = verdict_beyond(ratio, ci95, lower_is_better, threshold)
    detectable = (1 + minimum_detectable(error, df)) * edge - 1
    return outcome, ratio, ci95, _p_value(centre, error, df), detectable, why


def verdict_beyond(
    ratio: float, ci95: Interval, lower_is_better: bool, threshold: float
) -> tuple[Outcome, tuple[str, ...]]:
    """`worse` and `better`: the whole interval beyond the threshold; `same`: all of it within. Else the reason."""
    low, high = ci95
    edge = 1 + threshold
    if low >= edge or high <= 1 / edge:
        return ("worse" if (ratio > 1) == lower_is_better else "better"), ()
    if 1 / edge < low and high < edge:
        return "same", ()
    if low > 1 or high < 1:
        return "inconclusive", (f"it differs, but whether by {percent(threshold)} is open",)
    return "inconclusive", (f"the interval holds both no change and one of {percent(threshold)}",)


def _t(df: float) -> float:
    from scipy.special import stdtrit

    return t_quantile(int(df)) if float(df).is_integer() else float(stdtrit(df, 0.975))


def _p_value(centre: float, error: float, df: float) -> float:
    from scipy.special import stdtr

    return 2 * float(stdtr(df, -abs(centre) / error))


def _exp(value: float) -> float:
    return math.exp(max(-700.0, min(value, 700.0)))  # exp(710) overflows
