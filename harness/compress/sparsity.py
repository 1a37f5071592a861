"""Which single weights go: how important each is, and the masks that follow (True where a weight stays)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from harness.compress.training import Loss, loss_value
from harness.errors import HarnessError
from harness.interfaces import Batch

if TYPE_CHECKING:
    import torch


def scores(weight: torch.Tensor, gradient: torch.Tensor | None = None) -> torch.Tensor:
    """The importance of each weight: |w|, or with its gradient |w·∂loss/∂w|, what the loss changes by to first order
    when w goes (Molchanov et al., Importance Estimation for Neural Network Pruning, CVPR 2019, rank by its square).

    What is zero already has no importance and everything else has some, so that a ratio counts it first."""
    import torch

    found = weight.detach().abs() if gradient is None else (weight.detach() * gradient).abs()
    return torch.where(weight == 0, 0, found.clamp_min(torch.finfo(found.dtype).tiny))


def gradients(
    model: Any, weights: Sequence[torch.nn.Parameter], batches: Sequence[Batch], loss: Loss, step: str
) -> list[torch.Tensor]:
    """∂loss/∂w for each weight, of the mean loss over all samples of `batches`, in evaluation mode. Leaves the model,
    its mode and its parameters' own gradients as they were.

    Raises HarnessError where there is no batch or the loss is not finite, UserCodeError where it fails."""
    import torch

    device, samples = weights[0].device, 0
    sums = [torch.zeros_like(weight) for weight in weights]
    with _evaluating(model), _requiring_gradients(weights), torch.enable_grad():
        for inputs, target in batches:
            wanted = target.to(device) if isinstance(target, torch.Tensor) else target
            value = loss_value(loss, model, tuple(t.to(device) for t in inputs), wanted, step)
            if not torch.isfinite(value):
                raise HarnessError(f"{step}: the loss is {float(value.detach())} on the data that tells importance")
            found = torch.autograd.grad(value * len(inputs[0]), weights, allow_unused=True)
            samples += len(inputs[0])
            for total, one in zip(sums, found, strict=True):
                if one is not None:  # of a layer that the model does not call
                    total += one
    if not samples:
        raise HarnessError(f"{step}: there is no batch of data to tell importance by")
    return [total / samples for total in sums]


@contextlib.contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Each module back in its own mode afterwards (frozen batch norms evaluate while the rest trains)."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


@contextlib.contextmanager
def _requiring_gradients(weights: Sequence[torch.nn.Parameter]) -> Iterator[None]:
    frozen = [weight for weight in weights if not weight.requires_grad]
    for weight in frozen:
        weight.requires_grad_(True)
    try:
        yield
    finally:
        for weight in frozen:
            weight.requires_grad_(False)


def least(found: Sequence[torch.Tensor], ratio: float, scope: str) -> list[torch.Tensor]:
    """Masks without the share `ratio` of least scores: of all together (`global`), or of each (`layer`). The choice is
    that of torch.nn.utils.prune's global_unstructured and l1_unstructured."""
    import torch
    from torch.nn.utils import prune

    method: Any = prune.L1Unstructured(amount=ratio)

    def mask(flat: torch.Tensor) -> torch.Tensor:
        kept: torch.Tensor = method.compute_mask(flat, default_mask=torch.ones_like(flat)) != 0
        return kept

    flat = [score.reshape(-1) for score in found]
    sizes = [len(one) for one in flat]
    masks = torch.split(mask(torch.cat(flat)), sizes) if scope == "global" else [mask(one) for one in flat]
    return [kept.reshape(score.shape) for kept, score in zip(masks, found, strict=True)]


def n_of_m(score: torch.Tensor, layer: Any, n: int, m: int) -> torch.Tensor:
    """The mask that keeps the best `n` of each `m` weights that follow one another in a row: in what one output takes
    of its inputs, a kernel unfolded to inputs x height x width (Zhou et al., Learning N:M Fine-grained Structured
    Sparse Neural Networks From Scratch, ICLR 2021). For layers whose `row_length` is a multiple of m."""
    import torch

    groups = by_output(score, layer).reshape(-1, m)
    gone = groups.argsort(dim=1, stable=True)[:, : m - n]
    kept = torch.ones_like(groups, dtype=torch.bool).scatter_(1, gone, False)
    mask = torch.empty_like(score, dtype=torch.bool)
    view = by_output(mask, layer)
    view.copy_(kept.reshape(view.shape))
    return mask


def row_length(weight: torch.Tensor, layer: Any) -> int:
    """How many weights one output of the layer has."""
    return weight.numel() // layer.out_channels if hasattr(layer, "out_channels") else weight.shape[1]


def by_output(weight: torch.Tensor, layer: Any) -> torch.Tensor:
    """A view of the weight with all that belongs to one output behind one another."""
    if not getattr(layer, "transposed", False):
        return weight
    inputs, outputs, *kernel = weight.shape
    return weight.view(layer.groups, inputs // layer.groups, outputs, *kernel).transpose(1, 2)
