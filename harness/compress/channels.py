"""Structured pruning by torch-pruning: whole channels go, with all that depends on them. Used by two steps."""

from __future__ import annotations

from typing import Any

from harness.compress.outputs import named_layers, output_layers
from harness.errors import HarnessError
from harness.loading import first_line, flatten


def slim(module: Any, inputs: tuple[Any, ...], *, ratio: float, round_to: int, ignore: list[str], step: str) -> int:
    """Removes `ratio` of the channels of each layer in place, those of least L2 norm over their dependency group
    (Fang et al., DepGraph, CVPR 2023), leaving a multiple of `round_to`. Returns how many parameters went.

    The layers that make the output keep their channels. Raises HarnessError where the model cannot be pruned."""
    import torch
    import torch_pruning as tp

    kept = [*output_layers(module, inputs), *named_layers(module, ignore, step)]
    before, shapes = count(module), _shapes(module, inputs)
    frozen = [p for p in module.parameters() if not p.requires_grad and p.is_floating_point()]
    for parameter in frozen:
        parameter.requires_grad_(True)  # torch-pruning finds the dependencies on the autograd graph
    try:
        pruner = tp.pruner.BasePruner(
            module, inputs, importance=tp.importance.GroupMagnitudeImportance(p=2), pruning_ratio=ratio,
            ignored_layers=kept, round_to=round_to, global_pruning=False,
        )
        with torch.enable_grad():
            pruner.step()
        after = _shapes(module, inputs)
    except HarnessError:
        raise
    except Exception as error:
        raise HarnessError(f"{step}: this model cannot be pruned so: {first_line(error)}",
                           "name the layers that must stay whole in `ignore`") from error
    if shapes != after:
        raise HarnessError(f"{step}: pruning changed the output from {shapes} to {after}",
                           "name the layers that make the output in `ignore`")
    for parameter in module.parameters():
        parameter.grad = None
    return before - count(module)


def count(module: Any) -> int:
    return sum(p.numel() for p in module.parameters())


def _shapes(module: Any, inputs: tuple[Any, ...]) -> list[list[int]]:
    import torch

    with torch.no_grad():
        return [list(leaf.shape) for leaf in flatten(module(*inputs))[0]]
