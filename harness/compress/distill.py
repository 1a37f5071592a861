"""distill: train a smaller student to give what the baseline gives (Hinton et al. 2015, arXiv:1503.02531)."""

from __future__ import annotations

import copy
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field, model_validator

from harness.compress import channels
from harness.compress.params import Real, Share, TrainParams
from harness.compress.training import Loss, first_leaf, fixed, task_loss, train
from harness.errors import HarnessError, UserCodeError
from harness.interfaces import Compressed, Technique, Workbench
from harness.loading import first_line


class DistillParams(TrainParams):
    student: Annotated[
        Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] | None,
        Field(description="module:callable that makes the student; else the model is slimmed"),
    ] = None
    slim: Annotated[
        Share | None, Field(description="share of channels that the student has less (0.5 if neither is given)")
    ] = None
    round_to: Annotated[int, Field(ge=1, le=1024, description="a slimmed student's channels are a multiple of it")] = 8
    temperature: Annotated[Real, Field(gt=0, description="softens both models' scores")] = 4.0
    alpha: Annotated[
        Real, Field(ge=0, le=1, description="weight of the teacher's scores; the rest is the data's loss")
    ] = 0.9
    epochs: Annotated[int, Field(ge=1, le=10_000, description="passes over train")] = 10

    @model_validator(mode="after")
    def _one(self) -> DistillParams:
        if self.student is not None and self.slim is not None:
            raise ValueError("give either student or slim")
        return self


class Distill:
    Params: ClassVar[type[BaseModel]] = DistillParams
    accepts: ClassVar[frozenset[str]] = frozenset({"eager"})
    gives: ClassVar[str] = "eager"
    needs_train: ClassVar[bool] = True

    def apply(self, model: Compressed, params: Any, bench: Workbench) -> Compressed:
        with fixed(bench.seed, params.threads):
            student = _from_factory(params, bench) if params.student else _slimmed(model, params)
            teacher = copy.deepcopy(bench.teacher).to(bench.device).eval()  # the bench's own is never moved
            notes = train(student, bench, _loss(teacher, bench, params), params, "distill")
        made = f"distill: student of {channels.count(student)} parameters"
        return model.with_(module=student, notes=(*model.notes, made, *notes))


def _from_factory(params: Any, bench: Workbench) -> Any:
    import torch

    if bench.import_factory is None:
        raise HarnessError(f"distill: nothing here can import {params.student!r}")
    factory = bench.import_factory(params.student)
    try:
        student = factory()
        with torch.no_grad():
            student(*bench.example_inputs)
    except Exception as error:
        raise UserCodeError(f"distill: student {params.student!r} failed: {first_line(error)}") from error
    if not isinstance(student, torch.nn.Module):
        raise UserCodeError(f"distill: student {params.student!r} made {type(student).__name__}, not a torch.nn.Module")
    return student


def _slimmed(model: Compressed, params: Any) -> Any:
    """The model with fewer channels and new random weights (of the layers that can reset theirs)."""
    student: Any = model.module
    channels.slim(student, model.example_inputs, ratio=params.slim or 0.5, round_to=params.round_to, ignore=[],
                  step="distill")
    for layer in student.modules():
        if callable(reset := getattr(layer, "reset_parameters", None)):
            reset()
    return student


def _loss(teacher: Any, bench: Workbench, params: Any) -> Loss:
    """alpha·T²·KL(teacher ‖ student at temperature T) + (1 − alpha)·task loss; the squared difference stands in for
    KL where the first output is no distribution over classes (last dimension 1)."""
    import torch
    from torch.nn import functional

    task, heat = task_loss(bench), params.temperature

    def loss(output: Any, inputs: tuple[Any, ...], target: Any) -> Any:
        with torch.no_grad():
            wanted = first_leaf(teacher(*inputs))
        given = first_leaf(output)
        if given.shape != wanted.shape:
            raise HarnessError(f"distill: the student gives {list(given.shape)}, the teacher {list(wanted.shape)}")
        if given.dim() < 2 or given.shape[-1] == 1:
            soft = functional.mse_loss(given, wanted)
        else:
            soft = heat**2 * functional.kl_div(
                (given / heat).log_softmax(-1).flatten(0, -2), (wanted / heat).log_softmax(-1).flatten(0, -2),
                reduction="batchmean", log_target=True)
        hard = task(output, target) if params.alpha < 1 else 0.0
        return params.alpha * soft + (1 - params.alpha) * hard

    return loss


_: type[Technique] = Distill
