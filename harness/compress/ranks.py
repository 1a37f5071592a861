"""Which rank: by number, as a share of the full one, by explained energy, or by what validation says of it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

from harness.errors import HarnessError

ENERGY = 0.8  # where nothing is asked
PERCENT = 100  # energies tried by validation are whole percents


def rank_for(values: Any, asked: Any) -> int:
    """How many singular values (descending) to keep, at least 1. `asked` has energy, rank and ratio, one or none of
    them not None."""
    full = len(values)
    if asked.rank is not None:
        return min(int(asked.rank), full)
    if asked.ratio is not None:
        return max(1, math.floor(float(asked.ratio) * full))
    share = (values.double() ** 2).cumsum(0) / (values.double() ** 2).sum().clamp_min(1e-300)
    energy = asked.energy if asked.energy is not None else ENERGY
    return max(1, min(full, int((share < energy - 1e-12).sum()) + 1))


def smallest(low: int, high: int, enough: Callable[[int], bool]) -> int:
    """By bisection the smallest number in (low, high] that is enough; `high` is taken to be, without a look."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def within_budget(module: Any, split: Callable[[Any, float], object], evaluate: Callable[[Any], float], budget: float,
                  progress: Callable[[int, int, str], None], step: str) -> tuple[float, float]:
    """The least energy in whole percents, one for all layers, at which a copy that was `split(copy, energy)` loses at
    most `budget` of `evaluate` (more is better); and what it loses.

    By bisection, as if the loss fell with the energy: of the energy returned it is known to be within, and of the
    percent below it not to be. Raises HarnessError where 99 % lose more."""
    before, drops = evaluate(module), {PERCENT: 0.0}
    total = math.ceil(math.log2(PERCENT))

    def enough(percent: int) -> bool:
        work = copy.deepcopy(module)
        split(work, percent / PERCENT)
        drops[percent] = before - evaluate(work)
        progress(len(drops) - 1, total, f"energy {percent / PERCENT:g} loses {drops[percent]:.3g}")
        return drops[percent] <= budget

    percent = smallest(0, PERCENT, enough)
    if percent == PERCENT:
        raise HarnessError(f"{step}: at energy 0.99 validation loses {drops[PERCENT - 1]:.3g}, more than the budget of "
                           f"{budget:g}", "raise budget, or name sensitive layers in `ignore`")
    return percent / PERCENT, drops[percent]
