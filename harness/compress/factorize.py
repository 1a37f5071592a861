"""One layer as a chain of smaller ones: by SVD, Tucker-2 or CP.

svd: the weight as a matrix O x (I·k·k), the product of two thinner ones: a convolution of the same kernel to r
channels, then one of kernel 1 (Zhang et al., Accelerating Very Deep Convolutional Networks, 2016); a Linear becomes
two. tucker: kernel 1 to r2 channels, the same kernel to r1, kernel 1 (Kim et al., Compression of Deep Convolutional
Neural Networks, 2016). cp: kernel 1 to r channels, along each axis a depthwise convolution, kernel 1 (Lebedev et al.,
Speeding-up Convolutional Neural Networks Using Fine-tuned CP-Decomposition, 2015). Where a layer has no kernel (Linear,
kernel 1) both are the SVD.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Collection
from typing import Any, Literal, Protocol

from harness.compress.ranks import ENERGY, rank_for, smallest

Method = Literal["svd", "tucker", "cp"]
TRIED = 32  # ranks of cp among which an energy chooses, evenly up to the largest that pays


class Factorization(Protocol):
    """One layer, and the shape of the input that it was called with."""

    layer: Any
    shape: tuple[int, ...]

    def ranks(self, asked: Any) -> tuple[int, ...] | None:
        """What `asked` (energy, rank, ratio) means here; None where no rank that pays has that energy."""
        ...

    def parts(self, ranks: tuple[int, ...]) -> list[Any]:
        """The layers of the chain, without values (on the meta device). Only the last may have a bias."""
        ...

    def weights(self, ranks: tuple[int, ...]) -> list[Any]:
        """Their weights, in any shape of the right number of elements."""
        ...


def factorization(layer: Any, shape: tuple[int, ...], method: Method, seed: int) -> Factorization:
    if math.prod(getattr(layer, "kernel_size", (1,))) == 1 or method == "svd":
        return Svd(layer, shape)
    return Tucker(layer, shape) if method == "tucker" else Cp(layer, shape, seed)


def built(found: Factorization, ranks: tuple[int, ...]) -> Any:
    """The chain in the layer's place: an nn.Sequential of its dtype, frozen where it was."""
    from torch import nn

    layer = found.layer
    parts = [part.to_empty(device=layer.weight.device) for part in found.parts(ranks)]
    for part, weight in zip(parts, found.weights(ranks), strict=True):
        part.weight.copy_(weight.reshape(part.weight.shape))
    if layer.bias is not None:
        parts[-1].bias.copy_(layer.bias)
    return nn.Sequential(*parts).requires_grad_(layer.weight.requires_grad).train(layer.training)


def pays(found: Factorization, ranks: tuple[int, ...]) -> bool:
    """Whether the chain has fewer parameters and fewer multiply-accumulates than the layer. (Behind a stride, Tucker's
    first convolution still runs over the whole input: it may save the one and not the other.)"""
    before, after = _cost([copy.deepcopy(found.layer).to("meta")], found.shape), _cost(found.parts(ranks), found.shape)
    return all(new < old for new, old in zip(after, before, strict=True))


def _cost(layers: list[Any], shape: tuple[int, ...]) -> tuple[int, int]:
    """Parameters, and multiply-accumulates in one call: each element of an output is a dot product."""
    import torch

    x = torch.empty(shape, device="meta", dtype=layers[0].weight.dtype)
    parameters = macs = 0
    for layer in layers:
        x = layer(x)
        parameters += sum(p.numel() for p in layer.parameters())
        macs += x.numel() * layer.weight.numel() // len(layer.weight)
    return parameters, macs


def _along(layer: Any, axes: Collection[int], inputs: int, outputs: int, groups: int = 1, bias: bool = False) -> Any:
    """A convolution with the layer's kernel, stride, padding and dilation along these axes, and kernel 1 along the
    others."""
    if not axes:
        return type(layer)(inputs, outputs, 1, bias=bias, device="meta", dtype=layer.weight.dtype)

    def pick(values: tuple[int, ...], other: int) -> tuple[int, ...]:
        return tuple(value if axis in axes else other for axis, value in enumerate(values))

    return type(layer)(
        inputs, outputs, pick(layer.kernel_size, 1), stride=pick(layer.stride, 1), dilation=pick(layer.dilation, 1),
        padding=layer.padding if isinstance(layer.padding, str) else pick(layer.padding, 0), groups=groups, bias=bias,
        padding_mode=layer.padding_mode, device="meta", dtype=layer.weight.dtype)


def _axes(layer: Any) -> range:
    return range(len(layer.kernel_size))


