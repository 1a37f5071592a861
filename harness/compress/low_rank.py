"""low_rank: a layer's weight matrix as the product of two thinner ones, by singular value decomposition.

A Linear becomes two. A convolution's kernel is unfolded to a matrix O x (I·k·k): it becomes a convolution of the
same kernel to r channels, then one of kernel 1 (Zhang et al., Accelerating Very Deep Convolutional Networks, 2016).
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field, model_validator

from harness.compress.outputs import named_layers
from harness.compress.params import Count, Params, Real
from harness.compress.training import fixed
from harness.errors import HarnessError
from harness.interfaces import Compressed, Technique, Workbench


class LowRankParams(Params):
    energy: Annotated[
        Annotated[Real, Field(gt=0, le=1)] | None,
        Field(description="smallest rank with this share of the squared singular values (0.8 if none is given)"),
    ] = None
    rank: Annotated[Count | None, Field(description="this rank in every layer")] = None
    ratio: Annotated[Annotated[Real, Field(gt=0, lt=1)] | None, Field(description="this share of the full rank")] = None
    ignore: Annotated[list[str], Field(default_factory=list, description="layers to leave as they are")]
    threads: Annotated[int, Field(ge=1, le=256, description="threads of this step; part of its key")] = 1

    @model_validator(mode="after")
    def _one(self) -> LowRankParams:
        if sum(value is not None for value in (self.energy, self.rank, self.ratio)) > 1:
            raise ValueError("give at most one of energy, rank, ratio")
        return self


class LowRank:
    Params: ClassVar[type[BaseModel]] = LowRankParams
    accepts: ClassVar[frozenset[str]] = frozenset({"eager"})
    gives: ClassVar[str] = "eager"
    needs_train: ClassVar[bool] = False
    seeded: ClassVar[bool] = False
    reads_data: ClassVar[bool] = False

    def apply(self, model: Compressed, params: Any, bench: Workbench) -> Compressed:
        import torch

        module: Any = model.module
        with fixed(0, params.threads), torch.no_grad():
            ignored = {id(layer) for layer in named_layers(module, params.ignore, "low_rank")}
            split, skipped = [], []
            for name, layer in _candidates(module, model.example_inputs):
                if id(layer) in ignored:
                    continue
                found = _split(layer, params)
                if found is None:
                    skipped.append(name)
                    continue
                _replace(module, name, found)
                split.append(f"{name} rank {found[0].weight.shape[0]}")
        if not split:
            raise HarnessError("low_rank: no layer gets smaller at this rank", "lower energy, rank or ratio")
        notes = [f"low_rank: {', '.join(split)}"]
        if skipped:
            notes.append(f"low_rank: left whole, the factors would be larger: {', '.join(skipped)}")
        return model.with_(module=module.eval(), notes=(*model.notes, *notes))


def _candidates(module: Any, inputs: tuple[Any, ...]) -> list[tuple[str, Any]]:
    """Plain Linear and ungrouped convolutions that are called as layers and share their weight with nothing.

    (Attention reads `out_proj.weight` without calling the layer; a subclass may do anything with its weight.)"""
    from torch import nn

    called: set[int] = set()
    hooks = [m.register_forward_hook(lambda layer, _args, _out: called.add(id(layer))) for m in module.modules()]
    try:
        module(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    owners: dict[int, int] = {}
    for layer in module.modules():
        for parameter in layer.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return [
        (name, layer) for name, layer in module.named_modules()
        if name and type(layer) in kinds and id(layer) in called and getattr(layer, "groups", 1) == 1
        and owners[id(layer.weight)] == 1 and not hasattr(layer, "parametrizations")
    ]


def rank_for(values: Any, params: Any) -> int:
    """How many singular values (descending) to keep, at least 1."""
    full = len(values)
    if params.rank is not None:
        return min(int(params.rank), full)
    if params.ratio is not None:
        return max(1, math.floor(float(params.ratio) * full))
    share = (values.double() ** 2).cumsum(0) / (values.double() ** 2).sum().clamp_min(1e-300)
    energy = params.energy if params.energy is not None else 0.8
    return max(1, min(full, int((share < energy - 1e-12).sum()) + 1))


def _split(layer: Any, params: Any) -> tuple[Any, Any] | None:
    """The two layers, or None where they would not be smaller: r·(I·k·k + O) >= O·I·k·k."""
    import torch
    from torch import nn

    weight = layer.weight.detach()
    matrix = weight.reshape(len(weight), -1)
    u, s, v = torch.linalg.svd(matrix.float(), full_matrices=False)
    rank = rank_for(s, params)
    if rank * (matrix.shape[0] + matrix.shape[1]) >= matrix.numel():
        return None
    root = s[:rank].sqrt()
    inner, outer = root[:, None] * v[:rank], u[:, :rank] * root
    bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        first: Any = nn.Linear(layer.in_features, rank, bias=False)
        second: Any = nn.Linear(rank, layer.out_features, bias=bias)
    else:
        kind: Any = type(layer)
        first = kind(layer.in_channels, rank, layer.kernel_size, stride=layer.stride, padding=layer.padding,
                     dilation=layer.dilation, bias=False, padding_mode=layer.padding_mode)
        second = kind(rank, layer.out_channels, 1, bias=bias)
    first.weight.copy_(inner.reshape(first.weight.shape))
    second.weight.copy_(outer.reshape(second.weight.shape))
    if bias:
        second.bias.copy_(layer.bias)
    return first.to(weight.dtype), second.to(weight.dtype)


def _replace(module: Any, name: str, layers: tuple[Any, Any]) -> None:
    from torch import nn

    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, nn.Sequential(*layers))


_: type[Technique] = LowRank
