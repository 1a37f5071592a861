"""The formats, with the real exporters; what a file gives is compared with the model it was made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from harness import registry
from harness.errors import HarnessError
from harness.export import torchscript_lite
from harness.export.refused import Refused
from harness.interfaces import Compressed, Exported

X = torch.linspace(-1, 1, 48).reshape(1, 3, 4, 4)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(32, 4)

    def forward(self, x: torch.Tensor, shift: torch.Tensor | None = None) -> Any:
        y = self.fc(torch.relu(self.conv(x)).flatten(1))
        return y if shift is None else {"scores": y + shift, "more": (y.sum(),)}


def export(name: str, out: Path, model: Any = None, inputs: Any = (X,), form: str = "eager", **params: Any) -> Exported:
    exporter = registry.load("exporter", name)
    compressed = Compressed(module=model or Net().eval(), form=form, example_inputs=inputs)
    return exporter().export(compressed, exporter.Params(**params), out)  # type: ignore[no-any-return]


def pte(path: Path, inputs: Any = (X,)) -> Any:
    from executorch.runtime import Runtime

    return Runtime.get().load_program(path).load_method("forward").execute(inputs)


def test_a_pte_through_xnnpack_is_wholly_delegated_and_gives_what_the_model_gives(tmp_path: Path) -> None:
    facts = export("executorch", tmp_path / "m.pte").facts
    assert facts["delegated_fraction"] == 1.0
    assert facts["delegation"]["partitions"] == 1 and facts["delegation"]["left_outside"] == {}
    assert torch.allclose(pte(tmp_path / "m.pte")[0], Net().eval()(X), atol=1e-5)


def test_what_the_delegate_cannot_do_is_named(tmp_path: Path) -> None:
    class Sorted(Net):
        def forward(self, x: torch.Tensor, shift: torch.Tensor | None = None) -> Any:
            return torch.cumsum(super().forward(x), 1)

    facts = export("executorch", tmp_path / "m.pte", Sorted().eval()).facts
    assert facts["delegation"]["left_outside"] == {"cumsum": 1}
    assert 0 < facts["delegated_fraction"] < 1


def test_portable_kernels_delegate_nothing(tmp_path: Path) -> None:
    facts = export("executorch", tmp_path / "m.pte", backend="portable").facts
    assert facts["delegated_fraction"] == 0.0 and facts["delegation"]["undelegated"] >= 4
    assert torch.allclose(pte(tmp_path / "m.pte")[0], Net().eval()(X), atol=1e-5)


def test_portable_kernels_refuse_a_quantized_program(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no quantized arithmetic"):
        export("executorch", tmp_path / "m.pte", form="exported:xnnpack", backend="portable")


def test_two_inputs_and_nested_outputs_come_out_in_order(tmp_path: Path) -> None:
    inputs = (X, torch.ones(1, 4))
    export("executorch", tmp_path / "m.pte", inputs=inputs)
    export("torchscript_lite", tmp_path / "m.ptl", inputs=inputs)
    scores, total = pte(tmp_path / "m.pte", inputs)
    plain = Net().eval()(X)
    assert torch.allclose(scores, plain + 1, atol=1e-5) and torch.allclose(total, plain.sum(), atol=1e-4)


def test_a_model_that_cannot_be_exported_says_why(tmp_path: Path) -> None:
    class Odd(Net):
        def forward(self, x: torch.Tensor, shift: torch.Tensor | None = None) -> Any:
            return x if x.sum().item() > 0 else x + 1

    with pytest.raises(HarnessError, match="executorch cannot export this model: "):
        export("executorch", tmp_path / "m.pte", Odd().eval())


def test_a_pte_and_ptl_are_made_without_a_word_on_stdout_or_stderr(tmp_path: Path, capfd: Any) -> None:
    export("executorch", tmp_path / "m.pte")
    export("torchscript_lite", tmp_path / "m.ptl")
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")


def test_a_ptl_loads_in_a_fresh_process_and_tells_fixed_decisions(tmp_path: Path) -> None:
    class Branch(Net):
        def forward(self, x: torch.Tensor, shift: torch.Tensor | None = None) -> Any:
            y = super().forward(x)
            return y if y.sum() > 1e9 else -y

    assert export("torchscript_lite", tmp_path / "a.ptl").notes == ()
    notes = export("torchscript_lite", tmp_path / "b.ptl", Branch().eval()).notes
    assert any("decisions on values were fixed" in note for note in notes)


def test_what_tracing_cannot_take_is_scripted(tmp_path: Path) -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if not torch.jit.is_scripting() and torch._C._get_tracing_state() is not None:
                raise ValueError("not under trace")
            return self.fc(x)  # type: ignore[no-any-return]

    notes = export("torchscript_lite", tmp_path / "m.ptl", Outer().eval(), (torch.ones(1, 4),)).notes
    assert notes == ("torchscript_lite: scripted, tracing failed: ValueError: not under trace",)


def test_a_file_that_gives_something_else_is_not_kept_as_good(tmp_path: Path) -> None:
    export("torchscript_lite", tmp_path / "m.ptl")
    with pytest.raises(HarnessError, match="output 0 of the file is off by"):
        torchscript_lite._test_load(tmp_path / "m.ptl", (X,), [Net().eval()(X) + 0.1], "")


def test_a_pt2e_program_saved_as_ptl_would_not_run_where_only_torch_is(tmp_path: Path) -> None:
    """The reason of the refusal, seen: the file saves here and its operators are missing there."""
    technique = registry.load("technique", "quantize_pt2e")
    start = Compressed(module=Net().eval(), form="eager", example_inputs=(X,))
    from harness.interfaces import Workbench

    work = Workbench(seed=0, teacher=Net(), example_inputs=(X,))
    program = technique().apply(start, technique.Params(), work)
    exporter = registry.load("exporter", "torchscript_lite")
    assert program.form not in exporter.accepts
    assert exporter().refusal(program.form) == (
        "a PT2E program cannot be a .ptl: its quantized_decomposed ops exist only in Python; "
        "quantize_eager makes one that can")
    with pytest.raises(HarnessError, match="imports only torch"):
        exporter().export(program, exporter.Params(), tmp_path / "m.ptl")
    export("executorch", tmp_path / "m.pte", program.module, form=program.form)
    with torch.no_grad():
        assert torch.allclose(pte(tmp_path / "m.pte")[0], program.module(X), atol=0.05)
