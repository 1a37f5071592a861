"""fp16 inside, the baseline's dtypes at the ends."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from harness.errors import HarnessError


def halved(module: Any, inputs: tuple[Any, ...]) -> Any:
    """`module` (eval mode, batch norms folded: their variances may be beyond fp16) in a wrapper that casts floating
    inputs to fp16 and outputs back to the dtypes they had. Changes `module`.

    Raises HarnessError where a weight or an output for `inputs` is finite in fp32 and not in fp16 (above 65504)."""
    import torch
    from torch.utils._pytree import tree_leaves

    with torch.no_grad():
        before = tree_leaves(module(*inputs))
    finite = {name: bool(t.isfinite().all()) for name, t in module.state_dict().items()}
    module.half()
    for name, tensor in module.state_dict().items():
        if finite[name] and not tensor.isfinite().all():
            raise HarnessError(f"quantize_pt2e: {name} has values that fp16 cannot hold (above 65504)",
                               "scale the weights or the inputs of this layer down")
    wrapped = _wrapper()(module, [t.dtype for t in before])
    with torch.no_grad():
        after = tree_leaves(wrapped(*inputs))
    if any(a.is_floating_point() and b.isfinite().all() and not a.isfinite().all()
           for a, b in zip(after, before, strict=True)):
        raise HarnessError("quantize_pt2e: in fp16 the outputs for the example inputs are not finite",
                           "values inside the model go above 65504: scale its inputs, or use another scheme")
    return wrapped.eval()


@functools.cache
def _wrapper() -> Callable[..., Any]:
    """The class of the wrapper: made once, since torch is only imported here."""
    import torch
    from torch.utils._pytree import tree_flatten, tree_unflatten

    class Half(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module, dtypes: list[torch.dtype]) -> None:
            super().__init__()
            self.inner = inner
            self.dtypes = dtypes

        def forward(self, *inputs: torch.Tensor) -> Any:
            output = self.inner(*[t.half() if t.is_floating_point() else t for t in inputs])
            leaves, structure = tree_flatten(output)
            return tree_unflatten([t.to(d) for t, d in zip(leaves, self.dtypes, strict=True)], structure)

    return Half


def wrapped_shapes(inner: Any, shapes: Any) -> Any:
    """torch.export's dynamic shapes of `inner` as those of the wrapper around it, whose forward takes `*inputs`."""
    if shapes is None:
        return None
    parameters = inspect.signature(inner.forward).parameters
    star = next((name for name, p in parameters.items() if p.kind is p.VAR_POSITIONAL), None)
    if star is not None:
        return (shapes[star],) if isinstance(shapes, dict) else shapes
    each = [shapes[name] for name in parameters if name in shapes] if isinstance(shapes, dict) else shapes
    return (tuple(each),)
