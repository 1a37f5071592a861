"""Many comparisons at once: who asks 20 questions at 5 % is told of one difference that is none."""

from __future__ import annotations

from collections.abc import Sequence


def q_values(p_values: Sequence[float | None]) -> list[float | None]:
    """Benjamini and Hochberg's adjusted p-values (J. R. Stat. Soc. B 57, 1995), in the order given.

    Calling those with q ≤ 0.05 different, 5 % of what is called so is expected to be none. q of the k-th smallest of
    m is the least of p · m / rank from rank k on. None (no test could be made) stays None and is not of the family."""
    order = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    found: list[float | None] = [None] * len(p_values)
    least = 1.0
    for rank in range(len(order), 0, -1):
        p, i = order[rank - 1]
        least = min(least, p * len(order) / rank)
        found[i] = least
    return found
