"""prune_channels: smaller layers, hence a smaller and quicker model. Needs finetune after it to keep accuracy."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field

from harness.compress import channels
from harness.compress.params import Params, Share
from harness.compress.training import fixed
from harness.errors import HarnessError
from harness.interfaces import Compressed, Technique, Workbench


class PruneChannelsParams(Params):
    ratio: Annotated[Share, Field(description="share of each layer's channels to remove")] = 0.5
    round_to: Annotated[
        int, Field(ge=1, le=1024, description="channels left are a multiple of this; kernels work in eights")
    ] = 8
    ignore: Annotated[list[str], Field(default_factory=list, description="layers that stay whole, by their names")]
    threads: Annotated[int, Field(ge=1, le=256, description="threads of this step; part of its key")] = 1


class PruneChannels:
    Params: ClassVar[type[BaseModel]] = PruneChannelsParams
    accepts: ClassVar[frozenset[str]] = frozenset({"eager"})
    gives: ClassVar[str] = "eager"
    needs_train: ClassVar[bool] = False
    seeded: ClassVar[bool] = False
    reads_data: ClassVar[bool] = False

    def apply(self, model: Compressed, params: Any, bench: Workbench) -> Compressed:
        module: Any = model.module
        with fixed(0, params.threads):
            before = channels.count(module)
            gone = channels.slim(module, model.example_inputs, ratio=params.ratio, round_to=params.round_to,
                                 ignore=params.ignore, step="prune_channels")
        if not gone:
            raise HarnessError(f"prune_channels: nothing to remove at ratio {params.ratio:g} in multiples of "
                               f"{params.round_to}", "raise ratio, or lower round_to")
        note = f"prune_channels: {before} parameters, {before - gone} left"
        return model.with_(module=module.eval(), notes=(*model.notes, note))


_: type[Technique] = PruneChannels
