"""How much each layer minds being compressed: one layer at a time is treated, the rest of the model stays as it is.

The measure is the error at the model's output (Wu et al., Integer Quantization for Deep Learning Inference, 2020,
section 5.1 do it so with accuracy). Reads what it is given: calibration batches, and validation through `evaluate`.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from harness.compress.outputs import watched
from harness.compress.pt2e import in_calls, rows
from harness.loading import flatten

if TYPE_CHECKING:
    import torch

Treatment = Literal["int8", "prune", "low_rank"]
TREATMENTS: tuple[Treatment, ...] = ("int8", "prune", "low_rank")
EQUAL_DB = 200.0  # outputs that differ by nothing


@dataclass(frozen=True, kw_only=True)
class Effect:
    """`sqnr_db`: 10 log10(Σ y² / Σ (y - y')²) of the worst output over all batches, within ±200. `drop`: what the task
    metric loses on validation, more is worse; None where there is none."""

    sqnr_db: float
    drop: float | None = None


@dataclass(frozen=True, kw_only=True)
class LayerSensitivity:
    """`macs`: multiply-accumulates in one call of the model on the example inputs. `effects`: by treatment; one that
    a layer cannot have (low rank of a grouped convolution) is not in it."""

    name: str
    kind: str
    parameters: int
    macs: int
    effects: Mapping[str, Effect]


def ranked(found: Sequence[LayerSensitivity], treatment: Treatment) -> list[LayerSensitivity]:
    """Those that had this treatment, the most sensitive (lowest SQNR) first."""
    return sorted((one for one in found if treatment in one.effects), key=lambda one: one.effects[treatment].sqnr_db)


def layer_sensitivities(
    model: torch.nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    batches: Sequence[tuple[torch.Tensor, ...]],
    *,
    treatments: Sequence[Treatment] = TREATMENTS,
    evaluate: Callable[[Any], float] | None = None,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> list[LayerSensitivity]:
    """Every linear layer and convolution that the model calls, in its order. Works on a copy of `model` (eval mode).

    int8: weights symmetric per output channel, the layer's output affine per tensor with the range it had over
    `batches`. prune: the half of its weights of least magnitude are zero. low_rank: half of the full rank.

    `batches`: input tuples, the example inputs where there are none; cut into calls of the example inputs' batch
    where the model takes no other. `evaluate(module)`: the task metric, more is better."""
    import torch

    work = copy.deepcopy(model).eval()
    with torch.no_grad():
        calls = _calls(work, example_inputs, batches)
        ranges, macs = _ranges(work, calls), _macs(work, example_inputs)
        wanted = _outputs(work, calls)
        before = evaluate(work) if evaluate is not None else 0.0
        layers = [(name, layer) for name, layer in _layers(work) if layer in ranges]
        found = []
        for index, (name, layer) in enumerate(layers):
            progress(index, len(layers), f"sensitivity of {name}")
            effects: dict[str, Effect] = {}
            for treatment in treatments:
                weight = _treated(layer, treatment)
                if weight is None:
                    continue
                with _weight(layer, weight), _rounded(layer, ranges[layer] if treatment == "int8" else None):
                    drop = before - evaluate(work) if evaluate is not None else None
                    effects[treatment] = Effect(sqnr_db=sqnr_db(wanted, _outputs(work, calls)), drop=drop)
            parameters = sum(p.numel() for p in layer.parameters(recurse=False))
            found.append(LayerSensitivity(name=name, kind=type(layer).__name__, parameters=parameters,
                                          macs=macs.get(layer, 0), effects=effects))
    return found


def sqnr_db(wanted: Sequence[torch.Tensor], have: Sequence[torch.Tensor]) -> float:
    """Signal to error of the worst output leaf."""
    pairs = zip(wanted, have, strict=True)
    return min((_leaf_db(w.detach().double(), h.detach().double()) for w, h in pairs), default=EQUAL_DB)


def _leaf_db(wanted: torch.Tensor, have: torch.Tensor) -> float:
    signal, error = float(wanted.square().sum()), float((wanted - have).square().sum())
    if error == 0:
        return EQUAL_DB
    if not math.isfinite(error) or signal == 0:
        return -EQUAL_DB
    return max(-EQUAL_DB, min(EQUAL_DB, 10 * math.log10(signal / error)))


def _layers(model: Any) -> Iterator[tuple[str, Any]]:
    from torch import nn

    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    return ((name, layer) for name, layer in model.named_modules() if name and isinstance(layer, kinds))


def _calls(model: Any, example_inputs: tuple[Any, ...], batches: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    if not batches:
        return [example_inputs]
    try:
        model(*batches[0])
        return list(batches)
    except Exception:  # a model that fixes its batch; any other trouble shows at the first of the calls
        return in_calls(batches, rows(example_inputs))


def _outputs(model: Any, calls: Sequence[tuple[Any, ...]]) -> list[torch.Tensor]:
    """Each output leaf, all calls one behind the other."""
    import torch

    leaves = [flatten(model(*inputs))[0] for inputs in calls]
    return [torch.cat([one.reshape(-1) for one in leaf]) for leaf in zip(*leaves, strict=True)]


def _ranges(model: Any, calls: Sequence[tuple[Any, ...]]) -> dict[Any, tuple[float, float]]:
    """Smallest and largest output of each layer that is called."""
    found: dict[Any, tuple[float, float]] = {}

    def see(layer: Any, args: Any, output: Any) -> None:
        low, high = found.get(layer, (0.0, 0.0))  # zero can always be represented: padding and ReLU need it
        found[layer] = min(low, float(output.min())), max(high, float(output.max()))

    with watched([layer for _, layer in _layers(model)], see):
        _outputs(model, calls)
    return found


def _macs(model: Any, inputs: tuple[Any, ...]) -> dict[Any, int]:
    """Each element of a convolution's or linear layer's output is a dot product; of a transposed convolution, each
    element of its input is spread over one kernel."""
    found: dict[Any, int] = {}

    def see(layer: Any, args: Any, output: Any) -> None:
        spread = getattr(layer, "transposed", False)
        elements = args[0].numel() if spread else output.numel()
        found[layer] = found.get(layer, 0) + elements * layer.weight.numel() // layer.weight.shape[0]

    with watched([layer for _, layer in _layers(model)], see):
        model(*inputs)
    return found


@contextlib.contextmanager
def _weight(layer: Any, weight: torch.Tensor) -> Iterator[None]:
    before = layer.weight.detach().clone()
    layer.weight.copy_(weight)
    try:
        yield
    finally:
        layer.weight.copy_(before)


@contextlib.contextmanager
def _rounded(layer: Any, span: tuple[float, float] | None) -> Iterator[None]:
    """The layer's output rounded to int8 over `span`; as it is where that is None."""
    import torch

    if span is None:
        yield
        return
    low, high = span
    scale = max((high - low) / 255, 2**-24)
    zero = max(-128, min(127, round(-128 - low / scale)))

    def round_(layer: Any, args: Any, output: Any) -> Any:
        return torch.fake_quantize_per_tensor_affine(output, scale, zero, -128, 127)

    with watched([layer], round_):
        yield


def _treated(layer: Any, treatment: Treatment) -> torch.Tensor | None:
    weight = layer.weight.detach()
    if treatment == "int8":
        return _int8(weight, 1 if getattr(layer, "transposed", False) and layer.groups == 1 else 0)
    if treatment == "prune":
        return _pruned(weight)
    if getattr(layer, "groups", 1) != 1 or getattr(layer, "transposed", False):
        return None
    return _half_rank(weight)


def _int8(weight: torch.Tensor, axis: int) -> torch.Tensor:
    import torch

    others = [d for d in range(weight.dim()) if d != axis]
    scale = (weight.abs().amax(others) / 127).clamp_min(2**-24).float()
    zeros = torch.zeros(len(scale), dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zeros, axis, -127, 127)


def _pruned(weight: torch.Tensor) -> torch.Tensor:
    flat = weight.reshape(-1).clone()
    flat[flat.abs().argsort(stable=True)[: len(flat) // 2]] = 0
    return flat.reshape(weight.shape)


def _half_rank(weight: torch.Tensor) -> torch.Tensor:
    import torch

    u, s, v = torch.linalg.svd(weight.reshape(len(weight), -1).float(), full_matrices=False)
    rank = max(1, len(s) // 2)
    nearest: torch.Tensor = (u[:, :rank] * s[:rank]) @ v[:rank]
    return nearest.reshape(weight.shape).to(weight.dtype)
