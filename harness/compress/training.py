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

from harness.compress.params import TrainParams
from harness.compress.patterns import Patterns, keeper
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


def train(model: Any, bench: Workbench, loss: Loss, options: TrainParams, what: str, *,
          patterns: Patterns | None = None, before_step: Callable[[int, int], bool | None] | None = None,
          mode: Callable[[Any, bool], None] = lambda model, training: model.train(training)) -> tuple[str, ...]:
    """Trains in place and returns notes. `loss(output, inputs, target)`.

    Stops after `bench.max_steps`; with `patience`, after so many epochs without a better validation loss, and the
    best weights come back. `patterns` hold after every step. `before_step(done, total)` is called before each
    step's forward pass, and says whether it changed the weights that the patterns are to be read off anew.
    `mode(model, training)` switches between training and evaluation (exported programs have a way of their own).
    Raises HarnessError where the loss is not finite or nothing can be trained, UserCodeError where the user's loss or
    data fail in it."""
    import torch

    assert bench.train is not None, "refused when the experiment was read"
    total = min(options.epochs * _length(bench), bench.max_steps or sys.maxsize)
    device = torch.device(bench.device)
    model.to(device)
    mode(model, True)
    frozen = bench.batch_size == 1 and freeze_batch_norm(model)
    least = 2 if _batch_norms(model) and not frozen else 1
    steps = _optimizer(options.optimizer, model, options.lr, options.weight_decay)
    plan = torch.optim.lr_scheduler.LambdaLR(steps, _curve(options.schedule, total))
    keep = keeper(model, patterns or {})
    done, best, since, kept, said = 0, math.inf, 0, None, ""
    for _ in range(options.epochs):
        for inputs, target in bench.train(bench.batch_size):
            if done >= total:
                break
            if len(inputs[0]) < least:
                continue  # batch norm cannot train on one item
            if before_step is not None and before_step(done, total):
                keep = keeper(model, patterns or {})
            moved = tuple(t.to(device) for t in inputs)
            wanted = target.to(device) if isinstance(target, torch.Tensor) else target
            value = loss_value(loss, model, moved, wanted)
            if not torch.isfinite(value):
                raise HarnessError(f"{what}: the loss is {float(value.detach())} at step {done + 1}", "lower lr")
            steps.zero_grad()
            torch.autograd.backward(value)
            steps.step()
            plan.step()
            keep()
            done += 1
            bench.progress(done, total, said)
        if bench.validation is not None:
            mode(model, False)
            now, share = _validation(model, bench, device)
            mode(model, True)
            if frozen:
                freeze_batch_norm(model)
            said = f"validation loss {now:.3g}" + ("" if share is None else f", accuracy {share:.1%}")
            bench.progress(done, total, said)
            if options.patience is not None:
                better = now < best
                best, since, kept = (now, 0, copy.deepcopy(model.state_dict())) if better else (best, since + 1, kept)
                if since >= options.patience:
                    break
        if done >= total:
            break  # max_steps ended it: further epochs would only validate the same weights again
    if not done:
        raise HarnessError(f"{what}: not one step was made: every batch of train has a single item, and batch norm "
                           "cannot train on one", "give more items, or train.batch_size: 1 to freeze its statistics")
    if kept is not None:
        model.load_state_dict(kept)
    model.to("cpu")
    mode(model, False)
    notes = [f"{what}: {done} steps of {bench.batch_size}, {options.optimizer}, lr {options.lr:g}, {options.schedule}"]
    if frozen:
        notes.append(f"{what}: batches of one item, so the statistics of batch norm stayed as they were")
    if options.patience is not None and bench.validation is None:
        notes.append(f"{what}: no validation data, so it could not stop early")
    if options.patience is not None and done < total:
        notes.append(f"{what}: stopped early, validation loss {best:.4g}")
    return tuple(notes)


def _batch_norms(model: Any) -> list[Any]:
    from torch import nn

    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def freeze_batch_norm(model: Any) -> bool:
    """Batch norms keep their statistics (they still learn scale and shift). Whether there are any."""
    norms = _batch_norms(model)
    for norm in norms:
        norm.eval()
    return bool(norms)


def _length(bench: Workbench) -> int:
    """Batches in an epoch (bench.train is a maker of iterables without a length): counted on a throw-away pass
    only where the maker cannot say."""
    length = getattr(bench.train, "batches_in_epoch", None)
    if callable(length):
        return max(1, int(length(bench.batch_size)))
    return max(1, sum(1 for _ in bench.train(bench.batch_size)))  # type: ignore[misc]  # steps that train have it


def loss_value(loss: Loss, model: Any, inputs: tuple[torch.Tensor, ...], target: Any,
               what: str = "training") -> torch.Tensor:
    """The loss on one batch, a scalar. Raises UserCodeError where model or loss fail on it."""
    import torch

    try:
        value = loss(model(*inputs), inputs, target)
    except HarnessError:
        raise
    except Exception as error:
        raise UserCodeError(f"{what}: model or loss failed on a batch: {first_line(error)}",
                            "check the data's items and its 'loss'") from error
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        raise UserCodeError(f"{what}: the loss is {type(value).__name__}, not a scalar tensor")
    return value.reshape(())


def _validation(model: Any, bench: Workbench, device: torch.device) -> tuple[float, float | None]:
    """Mean loss over the validation split, and the share of right classes where targets are class numbers."""
    import torch

    loss, total, count, right = task_loss(bench), 0.0, 0, 0.0
    assert bench.validation is not None
    classes = True
    with torch.no_grad():
        for inputs, target in bench.validation(bench.batch_size):
            wanted = target.to(device) if isinstance(target, torch.Tensor) else target
            output = model(*(t.to(device) for t in inputs))
            total += float(loss(output, wanted)) * len(inputs[0])
            count += len(inputs[0])
            scores = first_leaf(output)
            classes &= (isinstance(wanted, torch.Tensor) and not wanted.is_floating_point()
                        and scores.dim() > 1 and scores.shape[:-1] == wanted.shape)
            if classes:
                right += float((scores.argmax(-1) == wanted).float().mean()) * len(inputs[0])
    return total / max(1, count), right / count if classes and count else None


def _optimizer(name: str, model: Any, lr: float, weight_decay: float) -> torch.optim.Optimizer:
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
