"""prune_channels: smaller layers, hence a smaller and quicker model. Needs finetune after it to keep accuracy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, model_validator

from harness.compress import channels
from harness.compress.channel_importance import (
    FROM_DATA,
    Importance,
    importance_data,
    require_batch_norm,
    set_gradients,
)
from harness.compress.channel_target import LARGEST, Reached, at, copied, reach
from harness.compress.params import Count, Params, Share
from harness.compress.training import fixed
from harness.errors import HarnessError
from harness.interfaces import Compressed, Technique, Workbench

STEP = "prune_channels"


class PruneChannelsParams(Params):
    ratio: Annotated[Share, Field(description="share of `target` to remove")] = 0.5
    target: Annotated[
        Literal["channels", "macs", "parameters"],
        Field(description="what ratio is a share of; of macs and parameters at least that much goes"),
    ] = "channels"
    scope: Annotated[
        Literal["uniform", "global"],
        Field(description="the ratio is that of each layer, or channels of all layers are ranked together"),
    ] = "uniform"
    importance: Annotated[
        Importance,
        Field(description="which channels go: least L2 norm, least scale of batch norm, least effect on the loss to "
                          "first or to second order"),
    ] = "magnitude"
    batches: Annotated[Count, Field(description="taylor, hessian: of train (else calibration)")] = 8
    round_to: Annotated[
        int, Field(ge=1, le=1024, description="channels left are rounded down to a multiple of this, never below it; "
                                              "kernels work in eights")
    ] = 8
    ratios: Annotated[
        dict[str, Share], Field(default_factory=dict, description="layer name or glob -> its own ratio of channels")
    ]
    ignore: Annotated[list[str], Field(default_factory=list, description="layers that stay whole, by name or glob")]
    threads: Annotated[int, Field(ge=1, le=256, description="threads of this step; part of its key")] = 1

    @model_validator(mode="after")
    def _applicable(self) -> PruneChannelsParams:
        if self.importance not in FROM_DATA and self.batches != type(self).model_fields["batches"].default:
            raise ValueError(f"batches is of use only with importance: {' or '.join(FROM_DATA)}")
        return self


class PruneChannels:
    Params: ClassVar[type[BaseModel]] = PruneChannelsParams
    accepts: ClassVar[frozenset[str]] = frozenset({"eager"})
    gives: ClassVar[str] = "eager"
    needs_train: ClassVar[bool] = False

    @staticmethod
    def traits(params: Any) -> dict[str, Any]:
        reads = params.importance in FROM_DATA
        folded = {"folded": "importance: bn_scale ranks by the scales of batch norm, and none is left"}
        return {"reads_data": reads, "seeded": reads, "refuses": folded if params.importance == "bn_scale" else {}}

    @staticmethod
    def preflight(params: Any, model: Any, bench: Workbench) -> None:
        """Prunes a copy once, by weights alone: which channels go shows only later, how many and whether it can be
        done at once."""
        if params.importance in FROM_DATA:
            importance_data(bench, params.importance, STEP)
        if params.importance == "bn_scale":
            require_batch_norm(model, STEP)
        importance = "magnitude" if params.importance in FROM_DATA else params.importance
        ratio = params.ratio if params.target == "channels" else LARGEST
        with fixed(0, params.threads):
            size = _size(params, bench.example_inputs)
            _check(at(ratio, size(model), size, _slimmer(model, bench.example_inputs, params, importance)), params)

    def apply(self, model: Compressed, params: Any, bench: Workbench) -> Compressed:
        """Raises HarnessError where nothing, or less than asked, can be removed."""
        module: Any = model.module
        inputs, size = model.example_inputs, _size(params, model.example_inputs)
        with fixed(bench.seed, params.threads):
            if params.importance == "bn_scale":
                require_batch_norm(module, STEP)
            if params.importance in FROM_DATA:
                set_gradients(module, bench, params.importance, params.batches, STEP)
            find = at if params.target == "channels" else reach
            found = find(params.ratio, size(module), size, _slimmer(module, inputs, params, params.importance))
            _check(found, params)
        return model.with_(module=found.module.eval(), notes=(*model.notes, *_notes(module, found, params)))


def _slimmer(module: Any, inputs: tuple[Any, ...], params: Any, importance: str) -> Callable[[float], Any]:
    """Makes pruned copies of `module`."""

    def slimmed(ratio: float) -> Any:
        made = copied(module)
        channels.slim(made, inputs, ratio=ratio, round_to=params.round_to, ignore=params.ignore, ratios=params.ratios,
                      scope=params.scope, importance=importance, step=STEP)
        return made

    return slimmed


def _size(params: Any, inputs: tuple[Any, ...]) -> Callable[[Any], int]:
    return (lambda module: channels.macs(module, inputs, STEP)) if params.target == "macs" else channels.count


def _check(found: Reached, params: Any) -> None:
    if not found.removed:
        raise HarnessError(f"{STEP}: nothing to remove at ratio {params.ratio:g} in multiples of {params.round_to}",
                           "raise ratio, or lower round_to")
    if params.target != "channels" and found.removed < params.ratio:
        raise HarnessError(f"{STEP}: at most {found.removed:.1%} of the {params.target} can go, in multiples of "
                           f"{params.round_to} channels", "lower ratio or round_to, or ignore less")


def _notes(before: Any, found: Reached, params: Any) -> list[str]:
    notes = [f"{STEP}: {channels.count(before)} parameters, {channels.count(found.module)} left"]
    if params.target != "channels":
        notes.append(f"{STEP}: ratio {found.ratio:.4g} of the channels removed {found.removed:.1%} of the "
                     f"{params.target}, {params.ratio:.1%} asked")
    return notes


_: type[Technique] = PruneChannels
