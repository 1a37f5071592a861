"""finetune: train the model a little more, usually to recover what the step before has cost."""

from __future__ import annotations

import copy
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field

from harness.compress.distillation import soft_loss
from harness.compress.params import FACTORY, Real, TrainParams
from harness.compress.patterns import keeper
from harness.compress.training import Loss, fixed, task_loss, train
from harness.errors import HarnessError, UserCodeError
from harness.interfaces import Compressed, Technique, Workbench
from harness.loading import first_line


class FinetuneParams(TrainParams):
    distill: Annotated[
        Real, Field(ge=0, le=1, description="weight of the baseline's scores as targets; the rest is the data's loss")
    ] = 0.0
    temperature: Annotated[Real, Field(gt=0, description="of these scores")] = 4.0
    factory: Annotated[
        Annotated[str, Field(pattern=FACTORY)] | None,
        Field(description="module:callable that trains instead: (model, data, params, seed) -> model"),
    ] = None
    kwargs: Annotated[dict[str, Any], Field(default_factory=dict, description="for that callable, in params")]


class Finetune:
    """Trains on `train` with the data's loss (cross entropy where it has none), or lets the user's own code train."""

    Params: ClassVar[type[BaseModel]] = FinetuneParams
    accepts: ClassVar[frozenset[str]] = frozenset({"eager"})
    gives: ClassVar[str] = "eager"
    needs_train: ClassVar[bool] = True

    @staticmethod
    def traits(params: Any) -> dict[str, Any]:
        return {"renames": params.factory is not None}

    @staticmethod
    def preflight(params: Any, model: Any, bench: Workbench) -> None:
        if params.factory is not None and bench.import_factory is not None:
            bench.import_factory(params.factory)

    def apply(self, model: Compressed, params: Any, bench: Workbench) -> Compressed:
        with fixed(bench.seed, params.threads):
            if params.factory is not None:
                module, notes = _by_the_user(model, params, bench)
            else:
                module = model.module
                notes = train(module, bench, _loss(params, bench), params, "finetune", patterns=model.patterns)
        return model.with_(module=module, notes=(*model.notes, *notes))


def _loss(params: Any, bench: Workbench) -> Loss:
    task = task_loss(bench)
    if not params.distill:
        return lambda output, inputs, target: task(output, target)
    teacher = copy.deepcopy(bench.teacher).to(bench.device).eval()  # the bench's own is never moved
    soft = soft_loss(teacher, params.temperature, "finetune")
    return lambda output, inputs, target: (
        params.distill * soft(output, inputs) + (1 - params.distill) * task(output, target))


def _by_the_user(model: Compressed, params: Any, bench: Workbench) -> tuple[Any, tuple[str, ...]]:
    """What the user's trainer made of the model, in eval mode on the CPU, with the patterns of earlier steps put back.

    It is given the splits of the data (never `test`) with their `loss`, and these parameters."""
    import torch

    if bench.import_factory is None:
        raise HarnessError(f"finetune: nothing here can import {params.factory!r}")
    trainer = bench.import_factory(params.factory)
    told = {key: value for key, value in params.model_dump().items() if key != "factory"} | {
        "batch_size": bench.batch_size, "max_steps": bench.max_steps, "device": bench.device}
    module: Any = model.module
    before = copy.deepcopy(module) if model.patterns else None
    try:
        found = trainer(module, dict(bench.splits), told, bench.seed)
    except HarnessError:
        raise
    except Exception as error:
        raise UserCodeError(f"finetune: trainer {params.factory!r} failed: {first_line(error)}") from error
    if not isinstance(found, torch.nn.Module):
        raise UserCodeError(f"finetune: trainer {params.factory!r} returned {type(found).__name__}, not the model",
                            "return the trained torch.nn.Module")
    found.to("cpu").eval()
    if before is not None:
        keeper(found, model.patterns, like=before)()
    return found, (f"finetune: trained by {params.factory}",)


_: type[Technique] = Finetune
