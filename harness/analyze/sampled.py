"""The task metric of two releases: on the same samples paired, else by the two intervals. Pure."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from harness.analyze.counterparts import There
from harness.analyze.digest import CellDigest, Floats, Known
from harness.analyze.intervals import Z95, Interval, difference_of, paired_difference
from harness.analyze.judgement import NO_RATIO, Judgement, ratio_of
from harness.analyze.paired import verdict_of
from harness.analyze.significance import paired_p_value

_Z80 = 0.8416212335729143  # the normal distribution's 80 % quantile: of the minimum detectable effect


def sampled(
    base: There, head: There, known: tuple[Known, Known], *, same_inputs: bool, lower_is_better: bool, threshold: float
) -> Judgement:
    """`known`: the figures of both; `same_inputs`: both were scored on the same samples in the same order.

    The interval of head - base becomes one of the ratio by (base + difference) / base."""
    one, two = known
    assert one.value is not None and two.value is not None
    found = Judgement(outcome="inconclusive", design="unpaired", base=one.value, head=two.value)
    # relative to the base's size: a metric may be 0 (everything wrong), or negative (a log-likelihood)
    scale = abs(one.value) or 1.0
    ratio, change = ratio_of(one.value, two.value), 1 + (two.value - one.value) / scale
    scores = (base.found.samples, head.found.samples)
    why_apart = _why_apart(base, head, *scores, same_inputs)
    if _same_file(base.found, head.found) and one.value == two.value and np.array_equal(*scores):
        reason = "the same file and the same scores"
        return replace(found, outcome="same", design="exact", ratio=1.0, n=scores[0].size, reasons=(reason,))
    p_value: float | None
    if why_apart is None:
        # around the metric's own value, which need not be the mean of its scores
        shift = (two.value - one.value) - float(scores[1].mean() - scores[0].mean())
        found = replace(found, design="samples", n=int(scores[0].size))
        difference = _shifted(paired_difference(scores[1], scores[0]), shift, two.value - one.value)
        p_value = paired_p_value(scores[0], scores[1])
    else:
        difference = _of_intervals(two, one)
        p_value = None if difference is None else _p_value(two.value - one.value, difference)
    if difference is None:
        return replace(found, ratio=ratio, reasons=(f"{why_apart or 'one sample'}: there is no interval",))
    low, high = 1 + difference[0] / scale, 1 + difference[1] / scale
    outcome, why = verdict_of(change, (low, high), lower_is_better, threshold)
    if ratio is None:
        why = (*why, NO_RATIO)
    return replace(
        found, outcome=outcome, ratio=ratio, ci95=(low, high) if ratio is not None else None, p_value=p_value,
        minimum_detectable=(Z95 + _Z80) * (high - low) / (2 * Z95),
        reasons=(*why, *((f"not paired by sample: {why_apart}",) if why_apart else ())),
    )  # fmt: skip


def _same_file(base: CellDigest, head: CellDigest) -> bool:
    return base.artifact_sha256 is not None and base.artifact_sha256 == head.artifact_sha256


def _why_apart(base: There, head: There, one: Floats, two: Floats, same_inputs: bool) -> str | None:
    if base.trainings > 1 or head.trainings > 1:
        return "the figure is the mean of several trainings"
    if not one.size or not two.size:
        return "the metric gives no score per sample"
    if not (np.isfinite(one).all() and np.isfinite(two).all()):
        return "a score is not finite"
    if not same_inputs:
        return "the inputs are not known to be the same"
    return None if one.size == two.size else f"{one.size} and {two.size} samples"


def _shifted(interval: Interval | None, shift: float, centre: float) -> Interval | None:
    if interval is None:
        return None
    return min(interval[0] + shift, centre), max(interval[1] + shift, centre)


def _of_intervals(two: Known, one: Known) -> Interval | None:
    if None in (one.value, one.low, one.high, two.value, two.low, two.high):
        return None
    assert one.value is not None and one.low is not None and one.high is not None
    assert two.value is not None and two.low is not None and two.high is not None
    return difference_of(two.value, (two.low, two.high), one.value, (one.low, one.high))


def _p_value(centre: float, interval: Interval) -> float | None:
    """Of the normal distribution that has this 95 % interval."""
    from scipy.special import ndtr

    error = (interval[1] - interval[0]) / (2 * Z95)
    return 2 * float(ndtr(-abs(centre) / error)) if error > 0 and math.isfinite(error) else None
