"""Losses against a teacher: its scores (Hinton et al. 2015, arXiv:1503.02531), its features (FitNets, Romero et al.
2015, arXiv:1412.6550)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.compress.training import first_leaf
from harness.errors import HarnessError


def soft_loss(teacher: Any, temperature: float, step: str) -> Callable[[Any, tuple[Any, ...]], Any]:
    """T²·KL(teacher ‖ student at temperature T) of (output, inputs). The squared difference stands in for it where the
    first output is no distribution over classes (last dimension 1)."""
    import torch
    from torch.nn import functional

    def loss(output: Any, inputs: tuple[Any, ...]) -> Any:
        with torch.no_grad():
            wanted = first_leaf(teacher(*inputs))
        given = first_leaf(output)
        if given.shape != wanted.shape:
            raise HarnessError(f"{step}: the student gives {list(given.shape)}, the teacher {list(wanted.shape)}")
        if given.dim() < 2 or given.shape[-1] == 1:
            return functional.mse_loss(given, wanted)
        return temperature**2 * functional.kl_div(
            (given / temperature).log_softmax(-1).flatten(0, -2), (wanted / temperature).log_softmax(-1).flatten(0, -2),
            reduction="batchmean", log_target=True)

    return loss


class Hints:
    """Mean squared difference between a student's layers and a teacher's, through a learnt map where their channels
    differ: a 1x1 convolution, or a linear layer. The maps are thrown away after training.

    `layers`: student layer -> teacher layer. Both see the same batch: call the teacher, then the student, then `loss`.
    Raises HarnessError where a layer gives no tensor, or the two differ in more than their channels."""

    def __init__(self, student: Any, teacher: Any, layers: Mapping[str, str], inputs: tuple[Any, ...]) -> None:
        import torch

        self._student: dict[str, Any] = {}
        self._teacher: dict[str, Any] = {}
        self._pairs = dict(layers)
        self._hooks = [
            *(student.get_submodule(s).register_forward_hook(_keep(self._student, s)) for s in layers),
            *(teacher.get_submodule(t).register_forward_hook(_keep(self._teacher, t)) for t in layers.values()),
        ]
        with torch.no_grad():
            student(*inputs)
            teacher(*inputs)
        self.maps = torch.nn.ModuleDict({
            str(index): _map(self._student.get(s), self._teacher.get(t), s, t)
            for index, (s, t) in enumerate(layers.items())
        })

    def loss(self) -> Any:
        from torch.nn.functional import mse_loss

        parts = [
            mse_loss(self.maps[str(index)](self._student[s]), self._teacher[t].detach())
            for index, (s, t) in enumerate(self._pairs.items())
        ]
        return sum(parts[1:], parts[0])

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()


def _keep(into: dict[str, Any], name: str) -> Callable[[Any, Any, Any], None]:
    def hook(layer: Any, given: Any, output: Any) -> None:
        into[name] = output

    return hook


def _map(student: Any, teacher: Any, name: str, other: str) -> Any:
    import torch
    from torch import nn

    if not isinstance(student, torch.Tensor) or not isinstance(teacher, torch.Tensor):
        raise HarnessError(f"distill: hint {name} -> {other}: a layer that is called and gives one tensor is needed")
    if student.shape == teacher.shape:
        return nn.Identity()
    if student.dim() == teacher.dim() == 4 and student.shape[2:] == teacher.shape[2:]:
        return nn.Conv2d(student.shape[1], teacher.shape[1], 1)
    if student.dim() == teacher.dim() and student.dim() < 4 and student.shape[:-1] == teacher.shape[:-1]:
        return nn.Linear(student.shape[-1], teacher.shape[-1])
    raise HarnessError(f"distill: hint {name} -> {other}: {list(student.shape)} and {list(teacher.shape)} differ in "
                       "more than their channels", "hint between layers of one resolution")
