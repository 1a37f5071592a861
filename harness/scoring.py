"""The task metric of a model's outputs: the built-in accuracy, or the user's own where it can be imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import HarnessError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Score:
    """`value` of the metric, or why it is absent; `per_sample` where the metric has one (0 or 1 for accuracy)."""

    value: float | None = None
    absent: str | None = None
    per_sample: Array | None = None


def flat_calls(outputs: Sequence[Array], samples: int) -> list[Array]:
    """(calls, batch, …) per leaf -> (samples, …): the padding of the last call dropped."""
    return [leaf.reshape(-1, *leaf.shape[2:])[:samples] if leaf.ndim > 1 else leaf[:samples] for leaf in outputs]


def accuracy(outputs: Sequence[Array], targets: Array) -> Score:
    """The share of samples whose largest output is the target; outputs[0]: (samples, …, classes)."""
    right = (outputs[0].argmax(axis=-1).reshape(-1) == targets.reshape(-1)).astype(np.uint8)
    return Score(value=float(right.mean()), per_sample=right)


def structured(leaves: Sequence[Any], structure: Any) -> Any:
    """The leaves in the eager model's structure (types.CheckSet.structure)."""
    if isinstance(structure, int):
        return leaves[structure]
    if isinstance(structure, Mapping):
        return {key: structured(leaves, value) for key, value in structure.items()}
    return tuple(structured(leaves, value) for value in structure)


def custom(outputs: Sequence[Array], targets: Array, structure: Any, data: Mapping[str, Any], folder: Path) -> Score:
    """The user's metric, where their code and torch can be imported; otherwise absent with the reason."""
    spec = data["metric"]
    try:
        from harness.loading import import_factory
    except ImportError as error:
        return Score(absent=f"the metric {spec['name']!r} needs {error.name} on this host")
    try:
        import torch

        metric = import_factory(spec["factory"], folder) if spec.get("factory") else None
        if metric is None:
            mapping = import_factory(data["factory"], folder)(**data.get("kwargs", {}))
            metric = mapping.get("metric")
            if metric is None:
                return Score(absent="the data mapping has no metric")
        leaves = [torch.from_numpy(np.ascontiguousarray(leaf)) for leaf in outputs]
        goal = torch.from_numpy(np.ascontiguousarray(targets))
        answer = structured(leaves, structure)
        value = float(metric(answer, goal))
        each = None
        if spec.get("per_sample"):
            each = np.asarray(import_factory(spec["per_sample"], folder)(answer, goal), dtype="<f8").reshape(-1)
    except ImportError as error:
        return Score(absent=f"the metric {spec['name']!r} needs {error.name} on this host")
    except HarnessError as error:
        return Score(absent=f"the metric {spec['name']!r} is not on this host: {error.what}")
    except Exception as error:  # the user's code may raise anything; the measurement stands without it
        return Score(absent=f"the metric {spec['name']!r} failed: {type(error).__name__}: {error}"[:500])
    if not np.isfinite(value):
        return Score(absent=f"the metric {spec['name']!r} is not finite")
    return Score(value=value, per_sample=each)
