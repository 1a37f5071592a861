"""A live module as a package: what is exported, what is expected of it, and what stays as it was."""

from __future__ import annotations

import copy
import dataclasses
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness import live
from harness.devices.spec import resolve
from harness.errors import HarnessError, NotMeasured, UsageError, UserCodeError
from harness.experiment import Measure
from harness.measure.session import read_tensors
from harness.package import Files
from harness.screen import Screen
from harness.settings import Settings
from harness.sim import world as worlds
from harness.single import identity, measured, packaged, usable
from harness.types import Package

X = torch.linspace(-1, 1, 16).reshape(1, 16)
SIM = resolve("sim://pi5-fan?seed=3")


class Net(torch.nn.Module):
    """In train mode by default, with what differs there: dropout and running statistics."""

    def __init__(self, outputs: str = "tensor") -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(16, 32), torch.nn.BatchNorm1d(32), torch.nn.ReLU(), torch.nn.Dropout(0.5),
            torch.nn.Linear(32, 4),
        )  # fmt: skip
        self.outputs = outputs

    def forward(self, x: torch.Tensor) -> Any:
        y = self.layers(x)
        return y if self.outputs == "tensor" else {"b": y, "a": (y * 2, [y + 1])}


@pytest.fixture(autouse=True)
def own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(cache))
    worlds._worlds.clear()


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


def package_of(module: Any, inputs: Any, folder: Path, **more: Any) -> Package:
    return live.exported(module, inputs, measure=Measure(), device="local", files=Files(folder), **more)


def expected(package: Package, folder: Path) -> list[np.ndarray[Any, Any]]:
    files = package.builds[0].expected
    return [read_tensors(folder / f"{f.sha256}.bin", f.spec.dtype, list(f.spec.shape))[0] for f in files]


def test_the_expected_outputs_are_the_modules_own_in_eval_mode(net: Net, tmp_path: Path) -> None:
    package = package_of(net, X, tmp_path)
    own = copy.deepcopy(net).eval()(X).detach().numpy()
    assert np.array_equal(expected(package, tmp_path)[0], own)
    build = package.builds[0]
    assert (build.variant, build.backend, build.precision) == ("Net", "xnnpack", "fp32")
    assert build.facts["parameters"] == sum(p.numel() for p in net.parameters())
    assert set(package.nulls) == {"executorch"}  # without it there is no model_memory_bytes


def test_nothing_of_the_module_or_its_inputs_is_changed(net: Net, tmp_path: Path) -> None:
    net.layers[0].eval()  # a part that its owner froze
    modes = [part.training for part in net.modules()]
    state = {name: value.clone() for name, value in net.state_dict().items()}
    random = torch.random.get_rng_state()
    package_of(net, X, tmp_path)
    assert [part.training for part in net.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), random)


