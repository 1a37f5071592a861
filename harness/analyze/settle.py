"""What further measuring would make a pick as sure as its rule asks for: the remedy beside the doubt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from harness.analyze.constraints import Judged
from harness.analyze.figure import Figure, figure
from harness.analyze.odds import Candidate, Odds
from harness.analyze.places import Name, Result, cell_over, labels

#: more than that nobody measures
MOST = 1000
#: before so many repeats nobody says that two are as good as equal: a lead comes and goes
FEWEST = 50
#: rivals whose share of the doubt is less than this part of the largest one's are not named
NAMED = 0.5
_LEADS = 0.55  # printed medians and runs paired by block may favour different ones


def settle(
    best: Candidate, candidates: Sequence[Candidate], found: Odds | None, results: Sequence[Result], minimize: str,
    confidence: float,
) -> str | None:  # fmt: skip
    """None where the pick is as sure as that already. Else the remedy for what costs most: a constraint of its own that
    only probably holds, one of a rival that may hold as well, or rivals that may be better."""
    if found is None:
        return f"without an interval of {minimize} nobody knows: at least 2 repeats of each"
    if found.best >= confidence:
        return None
    said = dict(zip((c.name for c in candidates), labels([cell_over(results, c.at) for c in candidates]), strict=True))
    open_ = [c for c in candidates if all(j.outcome != "fails" for j in c.everything)]
    rivals = {c.name: c for c in open_ if found.rivals.get(c.name, 0.0) > 0}
    worst = max(rivals, key=lambda name: found.rivals[name], default=None)
    if worst is None or 1 - found.fits >= found.rivals[worst]:
        return _own(best, said[best.name], results, confidence)
    doubted = [j for j in rivals[worst].everything if j.outcome == "undecided"]
    if doubted:
        hardest = min(doubted, key=lambda j: abs((j.probability or 0.0) - 0.5))
        return f"{said[worst]}, {hardest.constraint}: {hardest.needs}"
    close = [
        c for name, c in rivals.items()
        if found.rivals[name] >= NAMED * found.rivals[worst] and all(j.outcome == "holds" for j in c.everything)
    ]  # fmt: skip
    close.sort(key=lambda c: -found.rivals[c.name])
    return _apart(best, close[:3], found, said, confidence)


def _own(best: Candidate, name: str, results: Sequence[Result], confidence: float) -> str | None:
    """The pick's own least sure constraint, to be surer by half of the doubt that the rule allows."""
    asked: list[tuple[float, int, Judged]] = []
    for place, judged in best.judged.items():
        asked += [(j.probability or 0.0, best.at[place], j) for j in judged]
    if not asked:
        return None
    chance, i, judged_ = min(asked, key=lambda item: item[0])
    found = figure(results[i], judged_.constraint.metric)
    if not isinstance(found, Figure) or found.samples is None:
        return f"{name}, {judged_.constraint}: only a narrower interval would make it surer"
    wanted = found.samples * times(chance, (1 + confidence) / 2)
    return f"about {_more(wanted, found.samples):,} {found.counted} of {name} would make {judged_.constraint} surer"


def _apart(
    best: Candidate, close: Sequence[Candidate], found: Odds, said: Mapping[Name, str], confidence: float
) -> str:
    """How often the pick and those close to it must be measured, for its lead to be sure or gone."""
    everyone = [best, *close]
    figures = [f for c in everyone for f in c.figures.values()]
    have = min((f.samples for f in figures if f.samples is not None), default=None)
    names = [said[c.name] for c in everyone]
    told = f"{', '.join(names[:-1])} and {names[-1]}"
    if have is None:
        return f"{told} cannot be told apart by what was measured, and more of it would not help"
    counted = figures[0].counted
    wanted = max(have * times(max(p, 1 - p), confidence) for p in (found.ahead[c.name] for c in close))
    if wanted > MOST and have >= FEWEST:
        return f"{told} are as good as equal: no reasonable number of {counted} tells them apart"
    if wanted > MOST:
        return f"at least {2 * have} {counted} of {told}: none of them leads so far"
    first = min(close, key=lambda c: found.ahead[c.name])
    behind = 1 - found.ahead[first.name]
    leads = f" (run against run, {said[first.name]} leads so far: {behind:.0%})" if behind > _LEADS else ""
    return f"about {_more(wanted, have):,} {counted} of {told} would tell them apart{leads}"


def times(chance: float, wanted: float) -> float:
    """How many times as much makes a probability of `chance` one of `wanted`: a standard error shrinks as 1/√n."""
    from scipy.special import ndtri

    far = float(ndtri(min(chance, 1 - 1e-9)))
    return math.inf if far <= 0 else (float(ndtri(wanted)) / far) ** 2


def _more(wanted: float, have: int) -> int:
    return max(have + 1, math.ceil(min(wanted, 1e9)))
