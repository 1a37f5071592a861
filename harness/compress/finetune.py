"""finetune: train the model a little more, usually to recover what the step before has cost."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel

from harness.compress.params import TrainParams
from harness.compress.training import fixed, task_loss, train
from harness.interfaces import Compressed, Technique, Workbench


class Finetune:
    """Trains on `train` with the data's loss (cross entropy where it has none)."""

    Params: ClassVar[type[BaseModel]] = TrainParams
    accepts: ClassVar[frozenset[str]] = frozenset({"eager"})
    gives: ClassVar[str] = "eager"
    needs_train: ClassVar[bool] = True

    def apply(self, model: Compressed, params: Any, bench: Workbench) -> Compressed:
        loss = task_loss(bench)
        module: Any = model.module
        with fixed(bench.seed, params.threads):
            notes = train(module, bench, lambda output, inputs, target: loss(output, target), params, "finetune",
                          patterns=model.patterns)
        return model.with_(module=module, notes=(*model.notes, *notes))


_: type[Technique] = Finetune