class Svd:
    def __init__(self, layer: Any, shape: tuple[int, ...]) -> None:
        import torch

        self.layer, self.shape = layer, shape
        self._u, self._s, self._v = torch.linalg.svd(layer.weight.detach().flatten(1).float(), full_matrices=False)

    def ranks(self, asked: Any) -> tuple[int, ...]:
        return (rank_for(self._s, asked),)

    def parts(self, ranks: tuple[int, ...]) -> list[Any]:
        from torch import nn

        (rank,), layer, bias = ranks, self.layer, self.layer.bias is not None
        if isinstance(layer, nn.Linear):
            like: dict[str, Any] = {"device": "meta", "dtype": layer.weight.dtype}
            return [nn.Linear(layer.in_features, rank, bias=False, **like),
                    nn.Linear(rank, layer.out_features, bias=bias, **like)]
        return [_along(layer, _axes(layer), layer.in_channels, rank),
                _along(layer, (), rank, layer.out_channels, bias=bias)]

    def weights(self, ranks: tuple[int, ...]) -> list[Any]:
        (rank,) = ranks
        root = self._s[:rank].sqrt()  # both of the same scale, since one rate is to train both
        return [root[:, None] * self._v[:rank], self._u[:, :rank] * root]


class Tucker:
    """ranks: (outputs, inputs) of the core."""

    def __init__(self, layer: Any, shape: tuple[int, ...]) -> None:
        import torch

        self.layer, self.shape, self._weight = layer, shape, layer.weight.detach().float()
        self._spectra = [torch.linalg.svdvals(self._weight.transpose(0, mode).flatten(1)) for mode in (0, 1)]

    def ranks(self, asked: Any) -> tuple[int, ...]:
        """Each mode's from the singular values of its unfolding; neither above what the other one's can feed."""
        outputs, inputs = (rank_for(values, asked) for values in self._spectra)
        kernel = math.prod(self.layer.kernel_size)
        return min(outputs, inputs * kernel), min(inputs, outputs * kernel)

    def parts(self, ranks: tuple[int, ...]) -> list[Any]:
        layer, (outputs, inputs) = self.layer, ranks
        return [_along(layer, (), layer.in_channels, inputs), _along(layer, _axes(layer), inputs, outputs),
                _along(layer, (), outputs, layer.out_channels, bias=layer.bias is not None)]

    def weights(self, ranks: tuple[int, ...]) -> list[Any]:
        import tensorly
        from tensorly.decomposition import partial_tucker

        with tensorly.backend_context("pytorch", local_threadsafe=True):
            (core, (outer, inner)), _ = partial_tucker(self._weight, rank=list(ranks), modes=[0, 1], init="svd",
                                                       random_state=0)
        return [inner.T, core, outer]


class Cp:
    """ranks: (r,). In double precision: the normal equations of alternating least squares are badly conditioned."""

    def __init__(self, layer: Any, shape: tuple[int, ...], seed: int) -> None:
        self.layer, self.shape, self._weight = layer, shape, layer.weight.detach().double()
        self._seed = seed
        self._found: dict[int, tuple[list[Any], float]] = {}

    def ranks(self, asked: Any) -> tuple[int, ...] | None:
        if asked.rank is not None:
            return (int(asked.rank),)
        if asked.ratio is not None:
            return (max(1, math.floor(float(asked.ratio) * min(self._weight.flatten(1).shape))),)
        energy = asked.energy if asked.energy is not None else ENERGY
        tried = self._tried
        if not tried:
            return None
        rank = tried[smallest(-1, len(tried) - 1, lambda i: self._decomposed(tried[i])[1] >= energy)]
        return (rank,) if self._decomposed(rank)[1] >= energy else None

    @functools.cached_property
    def _tried(self) -> list[int]:
        """Ranks up to the largest that pays: each of them takes a decomposition, hence not all."""
        largest = smallest(0, self._weight.numel(), lambda rank: not pays(self, (rank,))) - 1
        return sorted({math.ceil(largest * i / TRIED) for i in range(1, TRIED + 1)} - {0})

    def parts(self, ranks: tuple[int, ...]) -> list[Any]:
        layer, (rank,) = self.layer, ranks
        return [_along(layer, (), layer.in_channels, rank),
                *(_along(layer, (axis,), rank, rank, groups=rank) for axis in _axes(layer)),
                _along(layer, (), rank, layer.out_channels, bias=layer.bias is not None)]

    def weights(self, ranks: tuple[int, ...]) -> list[Any]:
        (outer, inner, *kernels), _ = self._decomposed(*ranks)
        return [inner.T, *(kernel.T for kernel in kernels), outer]

    def _decomposed(self, rank: int) -> tuple[list[Any], float]:
        """The factors (outputs, inputs and each axis of the kernel, x rank), and the share of the energy that their
        product has."""
        if rank not in self._found:
            self._found[rank] = self._decompose(rank)
        return self._found[rank]

    def _decompose(self, rank: int) -> tuple[list[Any], float]:
        import tensorly
        from tensorly.decomposition import parafac

        with tensorly.backend_context("pytorch", local_threadsafe=True):
            found = parafac(self._weight, rank=rank, init="svd", random_state=self._seed)
            error = self._weight - tensorly.cp_to_tensor(found)
        energy = 1 - float(error.square().sum() / self._weight.square().sum().clamp_min(1e-300))
        weights, factors = found
        norms = [factor.norm(dim=0).clamp_min(1e-300) for factor in factors]
        scale = (weights * math.prod(norms)) ** (1 / len(factors))  # all of the same scale, as with the SVD
        return [factor / norm * scale for factor, norm in zip(factors, norms, strict=True)], energy
