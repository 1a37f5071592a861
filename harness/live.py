"""A live `torch.nn.Module` -> a package around its `.pte`: exported here, checked against what the module itself gives.

Nothing of the caller's module is changed: a copy of it, on the CPU and in eval mode, is what is exported.
"""

from __future__ import annotations

import copy
import logging
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import HarnessError, UsageError, UserCodeError
from harness.experiment import NAME, Measure
from harness.loading import check_forward, dtype_name, first_line, flatten, require_torch
from harness.package import SCHEMA, Files
from harness.quiet import quiet, stdout_to_stderr
from harness.samples import Samples, check_set, samples_of
from harness.types import INPUT_DTYPES, Build, Package, Precision, TensorFile, TensorSpec

if TYPE_CHECKING:
    import torch

    from harness.interfaces import Compressed

BACKENDS = ("xnnpack", "portable")
OBJECTIVES = ("latency_ms", "peak_memory_bytes", "size_bytes")


def exported(
    module: torch.nn.Module,
    inputs: Any,
    *,
    measure: Measure,
    device: str,
    files: Files,
    expect: Any = None,
    backend: str = "xnnpack",
    min_sqnr_db: float | None = None,
) -> Package:
    """The module as a `.pte` in `files`, ready for `pipeline.run_package` on the device of this name.

    `inputs`: the tensors or arrays of one call, batch dimension included. `expect`: what the device must give (nested
    as the module's output); default what the module itself gives on these inputs, in eval mode. The outputs are
    checked by the module's precision: 60 dB for fp32, 40 for half, dynamic and 4-bit; static int8 has no calibration
    data here (5 dB, and a caveat below 25). `min_sqnr_db` replaces that floor.

    Raises UsageError for arguments that cannot be used, UserCodeError where the module cannot be run or exported."""
    require_torch()
    if backend not in BACKENDS:
        raise UsageError(f"backend {backend!r} is not one that a model can be exported for", " or ".join(BACKENDS))
    case = _tensors(inputs)
    with _no_noise():
        model = _copied(module)
        samples = samples_of(None, case, None, without_data=True)
        structure, leaves, specs = _answers(model, samples)
        if expect is not None:
            leaves = _expected(expect, leaves)
        files.folder.mkdir(parents=True, exist_ok=True)
        build, nulls, null_input = _built(model, case, backend, files.folder)
    name = _name(module)
    check = check_set("default", samples, structure, files.folder)
    experiment: Mapping[str, Any] = {
        "name": name,
        "data": None,
        "reference": name,
        "measure": measure.model_dump(mode="json"),
        "check": {} if min_sqnr_db is None else {"min_sqnr_db": float(min_sqnr_db)},
        "objectives": list(OBJECTIVES),
        "pick": None,
        "devices": [device],
    }
    return Package(
        schema=SCHEMA,
        experiment=experiment,
        yaml="",
        builds=(replace(build, variant=name, expected=_written(leaves, specs, files.folder)),),
        checks={"default": check},
        nulls=nulls,
        null_input=null_input,
        toolchain=build.artifact.toolchain if build.artifact else {},
    )


def arrays(values: Any, what: str) -> tuple[np.ndarray[Any, Any], ...]:
    """One tensor or array, or several, as arrays of the caller's own values (no copy where none is needed).

    Raises UsageError for what is neither."""
    several = values if isinstance(values, tuple | list) else (values,)
    found = [_array(value) for value in several]
    for index, array in enumerate(found):
        if array is None:
            raise UsageError(
                f"{what}[{index}] is {type(several[index]).__name__}, not a tensor or an array",
                f"{what}=(x,): the tensors of one call, in the order of forward's arguments, with the batch dimension; "
                "where it takes others, wrap the model in one that takes tensors",
            )
        if array.size == 0:
            raise UsageError(f"{what}[{index}] of shape {list(array.shape)} is empty", "every dimension is at least 1")
    return tuple(array for array in found if array is not None)


