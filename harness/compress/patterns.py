"""What an earlier step has put into the weights and later training must not undo: zeros, and few distinct values.

A pattern is only named (`Compressed.patterns`); what it is, is read off the weights themselves when a training
begins. So a step that removes channels in between needs to know nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

#: a weight that is zero stays zero; weights that are equal stay equal
ZEROS, VALUES = "zeros", "values"
Patterns = Mapping[str, frozenset[str]]


def added(patterns: Patterns, names: Iterable[str], kind: str) -> Patterns:
    """`patterns` with `kind` for these parameters too."""
    return {**patterns, **{name: patterns.get(name, frozenset()) | {kind} for name in names}}


def keeper(
    model: torch.nn.Module, patterns: Patterns, like: torch.nn.Module | None = None
) -> Callable[[], None]:
    """Call the result after each optimizer step: it projects every named weight onto the pattern that it has now, or
    that it has in the model `like`.

    Zeros are set anew (a product with the mask would make half of them -0.0, which zips worse). Values: each weight
    becomes the mean of those it was equal to (for plain gradient descent this is the descent on the shared value: Han
    et al., Deep Compression, 2016, section 3). Names that the model has no longer, or of another shape, are passed
    over."""
    import torch

    weights, models = dict(model.named_parameters()), dict((like or model).named_parameters())
    projections = [
        _projection(weights[name], models[name].detach(), kinds) for name, kinds in patterns.items()
        if name in weights and name in models and weights[name].shape == models[name].shape
    ]

    def keep() -> None:
        with torch.no_grad():
            for project in projections:
                project()

    return keep


def _projection(weight: Any, pattern: Any, kinds: frozenset[str]) -> Callable[[], None]:
    import torch

    with torch.no_grad():
        zero = (pattern == 0) if ZEROS in kinds else torch.zeros_like(pattern, dtype=torch.bool)
        if VALUES not in kinds:
            return lambda: weight.masked_fill_(zero, 0.0)
        values, index = torch.unique(pattern, return_inverse=True)
        flat = index.reshape(-1)
        counts = torch.bincount(flat, minlength=len(values)).to(weight.dtype)

    def shared() -> None:
        sums = torch.zeros_like(values).index_add_(0, flat, weight.reshape(-1))
        weight.copy_((sums / counts)[index].masked_fill_(zero, 0.0))

    return shared
