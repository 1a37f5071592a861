"""Which results deserve more latency runs for the pick's sake: those that can still change it, and no others."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analyze.amount import REPEATED
from harness.analyze.constraints import Judged
from harness.analyze.odds import Candidate, Odds
from harness.analyze.places import Result
from harness.analyze.settle import FEWEST, MOST, times
from harness.types import Objective

#: rivals that are as improbable as this, of the doubt that the rule allows, are out of the race
CLEAR = 0.1


def racing(
    best: Candidate, candidates: Sequence[Candidate], found: Odds | None, results: Sequence[Result], minimize: str,
    confidence: float,
) -> tuple[int, ...]:  # fmt: skip
    """Indices of results, ascending: of the pick and of its rivals, where more latency runs would settle who is best.

    Not those of a rival that is as good as equal (more than MOST repeats would be needed), or in doubt for its accuracy
    alone; none at all where the pick is as sure as `confidence`."""
    if found is not None and found.best >= confidence:
        return ()
    repeated, clear = _repeated(minimize), CLEAR * (1 - confidence)
    if found is None:
        lacking = [c for c in candidates if any(f.low is None for f in c.figures.values())]
        return _indices(lacking) if repeated else ()
    rivals = []
    for c in candidates:
        if found.rivals.get(c.name, 0.0) <= clear:
            continue
        ahead = found.ahead[c.name]
        # where one is faster for sure, what is open is whether it fits; the pick's own printed lead may be luck
        moves = ahead < 1 - clear and (ahead > clear or c.fits())
        close = repeated and moves and not _equal(c, ahead, results, confidence)
        if close or any(map(_open, c.everything)):
            rivals.append(c)
    if not rivals and not any(_repeated(j.constraint.metric) and (j.probability or 0) < 1 for j in best.everything):
        return ()
    return _indices([best, *rivals])


def could_fit(undecided: Sequence[Candidate]) -> tuple[int, ...]:
    """Indices of results whose open constraints more latency runs would settle."""
    return _indices([c for c in undecided if any(map(_open, c.everything))])


def _open(judged: Judged) -> bool:
    return judged.outcome == "undecided" and judged.needs is not None and _repeated(judged.constraint.metric)


def _repeated(metric: str) -> bool:
    return Objective(metric=metric).key[0] in REPEATED


def _equal(rival: Candidate, ahead: float, results: Sequence[Result], confidence: float) -> bool:
    have = min(int(results[i]["repeats"]) for i in rival.at.values())
    return have >= FEWEST and have * times(max(ahead, 1 - ahead), confidence) > MOST


def _indices(candidates: Sequence[Candidate]) -> tuple[int, ...]:
    return tuple(sorted({i for c in candidates for i in c.at.values()}))
