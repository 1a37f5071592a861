"""How the share of zeros rises when a model is pruned bit by bit."""

from __future__ import annotations

from typing import Any


def in_rounds(start: float, final: float, rounds: int) -> list[float]:
    """The ratio after each round; each removes the same share of what the one before it has left. `start`: the share
    of zeros before the first."""
    start = min(start, final)
    kept = (1 - final) / (1 - start)
    return [1 - (1 - start) * kept ** (done / rounds) for done in range(1, rounds)] + [final]


def due(done: int, total: int, start: float, params: Any) -> float | None:
    """The ratio to prune to before step `done` of `total`; None where this step changes nothing.

    s(t) = s_f + (s_i - s_f)·(1 - (t - t_0) / (n·Δt))^power, with power 3 as in Zhu & Gupta, To prune, or not to prune
    (2017), equation 1: from `start` at t_0 = begin·total to `final` after ramp·total steps, every Δt steps. A constant
    curve has `final` from t_0 on. The last pruning comes before the last step, so that this is a step with its mask."""
    start = min(start, params.final)
    first = min(int(params.begin * total), total - 1)
    last = first if params.curve == "constant" else min(first + int(params.ramp * total), total - 1)
    if done == last:
        return float(params.final)
    if not first < done < last or (done - first) % params.every:
        return None
    left = 1 - (done - first) / (last - first)
    return float(params.final + (start - params.final) * left**params.power)