def fed(values: Any) -> tuple[np.ndarray[Any, Any], ...]:
    """`arrays`, each of a dtype that runners take. Raises UsageError for another."""
    found = arrays(values, "inputs")
    if not found:
        raise UsageError("inputs is empty", "inputs=(x,): the tensors of one call, with the batch dimension")
    for index, array in enumerate(found):
        if array.dtype.name not in INPUT_DTYPES:
            raise UsageError(
                f"inputs[{index}] is {array.dtype.name}; a runner takes {', '.join(INPUT_DTYPES)}",
                "x.float() of a tensor, or x.astype('float32') of an array" if array.dtype.kind == "f" else None,
            )
    return found


def _array(value: Any) -> np.ndarray[Any, Any] | None:
    if isinstance(value, np.ndarray):
        return value
    if not hasattr(value, "detach"):
        return None
    try:
        return np.asarray(value.detach().cpu().numpy())
    except (TypeError, RuntimeError) as error:  # a dtype or a layout that numpy has not
        raise UsageError(f"a tensor of {str(value.dtype).removeprefix('torch.')} cannot be fed: {first_line(error)}",
                         f"a runner takes {', '.join(INPUT_DTYPES)}") from error


def _tensors(inputs: Any) -> tuple[torch.Tensor, ...]:
    """Copies: a model may change its inputs in place, and the caller's are the caller's."""
    import torch

    if inputs is None:
        raise UsageError(
            "a model is exported for the inputs of one call, and none are given",
            "inputs=(torch.randn(1, 3, 224, 224),)",
        )
    return tuple(torch.from_numpy(np.array(array, order="C")) for array in fed(inputs))


def _copied(module: Any) -> Any:
    """The module on the CPU, in eval mode. Raises UserCodeError where it cannot be copied, or never exported."""
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        raise UserCodeError("a scripted or traced module cannot be exported", "give the module that it was made of")
    try:
        model = copy.deepcopy(module).cpu()
    except Exception as error:  # a module may hold anything
        raise UserCodeError(f"{_called(module)} cannot be copied: {first_line(error)}") from error
    with suppress(NotImplementedError):  # a module that torch.export made has one mode, and keeps it
        model.eval()
    return model


def _answers(model: Any, samples: Samples) -> tuple[Any, list[np.ndarray[Any, Any]], list[TensorSpec]]:
    """The output's structure, its leaves and their shapes. Raises UserCodeError."""
    import torch

    from harness.build.steps import answers

    def fresh() -> Samples:
        return replace(samples, inputs=tuple(array.copy() for array in samples.inputs))

    try:  # on copies: a module may change itself in forward, and the device is asked for its first answer
        output = check_forward(copy.deepcopy(model), tuple(torch.from_numpy(array) for array in fresh().inputs))
    except UserCodeError as error:
        hint = "check inputs= (shape with the batch dimension, and dtype)"
        raise UserCodeError(f"{_called(model)}: {error.what}", hint) from error
    leaves, structure = flatten(output)
    for index, leaf in enumerate(leaves):
        dtype_name(leaf, f"output {index}")
    if not leaves:
        raise UserCodeError(f"{_called(model)} gives no tensor", "return what is to be measured and checked")
    return structure, *answers(copy.deepcopy(model), fresh())


def _expected(expect: Any, own: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """The caller's outputs, in the dtypes of the module's own. Raises UsageError where they cannot be compared."""
    given = arrays(_leaves(expect), "expect")
    if len(given) != len(own):
        raise UsageError(f"expect has {len(given)} outputs, the model has {len(own)}", "one for each output, in order")
    for index, (theirs, ours) in enumerate(zip(given, own, strict=True)):
        if theirs.shape != ours.shape:
            raise UsageError(
                f"expect[{index}] has the shape {list(theirs.shape)}, the model's output {list(ours.shape)}"
            )
        if not np.can_cast(theirs.dtype, ours.dtype, "same_kind"):
            raise UsageError(f"expect[{index}] is {theirs.dtype.name}, the model's output {ours.dtype.name}")
    return [theirs.astype(ours.dtype) for theirs, ours in zip(given, own, strict=True)]


def _leaves(value: Any) -> list[Any]:
    """In the order in which a module's outputs are flattened (loading.flatten): dicts in insertion order."""
    if isinstance(value, Mapping):
        return [leaf for item in value.values() for leaf in _leaves(item)]
    if isinstance(value, tuple | list):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value]


