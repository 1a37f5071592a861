"""prune_magnitude: single weights become zero. The file shrinks once it is zipped; no kernel here is quicker by it.

The zeros are in the weights themselves: nothing of the pruning is left in the module, and later steps that train
keep them (`Compressed.patterns`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from pydantic import BaseModel

from harness.compress import pruning_schedule
from harness.compress.layer_weights import LayerWeight, named
from harness.compress.patterns import ZEROS, Patterns, added
from harness.compress.pruner import Pruner, importance_data, targets
from harness.compress.pruning_params import PruneMagnitudeParams
from harness.compress.training import fixed, train
from harness.interfaces import Compressed, Technique, Workbench

STEP = "prune_magnitude"


class PruneMagnitude:
    """Weights of Linear and convolutions, never biases and norms."""

    Params: ClassVar[type[BaseModel]] = PruneMagnitudeParams
    accepts: ClassVar[frozenset[str]] = frozenset({"eager"})
    gives: ClassVar[str] = "eager"
    needs_train: ClassVar[bool] = False
    makes: ClassVar[frozenset[str]] = frozenset({"zeros"})

    @staticmethod
    def traits(params: Any) -> dict[str, Any]:
        reads = params.epochs > 0 or params.importance == "gradient"
        return {"needs_train": params.epochs > 0, "reads_data": reads, "seeded": reads,
                "epochs": params.epochs * (params.rounds if params.how == "iterative" else 1)}

    @staticmethod
    def preflight(params: Any, model: Any, bench: Workbench) -> None:
        targets(model, params, STEP)
        importance_data(params, bench, STEP)

    def apply(self, model: Compressed, params: Any, bench: Workbench) -> Compressed:
        """Raises HarnessError where nothing, or everything, would be removed."""
        module: Any = model.module
        with fixed(bench.seed, params.threads):
            weights, left = targets(module, params, STEP)
            patterns = added(model.patterns, [weight.name for weight in weights], ZEROS)
            pruner = Pruner(module, weights, params, bench, STEP)
            pruner.check()
            way = _gradually if params.how == "gradual" else _in_rounds
            trained = way(pruner, params, bench, patterns)
        notes = (*model.notes, *_notes(weights, left, params), *trained)
        return model.with_(notes=notes, patterns=patterns)


def _in_rounds(pruner: Pruner, params: Any, bench: Workbench, patterns: Patterns) -> list[str]:
    """Prunes and trains in turns; one_shot is one such round. Returns what training has to say.

    The limit of steps is that of all rounds together."""
    rounds = params.rounds if params.how == "iterative" else 1
    notes: list[str] = []
    for index, ratio in enumerate(pruning_schedule.in_rounds(pruner.zeros(), params.final, rounds)):
        pruner.prune(ratio)
        steps = bench.max_steps and bench.max_steps * (index + 1) // rounds - bench.max_steps * index // rounds
        if params.epochs and steps != 0:
            what = STEP if rounds == 1 else f"{STEP}, round {index + 1} at {pruner.zeros():.1%}"
            notes += train(pruner.model, replace(bench, max_steps=steps), pruner.loss, params, what, patterns=patterns)
    return notes


def _gradually(pruner: Pruner, params: Any, bench: Workbench, patterns: Patterns) -> list[str]:
    """Prunes while it trains: the patterns are read off anew each time that the ratio has risen."""
    start = pruner.zeros()

    def before_step(done: int, total: int) -> bool:
        ratio = pruning_schedule.due(done, total, start, params)
        if ratio is not None:
            pruner.prune(ratio)
        return ratio is not None

    notes = train(pruner.model, bench, pruner.loss, params, STEP, patterns=patterns, before_step=before_step)
    pruner.prune(params.final)  # changes nothing, unless train had fewer batches than it said
    return list(notes)


def _notes(weights: list[LayerWeight], left: list[LayerWeight], params: Any) -> list[str]:
    zeros, count = sum(int((w.value == 0).sum()) for w in weights), sum(w.value.numel() for w in weights)
    notes = [f"{STEP}: {zeros / count:.1%} of {count} weights in {len(weights)} layers are zero"]
    if left:
        notes.append(f"{STEP}: whole, their rows are no multiple of {params.n_m[1]}: {named(left)}")
    if empty := [weight for weight in weights if not weight.value.any()]:
        notes.append(f"{STEP}: not one weight is left in {named(empty)}")
    return notes


_: type[Technique] = PruneMagnitude
