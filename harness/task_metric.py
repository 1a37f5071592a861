"""The task metric of an experiment, applied to arrays: on the host in a build, and to what devices sent back.

Works without torch (numpy arrays are then given to the user's own metric instead of tensors).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import UserCodeError
from harness.loading import import_factory, roots, unflatten, user_code

if TYPE_CHECKING:
    from harness.data import Data
    from harness.experiment import Experiment

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Score:
    """`value` over all samples; `per_sample` (float64, one a sample) where the metric is a mean over samples."""

    value: float
    per_sample: Array | None = None


@dataclass(frozen=True, kw_only=True)
class TaskMetric:
    """`whole(outputs, targets)`, outputs in the eager model's structure; None for the built-in accuracy."""

    name: str
    better: str
    folder: Path
    whole: Callable[..., Any] | None = None
    one: Callable[..., Any] | None = None

    def score(self, leaves: Sequence[Array], structure: Any, targets: Any, batch: int = 1) -> Score:
        """The metric over the true rows (padding beyond the targets is dropped); `leaves` hold the outputs of all
        calls one after the other, each call of `batch` rows.

        Raises UserCodeError where it fails or does not give a finite number."""
        rows = len(targets)
        if self.whole is None:
            return accuracy(true_rows(leaves[0], rows, batch), np.asarray(targets))
        leaves = [true_rows(leaf, rows, batch, index) for index, leaf in enumerate(leaves)]
        with user_code(f"metric {self.name!r} failed", roots(self.folder)):
            value = float(self.whole(unflatten(structure, [_native(leaf) for leaf in leaves]), _native(targets)))
            per_sample = None if self.one is None else np.array([
                float(self.one(unflatten(structure, [_native(leaf[i]) for leaf in leaves]), _native(targets[i])))
                for i in range(rows)
            ])
        if not math.isfinite(value):
            raise UserCodeError(f"metric {self.name!r} gave {value}, not a finite number")
        return Score(value=value, per_sample=per_sample)


def task_metric(experiment: Experiment, data: Data | None = None) -> TaskMetric | None:
    """The experiment's metric; None without data. `custom` is the data mapping's, loaded unless given.

    Raises UserCodeError where there is no such metric."""
    if experiment.data is None:
        return None
    spec, folder = experiment.data.metric, Path(experiment.folder)
    if spec.factory is not None:
        one = import_factory(spec.per_sample, folder) if spec.per_sample else None
        return TaskMetric(name=spec.name, better=spec.better, folder=folder,
                          whole=import_factory(spec.factory, folder), one=one)
    if spec.name == "accuracy":
        return TaskMetric(name="accuracy", better="higher", folder=folder)
    if data is None:
        from harness.data import load_data

        data = load_data(experiment)
    if data is None or data.metric is None:
        raise UserCodeError("metric: custom, but the data's mapping has no 'metric'",
                            "add 'metric': callable(outputs, targets) -> float to what the data factory returns")
    return TaskMetric(name="custom", better="higher", folder=folder, whole=data.metric)


def true_rows(leaf: Array, rows: int, batch: int, index: int = 0) -> Array:
    """One entry a sample on the first dimension, without the last call's padding.

    What a call gives is shared out evenly over its samples: scores [8, 10] of a batch of 8 are 8 × [10]; boxes
    [100, 4] or scores [10] of a call on one sample, which have no batch dimension, are that sample's.
    Raises UserCodeError where it cannot be shared out."""
    padded = -(-rows // batch) * batch
    if not padded or len(leaf) % padded:
        raise UserCodeError(f"output {index} has {len(leaf)} entries for {padded} samples, which cannot be told apart",
                            "give the model's output a batch dimension, or example inputs of batch 1")
    each = len(leaf) // padded
    return (leaf if each == 1 else leaf.reshape(padded, each, *leaf.shape[1:]))[:rows]


def accuracy(scores: Array, targets: Array) -> Score:
    """Share of rows whose arg max over the last dimension is the target (a mean over positions within a row).

    Raises UserCodeError where the shapes or the targets' kind do not allow it."""
    if targets.dtype.kind not in "iu":
        raise UserCodeError(f"metric accuracy needs integer targets, the data's are {targets.dtype}",
                            "use metric: custom, or {name: …, factory: module:callable}")
    if scores.ndim < 2 or scores.shape[-1] < 2 or scores.shape[:-1] != targets.shape:
        raise UserCodeError(
            f"metric accuracy needs class scores on the last dimension; output is {list(scores.shape)}, targets "
            f"are {list(targets.shape)}", "use metric: custom, or {name: …, factory: module:callable}")
    hits = (scores.argmax(-1) == targets).reshape(len(targets), -1).mean(axis=1)
    return Score(value=float(hits.mean()), per_sample=hits)


def _native(value: Any) -> Any:
    """A tensor where torch is installed: users write their metric for what the model gives."""
    if not isinstance(value, (np.ndarray, np.generic)):
        return value
    try:
        import torch
    except ImportError:
        return value
    return torch.as_tensor(np.array(value))
