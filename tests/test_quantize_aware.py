"""int8 trained with the rounding in it: what is trained, what is kept, and that the file computes the same."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from harness import registry
from harness.compress.patterns import VALUES, ZEROS
from harness.data import Data, Split
from harness.errors import HarnessError
from harness.interfaces import Compressed, Workbench
from tests.test_quantize_pt2e import EXAMPLE, Net, calls, db, exported, net, pte, quantized_layers, run

TECHNIQUE = registry.load("technique", "quantize_aware")


def items(count: int, size: float = 1.0) -> list[tuple[torch.Tensor, int]]:
    """Class k has a bright quarter k."""
    torch.manual_seed(1)
    found = []
    for i in range(count):
        picture, quarter = torch.randn(3, 8, 8) * 0.3, i % 4
        picture[quarter % 3, 4 * (quarter // 2) : 4 * (quarter // 2) + 4] += 2
        found.append((picture * size, quarter))
    return found


def bench(seed: int = 0, model: Any = None, inputs: Any = EXAMPLE, train: Any = None, validation: Any = None,
          **more: Any) -> Workbench:
    data = Data(train=Split(name="train", source=items(70) if train is None else train), test=None, calibration=None,
                validation=Split(name="v", source=items(16) if validation is None else validation))
    return Workbench(seed=seed, teacher=model or net(), example_inputs=inputs,
                     **({"batch_size": 16} | more | data.bench_splits(seed)))


def apply(model: Any = None, work: Workbench | None = None, patterns: Any = None, inputs: Any = EXAMPLE,
          **params: Any) -> Compressed:
    start = Compressed(module=copy.deepcopy(model or net()), form="eager", example_inputs=inputs,
                       patterns=patterns or {})
    found: Compressed = TECHNIQUE().apply(start, TECHNIQUE.Params(**params), work or bench())
    return found


def accuracy(module: Any) -> float:
    inputs, targets = zip(*items(64), strict=True)
    return float((run(module, [(torch.stack(inputs),)]).argmax(1) == torch.tensor(targets)).float().mean())


def weights(found: Compressed) -> dict[str, torch.Tensor]:
    """The int8 weights by layer, rows = output channels."""
    graph: Any = found.module
    state = dict(graph.named_buffers()) | dict(graph.named_parameters())
    aten = torch.ops.aten
    result = {}
    for node in graph.graph.nodes:
        if node.target in (aten.conv2d.default, aten.linear.default) and "dequantize" in str(node.args[1].target):
            layer = [path for path, _ in node.meta["nn_module_stack"].values()][-1]
            result[layer] = state[node.args[1].args[0].target].flatten(1)
    return result


def test_training_learns_in_int8_and_the_same_seed_gives_the_same(tmp_path: Path) -> None:
    first, second, other = (apply(work=bench(seed), epochs=6, lr=0.01) for seed in (0, 0, 1))
    assert accuracy(first.module) > accuracy(net()) + 0.2
    assert torch.equal(run(first.module, calls()), run(second.module, calls()))
    assert not torch.equal(run(first.module, calls()), run(other.module, calls()))
    assert (first.form, first.precision, first.calibrated) == ("exported:xnnpack", "static_int8", True)
    assert quantized_layers(first.module) == {"stem.0", "body", "wide", "deep", "head"}
    assert all(w.dtype == torch.int8 for w in weights(first).values())
    exported(first, tmp_path / "m.pte")
    assert db(run(first.module, calls()), pte(tmp_path / "m.pte", calls())) > 30


def test_every_parameter_is_trained_also_what_the_batch_norms_were() -> None:
    moved = weights(apply(epochs=4, lr=0.01))
    still = weights(apply(epochs=1, lr=1e-12))
    assert all(not torch.equal(moved[name], still[name]) for name in still)
    biases = [dict(apply(epochs=1, lr=lr).module.named_parameters())["stem.0.bias"]  # type: ignore[attr-defined]
              for lr in (0.01, 1e-12)]
    assert not torch.allclose(*biases, atol=1e-4)


def test_batch_norms_go_in_with_their_own_eps(tmp_path: Path) -> None:
    """Of eps 1e-3 and a variance as small: taken for 1e-5, the scale would be another one."""
    model = net()
    with torch.no_grad():
        model.stem[1].running_var.fill_(1e-3)
    found = apply(model, epochs=1, lr=1e-12)
    wide = run(model, [(picture[None],) for picture, _ in items(12)])
    assert db(wide, run(found.module, [(picture[None],) for picture, _ in items(12)])) > 20
    assert "quantize_aware: 1 batch norms folded before" in found.notes


def test_zeros_and_shared_values_are_still_there_in_int8() -> None:
    model, names = net(), ("stem.0", "body", "wide", "deep", "head")
    with torch.no_grad():
        for name in names:
            weight = model.get_submodule(name).weight
            values = torch.arange(-3, 4) / 10  # zero is one of them
            weight.copy_(values[(weight[..., None] - values).abs().argmin(-1)])
    patterns = {f"{name}.weight": frozenset({ZEROS, VALUES}) for name in names}
    found = weights(apply(model, patterns=patterns, epochs=4, lr=0.01))
    free = weights(apply(model, epochs=4, lr=0.01))
    for name in names:
        before = model.get_submodule(name).weight.flatten(1)
        assert (found[name] == 0)[before == 0].all() and bool((before == 0).any())
        assert max(len(row.unique()) for row in found[name]) <= 7
        assert not (free[name] == 0)[before == 0].all()  # the pattern, not the luck, has kept them


def test_kept_layers_are_trained_and_stay_in_float() -> None:
    found = apply(keep=["stem.*", "deep"], epochs=2, lr=0.01)
    assert quantized_layers(found.module) == {"body", "wide", "head"}
    weight = dict(found.module.named_parameters())["deep.weight"]  # type: ignore[attr-defined]
    assert weight.dtype == torch.float32 and not torch.equal(weight, net().deep.weight)
    assert "quantize_aware: kept in float: stem.0, stem.1, stem.2, deep" in found.notes


def test_the_validation_split_leaves_no_trace_in_the_ranges() -> None:
    plain = apply(epochs=3, lr=0.001)
    loud = apply(work=bench(validation=items(16, size=1000.0)), epochs=3, lr=0.001)
    assert torch.equal(run(plain.module, calls()), run(loud.module, calls()))


def test_ranges_stand_still_in_the_last_third(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a last batch a thousand times as large, and a rate that does not move the weights."""
    class Loud:
        def __call__(self, batch_size: int) -> Any:
            for number in range(6):
                batch, targets = zip(*items(16, size=1000.0 if number == late else 1.0), strict=True)
                yield (torch.stack(batch),), torch.tensor(targets)

    found = {}
    for late in (3, 5, -1):
        monkeypatch.setattr("harness.data.Data.bench_splits", lambda self, seed: {"train": Loud()})
        found[late] = run(apply(epochs=1, lr=1e-12).module, calls())
    assert torch.equal(found[5], found[-1]) and not torch.equal(found[3], found[-1])


