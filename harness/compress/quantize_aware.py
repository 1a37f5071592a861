"""quantize_aware: int8 as by quantize_pt2e, but trained with the rounding in it (torchao's PT2E QAT for XNNPACK).

Batch norms are folded into their layers before, so that what is trained is exactly what will run (Krishnamoorthi,
Quantizing deep convolutional networks for efficient inference, 2018, section 3.2.2: their statistics frozen). PT2E's
own way trains a simulation of the fold that fixes eps to 1e-5 and does not come out whole where a layer is kept in
float. Dropout is off.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field

from harness.compress.folding import fold_batch_norms, layer_of
from harness.compress.params import Real, TrainParams
from harness.compress.pt2e import check_exportable, converted, exported, kept_layers, quantizer, rows
from harness.compress.training import fixed, task_loss, train
from harness.errors import HarnessError
from harness.interfaces import Compressed, Technique, Workbench
from harness.loading import first_line
from harness.quiet import quiet

STEP = "quantize_aware"
#: share of the steps in which activation ranges follow the data; then the weights settle on fixed ones
OBSERVED = 2 / 3


class QuantizeAwareParams(TrainParams):
    lr: Annotated[Real, Field(gt=0, description="learning rate at the start")] = 1e-4
    per_channel: Annotated[bool, Field(description="one weight scale per output channel")] = True
    keep: Annotated[list[str], Field(default_factory=list, description="layers that stay in float")]


class QuantizeAware:
    """Trains on `train` with the data's loss (cross entropy where it has none)."""

    Params: ClassVar[type[BaseModel]] = QuantizeAwareParams
    accepts: ClassVar[frozenset[str]] = frozenset({"eager"})
    gives: ClassVar[str] = "exported:xnnpack"
    needs_train: ClassVar[bool] = True

    @staticmethod
    def preflight(params: Any, model: Any, bench: Workbench) -> None:
        start = Compressed(module=copy.deepcopy(model), form="eager", example_inputs=bench.example_inputs)
        with quiet():
            _prepared(start, params, bench)

    def apply(self, model: Compressed, params: Any, bench: Workbench) -> Compressed:
        """Raises HarnessError where the model cannot be exported, takes no batches, or has nothing to quantize."""
        with fixed(bench.seed, params.threads):
            with quiet():
                prepared, kept, folded = _prepared(model, params, bench)
            loss, ranges = task_loss(bench), _Ranges(prepared)
            notes = train(prepared, bench, lambda output, inputs, target: loss(output, target), params, STEP,
                          patterns=model.patterns, before_step=ranges.before_step, mode=ranges.mode)
            with quiet():
                module = converted(prepared, STEP)
        notes = (f"{STEP}: {folded} batch norms folded before", *notes) if folded else notes
        notes += (f"{STEP}: kept in float: {', '.join(kept)}",) if kept else ()
        return model.with_(module=module, form=self.gives, precision="static_int8", notes=(*model.notes, *notes))


def _prepared(model: Compressed, params: Any, bench: Workbench) -> tuple[Any, list[str], int]:
    """The graph with fake quantization in it, the layers kept in float, and how many batch norms were folded.

    Raises HarnessError where the model cannot be exported, takes no batches, or cannot be prepared."""
    from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e

    module: Any = model.module
    program = check_exportable(module, model.example_inputs, STEP)
    kept = kept_layers(module, program.graph, params.keep, STEP)
    folded = fold_batch_norms(module, program)
    graph = _graph(model, bench)
    _check_folded(graph)
    try:
        return prepare_qat_pt2e(graph, quantizer(_config(params), kept)), kept, len(folded)
    except Exception as error:  # torchao fails in many ways on what it does not know
        raise HarnessError(f"{STEP}: this model cannot be prepared: {first_line(error)}",
                           "name the layers that it fails on in `keep`") from error


def _graph(model: Compressed, bench: Workbench) -> Any:
    """The exported model, which takes the batches of `bench`."""
    graph, free_batch = exported(model, free_batch=True)
    size = rows(model.example_inputs)
    if free_batch or model.dynamic_shapes is not None or size == bench.batch_size == 1:
        return graph
    raise HarnessError(f"{STEP}: the model fixes its batch at {size} and cannot be trained with {bench.batch_size}",
                       "let the batch be free (x.flatten(1) and not x.view(1, -1)), or use batches of one: "
                       "train.batch_size: 1")


def _check_folded(graph: Any) -> None:
    """PT2E would put its own simulation of a fold, in training mode, where a batch norm still follows a convolution."""
    import torch

    for node in graph.graph.nodes:
        if node.target == torch.ops.aten.batch_norm.default and "conv" in str(node.args[0].target):
            norm, before = layer_of(node), layer_of(node.args[0])
            raise HarnessError(f"{STEP}: batch norm {norm!r} cannot be folded into {before!r}: one of them is called "
                               "more than once, or is no plain layer of torch",
                               "give each call layers of its own, or use quantize_pt2e")


def _config(params: Any) -> Any:
    """XNNPACK's configuration for training, but with the range of the weights as they are at each step: its moving
    average lags behind weights that move."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import get_symmetric_quantization_config
    from torchao.quantization.pt2e import (
        FusedMovingAvgObsFakeQuantize,
        MovingAverageMinMaxObserver,
        MovingAveragePerChannelMinMaxObserver,
    )

    config = get_symmetric_quantization_config(is_per_channel=params.per_channel, is_qat=True)
    observer = MovingAveragePerChannelMinMaxObserver if params.per_channel else MovingAverageMinMaxObserver
    made = FusedMovingAvgObsFakeQuantize.with_args(observer=observer, eps=2**-12, averaging_constant=1.0)
    return dataclasses.replace(config, weight=dataclasses.replace(config.weight, observer_or_fake_quant_ctr=made))


class _Ranges:
    """When activation ranges follow the data: in training, for the first `OBSERVED` of the steps. Never in
    evaluation, so that nothing of the validation split goes into the model."""

    def __init__(self, prepared: Any) -> None:
        from torchao.quantization.pt2e import FakeQuantizeBase

        self._fakes = [m for m in prepared.modules() if isinstance(m, FakeQuantizeBase) and not m.is_symmetric_quant]
        self._follow = True

    def mode(self, model: Any, training: bool) -> None:
        for fake in self._fakes:
            fake.enable_observer(training and self._follow)

    def before_step(self, done: int, total: int) -> None:
        if self._follow and done >= max(1, OBSERVED * total):
            self._follow = False
            self.mode(None, True)


_: type[Technique] = QuantizeAware