def _built(
    model: Any, case: tuple[torch.Tensor, ...], backend: str, folder: Path
) -> tuple[Build, Mapping[str, Any], TensorFile]:
    """The exported file without its expected outputs, and the empty model beside it. Raises UserCodeError."""
    from harness.build.job import keep, null_input, nulls
    from harness.build.steps import facts
    from harness.export.executorch import ExecuTorch
    from harness.interfaces import Compressed

    exporter = ExecuTorch()
    precision = precision_of(model)
    compressed = Compressed(module=model, form=_form(model, precision), example_inputs=case, precision=precision)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as part:
        out = Path(part) / "model.pte"
        try:
            made = exporter.export(compressed, exporter.Params(backend=backend), out)
        except HarnessError as error:
            raise UserCodeError(f"{_called(model)}: {error.what}", error.hint) from error
        artifact = keep(out, exporter, folder)
    build = Build(
        variant="",
        seed=0,
        exporter="executorch",
        backend=backend,
        input="default",
        status="ok",
        precision=precision,
        built=True,
        artifact=artifact,
        facts=_counted(facts, compressed, case) | dict(made.facts),
    )
    return build, nulls(["executorch"], folder), null_input(folder)


def _counted(
    facts: Callable[..., dict[str, Any]], model: Compressed, case: tuple[torch.Tensor, ...]
) -> dict[str, Any]:
    """Parameters, MACs and layers; nothing where this module's cannot be counted (they are then absent)."""
    try:
        return facts(model, model, tuple(tensor.clone() for tensor in case))
    except Exception:  # any module comes here, and what is counted only explains
        return {}


def precision_of(module: Any) -> Precision:
    """What the output check must allow for: by the operations and the weights that the module has.

    `dynamic`: scales that are found at run time, or weights alone that are quantized (torchao's tensors)."""
    operations = {str(node.target) for part in module.modules() for node in _nodes(part)}
    quantized = [name for name in operations if name.startswith(("quantized_decomposed.", "torchao.", "pt2e."))]
    if any("choose_qparams" in name for name in quantized):
        return "dynamic"
    if any(".quantize_per" in name for name in quantized):
        return "static_int8"
    tensors = [*module.parameters(), *module.buffers()]
    if quantized or any(type(t).__module__.startswith("torchao.") for t in tensors + [p.data for p in tensors]):
        return "dynamic"
    return "fp16" if any(t.is_floating_point() and t.element_size() == 2 for t in tensors) else "fp32"


def _nodes(part: Any) -> Any:
    graph = getattr(part, "graph", None)
    return getattr(graph, "nodes", ())


def _form(model: Any, precision: Precision) -> str:
    """As `Exporter.accepts` names it: portable kernels have no quantized arithmetic, and refuse that form."""
    return "exported:xnnpack" if precision in ("static_int8", "dynamic") and list(_nodes(model)) else "eager"


def _written(
    leaves: Sequence[np.ndarray[Any, Any]], specs: Sequence[TensorSpec], folder: Path
) -> tuple[TensorFile, ...]:
    from harness.build.steps import write_answers

    return write_answers(leaves, specs, folder)


def _called(module: Any) -> str:
    return type(module).__name__


def _name(module: Any) -> str:
    """The variant: the class, as far as a name may hold it."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", _called(module).lstrip("_"))[:100]
    return name if re.fullmatch(NAME, name) else "model"


@contextmanager
def _no_noise() -> Iterator[None]:
    """What torch and ExecuTorch print and log goes nowhere, also where they fail: the error says what matters."""
    failed: HarnessError | None = None
    trace = logging.getLogger("torch.__trace")  # hundreds of records, and not to be switched off with the others
    before = logging.root.manager.disable, trace.disabled
    with quiet(), stdout_to_stderr():
        logging.disable(logging.CRITICAL)
        trace.disabled = True
        try:
            yield
        except HarnessError as error:
            failed = error
        finally:
            logging.disable(before[0])
            trace.disabled = before[1]
    if failed is not None:
        raise failed
