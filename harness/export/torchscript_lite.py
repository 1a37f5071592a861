"""torchscript_lite: a `.ptl` for libtorch's lite interpreter, by tracing; by scripting only where tracing cannot.

A file counts only after a fresh process that imports nothing but torch has loaded it, run it and given what the
eager model gives: a file may load here only because some import has registered its operators.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from harness.errors import HarnessError
from harness.interfaces import Compressed, Exported, Exporter
from harness.loading import first_line, flatten
from harness.quiet import quiet
from harness.types import DeviceFacts

TIMEOUT_S = 300.0
CLOSE = 1e-3  # share of the largest output; both sides are fp32, 60 dB

#: file of the archive that names the engine for quantized kernels; the runner reads it before it loads the rest
ENGINE_FILE = "quantized_engine"

#: argv: file, inputs, outputs, engine (or nothing). `-I`: no user site, no working folder on sys.path
TEST_LOAD = """
import sys, torch
from torch.jit.mobile import _load_for_lite_interpreter
torch.set_num_threads(1)
if sys.argv[4]: torch.backends.quantized.engine = sys.argv[4]
def leaves(value):
    if isinstance(value, torch.Tensor): return [value]
    parts = value.values() if isinstance(value, dict) else value
    return [leaf for part in parts for leaf in leaves(part)]
with torch.no_grad():
    module = _load_for_lite_interpreter(sys.argv[1])
    torch.save(leaves(module(*torch.load(sys.argv[2], weights_only=True))), sys.argv[3])
"""


class TorchScriptLiteParams(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class TorchScriptLite:
    Params: ClassVar[type[BaseModel]] = TorchScriptLiteParams
    runtime: ClassVar[str] = "torchscript"
    suffix: ClassVar[str] = ".ptl"
    accepts: ClassVar[frozenset[str]] = frozenset({"eager", "half", "quantized:torch"})

    def refusal(self, form: str) -> str:
        if form.startswith("exported:"):
            return ("a PT2E program cannot be a .ptl: its quantized_decomposed ops exist only in Python; "
                    "quantize_eager makes one that can")
        return f"a .ptl is made from an eager, fp16 or torch-quantized model, not from {form}"

    def backend(self, params: Any) -> str:
        return "cpu"

    def target(self, facts: DeviceFacts | None) -> str:
        return "any"

    def export(self, model: Compressed, params: Any, out: Path) -> Exported:
        """Raises HarnessError where the model can neither be traced nor scripted, or the file does not work."""
        import torch

        module: Any = model.module
        engine = str(getattr(module, "engine", "")) if model.form == "quantized:torch" else ""
        with quiet(), torch.no_grad():
            output = module(*model.example_inputs)
            expected, _ = flatten(output)
            if not isinstance(output, torch.Tensor):
                module = _flat(module)
            scripted, notes = _scripted(module, model.example_inputs)
            extra = {ENGINE_FILE: engine.upper()} if engine else {}  # upper case: as c10::toString names it
            try:
                scripted._save_for_lite_interpreter(str(out), _extra_files=extra)
            except Exception as error:
                raise HarnessError(f"torchscript_lite cannot save this model: {first_line(error)}") from error
        _test_load(out, model.example_inputs, expected, engine)
        return Exported(notes=notes)


def _flat(module: Any) -> Any:
    """The module with its output as a tuple of tensors in pytree order: the lite interpreter cannot read the types
    of dicts whose values differ, and runners flatten anyway. (The structure is kept in the check set.)"""
    import torch

    class Flat(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(flatten(self.module(*inputs))[0])

    return Flat().eval()


def _scripted(module: Any, inputs: tuple[Any, ...]) -> tuple[Any, tuple[str, ...]]:
    import torch
    from torch.jit._trace import TracerWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            traced = torch.jit.trace(  # type: ignore[no-untyped-call]  # torch.jit carries no types
                module, inputs, strict=False, check_trace=False
            )
        except Exception as error:
            reason = first_line(error)
        else:
            fixed = sum(issubclass(w.category, TracerWarning) for w in caught)
            note = f"torchscript_lite: {fixed} decisions on values were fixed as the example inputs had them"
            return traced, (note,) if fixed else ()
        try:
            plain = module.module if type(module).__name__ == "Flat" else module  # scripting knows no *inputs
            return torch.jit.script(plain), (f"torchscript_lite: scripted, tracing failed: {reason}",)
        except Exception as error:
            raise HarnessError(f"torchscript_lite can neither trace ({reason}) nor script it ({first_line(error)})"
                               ) from error


def _test_load(path: Path, inputs: tuple[Any, ...], expected: list[Any], engine: str) -> None:
    import torch

    with tempfile.TemporaryDirectory() as folder:
        given, got = Path(folder) / "inputs.pt", Path(folder) / "outputs.pt"
        torch.save(inputs, given)
        argv = [sys.executable, "-I", "-W", "ignore", "-c", TEST_LOAD, str(path), str(given), str(got), engine]
        try:
            done = subprocess.run(argv, capture_output=True, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise HarnessError(f"torchscript_lite: the file did not run within {TIMEOUT_S:g} s") from error
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit {done.returncode}"]
            raise HarnessError("torchscript_lite: the file does not run in a process that imports only torch: "
                               f"{_cause(said)[:300]}")
        outputs = torch.load(got, weights_only=True)
    for index, (want, have) in enumerate(zip(expected, outputs, strict=True)):
        scale = float(want.double().abs().max()) if want.numel() else 0.0
        far = float((want.double() - have.double()).abs().max()) if want.numel() else 0.0
        if want.shape != have.shape or not far <= CLOSE * max(scale, 1e-6):
            raise HarnessError(f"torchscript_lite: output {index} of the file is off by {far:g} (largest {scale:g})",
                               "tracing keeps only what the example inputs went through")


def _cause(lines: list[str]) -> str:
    """The line that names the error, not the traceback above or the stack of C++ frames below it."""
    return next((line.strip() for line in lines if "Error: " in line or "cannot be found" in line), lines[-1])


_: type[Exporter] = TorchScriptLite
