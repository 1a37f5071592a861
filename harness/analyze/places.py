"""Results over several places (devices, input cases): which belong together, and how they are weighed.

One thing to ship is a variant with its seed, exporter and setting. What is usable at every place is a candidate for a
choice over all of them; its worth in a metric is its worst ratio to the best at each place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Result = Mapping[str, Any]
Place = tuple[str, str, str]  # device, device_id, input
Name = tuple[Any, ...]
CELL = ("variant", "seed", "exporter", "backend", "input", "device", "device_id", "threads", "cpus", "context")
_NAME = tuple(key for key in CELL if key not in ("input", "device", "device_id", "context"))


def cell(result: Result) -> dict[str, Any]:
    """The identity keys of a result."""
    return {key: result[key] for key in CELL}


def place(result: Result) -> Place:
    return (str(result["device"]), str(result["device_id"]), str(result["input"]))


def places(results: Sequence[Result]) -> list[Place]:
    """Every place where something was to be measured, in order."""
    return sorted({place(r) for r in results if r["device"] is not None})


def by_name(results: Sequence[Result], usable: Sequence[int]) -> dict[Name, dict[Place, int]]:
    """What can be shipped -> its result's index at each place, in an order that does not hang on the results'."""
    at: dict[Name, dict[Place, int]] = {}
    for i in usable:
        at.setdefault(tuple(results[i][k] for k in _NAME), {})[place(results[i])] = i
    return dict(sorted(at.items(), key=lambda item: [str(part) for part in item[0]]))


def cell_over(results: Sequence[Result], at: Mapping[Place, int]) -> dict[str, Any]:
    """The cell of what lies `at` these places; `*` for the device, and for the input case, where there are several."""
    everywhere = sorted(at)
    own = cell(results[at[everywhere[0]]])
    if len({p[:2] for p in everywhere}) > 1:
        own["device"] = own["device_id"] = "*"
        if len({results[i]["context"] for i in at.values()}) > 1:
            own["context"] = "*"
    if len({p[2] for p in everywhere}) > 1:
        own["input"] = "*"
    return own


def worst_ratio(values: Floats, feasible: NDArray[np.bool_] | None = None) -> Floats:
    """(candidates, draws): the worst over places of value to best feasible value; infinite where not feasible.

    `values` (candidates, places, draws), less is better. Where all have one sign the logarithm of the ratio is
    taken, else the difference."""
    if (values > 0).all():
        values = np.log(values)
    elif (values < 0).all():
        values = -np.log(-values)
    if feasible is None:
        plain: Floats = (values - values.min(axis=0)).max(axis=1)
        return plain
    masked = np.where(feasible[:, None, :], values, np.inf)
    with np.errstate(invalid="ignore"):
        worst: Floats = (masked - masked.min(axis=0)).max(axis=1)
    return np.where(feasible, worst, np.inf)


def labels(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """The variants' names, each with what tells it from the others where a name is there twice:
    `int8 (executorch, 2 threads)`."""
    twins: dict[str, list[Mapping[str, Any]]] = {}
    for own in cells:
        twins.setdefault(str(own["variant"]), []).append(own)
    return [_label(own, twins[str(own["variant"])]) for own in cells]


def _label(own: Mapping[str, Any], twins: Sequence[Mapping[str, Any]]) -> str:
    words = {"threads": f"{own['threads']} threads", "seed": f"seed {own['seed']}"}
    differing = [k for k in CELL if k != "variant" and any(other[k] != own[k] for other in twins)]
    told = ", ".join(words.get(k, str(own[k])) for k in differing)
    return f"{own['variant']} ({told})" if told else str(own["variant"])
