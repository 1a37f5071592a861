"""One line of the table: a claim, what it promises, what came out, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Row:
    """`error`: standard error of `measured` from the number of trials alone. `held` None: shown beside, no claim."""

    point: int
    claim: str
    target: str
    measured: str
    trials: int
    error: str
    held: bool | None


def share(
    point: int, claim: str, hits: int, trials: int, least: float = 0.0, most: float = 1.0, *, short: bool = False
) -> Row:
    """A share of the trials that is promised to lie in [least, most].

    A short form has too few trials to confirm that: it refutes what is more than 4 standard errors outside."""
    found, error = hits / trials, _error(hits, trials)
    slack = 4 * error if short else 0.0
    bounds = ([f">= {least:.0%}"] if least > 0 else []) + ([f"<= {most:.0%}"] if most < 1 else [])
    target = "all" if least >= 1 else ", ".join(bounds)
    return Row(
        point=point, claim=claim, target=target, measured=f"{found:.1%}", trials=trials, error=f"{error:.1%}",
        held=least - slack <= found <= most + slack,
    )  # fmt: skip


def beside(point: int, claim: str, hits: int, trials: int) -> Row:
    """A share that nothing is promised of: what other designs would have given."""
    found, error = hits / trials, _error(hits, trials)
    return Row(
        point=point, claim=claim, target="", measured=f"{found:.1%}", trials=trials, error=f"{error:.1%}", held=None
    )


def _error(hits: int, trials: int) -> float:
    """Standard error of a share, after Agresti and Coull (1998): not 0 where all of a few trials came out alike."""
    p = (hits + 2) / (trials + 4)
    return math.sqrt(p * (1 - p) / (trials + 4))


def table(rows: Sequence[Row]) -> str:
    """As text, one line each."""
    said = {None: "(beside)", True: "yes", False: "NO"}
    heads = ("", "claim", "target", "measured", "trials", "MC error", "held")
    lines = [
        heads,
        *((str(r.point), r.claim, r.target, r.measured, f"{r.trials:,}", r.error, said[r.held]) for r in rows),
    ]
    widths = [max(len(line[c]) for line in lines) for c in range(len(heads))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)
