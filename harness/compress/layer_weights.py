"""The weights that steps on single weights (pruning, clustering) work on: those of linear layers and convolutions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.compress.outputs import layer_names
from harness.errors import HarnessError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class LayerWeight:
    """`name`: the parameter's, as `named_parameters` has it (`features.0.weight`). `layer`: the first that uses it."""

    name: str
    layer: Any

    @property
    def value(self) -> torch.nn.Parameter:
        """Outputs x inputs of a Linear; outputs x inputs/groups x kernel of a convolution; inputs x outputs/groups x
        kernel of a transposed one."""
        found: torch.nn.Parameter = self.layer.weight
        return found


def layer_weights(model: torch.nn.Module, ignore: Iterable[str], step: str) -> list[LayerWeight]:
    """The weights of all Linear and convolutions, in the model's order, but for the layers named in `ignore` and those
    inside them. One that several layers share is there once, and not at all where one of them is ignored.

    Raises UsageError for a name in `ignore` that matches no layer, HarnessError where no weight is left."""
    from torch import nn

    ignored = layer_names(model, ignore, step)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found: dict[int, LayerWeight] = {}
    kept: set[int] = set()
    for name, layer in model.named_modules():
        weight = layer._parameters.get("weight")  # none in a layer that computes it (a parametrization)
        if weight is None or not isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd)):
            continue
        found.setdefault(id(weight), LayerWeight(name=names[id(weight)], layer=layer))
        if any(name == one or name.startswith(f"{one}.") for one in ignored):
            kept.add(id(weight))
    if not found:
        raise HarnessError(f"{step}: the model has no linear layer and no convolution with a weight of its own")
    if not found.keys() - kept:
        raise HarnessError(f"{step}: no layer is left", "`ignore` names them all")
    return [weight for key, weight in found.items() if key not in kept]


def named(weights: Iterable[LayerWeight]) -> str:
    """The layers' names, for a note."""
    return ", ".join(weight.name.removesuffix(".weight") for weight in weights)
