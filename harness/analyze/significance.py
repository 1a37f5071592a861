"""How surprising a difference on the same samples would be, were there none: the p-value beside a paired interval."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from harness.analyze.stats import finite


def paired_p_value(reference: ArrayLike, variant: ArrayLike) -> float | None:
    """Two-sided, for scores of the same samples in the same order.

    Scores of only 0 and 1: McNemar's test (1947) in its exact form, which is the sign test: of the samples that one
    gets right and the other wrong, each side is as likely as the other, so the smaller count is binomial (n, 1/2).
    1 where there is no such sample. Other scores: Student's paired t-test. None for fewer than 2 samples, and where
    all differences are equal and not 0: a test against no spread says nothing.
    Raises RunnerError where scores are not finite."""
    one, two = finite(reference, "reference scores"), finite(variant, "scores")
    if np.isin(one, (0.0, 1.0)).all() and np.isin(two, (0.0, 1.0)).all():
        return _mcnemar(int((one > two).sum()), int((one < two).sum()))
    return _paired_t(one - two)


def _mcnemar(lost: int, won: int) -> float:
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(lost, won), lost + won, 0.5))) if lost + won else 1.0


def _paired_t(difference: np.ndarray) -> float | None:
    from scipy.special import stdtr

    if not difference.any():
        return 1.0
    n = difference.size
    error = float(difference.std(ddof=1)) / math.sqrt(n) if n > 1 else 0.0
    return 2 * float(stdtr(n - 1, -abs(float(difference.mean())) / error)) if error > 0 else None