def test_a_module_that_writes_into_its_input_leaves_the_callers_alone(tmp_path: Path) -> None:
    class Doubles(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mul_(2) + 1

    x = torch.ones(1, 4)
    package = package_of(Doubles(), x, tmp_path)
    assert torch.equal(x, torch.ones(1, 4))
    assert expected(package, tmp_path)[0].tolist() == [[3.0] * 4]
    held = package.checks["default"].inputs[0]
    assert read_tensors(tmp_path / f"{held.sha256}.bin", "float32", [1, 4])[0].tolist() == [[1.0] * 4]


def test_nested_outputs_are_flattened_in_the_order_of_the_harness(tmp_path: Path) -> None:
    torch.manual_seed(0)
    package = package_of(Net("nested"), X, tmp_path)
    leaves = expected(package, tmp_path)
    assert package.checks["default"].structure == {"b": 0, "a": [1, [2]]}
    assert np.allclose(leaves[1], 2 * leaves[0]) and np.allclose(leaves[2], leaves[0] + 1)


def test_expect_stands_for_the_modules_own_outputs(tmp_path: Path) -> None:
    y = np.arange(4.0, dtype="float32").reshape(1, 4)
    package = package_of(Net("nested"), X, tmp_path, expect={"b": y, "a": (y + 1, [torch.from_numpy(y + 2)])})
    assert [leaf[0, 0] for leaf in expected(package, tmp_path)] == [0.0, 1.0, 2.0]


def test_the_same_content_has_one_identity_and_other_content_another(net: Net, tmp_path: Path) -> None:
    first = identity(package_of(net, X, tmp_path), SIM)
    assert identity(package_of(copy.deepcopy(net), X.numpy(), tmp_path), SIM) == first
    others = [package_of(net, X + 1, tmp_path), package_of(net, X, tmp_path, min_sqnr_db=10)]
    with torch.no_grad():
        net.layers[4].bias += 1
    others.append(package_of(net, X, tmp_path))
    assert len({first, *(identity(other, SIM) for other in others)}) == 4
    assert identity(others[2], resolve("local")) != identity(others[2], SIM)
    assert identity(dataclasses.replace(others[2], checks={}), SIM) != identity(others[2], SIM)


def test_a_module_that_talks_is_not_heard(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Talks(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            os.system("echo from a process")
            print("from Python")
            return x + 1

    package_of(Talks(), X, tmp_path)
    assert capfd.readouterr() == ("", "")


def _quantized_pt2e() -> Any:
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    torch.manual_seed(0)
    program = torch.export.export(Net().eval(), (X,)).module()
    prepared = prepare_pt2e(program, XNNPACKQuantizer().set_global(get_symmetric_quantization_config()))
    prepared(X)
    return convert_pt2e(prepared)


def _weight_only() -> Any:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    module = torch.nn.Sequential(torch.nn.Linear(16, 4))
    quantize_(module, Int8WeightOnlyConfig())
    return module


@pytest.mark.parametrize(
    ("make", "precision"),
    [(Net, "fp32"), (lambda: Net().half(), "fp16"), (_weight_only, "dynamic"), (_quantized_pt2e, "static_int8")],
)
def test_the_floor_goes_by_what_the_module_is_made_of(make: Any, precision: str) -> None:
    assert live.precision_of(make()) == precision


def test_a_quantized_program_is_exported_for_xnnpack_and_refused_for_portable_kernels(tmp_path: Path) -> None:
    program = _quantized_pt2e()
    assert package_of(program, X, tmp_path).builds[0].precision == "static_int8"
    with pytest.raises(UserCodeError, match="portable kernels have no quantized arithmetic"):
        package_of(program, X, tmp_path, backend="portable")


class Branches(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.sum() > 0 else x


class GivesText(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return x, "text"


class GivesNothing(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return ()


class GivesBfloat16(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return x.to(torch.bfloat16)


class NoCopy(torch.nn.Module):
    def __deepcopy__(self, memo: Any) -> Any:
        raise RuntimeError("I am one of a kind")


@pytest.mark.parametrize(
    ("module", "inputs", "more", "error", "says"),
    [
        (Net, None, {}, UsageError, "none are given"),
        (Net, (), {}, UsageError, "inputs is empty"),
        (Net, "x", {}, UsageError, r"inputs\[0\] is str, not a tensor"),
        (Net, {"x": X}, {}, UsageError, r"inputs\[0\] is dict, not a tensor"),
        (Net, X.double(), {}, UsageError, r"inputs\[0\] is float64"),
        (Net, X.bfloat16(), {}, UsageError, "bfloat16"),
        (Net, torch.empty(0, 16), {}, UsageError, "is empty"),
        (Net, X, {"backend": "vulkan"}, UsageError, "'vulkan'.*\n.*xnnpack or portable"),
        (Net, X, {"expect": [X, X]}, UsageError, "2 outputs, the model has 1"),
        (Net, X, {"expect": X}, UsageError, r"shape \[1, 16\], the model's output \[1, 4\]"),
        (Net, torch.ones(1, 17), {}, UserCodeError, r"Net: the model cannot be run on \[1, 17\] \(float32\)"),
        (GivesText, X, {}, UserCodeError, r"the output\[1\] of the model is str"),
        (GivesNothing, X, {}, UserCodeError, "gives no tensor"),
        (GivesBfloat16, X, {}, UserCodeError, "output 0 is bfloat16"),
        (NoCopy, X, {}, UserCodeError, "one of a kind"),
        (lambda: torch.jit.trace(Net().eval(), X), X, {}, UserCodeError, "scripted or traced.*\n.*made of"),
        (Branches, X, {}, UserCodeError, "Branches: executorch cannot export this model: .*Guard"),
    ],
)
def test_what_cannot_be_used_is_one_message_and_no_noise(
    module: Any, inputs: Any, more: Any, error: type[HarnessError], says: str, tmp_path: Path,
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    with pytest.raises(error, match=says) as caught:
        package_of(module(), inputs, tmp_path, **more)
    assert len(caught.value.what.splitlines()) == 1
    assert capfd.readouterr() == ("", "")
    assert caplog.records == [] and logging.root.manager.disable == logging.NOTSET


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        store_url=f"sqlite:///{tmp_path}/h.db", files=tmp_path / "artifacts", folder=tmp_path, kind="measure",
        fresh=True,
    )  # fmt: skip


QUICK: dict[str, Any] = {"repeats": 2, "min_seconds": 0.05}


def test_a_simulated_device_gives_simulated_figures_and_a_real_output_check(net: Net, settings: Settings) -> None:
    with Screen(quiet=True) as screen:
        package, files = packaged(net, SIM, settings, screen, inputs=X, **QUICK)
        result = usable(measured(package, files, SIM, settings, screen))
        assert result.simulated and result.output_sqnr_db.value > 60
        assert result.model_memory_bytes.absent is None
        wrong, files = packaged(net, SIM, settings, screen, inputs=X, expect=torch.ones(1, 4), **QUICK)
        broken = measured(wrong, files, SIM, settings, screen)
    with pytest.raises(NotMeasured, match=r"Net on sim://.*: failed: wrong output: .* must reach 60 dB"):
        usable(broken)


class Counts(torch.nn.Module):
    """Changes itself in forward: its second answer is not its first."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x * self.calls


def test_what_a_module_gives_is_its_first_answer_and_it_stays_as_it_was(tmp_path: Path) -> None:
    module = Counts()
    (expected,) = package_of(module, X, tmp_path).builds[0].expected
    assert np.array_equal(np.fromfile(tmp_path / f"{expected.sha256}.bin", np.float32), X.numpy().ravel())
    assert module.calls == 0


def test_a_file_that_no_runner_can_load_is_none_on_a_simulated_device_either(net: Net, settings: Settings) -> None:
    settings.files.mkdir()
    made = package_of(net, X, settings.files).builds[0].artifact
    assert made is not None
    whole, bad = (settings.files / made.file_name).read_bytes(), settings.files.parent / "bad.pte"
    for content in (b"no model " * 500, whole[: len(whole) // 2], b""):
        bad.write_bytes(content)
        with Screen(quiet=True) as screen:
            package, files = packaged(bad, SIM, settings, screen, inputs=X, **QUICK)
            with pytest.raises(NotMeasured, match=r"bad on sim://.*: failed: "):
                usable(measured(package, files, SIM, settings, screen))


def test_a_files_outputs_are_checked_against_what_is_expected_of_them(net: Net, settings: Settings) -> None:
    settings.files.mkdir()
    made = package_of(net, X, settings.files).builds[0].artifact
    assert made is not None
    file = settings.files / made.file_name
    y = copy.deepcopy(net).eval()(X)
    with Screen(quiet=True) as screen:
        package, files = packaged(file, SIM, settings, screen, inputs=X, expect=y, min_sqnr_db=60, **QUICK)
        result = usable(measured(package, files, SIM, settings, screen))
        assert result.output_sqnr_db.value > 60 and result.document["backend"] == "xnnpack"
        about = {"inputs": X, "expect": 1.01 * y} | QUICK  # 40 dB
        package, files = packaged(file, SIM, settings, screen, min_sqnr_db=60, **about)
        assert measured(package, files, SIM, settings, screen).status == "failed"
        package, files = packaged(file, SIM, settings, screen, **about)
        assert measured(package, files, SIM, settings, screen).status == "ok"


@pytest.mark.parametrize(
    ("what", "more", "says"),
    [
        ("missing.pte", {}, "missing.pte: No such file"),
        ("model.onnx", {}, "neither .pte nor .ptl"),
        ("model.ptl", {}, "does not describe its inputs"),
        (3, {}, "int: a file or a model is measured"),
        (Net, {}, "a file or a model is measured"),  # the class, not a model
        ("m.pte", {"repeats": 0}, "repeats: "),
        ("m.pte", {"threads": 0}, "threads: "),
        ("m.pte", {"threads": 10_000, "device": "local"}, "local has"),
        ("m.pte", {"min_sqnr_db": "much"}, "min_sqnr_db: 'much' is not a number"),
    ],
)
def test_wrong_arguments_are_told_before_anything_is_measured(
    what: Any, more: dict[str, Any], says: str, settings: Settings
) -> None:
    device = resolve(more.pop("device", SIM.uri))
    with Screen(quiet=True) as screen, pytest.raises(UsageError, match=says):
        packaged(what, device, settings, screen, **more)