def test_the_early_end_gives_the_best_weights_back() -> None:
    notes = apply(epochs=200, lr=0.5, optimizer="sgd", schedule="constant", patience=1).notes
    assert any("stopped early" in note for note in notes)


def test_one_step_is_enough_for_ranges() -> None:
    found = apply(work=bench(max_steps=1), epochs=1)
    assert any("1 steps" in note for note in found.notes) and run(found.module, calls()).isfinite().all()


def test_batches_of_one_and_batch_norm_go_together() -> None:
    found = apply(work=bench(batch_size=1, max_steps=20), epochs=1)
    assert run(found.module, calls()).isfinite().all()


class Fixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(192, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.view(1, 192))  # type: ignore[no-any-return]


def test_a_model_that_fixes_its_batch_is_refused_at_once_or_trained_one_by_one() -> None:
    model = Fixed().eval()
    with pytest.raises(HarnessError, match="fixes its batch at 1 and cannot be trained with 16") as caught:
        TECHNIQUE.preflight(TECHNIQUE.Params(), model, bench(model=model))
    assert "train.batch_size: 1" in str(caught.value)
    assert any("20 steps of 1" in note
               for note in apply(model, bench(model=model, batch_size=1, max_steps=20), epochs=1).notes)


def test_a_batch_norm_that_cannot_be_folded_is_refused_at_once_and_the_model_untouched() -> None:
    class Twice(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(self.stem(x)[:, :3])

    model = Twice().eval()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(HarnessError, match=r"batch norm 'stem\.1' cannot be folded into 'stem\.0'"):
        TECHNIQUE.preflight(TECHNIQUE.Params(), model, bench(model=model))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    TECHNIQUE.preflight(TECHNIQUE.Params(), fine := net(), bench(model=fine))
    assert isinstance(fine.stem[1], nn.BatchNorm2d)
    with pytest.raises(HarnessError, match="no layer matches 'stam'"):
        TECHNIQUE.preflight(TECHNIQUE.Params(keep=["stam"]), fine, bench())


def test_two_inputs_and_a_dict_of_outputs_are_trained(tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right, self.head = nn.Linear(8, 16), nn.Linear(4, 16), nn.Linear(16, 3)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"scores": self.head(torch.relu(self.left(x) + self.right(y)))}

    torch.manual_seed(0)
    model, inputs = Two().eval(), (torch.randn(1, 8), torch.randn(1, 4))
    train = [((torch.randn(8), torch.randn(4)), i % 3) for i in range(37)]
    found = apply(model, bench(model=model, inputs=inputs, train=train, validation=train[:5]), inputs=inputs)
    exported(found, tmp_path / "m.pte")
    wanted: Any = found.module(*inputs)
    assert db(wanted["scores"].detach(), pte(tmp_path / "m.pte", [inputs])) > 40


@pytest.mark.parametrize("params", [{"lr": 0.0}, {"epochs": 0}, {"per_channel": 1}, {"scheme": "static"}])
def test_impossible_parameters_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TECHNIQUE.Params(**params)
