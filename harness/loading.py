"""The user's code: `module:callable` -> model, example inputs, outputs. The edge where users' errors are mapped.

Whatever raises in here becomes a UserCodeError that names the user's file and line. torch is imported inside
functions: a metric of the user's own is loaded by this file on hosts without torch.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import fingerprint
from harness.errors import ToolchainError, UserCodeError
from harness.types import DTYPES

if TYPE_CHECKING:
    import torch

    from harness.experiment import Experiment, Inputs

#: module name -> hash of its file when it was imported, for the modules of users' folders
_imported: dict[str, str] = {}


def roots(folder: Path) -> tuple[Path, ...]:
    """Where users' modules are looked for: the YAML's folder, then the working folder."""
    return tuple(dict.fromkeys((Path(folder).resolve(), Path.cwd())))


def import_factory(text: str, folder: Path) -> Callable[..., Any]:
    """The callable that `module:callable` names; the YAML's folder and the working folder come first on sys.path.

    Raises UserCodeError where the module cannot be imported or has no such callable."""
    name, _, attribute = text.partition(":")
    where = roots(folder)
    for path in reversed([str(p) for p in where]):
        if path in sys.path:
            sys.path.remove(path)
        sys.path.insert(0, path)
    _forget_changed(name, where)
    with user_code(f"factory {text!r} cannot be imported", where), _no_bytecode():
        importlib.invalidate_caches()
        module = importlib.import_module(name)
    _remember(where)
    found = getattr(module, attribute, None)
    if not callable(found):
        raise UserCodeError(
            f"factory {text!r}: module {name!r} has no callable {attribute!r}",
            _nearest(attribute, [n for n in vars(module) if callable(getattr(module, n)) and n[0] != "_"]),
        )
    result: Callable[..., Any] = found
    return result


def _nearest(name: str, known: list[str]) -> str | None:
    from harness.metrics import nearest

    return nearest(name, known) if known else None


def _forget_changed(name: str, where: tuple[Path, ...]) -> None:
    """Drops what was imported from a file of this name elsewhere, or before it was edited."""
    known = {n: m for n, m in list(sys.modules.items()) if n in _imported}
    stale = False
    for module, loaded in known.items():
        file = fingerprint.resolve(module, where)
        origin = Path(getattr(loaded, "__file__", None) or "")
        stale |= file is not None and (file != origin or fingerprint.of_file(file) != _imported[module])
    first = sys.modules.get(name)
    file = fingerprint.resolve(name, where)
    if first is not None and name not in _imported and file is not None and not name.startswith("harness"):
        stale |= Path(getattr(first, "__file__", None) or "") != file
        if stale:
            del sys.modules[name]
    if stale:
        for module in known:
            sys.modules.pop(module, None)
            _imported.pop(module, None)


def _remember(where: tuple[Path, ...]) -> None:
    folders = tuple(f"{root}{os.sep}" for root in where)
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name in _imported or not file or not file.startswith(folders) or "site-packages" in file:
            continue
        if name.partition(".")[0] not in ("harness", "__main__", "tests", "conftest") and Path(file).is_file():
            _imported[name] = fingerprint.of_file(Path(file))


@contextlib.contextmanager
def _no_bytecode() -> Iterator[None]:
    """Users' folders stay clean, and an edit within the same second is seen (a .pyc knows only mtime and size)."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


@contextlib.contextmanager
def user_code(doing: str, where: tuple[Path, ...] = (), hint: str | None = None) -> Iterator[None]:
    """Maps whatever the user's code raises to a UserCodeError with the exception, its file and line."""
    try:
        yield
    except UserCodeError:
        raise
    except (Exception, SystemExit) as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
        theirs = [
            f
            for f in frames
            if any(Path(f.filename).is_relative_to(root) for root in where)
            and "site-packages" not in f.filename
            and Path(f.filename).parent.name != "harness"
        ]
        at = f" ({_shown(theirs[-1].filename, where)}:{theirs[-1].lineno})" if theirs else ""
        if isinstance(error, SyntaxError) and error.filename:
            at = f" ({_shown(error.filename, where)}:{error.lineno})"
        raise UserCodeError(f"{doing}: {first_line(error)}{at}", hint or _import_hint(error)) from error


def _shown(file: str, where: tuple[Path, ...]) -> str:
    """Below the YAML's or the working folder, else the bare name: reasons travel into reports, and name no home."""
    path = Path(file)
    return next((str(path.relative_to(root)) for root in where if path.is_relative_to(root)), path.name)


def first_line(error: BaseException) -> str:
    """`Type: first line of the message`, short."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def _import_hint(error: BaseException) -> str | None:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"put {error.name}.py beside the YAML or in the working folder, or install the package that provides it"
    return None


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Fixed random state for torch (where there is one), numpy and random inside; what was there before comes back
    afterwards."""
    import numpy

    before_python, before_numpy = random.getstate(), numpy.random.get_state()
    with contextlib.ExitStack() as afterwards:
        with contextlib.suppress(ImportError):
            import torch

            afterwards.enter_context(torch.random.fork_rng())
            torch.manual_seed(seed)
        try:
            numpy.random.seed(seed % 2**32)
            random.seed(seed)
            yield
        finally:
            random.setstate(before_python)
            numpy.random.set_state(before_numpy)


