"""Structured pruning by torch-pruning: whole channels go, with all that depends on them. Used by two steps."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.compress.channel_importance import scorer
from harness.compress.outputs import named_layers, output_layers
from harness.errors import HarnessError, UsageError
from harness.loading import first_line, flatten


def slim(module: Any, inputs: tuple[Any, ...], *, ratio: float, round_to: int, step: str, ignore: Sequence[str] = (),
         ratios: Mapping[str, float] | None = None, scope: str = "uniform", importance: str = "magnitude") -> int:
    """Removes `ratio` of the channels in place, those of least importance over their dependency group (Fang et al.,
    DepGraph, CVPR 2023): of each layer (`uniform`), or of all together (`global`). Returns how many parameters went.

    Channels left are rounded down to a multiple of `round_to`, but never below it. `ratios`: layer name or glob -> a
    ratio of its own. The layers that make the output, those in `ignore` and those that share a weight keep their
    channels. For `taylor` and `hessian` the parameters must have the gradients of channel_importance.

    Raises UsageError for a name that matches no layer, HarnessError where the model or none of its layers can be
    pruned."""
    import torch

    sharing = [layer for some in _shared(module) for layer, _ in some if not list(layer.children())]
    kept = [*output_layers(module, inputs), *named_layers(module, ignore, step), *sharing]
    own = {pattern: (named_layers(module, [pattern], step), share) for pattern, share in (ratios or {}).items()}
    before, shapes = count(module), _shapes(module, inputs)
    try:
        with _frozen_and_shared_as_before(module, step), torch.enable_grad():
            _prune(module, inputs, kept, own, ratio=ratio, round_to=round_to, scope=scope, importance=importance,
                   step=step)
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


def _prune(module: Any, inputs: tuple[Any, ...], kept: list[Any], own: Mapping[str, tuple[list[Any], float]], *,
           ratio: float, round_to: int, scope: str, importance: str, step: str) -> None:
    import torch_pruning as tp

    scores: dict[Any, Any] = {}
    score = scorer(importance)

    def recorded(group: Any) -> Any:
        found = score(group)
        if found is not None:  # a group without an importance of this kind stays whole
            found = scores[group[0].dep.target.module] = found.nan_to_num(0.0)  # 0/0: all its weights are zero
        return found

    pruner = tp.pruner.BasePruner(
        module, inputs, importance=recorded, pruning_ratio=ratio, ignored_layers=kept, global_pruning=scope == "global",
        pruning_ratio_dict={layer: share for layers, share in own.values() for layer in layers},
        in_channel_groups={}, out_channel_groups={}, num_heads={},  # its defaults are dicts that all pruners share
    )
    _check_ratios(pruner, own, step)
    pruner.DG.check_pruning_group = lambda group: True  # it would pass over a layer that is to lose all: see _rounded
    for group in pruner.step(interactive=True):
        if (rounded := _rounded(pruner, group, scores, round_to)) is not None:
            rounded.prune()
    if not scores:
        raise HarnessError(f"{step}: nothing to remove: no layer has channels that may go" + (
            " and a batch norm to rank them by" if importance == "bn_scale" else ""),
            "layers that make the output, share a weight or stand in `ignore` keep theirs")


def _rounded(pruner: Any, group: Any, scores: Mapping[Any, Any], round_to: int) -> Any:
    """`group` with as many channels more as leave a multiple of `round_to`, or with fewer so that one multiple is left;
    None where there are no more channels than that.

    torch-pruning's own rounding counts the channels of one convolution group against those of all groups, and leaves
    a layer whole that it would round down to nothing."""
    layer, handler = group[0].dep.target.module, group[0].dep.handler
    parts = pruner._get_channel_groups(group)  # a grouped convolution loses the same number in each of its groups
    score = scores[layer].view(parts, -1).mean(0).cpu()
    channels, unit = parts * len(score), math.lcm(round_to, parts)
    left = channels - len(group[0].idxs)
    left = max(unit, left - left % unit)
    if left >= channels:
        return None
    gone = score.argsort()[: (channels - left) // parts].tolist()
    return pruner.DG.get_pruning_group(layer, handler, sorted(i + p * len(score) for p in range(parts) for i in gone))


def _check_ratios(pruner: Any, own: Mapping[str, tuple[list[Any], float]], step: str) -> None:
    """Raises UsageError for ratios of layers that keep their channels, or that must lose theirs together."""
    if not own:
        return
    groups = [
        {dep.target.module for dep, _ in group if pruner.DG.is_out_channel_pruning_fn(dep.handler)}
        for group in pruner.DG.get_all_groups(pruner.ignored_layers, pruner.root_module_types)
    ]
    inside = {pattern: {m for layer in layers for m in layer.modules()} for pattern, (layers, _) in own.items()}
    for pattern, layers in inside.items():
        if not any(layers & group for group in groups):
            raise UsageError(f"{step}: ratios: {pattern!r} has no channels that may go",
                             "name convolutions or linear layers that do not make the output")
    for group in groups:
        asked = [pattern for pattern, layers in inside.items() if layers & group]
        if len({own[pattern][1] for pattern in asked}) > 1:
            raise UsageError(f"{step}: ratios: {' and '.join(map(repr, asked))} mean layers that lose their channels "
                             "together", "give them the same ratio")


@contextlib.contextmanager
def _frozen_and_shared_as_before(module: Any, step: str) -> Iterator[None]:
    """torch-pruning finds dependencies on the autograd graph, hence all parameters require a gradient inside; and it
    puts new parameters in place. Those that were frozen or shared are so again afterwards.

    Raises HarnessError where layers that shared a weight have lost different inputs."""
    import torch

    before, shared = dict(module.named_parameters(remove_duplicate=False)), _shared(module)
    called = {layer: name for name, layer in module.named_modules()}
    frozen = [name for name, p in before.items() if not p.requires_grad and p.is_floating_point()]
    for name in frozen:
        before[name].requires_grad_(True)
    yield
    after = dict(module.named_parameters(remove_duplicate=False))
    for name in frozen:
        after[name].requires_grad_(False)
    for (first, attribute), *others in shared:
        for layer, name in others:
            if not torch.equal(getattr(first, attribute), getattr(layer, name)):
                names = " and ".join(called[one] or "the model" for one in (first, layer))
                raise HarnessError(f"{step}: {names} share a weight, and would lose different inputs",
                                   "name the layers before them in `ignore`")
            setattr(layer, name, getattr(first, attribute))


def _shared(module: Any) -> list[list[tuple[Any, str]]]:
    """The layers, with the attribute, that have a parameter in common. (One layer under two names is one.)"""
    owners: dict[int, list[tuple[Any, str]]] = {}
    for layer in module.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            owners.setdefault(id(parameter), []).append((layer, name))
    return [some for some in owners.values() if len(some) > 1]


def count(module: Any) -> int:
    return sum(p.numel() for p in module.parameters())


def macs(module: Any, inputs: tuple[Any, ...], step: str) -> int:
    """Multiply-accumulates of matrix products and convolutions in one call: half of what FlopCounterMode counts.

    Raises HarnessError for a model that it cannot follow."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module(*inputs)
    except Exception as error:
        raise HarnessError(f"{step}: the MACs of this model cannot be counted: {first_line(error)}",
                           "take another target") from error
    return int(counter.get_total_flops()) // 2


def _shapes(module: Any, inputs: tuple[Any, ...]) -> list[list[int]]:
    import torch

    with torch.no_grad():
        return [list(leaf.shape) for leaf in flatten(module(*inputs))[0]]
