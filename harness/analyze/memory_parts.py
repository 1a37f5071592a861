"""What the memory of a model is made of, from the checkpoints of its memory runs. Pure.

Four parts, which add up to the fullest checkpoint behind loading (mostly the steady state):

* `model_mapped`: resident bytes of the mappings of the model's file itself. File-backed and clean: the kernel may
  drop them, and two processes share them.
* `packed_weights`: growth of anonymous memory while the method is loaded, the second copy of the weights that a
  delegate packs. With loader `file`, growth while all is loaded: the file's own content is in it.
* `arenas`: planned buffers as far as they were touched, at most what anonymous memory grew by behind loading.
* `other`: the rest. The runtime's code and data, its workspace, activations outside the plan.

What the peak is beyond them, `transient_bytes`, was held between two checkpoints only: mostly while loading, when a
delegate has both the file and what it packs of it in memory.

Planned buffers are no part of the growth while loading: the runner maps them zeroed, and they cost nothing until the
first inference touches them. How much of the runtime's own libraries counts as resident depends on what was in the
page cache before; `anonymous` does not, and so repeats better than the peak.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from harness.analyze.status import number
from harness.types import Run

PARTS = ("model_mapped", "packed_weights", "arenas", "other")
LOADED = ("method", "first", "steady")  # checkpoints at which the model is in memory
NOT_APART = "the device does not tell anonymous memory apart"
Bytes = float | str  # or why they are not known
Counters = Mapping[str, float]


def details(runs: Sequence[Run]) -> dict[str, Any]:
    """What goes into the object of `peak_memory_bytes`, each the median over the runs that know it:

    `parts` and `transient_bytes`; `anonymous`: the most anonymous memory at any checkpoint, swap included;
    `planned_arenas_bytes`: the planned buffers as planned; `loader`, `locked`: how the file came into memory."""
    every = [parts(run) for run in runs]
    return {
        "parts": {name: _over_runs([found[name] for found in every]) for name in PARTS},
        "transient_bytes": _over_runs([_transient(run) for run in runs]),
        "anonymous": _over_runs([_anonymous_peak(run) for run in runs]),
        "planned_arenas_bytes": _over_runs([_planned(run) for run in runs]),
        "loader": _said(runs, "loader"),
        "locked": _said(runs, "locked"),
    }


def anonymous(runs: Sequence[Run]) -> float | None:
    """The median over runs of their most anonymous memory, in bytes; None where no run tells it."""
    known = [value for run in runs if not isinstance(value := _anonymous_peak(run), str)]
    return statistics.median(known) if known else None


def parts(run: Run) -> dict[str, Bytes]:
    """The parts of one run."""
    phases = checkpoints(run)
    fullest = _fullest(phases)
    found: dict[str, Bytes] = {
        "model_mapped": fullest.get("model_mapped", "the runner could not read its mappings"),
        "packed_weights": _packed(run, phases),
        "arenas": _touched(run, phases, fullest),
    }
    held = _held(fullest)
    if held is None:
        return {**found, "other": "the runner told no checkpoint behind loading"}
    if isinstance(found["packed_weights"], str):
        return {**found, "other": "the weights are not told apart from it"}
    rest = held - sum(value for value in found.values() if not isinstance(value, str))
    return {**found, "other": rest if rest >= 0 else "the other parts come to more than was resident"}


def checkpoints(run: Run) -> dict[str, Counters]:
    """Phase -> its counters in bytes; what is no finite number of bytes is left out."""
    out: dict[str, Counters] = {}
    said = run.conditions.get("memory")
    for line in said if isinstance(said, list | tuple) else ():
        if isinstance(line, Mapping):
            counters = {str(k): v for k, raw in line.items() if (v := number(raw)) is not None and v >= 0}
            out[str(line.get("phase"))] = counters
    return out


def _fullest(phases: Mapping[str, Counters]) -> Counters:
    loaded = [phases[phase] for phase in LOADED if _held(phases.get(phase, {})) is not None]
    return max(loaded, key=lambda counters: _held(counters) or 0.0, default={})


def _held(counters: Counters) -> float | None:
    """Resident and swapped. (A kernel that has no swap does not tell of it.)"""
    resident = counters.get("vm_rss")
    return None if resident is None else resident + counters.get("vm_swap", 0.0)


def _anonymous(counters: Counters) -> float | None:
    """The same of anonymous memory; where the kernel does not count that, the pages that were written."""
    if (resident := counters.get("rss_anon")) is not None:
        return resident + counters.get("vm_swap", 0.0)
    return counters.get("private_dirty")


def _anonymous_peak(run: Run) -> Bytes:
    known = [v for counters in checkpoints(run).values() if (v := _anonymous(counters)) is not None]
    return max(known) if known else NOT_APART


def _transient(run: Run) -> Bytes:
    phases = checkpoints(run)
    peak, held = phases.get("peak", {}).get("peak_bytes"), _held(_fullest(phases))
    return "the runner did not tell" if peak is None or held is None else max(0.0, peak - held)


def _packed(run: Run, phases: Mapping[str, Counters]) -> Bytes:
    before = "start" if _runner(run).get("loader") == "file" else "program"
    one, two = _anonymous(phases.get(before, {})), _anonymous(phases.get("method", {}))
    if one is None or two is None:
        return NOT_APART
    return two - one if two >= one else "anonymous memory shrank while the method was loaded"


def _touched(run: Run, phases: Mapping[str, Counters], fullest: Counters) -> Bytes:
    planned, loaded, grown = _planned(run), _anonymous(phases.get("method", {})), _anonymous(fullest)
    if isinstance(planned, str) or loaded is None or grown is None:
        return planned
    return min(planned, max(0.0, grown - loaded))


def _planned(run: Run) -> Bytes:
    load = run.conditions.get("load")
    planned = number(load.get("arenas_bytes")) if isinstance(load, Mapping) else None
    return "this runtime plans no buffers" if planned is None or planned < 0 else planned


def _runner(run: Run) -> Mapping[str, Any]:
    said = run.conditions.get("runner")
    return said if isinstance(said, Mapping) else {}


def _said(runs: Sequence[Run], key: str) -> Any:
    said = [value for run in runs if isinstance(value := _runner(run).get(key), str)]
    return Counter(said).most_common(1)[0][0][:40] if said else {"absent": "the runner did not tell"}


def _over_runs(values: Sequence[Bytes]) -> Any:
    """Median in whole bytes of the runs that know it, else absent with the reason that most give."""
    known = [value for value in values if not isinstance(value, str)]
    if known:
        return round(statistics.median(known))
    reasons = Counter(value for value in values if isinstance(value, str)).most_common(1)
    return {"absent": reasons[0][0] if reasons else "not measured"}