def require_torch() -> None:
    """Raises ToolchainError with the remedy on a host without the `compress` extra."""
    try:
        import torch  # noqa: F401  # only whether it can be imported
    except ImportError as error:
        raise ToolchainError(
            "compressing and exporting need torch, which is not installed", 'pip install "ondevice-harness[compress]"'
        ) from error


def load_model(experiment: Experiment) -> torch.nn.Module:
    """The baseline in eval mode: factory(**kwargs) under a fixed seed, then its weights.

    Raises UserCodeError where factory or weights cannot be used."""
    require_torch()
    import torch

    from harness.weights import load_weights

    spec, folder = experiment.model, Path(experiment.folder)
    factory = import_factory(spec.factory, folder)
    with seeded(0), user_code(f"model factory {spec.factory!r} failed", roots(folder)), _no_bytecode():
        model = factory(**spec.kwargs)
    if not isinstance(model, torch.nn.Module):
        raise UserCodeError(
            f"model factory {spec.factory!r} returned {type(model).__name__}, not a torch.nn.Module",
            "return the model itself, e.g. `return Net()`",
        )
    if spec.weights is not None:
        model = load_weights(model, folder / spec.weights, spec.allow_pickle)
    _remember(roots(folder))
    return model.eval()


def example_inputs(inputs: Inputs, folder: Path) -> tuple[torch.Tensor, ...]:
    """One call's inputs of a case: floats uniform in [-1, 1) by a fixed seed, integers 0, bool False.

    Raises UserCodeError where the factory fails or returns anything but tensors of the known dtypes."""
    import torch

    if inputs.factory is None:
        dtypes = inputs.dtypes or ["float32"]
        if len(dtypes) == 1:
            dtypes = dtypes * len(inputs.all_shapes)
        generator = torch.Generator().manual_seed(0)
        return tuple(_filled(s, d, generator) for s, d in zip(inputs.all_shapes, dtypes, strict=True))
    factory = import_factory(inputs.factory, folder)
    with seeded(0), user_code(f"example inputs {inputs.factory!r} failed", roots(folder)):
        made = factory(**inputs.kwargs)
    made = (made,) if isinstance(made, torch.Tensor) else made
    if not isinstance(made, (tuple, list)) or not made or not all(isinstance(t, torch.Tensor) for t in made):
        raise UserCodeError(
            f"example inputs {inputs.factory!r} returned {type(made).__name__}, not a tuple of tensors",
            "return the tuple that the model is called with",
        )
    for index, tensor in enumerate(made):
        dtype_name(tensor, f"example input {index}")
    return tuple(t.detach().cpu().contiguous() for t in made)


def _filled(shape: list[int], dtype: str, generator: torch.Generator) -> torch.Tensor:
    import torch

    kind = getattr(torch, dtype)
    if kind.is_floating_point:
        return (torch.rand(shape, generator=generator) * 2 - 1).to(kind)
    return torch.zeros(shape, dtype=kind)


def dtype_name(tensor: torch.Tensor, what: str) -> str:
    """The dtype's name of the runner's wire format. Raises UserCodeError for a dtype that it has not."""
    name = str(tensor.dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise UserCodeError(f"{what} is {name}; devices take {', '.join(DTYPES)}", "convert it inside the model")
    return name


def check_forward(model: Callable[..., Any], inputs: tuple[torch.Tensor, ...]) -> Any:
    """One forward pass in eval mode; its output, which `flatten` then takes.

    Raises UserCodeError `the model cannot be run on [1, 3] (float32)` where it fails."""
    import torch

    shapes = ", ".join(f"{list(t.shape)} ({str(t.dtype).removeprefix('torch.')})" for t in inputs)
    with (
        seeded(0),
        torch.no_grad(),
        user_code(
            f"the model cannot be run on {shapes}",
            hint="check example_inputs (shape with the batch dimension, and dtype)",
        ),
    ):
        return model(*inputs)


def flatten(output: Any) -> tuple[list[torch.Tensor], Any]:
    """The output's tensors in pytree order (dicts in insertion order) and its structure: JSON with leaf indices.

    Raises UserCodeError for anything that is not a tensor, dict, tuple or list."""
    leaves: list[torch.Tensor] = []
    return leaves, _flatten(output, leaves, "the output")


def _flatten(value: Any, leaves: list[torch.Tensor], where: str) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        leaves.append(value)
        return len(leaves) - 1
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _flatten(item, leaves, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_flatten(item, leaves, f"{where}[{i}]") for i, item in enumerate(value)]
    raise UserCodeError(
        f"{where} of the model is {type(value).__name__}, not a tensor",
        "only tensors, in dicts, tuples or lists, can cross to a device; wrap the model",
    )


def unflatten(structure: Any, leaves: list[Any]) -> Any:
    """The eager model's structure again (lists stand for tuples) with these leaves."""
    if isinstance(structure, Mapping):
        return {key: unflatten(item, leaves) for key, item in structure.items()}
    if isinstance(structure, (list, tuple)):
        return tuple(unflatten(item, leaves) for item in structure)
    return leaves[structure]
