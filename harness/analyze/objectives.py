"""Which results of a device are ranked, and by which objectives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analyze.figure import Figure, figure

Result = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Of one device: indices into the results that are ranked, their figures by objective, the objectives that no
    result has (with the commonest reason), and why each result that is ok is not ranked."""

    objectives: tuple[str, ...]
    ranked: tuple[int, ...]
    figures: tuple[tuple[Figure, ...], ...]
    dropped: Mapping[str, str]
    unranked: Mapping[int, str]


def ranking(results: Sequence[Result], indices: Sequence[int], objectives: Sequence[str]) -> Ranking:
    """Ranks those of `results[indices]` that are ok and have every objective which any of them has."""
    ok = [i for i in indices if results[i]["status"] == "ok"]
    table = {i: {o: figure(results[i], o) for o in objectives} for i in ok}
    dropped: dict[str, str] = {}
    for objective in objectives:
        reasons = [f for i in ok if isinstance(f := table[i][objective], str)]
        if ok and len(reasons) == len(ok):
            dropped[objective] = Counter(reasons).most_common(1)[0][0]
    kept = tuple(o for o in objectives if o not in dropped)
    ranked, figures, unranked = [], [], {}
    for i in ok:
        found = [table[i][o] for o in kept]
        lacking = [f"{o} ({f})" for o, f in zip(kept, found, strict=True) if isinstance(f, str)]
        if lacking:
            unranked[i] = f"not ranked: no {', '.join(lacking)}"
        elif kept:
            ranked.append(i)
            figures.append(tuple(f for f in found if isinstance(f, Figure)))
    return Ranking(objectives=kept, ranked=tuple(ranked), figures=tuple(figures), dropped=dropped, unranked=unranked)
