"""Removing a share of MACs or parameters: the ratio of channels that does it, by bisection."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

STEPS = 256  # ratios tried are multiples of 1/256: finer ones move a channel only in layers wider than that
LARGEST = (STEPS - 1) / STEPS


@dataclass(frozen=True, kw_only=True)
class Reached:
    """`ratio` of the channels removed, and the share of the size that went with them."""

    module: Any
    ratio: float
    removed: float


def at(ratio: float, whole: int, size: Callable[[Any], int], slimmed: Callable[[float], Any]) -> Reached:
    """The model at this ratio of channels; `whole` is the size of the one before."""
    module = slimmed(ratio)
    return Reached(module=module, ratio=ratio, removed=1 - size(module) / whole if whole else 0.0)


def reach(share: float, whole: int, size: Callable[[Any], int], slimmed: Callable[[float], Any]) -> Reached:
    """The model of the least ratio that removes `share` of `whole`; that of the largest where none does.
    `slimmed(ratio)`: a pruned copy.

    The size never grows with the ratio, since what goes at a ratio goes at every larger one too; hence bisection."""
    low, high = 0, STEPS - 1
    best = at(LARGEST, whole, size, slimmed)
    if best.removed < share:
        return best
    while high - low > 1:
        middle = (low + high) // 2
        found = at(middle / STEPS, whole, size, slimmed)
        if found.removed >= share:
            high, best = middle, found
        else:
            low = middle
    return best


def copied(module: Any) -> Any:
    """A deep copy that has the parameters' gradients too."""
    made = copy.deepcopy(module)
    for mine, theirs in zip(made.parameters(), module.parameters(), strict=True):
        mine.grad = None if theirs.grad is None else theirs.grad.clone()
    return made
