"""What the steps' parameters share: strict models, and the options of training."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


#: a float that may be written without a point (strict mode would refuse `lr: 1`)
Real = Annotated[float, BeforeValidator(_number)]
FACTORY = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"
Share = Annotated[Real, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class TrainParams(Params):
    epochs: Annotated[int, Field(ge=1, le=10_000, description="passes over train")] = 2
    lr: Annotated[Real, Field(gt=0, description="learning rate at the start")] = 1e-3
    optimizer: Annotated[Literal["sgd", "adam", "adamw"], Field(description="sgd has momentum 0.9")] = "adamw"
    schedule: Annotated[
        Literal["constant", "cosine"], Field(description="lr over the steps; cosine ends at 0")
    ] = "cosine"
    weight_decay: Annotated[Real, Field(ge=0, description="decay of the weights")] = 0.0
    patience: Annotated[
        Count | None,
        Field(description="stop after so many epochs without a better validation loss; null: never"),
    ] = None
    threads: Annotated[int, Field(ge=1, le=256, description="threads of this step; part of its key")] = 1
