"""What prune_magnitude prunes, and the pruning itself: as often as asked, on the weights as they are then."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

from harness.compress import sparsity
from harness.compress.layer_weights import LayerWeight, layer_weights
from harness.compress.training import Loss, task_loss
from harness.errors import HarnessError, UsageError
from harness.interfaces import Batch, Workbench

if TYPE_CHECKING:
    import torch


def targets(model: Any, params: Any, step: str) -> tuple[list[LayerWeight], list[LayerWeight]]:
    """The weights to prune, and those that stay whole as their rows are no multiple of N:M's M (kernels for such
    patterns take whole groups only). Raises HarnessError where there is none to prune."""
    found = layer_weights(model, params.ignore, step)
    if params.n_m is None:
        return found, []
    _, m = params.n_m
    left = [weight for weight in found if sparsity.row_length(weight.value, weight.layer) % m]
    if len(left) == len(found):
        raise HarnessError(f"{step}: pattern {params.pattern} fits no layer: none has a multiple of {m} weights per "
                           "output", "take a smaller M, or ratio")
    return [weight for weight in found if weight not in left], left


def importance_data(params: Any, bench: Workbench, step: str) -> Callable[[int], Iterable[Batch]] | None:
    """The split that tells importance; None where none is asked. Raises UsageError where there is none to ask."""
    if params.importance != "gradient":
        return None
    split = bench.train or bench.calibration
    if split is None:
        raise UsageError(f"{step}: importance: gradient needs data with targets, and there is neither train nor "
                         "calibration", "give one of them, or take importance: l1")
    return split


class Pruner:
    """Makes zeros in `weights` as `params` say. `loss` is the data's own, as training takes it."""

    def __init__(self, model: Any, weights: list[LayerWeight], params: Any, bench: Workbench, step: str) -> None:
        self.model, self._params, self._step = model, params, step
        self._weights = [weight.value for weight in weights]
        self._layers = [weight.layer for weight in weights]
        split, task = importance_data(params, bench, step), task_loss(bench)
        self._batches = None if split is None else list(islice(split(bench.batch_size), params.batches))
        self.loss: Loss = lambda output, inputs, target: task(output, target)

    def zeros(self) -> float:
        """The share of zeros."""
        return sum(int((w == 0).sum()) for w in self._weights) / sum(w.numel() for w in self._weights)

    def prune(self, ratio: float) -> None:
        """Until this share is zero; or as pattern or threshold say."""
        for weight, mask in zip(self._weights, self._masks(ratio), strict=True):
            weight.detach().masked_fill_(~mask, 0.0)

    def check(self) -> None:
        """Raises HarnessError where the pruning would remove nothing that is not zero already, or leave nothing."""
        masks = self._masks(self._params.final)
        if not any((w[~mask] != 0).any() for w, mask in zip(self._weights, masks, strict=True)):
            raise HarnessError(f"{self._step}: {self._params.asked} removes nothing: {self.zeros():.1%} of the weights "
                               "are zero before it", "remove more, or leave the step out")
        if not any(mask.any() for mask in masks):
            largest = max(float(w.detach().abs().max()) for w in self._weights)
            raise HarnessError(f"{self._step}: {self._params.asked} removes every weight (the largest is "
                               f"{largest:.3g})", "remove less")

    def _masks(self, ratio: float) -> list[torch.Tensor]:
        """True where a weight stays."""
        if self._params.threshold is not None:
            return [weight.detach().abs() >= self._params.threshold for weight in self._weights]
        scores = self._scores()
        if self._params.n_m is None:
            return sparsity.least(scores, ratio, self._params.scope)
        n, m = self._params.n_m
        return [sparsity.n_of_m(score, layer, n, m) for score, layer in zip(scores, self._layers, strict=True)]

    def _scores(self) -> list[torch.Tensor]:
        if self._batches is None:
            return [sparsity.scores(weight) for weight in self._weights]
        slopes = sparsity.gradients(self.model, self._weights, self._batches, self.loss, self._step)
        return [sparsity.scores(weight, slope) for weight, slope in zip(self._weights, slopes, strict=True)]
