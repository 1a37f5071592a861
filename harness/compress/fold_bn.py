"""fold_bn: batch norms become part of the layers before them. Exporters do it anyway; steps behind this one then see
the weights that will run (clusters that no fold multiplies, channels that can be equalized)."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

from pydantic import BaseModel

from harness.compress.folding import SCALES_CHANNELS, fold_batch_norms
from harness.compress.params import Params
from harness.compress.pt2e import check_exportable
from harness.errors import HarnessError
from harness.interfaces import Compressed, Technique, Workbench

STEP = "fold_bn"


class FoldBnParams(Params):
    pass


class FoldBn:
    """Changes nothing that the model computes. Batch norms behind a layer that is called twice, or whose output
    something else reads too, are left, and named in a note."""

    Params: ClassVar[type[BaseModel]] = FoldBnParams
    accepts: ClassVar[frozenset[str]] = frozenset({"eager"})
    gives: ClassVar[str] = "eager"
    needs_train: ClassVar[bool] = False
    seeded: ClassVar[bool] = False
    reads_data: ClassVar[bool] = False
    makes: ClassVar[frozenset[str]] = frozenset({"folded"})
    refuses: ClassVar[dict[str, str]] = SCALES_CHANNELS

    @staticmethod
    def preflight(params: Any, model: Any, bench: Workbench) -> None:
        folded(copy.deepcopy(model), bench.example_inputs)

    def apply(self, model: Compressed, params: Any, bench: Workbench) -> Compressed:
        """Raises HarnessError where there is no batch norm to fold, or the model cannot be exported."""
        module: Any = model.module
        notes = folded(module.eval(), model.example_inputs)
        return model.with_(module=module, notes=(*model.notes, *notes))


def folded(module: Any, inputs: tuple[Any, ...]) -> tuple[str, ...]:
    """Folds in place; notes of what was folded and what was left. Raises HarnessError where nothing was."""
    from torch import nn

    done = fold_batch_norms(module, check_exportable(module, inputs, STEP))
    left = [name for name, part in module.named_modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    if not done:
        raise HarnessError(f"{STEP}: no batch norm can be folded" + (f" ({', '.join(left)})" if left else ""),
                           "leave the step out: the model has none, or none behind a layer of its own")
    notes = [f"{STEP}: {len(done)} batch norms folded"]
    return (*notes, f"{STEP}: left, what they follow is not theirs alone: {', '.join(left)}") if left else (*notes,)


_: type[Technique] = FoldBn
