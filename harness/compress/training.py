"""One training loop for the steps that train (finetune, distill). Fixed by its arguments and the bench's seed.

The number of threads is a constant of the step, never of how many builds run beside it: 1 and 2 threads give
different weights.
"""

from __future__ import annotations

import contextlib
import copy
import math
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, UserCodeError
from harness.interfaces import Workbench
from harness.loading import first_line, flatten, seeded

if TYPE_CHECKING:
    import torch

Loss = Callable[[Any, tuple["torch.Tensor", ...], "torch.Tensor"], "torch.Tensor"]


@contextlib.contextmanager
def fixed(seed: int, threads: int) -> Iterator[None]:
    """Seeded random state and this number of threads inside; both as before afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with seeded(seed), torch.enable_grad():
            yield
    finally:
        torch.set_num_threads(before)


def first_leaf(output: Any) -> torch.Tensor:
    """The single or first tensor of an output: what class scores are read from."""
    return flatten(output)[0][0]


def task_loss(bench: Workbench) -> Callable[[Any, torch.Tensor], torch.Tensor]:
    """The data's own loss, else cross entropy of the first output over class indices."""
    if bench.loss is not None:
        return bench.loss
    from torch.nn.functional import cross_entropy

    return lambda output, target: cross_entropy(first_leaf(output), target)


def train(model: torch.nn.Module, bench: Workbench, loss: Loss, *, epochs: int, lr: float, optimizer: str,
          schedule: str, weight_decay: float, patience: int | None, what: str) -> tuple[str, ...]:
    """Trains in place and returns notes. `loss(output, inputs, target)`.

    Stops after `bench.max_steps`; with `patience`, after so many epochs without a better validation loss, and the
    best weights come back. Raises HarnessError where the loss is not finite, UserCodeError where the user's loss or
    data fail in it."""
    import torch

    assert bench.train is not None, "refused when the experiment was read"
    steps_per_epoch = _length(bench)
    total = min(epochs * steps_per_epoch, bench.max_steps or sys.maxsize)
    device = torch.device(bench.device)
    model.to(device).train()
    steps = _optimizer(optimizer, model, lr, weight_decay)
    plan = torch.optim.lr_scheduler.LambdaLR(steps, _curve(schedule, total))
    done, best, since, kept = 0, math.inf, 0, None
    for _ in range(epochs):
        for inputs, target in bench.train(bench.batch_size):
            if done >= total:
                break
            if len(inputs[0]) < 2:
                continue  # batch norm cannot train on one item
            moved = tuple(t.to(device) for t in inputs)
            wanted = target.to(device) if isinstance(target, torch.Tensor) else target
            value = _loss(loss, model, moved, wanted)
            if not torch.isfinite(value):
                raise HarnessError(f"{what}: the loss is {float(value.detach())} at step {done + 1}", "lower lr")
            steps.zero_grad()
            torch.autograd.backward(value)
            steps.step()
            plan.step()
            done += 1
            bench.progress(done, total, what)
        if patience is not None and bench.validation is not None:
            now = _validation(model, bench, device)
            best, since, kept = (now, 0, copy.deepcopy(model.state_dict())) if now < best else (best, since + 1, kept)
            if since >= patience:
                break
    if kept is not None:
        model.load_state_dict(kept)
    model.to("cpu").eval()
    ended = done < total
    notes = [f"{what}: {done} steps of {bench.batch_size}, {optimizer}, lr {lr:g}, {schedule}"]
    if patience is not None and bench.validation is None:
        notes.append(f"{what}: no validation data, so it could not stop early")
    if ended and patience is not None:
        notes.append(f"{what}: stopped early, validation loss {best:.4g}")
    return tuple(notes)


def _length(bench: Workbench) -> int:
    """Batches in an epoch (bench.train is a maker of iterables without a length): counted on a throw-away pass
    only where the maker cannot say."""
    length = getattr(bench.train, "batches_in_epoch", None)
    if callable(length):
        return max(1, int(length(bench.batch_size)))
    return max(1, sum(1 for _ in bench.train(bench.batch_size)))  # type: ignore[misc]  # steps that train have it


def _loss(loss: Loss, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...], target: Any) -> torch.Tensor:
    import torch

    try:
        value = loss(model(*inputs), inputs, target)
    except HarnessError:
        raise
    except Exception as error:
        raise UserCodeError(f"training: model or loss failed on a batch of train: {first_line(error)}",
                            "check the data's items and its 'loss'") from error
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        raise UserCodeError(f"training: the loss is {type(value).__name__}, not a scalar tensor")
    return value.reshape(())


def _validation(model: torch.nn.Module, bench: Workbench, device: torch.device) -> float:
    import torch

    loss, total, count = task_loss(bench), 0.0, 0
    assert bench.validation is not None
    model.eval()
    with torch.no_grad():
        for inputs, target in bench.validation(bench.batch_size):
            wanted = target.to(device) if isinstance(target, torch.Tensor) else target
            total += float(loss(model(*(t.to(device) for t in inputs)), wanted)) * len(inputs[0])
            count += len(inputs[0])
    model.train()
    return total / max(1, count)


def _optimizer(name: str, model: torch.nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    import torch

    weights = [p for p in model.parameters() if p.requires_grad]
    if not weights:
        raise HarnessError("training: the model has no parameter that requires a gradient")
    if name == "sgd":
        return torch.optim.SGD(weights, lr=lr, momentum=0.9, weight_decay=weight_decay)
    kind = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
    return kind(weights, lr=lr, weight_decay=weight_decay)


def _curve(schedule: str, total: int) -> Callable[[int], float]:
    """Factor of lr by step: constant, or half a cosine down to 0 (Loshchilov & Hutter 2017, without restarts)."""
    if schedule == "constant":
        return lambda step: 1.0
    return lambda step: 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, total))))
