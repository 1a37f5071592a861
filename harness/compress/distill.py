"""distill: train a smaller student to give what the baseline gives (Hinton et al. 2015, arXiv:1503.02531)."""

from __future__ import annotations

import copy
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, model_validator

from harness.compress import channels
from harness.compress.distillation import Hints, soft_loss
from harness.compress.outputs import layer_names
from harness.compress.params import FACTORY, Real, Share, TrainParams
from harness.compress.training import fixed, task_loss, train
from harness.errors import HarnessError, UserCodeError
from harness.interfaces import Compressed, Technique, Workbench
from harness.loading import first_line


class DistillParams(TrainParams):
    student: Annotated[
        Annotated[str, Field(pattern=FACTORY)] | None,
        Field(description="module:callable that makes the student; else the model is slimmed"),
    ] = None
    slim: Annotated[
        Share | None, Field(description="share of channels that the student has less (0.5 if neither is given)")
    ] = None
    start: Annotated[
        Literal["fresh", "kept"],
        Field(description="a slimmed student begins with new random weights, or with those of the channels kept"),
    ] = "fresh"
    round_to: Annotated[int, Field(ge=1, le=1024, description="a slimmed student's channels are a multiple of it")] = 8
    temperature: Annotated[Real, Field(gt=0, description="softens both models' scores")] = 4.0
    alpha: Annotated[
        Real, Field(ge=0, le=1, description="weight of the teacher's scores; the rest is the data's loss")
    ] = 0.9
    hints: Annotated[
        dict[str, str],
        Field(default_factory=dict, description="student layer -> baseline layer whose features it is to give"),
    ]
    hint_weight: Annotated[Real, Field(gt=0, description="weight of the hints' loss, beside the others")] = 1.0
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

    refuses: ClassVar[dict[str, str]] = {
        "zeros": "the student's weights are its own, the zeros would be lost",
        "values": "the student's weights are its own, the shared values would be lost",
    }

    @staticmethod
    def traits(params: Any) -> dict[str, Any]:
        return {"renames": params.student is not None}

    @staticmethod
    def preflight(params: Any, model: Any, bench: Workbench) -> None:
        layer_names(model, params.hints.values(), "distill")
        if params.student:
            layer_names(_from_factory(params, bench), params.hints, "distill")

    def apply(self, model: Compressed, params: Any, bench: Workbench) -> Compressed:
        with fixed(bench.seed, params.threads):
            student = _from_factory(params, bench) if params.student else _slimmed(model, params)
            layer_names(student, params.hints, "distill")
            teacher = copy.deepcopy(bench.teacher).to(bench.device).eval()  # the bench's own is never moved
            notes = _taught(student, teacher, params, bench)
        made = f"distill: student of {channels.count(student)} parameters"
        return model.with_(module=student, notes=(*model.notes, made, *notes), patterns={})


def _taught(student: Any, teacher: Any, params: Any, bench: Workbench) -> tuple[str, ...]:
    """Trains by alpha·soft + (1 − alpha)·task loss, and the hints' loss where there are hints."""
    import torch

    task, soft = task_loss(bench), soft_loss(teacher, params.temperature, "distill")
    example = tuple(t.to(bench.device) for t in bench.example_inputs)
    hints = Hints(student.to(bench.device), teacher, params.hints, example) if params.hints else None
    parts = torch.nn.ModuleList([student, *([hints.maps] if hints else [])])
    parts.forward = student.forward  # the maps learn too, and the student alone is called

    def loss(output: Any, inputs: tuple[Any, ...], target: Any) -> Any:
        value = params.alpha * soft(output, inputs)
        if params.alpha < 1:
            value = value + (1 - params.alpha) * task(output, target)
        return value if hints is None else value + params.hint_weight * hints.loss()

    try:
        return train(parts, bench, loss, params, "distill")
    finally:
        if hints is not None:
            hints.close()


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
    """The model with fewer channels; its weights, or new random ones (of the layers that can reset theirs)."""
    student: Any = model.module
    channels.slim(student, model.example_inputs, ratio=params.slim or 0.5, round_to=params.round_to, ignore=[],
                  step="distill")
    if params.start == "kept":
        return student
    for layer in student.modules():
        if callable(reset := getattr(layer, "reset_parameters", None)):
            reset()
    return student


_: type[Technique] = Distill
