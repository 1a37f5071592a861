"""quantize_eager: int8 that a .ptl can carry, and a fresh process with nothing but torch can run."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.ao.quantization import get_default_qconfig_mapping, quantize_fx

from harness import chains, registry
from harness.compress.quantize_eager import on
from harness.errors import ConfigError, HarnessError, ToolchainError, UsageError
from harness.export.executorch import ExecuTorch
from harness.export.torchscript_lite import TorchScriptLite
from harness.interfaces import Compressed
from harness.loading import flatten
from harness.types import Step
from tests.test_compress import EXAMPLE, apply, bench, items, run, sqnr_db

PICTURES = [(p[None],) for p, _ in items(8)]


@pytest.fixture(scope="module")
def trained() -> Any:
    return apply("finetune", epochs=6, lr=0.01).module


def outputs(model: Any) -> torch.Tensor:
    return torch.cat([run(model, p) for p in PICTURES])


@pytest.mark.parametrize("engine", ["x86", "onednn", "qnnpack"])
def test_the_weights_and_scales_are_those_of_torchs_own_flow(trained: Any, engine: str) -> None:
    per_channel = engine != "qnnpack"  # torch's own default for it is one scale per layer
    ours: Any = apply("quantize_eager", model=copy.deepcopy(trained), engine=engine, per_channel=per_channel)
    with on(engine), torch.no_grad():
        prepared = quantize_fx.prepare_fx(copy.deepcopy(trained), get_default_qconfig_mapping(engine), EXAMPLE)
        for inputs, _ in bench().calibration(16):  # type: ignore[misc]
            prepared(*inputs)
        by_hand = quantize_fx.convert_fx(prepared)
    assert torch.equal(outputs(ours), torch.cat([run(by_hand, p) for p in PICTURES]))
    mine, other = ours.module.inner.body.weight(), by_hand.body.weight()
    assert torch.equal(mine.int_repr(), other.int_repr())
    assert (ours.form, ours.precision, ours.calibrated) == ("quantized:torch", "static_int8", True)
    assert f"quantize_eager: static, for {engine}" in ours.notes and "calibrated on 32 samples" in ours.notes


@pytest.mark.parametrize("params", [{"engine": "x86"}, {"engine": "qnnpack"}, {"scheme": "dynamic"}])
def test_the_file_runs_where_only_torch_is_and_gives_what_the_module_gives(
    trained: Any, params: dict[str, Any], tmp_path: Path
) -> None:
    made = apply("quantize_eager", model=copy.deepcopy(trained), **params)
    TorchScriptLite().export(made, TorchScriptLite.Params(), tmp_path / "m.ptl")  # loads it in a fresh process itself
    assert sqnr_db(outputs(trained), outputs(made)) > 15
    from torch.jit.mobile import _load_for_lite_interpreter

    with on(made.module.engine):  # type: ignore[attr-defined]
        loaded = _load_for_lite_interpreter(str(tmp_path / "m.ptl"))
        assert torch.equal(torch.cat([loaded(*p) for p in PICTURES]), outputs(made))


def test_the_module_computes_by_its_engine_whatever_the_process_has() -> None:
    made = apply("quantize_eager", engine="qnnpack")
    before = torch.backends.quantized.engine
    with on("qnnpack"):
        want = outputs(made)
    with on("onednn"):
        assert torch.equal(outputs(made), want)
    assert torch.backends.quantized.engine == before


def test_a_copy_keeps_the_engine_too() -> None:
    made: Any = apply("quantize_eager", engine="qnnpack", scheme="dynamic")
    with on("x86"):  # whose ranges are a bit shorter where they are found at each call
        assert torch.equal(outputs(copy.deepcopy(made.module)), outputs(made))
        with_x86 = outputs(apply("quantize_eager", engine="x86", scheme="dynamic"))
    assert not torch.equal(with_x86, outputs(made))


class Joined(nn.Module):
    """Two inputs, a dict of outputs, padding by name, and transposed convolutions, of which oneDNN computes the first
    wrong and FX cannot quantize the last."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 8, 3, padding="same"), nn.ConvTranspose2d(8, 4, 2)
        self.same, self.kernel = nn.ConvTranspose2d(4, 4, 2), nn.Parameter(torch.randn(4, 4, 1, 1))
        self.left, self.right = nn.Linear(4, 8), nn.Linear(5, 8)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        seen = self.same(torch.relu(self.up(torch.relu(self.down(x)))))
        seen = nn.functional.conv_transpose2d(seen, self.kernel).mean((2, 3))
        return {"sum": self.left(seen) + self.right(y), "seen": seen}


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).mean(1)  # type: ignore[no-any-return]


