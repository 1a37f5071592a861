"""Which layers make the output: these keep their channels, else the output would change its shape."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.loading import flatten
from harness.metrics import nearest

if TYPE_CHECKING:
    import torch


def output_layers(model: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> list[torch.nn.Module]:
    """Layers with a weight matrix or kernel that reach an output through no other such layer.

    Found on the autograd graph of one forward pass: back from each output leaf until the first operation that takes
    a weight of two or more dimensions as an operand; batch norms (one dimension) are passed through."""
    import torch

    owner = {id(p): m for m in model.modules() for p in m.parameters(recurse=False) if p.dim() > 1}
    with torch.enable_grad():
        leaves, _ = flatten(model(*inputs))
    found: dict[int, torch.nn.Module] = {}
    seen: set[Any] = set()
    todo = [leaf.grad_fn for leaf in leaves if leaf.grad_fn is not None]
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        parents = [parent for parent, _ in node.next_functions if parent is not None]
        makers = {id(owner[id(w)]): owner[id(w)] for w in map(_weight, parents) if w is not None and id(w) in owner}
        if makers:
            found |= makers
        else:
            todo += parents
    return list(found.values())


def _weight(node: Any) -> Any:
    """The parameter that this node only reshapes or transposes; None where it computes more than that."""
    for _ in range(4):
        if hasattr(node, "variable"):
            return node.variable
        parents = [parent for parent, _ in node.next_functions if parent is not None]
        if len(parents) != 1 or not node.name().startswith(("T", "View", "Unsafe", "Permute", "Reshape")):
            return None
        node = parents[0]
    return None


def layer_names(model: torch.nn.Module, patterns: Iterable[str], step: str) -> list[str]:
    """The layers that these names or globs (`features.*`) mean, in the model's order.

    Raises UsageError for one that matches nothing, the nearest layer named."""
    known = [name for name, _ in model.named_modules() if name]
    found: set[str] = set()
    for pattern in patterns:
        matching = [name for name in known if name == pattern or fnmatchcase(name, pattern)]
        if not matching:
            raise UsageError(f"{step}: no layer matches {pattern!r}", nearest(pattern, known))
        found.update(matching)
    return [name for name in known if name in found]


def named_layers(model: torch.nn.Module, patterns: Iterable[str], step: str) -> list[torch.nn.Module]:
    """The modules of `layer_names`."""
    return [model.get_submodule(name) for name in layer_names(model, patterns, step)]


@contextlib.contextmanager
def watched(layers: Iterable[Any], see: Callable[[Any, Any, Any], Any]) -> Iterator[None]:
    """While inside, `see(layer, args, output)` is called after each call of these layers; what it returns, if anything,
    takes the output's place."""
    hooks = [layer.register_forward_hook(see) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
