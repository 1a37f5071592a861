"""Which layers low_rank may put a chain in the place of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness.compress.outputs import named_layers, watched
from harness.errors import HarnessError


def splittable_layers(
    module: Any, inputs: tuple[Any, ...], ignore: Iterable[str], step: str
) -> list[tuple[str, Any, tuple[int, ...]]]:
    """Names and layers that can be split, and the shape of each one's (first) input: plain Linear and ungrouped
    convolutions that are called as layers and share their weight with nothing.

    (Attention reads `out_proj.weight` without calling the layer; a subclass may do anything with its weight.)
    Raises UsageError for a name in `ignore` that matches no layer, HarnessError where there is no layer to split."""
    from torch import nn

    ignored = {id(m) for layer in named_layers(module, ignore, step) for m in layer.modules()}
    shapes, owners = _input_shapes(module, inputs), _owners(module)
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    found = [
        (name, layer, shapes[layer]) for name, layer in module.named_modules()
        if name and type(layer) in kinds and layer in shapes and getattr(layer, "groups", 1) == 1
        and owners[id(layer.weight)] == 1 and not hasattr(layer, "parametrizations")
    ]
    if not found:
        raise HarnessError(f"{step}: the model has no layer that can be split: no linear layer and no ungrouped "
                           "convolution that it calls and whose weight is its own")
    left = [one for one in found if id(one[1]) not in ignored]
    if not left:
        raise HarnessError(f"{step}: no layer is left", "`ignore` names all that can be split")
    return left


def _input_shapes(module: Any, inputs: tuple[Any, ...]) -> dict[Any, tuple[int, ...]]:
    """Of each module that is called with a tensor, the first time."""
    import torch

    shapes: dict[Any, tuple[int, ...]] = {}

    def see(layer: Any, args: Any, output: Any) -> None:
        if args and isinstance(args[0], torch.Tensor):
            shapes.setdefault(layer, tuple(args[0].shape))

    with watched(module.modules(), see), torch.no_grad():
        module(*inputs)
    return shapes


def _owners(module: Any) -> dict[int, int]:
    """By id of a parameter, how many layers have it."""
    owners: dict[int, int] = {}
    for layer in module.modules():
        for parameter in layer.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    return owners