class Shares(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
        self.b.weight = self.a.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(torch.relu(self.a(torch.relu(self.a(x)))))  # type: ignore[no-any-return]


@pytest.mark.parametrize(("make", "shapes", "params"), [
    (Joined, [(1, 3, 6, 6), (1, 5)], {"engine": "x86"}),
    (Joined, [(1, 3, 6, 6), (1, 5)], {"engine": "onednn"}),
    (Joined, [(1, 3, 6, 6), (1, 5)], {"engine": "qnnpack", "observer": "minmax"}),
    (Joined, [(1, 3, 6, 6), (1, 5)], {"scheme": "dynamic"}),
    (Attends, [(1, 5, 16)], {"scheme": "dynamic"}),
    (Shares, [(1, 6)], {}),
    (Shares, [(1, 6)], {"scheme": "dynamic"}),
])
def test_awkward_models_go_all_the_way(
    make: Any, shapes: list[tuple[int, ...]], params: dict[str, Any], tmp_path: Path, capfd: Any
) -> None:
    torch.manual_seed(0)
    model, inputs = make().eval(), tuple(torch.randn(shape) for shape in shapes)
    technique = registry.load("technique", "quantize_eager")
    with torch.no_grad():
        want, _ = flatten(model(*inputs))
    start = Compressed(module=model, form="eager", example_inputs=inputs)
    made = technique().apply(start, technique.Params(**params), bench(calibration=False))
    with torch.no_grad():
        got, _ = flatten(made.module(*inputs))
    assert min(sqnr_db(w, g) for w, g in zip(want, got, strict=True)) > 20
    TorchScriptLite().export(made, TorchScriptLite.Params(), tmp_path / "m.ptl")
    assert capfd.readouterr() == ("", "")
    wrong = "quantize_eager: left in float, torch computes them wrong by onednn: up"
    assert (wrong in made.notes) == (params.get("engine") == "onednn")


def test_what_no_kernel_takes_is_one_message_with_the_way_out() -> None:
    uneven = nn.Sequential(nn.Conv2d(3, 4, 2, padding="same"), nn.Flatten(), nn.Linear(256, 4))
    with pytest.raises(HarnessError, match="padding") as caught:
        apply("quantize_eager", model=copy.deepcopy(uneven).eval())
    assert "keep" in str(caught.value.hint)
    assert apply("quantize_eager", model=uneven.eval(), keep=["0"]).form == "quantized:torch"

    class ReadsWeight(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.tail = nn.Linear(192, 4), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.tail(self.head(x.flatten(1)) * self.head.weight.sum())  # type: ignore[no-any-return]

    with pytest.raises(HarnessError, match="quantize_eager: ") as caught:
        apply("quantize_eager", model=ReadsWeight().eval(), scheme="dynamic")
    assert "keep" in str(caught.value.hint)
    assert apply("quantize_eager", model=ReadsWeight().eval(), scheme="dynamic", keep=["head"]).precision == "dynamic"


def test_the_engine_follows_from_the_devices_and_counts_only_where_it_does() -> None:
    for machine, engine in (("x86_64", "x86"), ("aarch64", "qnnpack"), ("", "qnnpack")):
        notes = apply("quantize_eager", replace(bench(), machine=machine)).notes
        assert f"quantize_eager: static, for {engine}" in notes
    technique = registry.load("technique", "quantize_eager")
    for engine, reads in (("auto", True), ("x86", False)):
        params = technique.Params(engine=engine).model_dump()
        assert chains.traits(Step(name="quantize_eager", params=params)).reads_machine == reads


def test_layers_named_in_keep_stay_in_float(trained: Any) -> None:
    made: Any = apply("quantize_eager", model=copy.deepcopy(trained), keep=["stem.0", "head"])
    inner = made.module.inner
    assert type(inner.get_submodule("stem.0")).__module__.startswith("torch.ao.nn.intrinsic.modules")  # fused, in float
    assert isinstance(inner.head, nn.Linear) and "quantized" in type(inner.body).__module__
    with pytest.raises(HarnessError, match="nothing was quantized"):
        apply("quantize_eager", model=nn.Sequential(nn.Flatten(), nn.ReLU()).eval())


def test_without_calibration_data_it_says_what_it_calibrated_on() -> None:
    made = apply("quantize_eager", bench(calibration=False))
    assert not made.calibrated and made.notes[-1] == "calibrated on 1 example inputs"


def test_no_other_format_takes_it() -> None:
    assert "quantized:torch" not in ExecuTorch.accepts and "quantized:torch" in TorchScriptLite.accepts
    assert "quantized:torch" in ExecuTorch().refusal("quantized:torch")
    assert "quantize_eager" in TorchScriptLite().refusal("exported:xnnpack")


def test_what_cannot_be_is_told_before_time_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    technique = registry.load("technique", "quantize_eager")

    class Branches(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if x.sum() > 0 else x

    with pytest.raises(HarnessError, match=r"torch\.fx cannot trace this model"):
        technique.preflight(technique.Params(), Branches(), bench())
    with pytest.raises(UsageError, match="no layer matches 'haed'"):
        technique.preflight(technique.Params(keep=["haed"]), apply("fold_bn").module, bench())
    monkeypatch.setattr(type(torch.backends.quantized), "supported_engines", ["qnnpack"])
    with pytest.raises(ToolchainError, match="no engine 'x86'"):
        technique.preflight(technique.Params(engine="x86"), apply("fold_bn").module, bench())


def test_options_without_use_are_refused() -> None:
    from harness.config import parse

    with pytest.raises(ConfigError, match="observer is of use only with scheme: static"):
        parse('name: x\nmodel: {factory: "m:f", example_inputs: {shape: [1]}}\nvariants:\n  - {name: a, steps: '
              "[{quantize_eager: {scheme: dynamic, observer: minmax}}]}", "a.yaml", Path("."))
