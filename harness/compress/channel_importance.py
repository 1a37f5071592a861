"""How important a channel is to the loss: from its weights alone, or from the loss on a few batches.

torch-pruning reads what it needs off the parameters, `.grad` included; its scores are summed over all that depends on
a channel. `taylor`: |w·∂loss/∂w| (Molchanov et al., Importance Estimation for Neural Network Pruning, CVPR 2019).
`hessian`: w²·h with the diagonal h of the Fisher matrix in the Hessian's place (LeCun et al., Optimal Brain Damage,
1989). `bn_scale`: |γ| of batch norm (Liu et al., Network Slimming, ICCV 2017); layers without one stay whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Literal

from harness.compress.sparsity import gradients
from harness.compress.training import Loss, task_loss
from harness.errors import HarnessError, UsageError
from harness.interfaces import Batch, Workbench

Importance = Literal["magnitude", "bn_scale", "taylor", "hessian"]
FROM_DATA: tuple[Importance, ...] = ("taylor", "hessian")


def scorer(importance: str) -> Callable[[Any], Any]:
    """torch-pruning's score of a dependency group; `taylor` and `hessian` need `set_gradients` before."""
    from torch_pruning import importance as kinds

    found: Callable[[Any], Any] = {
        "magnitude": kinds.GroupMagnitudeImportance, "bn_scale": kinds.BNScaleImportance,
        "taylor": kinds.GroupTaylorImportance, "hessian": kinds.GroupHessianImportance,
    }[importance]()
    return found


def importance_data(bench: Workbench, importance: str, step: str) -> Callable[[int], Iterable[Batch]]:
    """The split that tells importance. Raises UsageError where there is none."""
    split = bench.train or bench.calibration
    if split is None:
        raise UsageError(f"{step}: importance: {importance} needs data with targets, and there is neither train nor "
                         "calibration", "give one of them, or take importance: magnitude")
    return split


def require_batch_norm(model: Any, step: str) -> None:
    """Raises HarnessError where the model has no batch norm with a scale."""
    from torch import nn

    if not any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.affine for m in model.modules()):
        raise HarnessError(f"{step}: importance: bn_scale ranks by the scales of batch norm, and the model has none",
                           "take importance: magnitude")


def set_gradients(module: Any, bench: Workbench, importance: str, batches: int, step: str) -> None:
    """Gives every parameter the `.grad` that the scorer reads: for `taylor` the mean gradient over all samples of the
    first `batches`, for `hessian` the mean of the single samples' squared gradients.

    (GroupHessianImportance.accumulate_grad of torch-pruning 1.6 keeps the last sample only: it looks up names in a
    dict of parameters.)"""
    import torch

    task = task_loss(bench)
    loss: Loss = lambda output, inputs, target: task(output, target)  # noqa: E731  # Loss takes the inputs too
    parameters = [p for p in module.parameters() if p.is_floating_point()]
    if not parameters:
        return
    data = list(islice(importance_data(bench, importance, step)(bench.batch_size), batches))
    if importance == "taylor":
        found = gradients(module, parameters, data, loss, step)
    else:
        found, samples = [torch.zeros_like(p) for p in parameters], list(_single(data))
        for sample in samples:
            for total, one in zip(found, gradients(module, parameters, [sample], loss, step), strict=True):
                total += one.square() / len(samples)
    for parameter, gradient in zip(parameters, found, strict=True):
        parameter.grad = gradient


def _single(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Batches of one sample each."""
    for inputs, target in batches:
        for i in range(len(inputs[0])):
            yield tuple(t[i : i + 1] for t in inputs), target[i : i + 1]
