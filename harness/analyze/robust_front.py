"""One front over several devices: what is good everywhere, for who ships one file to all of them.

A variant is a point with, per objective, its worst ratio to the best of each place (device and input case), by the
rule of the robust pick (places.py); only what is ranked at every place is a point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.analyze import pareto
from harness.analyze.draws import Raw
from harness.analyze.figure import Figure, figure
from harness.analyze.places import Place, Result, by_name, cell_over, labels, worst_ratio
from harness.analyze.places import places as places_of
from harness.analyze.ties import Standing, standing_of

NO_PROBABILITY = "an objective has no interval"


def robust_front(
    results: Sequence[Result], raw: Sequence[Raw], ranked: Sequence[int], objectives: Sequence[str]
) -> list[dict[str, Any]]:
    """Entries as the front has them, with device `*`; the first objective's least ratio first.

    `ranked`: indices of results that are ranked on their device. `objectives`: what every device has. Empty where
    there is one device, and where nothing is ranked at every place."""
    places = places_of(results)
    named = {name: at for name, at in by_name(results, ranked).items() if len(at) == len(places)}
    if len({place[0] for place in places}) < 2 or not named or not objectives:
        return []
    at = list(named.values())
    tables = {place: [[_figure(results[own[place]], o) for o in objectives] for own in at] for place in places}
    points = np.stack([
        worst_ratio(np.array([[_least(tables[p][v][k]) for p in places] for v in range(len(at))])[:, :, None])[:, 0]
        for k in range(len(objectives))
    ])  # fmt: skip
    on = pareto.front(points.T)
    found = _standing(tables, objectives, at, places, raw, on)
    cells = [cell_over(results, own) for own in at]
    said = labels(cells)
    entries = []
    for i in sorted(on, key=lambda i: points[:, i].tolist()):
        chance = found.on[i]
        entries.append(cells[i] | {
            "probability": {"absent": NO_PROBABILITY} if chance is None else chance,
            "tied_with": [said[k] for k in found.tied.get(i, ())],
        })  # fmt: skip
    return entries


def _figure(result: Result, objective: str) -> Figure:
    found = figure(result, objective)
    assert isinstance(found, Figure), "what is ranked has every objective"
    return found


def _least(found: Figure) -> float:
    return found.oriented(found.value)


def _standing(
    tables: Mapping[Place, Sequence[Sequence[Figure]]], objectives: Sequence[str], at: Sequence[Mapping[Place, int]],
    places: Sequence[Place], raw: Sequence[Raw], on: Sequence[int],
) -> Standing:  # fmt: skip
    if len(at) == 1:
        return Standing(on=dict.fromkeys(on, 1.0))
    if not all(pareto.known(table) for table in tables.values()):
        return Standing(on=dict.fromkeys(on))
    count = pareto.draws_for(len(on), len(at), len(objectives))
    drawn = np.stack(
        [pareto.drawn(tables[p], objectives, [raw[own[p]] for own in at], count, s) for s, p in enumerate(places)]
    )  # (places, objectives, variants, draws)
    return standing_of(np.stack([worst_ratio(drawn[:, k].swapaxes(0, 1)) for k in range(len(objectives))]), on)
