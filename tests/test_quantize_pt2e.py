"""Fewer bits without training: what each scheme gives, what it leaves in float, and that the file computes the same."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from harness import chains, registry
from harness.compress.folding import fold_batch_norms, layer_of
from harness.compress.sensitivity import layer_sensitivities, ranked, sqnr_db
from harness.data import Data, Split
from harness.errors import HarnessError
from harness.interfaces import Compressed, Workbench
from harness.types import Step

TECHNIQUE = registry.load("technique", "quantize_pt2e")
EXAMPLE = (torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1,)


class Net(nn.Module):
    """Convolutions with and without a batch norm (of an eps that is not the usual one), and three linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16, eps=1e-3), nn.ReLU())
        self.body = nn.Conv2d(16, 16, 3, padding=1)
        self.wide, self.deep, self.head = nn.Linear(16, 64), nn.Linear(64, 64), nn.Linear(64, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.body(x)).mean((2, 3))
        return self.head(torch.relu(self.deep(torch.relu(self.wide(x)))))  # type: ignore[no-any-return]


def net() -> Any:
    torch.manual_seed(0)
    made = Net()
    with torch.no_grad():
        made.stem[1].running_mean.normal_()
        made.stem[1].running_var.uniform_(0.3, 3)
    return made.eval()


def pictures(count: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def bench(items: Any = None, inputs: tuple[torch.Tensor, ...] = EXAMPLE, model: Any = None) -> Workbench:
    items = [(picture, i % 4) for i, picture in enumerate(pictures(32))] if items is None else items
    data = Data(train=None, test=None, validation=None,
                calibration=Split(name="calibration", source=items) if items else None)
    return Workbench(seed=0, teacher=model or net(), example_inputs=inputs, batch_size=8, **data.bench_splits(0))


def apply(model: Any = None, items: Any = None, inputs: tuple[torch.Tensor, ...] = EXAMPLE, dynamic_shapes: Any = None,
          **params: Any) -> Compressed:
    start = Compressed(module=copy.deepcopy(model or net()), form="eager", example_inputs=inputs,
                       dynamic_shapes=dynamic_shapes)
    found: Compressed = TECHNIQUE().apply(start, TECHNIQUE.Params(**params), bench(items, inputs))
    return found


def preflight(model: Any, inputs: tuple[torch.Tensor, ...] = EXAMPLE, **params: Any) -> None:
    TECHNIQUE.preflight(TECHNIQUE.Params(**params), model, bench(inputs=inputs, model=model))


def db(wanted: torch.Tensor, have: torch.Tensor) -> float:
    return sqnr_db([wanted], [have])


def run(module: Any, calls: Any) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([module(*call) for call in calls])


def exported(model: Compressed, path: Path, backend: str = "xnnpack") -> Any:
    exporter = registry.load("exporter", "executorch")
    return exporter().export(model, exporter.Params(backend=backend), path).facts


def pte(path: Path, calls: Any) -> torch.Tensor:
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(path).load_method("forward")
    return torch.cat([method.execute(call)[0].clone() for call in calls])


def quantized_layers(module: Any) -> set[str]:
    """Layers whose weight comes out of a dequantization."""
    aten = torch.ops.aten
    return {layer_of(node) for node in module.graph.nodes if node.target in (aten.conv2d.default, aten.linear.default)
            and "dequantize" in str(node.args[1].target)}


def calls(count: int = 12) -> list[tuple[torch.Tensor]]:
    return [(picture[None],) for picture in pictures(count, seed=2)]


SCHEMES = [({}, "static_int8", 30), ({"per_channel": False}, "static_int8", 30),
           ({"keep": ["body"]}, "static_int8", 30),
           ({"observer": "minmax"}, "static_int8", 30), ({"observer": "moving_average"}, "static_int8", 30),
           ({"scheme": "dynamic"}, "dynamic", 60), ({"scheme": "8a4w"}, "int4", 60), ({"scheme": "fp16"}, "fp16", 45)]


@pytest.mark.parametrize(("params", "precision", "floor_db"), SCHEMES, ids=lambda value: str(value))
def test_the_pte_of_every_scheme_computes_what_the_module_does(
    params: Any, precision: str, floor_db: float, tmp_path: Path
) -> None:
    found = apply(**params)
    assert found.precision == precision
    left = exported(found, tmp_path / "m.pte")["delegation"]["left_outside"]
    assert set(left) <= {"mean_dim", "dim_order_ops__to_dim_order_copy"}
    assert db(run(found.module, calls()), pte(tmp_path / "m.pte", calls())) > floor_db
    assert 15 < db(run(net(), calls()), run(found.module, calls())) < 90  # near, and not fp32 in disguise


def test_the_forms_that_the_parameters_give_are_told_without_running() -> None:
    gives = {scheme: chains.traits(Step(name="quantize_pt2e", params={"scheme": scheme}))
             for scheme in ("static", "dynamic", "8a4w", "fp16")}
    assert {s: t.gives for s, t in gives.items()} == {
        "static": "exported:xnnpack", "dynamic": "exported:xnnpack", "8a4w": "exported:xnnpack", "fp16": "half"}
    assert [s for s, t in gives.items() if t.reads_data] == ["static"]
    assert apply(scheme="fp16").form == "half"


def test_kept_layers_stay_in_float_and_only_they() -> None:
    everything = {"stem.0", "body", "wide", "deep", "head"}
    assert quantized_layers(apply().module) == everything
    assert quantized_layers(apply(keep=["body", "w*"]).module) == everything - {"body", "wide"}
    assert quantized_layers(apply(keep=["stem"]).module) == everything - {"stem.0"}
    assert quantized_layers(apply(keep=["deep"], scheme="dynamic").module) == {"wide", "head"}
    kept = apply(keep=["body"])
    weight = dict(kept.module.named_parameters())["body.weight"]  # type: ignore[attr-defined]
    assert torch.equal(weight, net().body.weight) and "quantize_pt2e: kept in float: body" in kept.notes


def test_a_layer_that_is_only_read_cannot_be_kept_and_its_user_is_named() -> None:
    attention = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    with pytest.raises(HarnessError, match=r"'self_attn\.out_proj' cannot be kept") as caught:
        preflight(attention, (torch.randn(1, 5, 16),), keep=["self_attn.out_proj"])
    assert "keep 'self_attn'" in str(caught.value)


def test_an_unknown_layer_is_refused_before_time_is_spent() -> None:
    with pytest.raises(HarnessError, match="no layer matches 'boddy'") as caught:
        preflight(net(), keep=["boddy"])
    assert "body" in str(caught.value)


def test_keeping_everything_leaves_nothing_to_do() -> None:
    with pytest.raises(HarnessError, match="nothing was quantized"):
        apply(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)).eval(), keep=["1"])
    with pytest.raises(HarnessError, match="no linear layer"):
        preflight(nn.Sequential(nn.Conv2d(3, 4, 3)).eval(), scheme="dynamic")


def outlier() -> Any:
    """One weight of `deep` is so large that 8 bits for its row leave nothing for the others."""
    made = net()
    with torch.no_grad():
        made.deep.weight[:, 0] = 300.0
        made.wide.weight[0] = 0
        made.wide.bias[0] = 0  # what the outlier is multiplied with
    return made


def test_the_layer_that_int8_hurts_most_is_found_and_kept() -> None:
    found = layer_sensitivities(outlier(), EXAMPLE, [(pictures(16),)])
    order = [layer.name for layer in ranked(found, "int8")]
    assert sorted(order) == ["body", "deep", "head", "stem.0", "wide"] and order[0] == "deep"
    assert found[0].name == "stem.0" and found[0].macs == 16 * 27 * 64 and found[0].parameters == 16 * 27
    kept = apply(outlier(), keep_sensitive=1)
    assert "quantize_pt2e: kept in float: deep" in kept.notes and "deep" not in quantized_layers(kept.module)
    plain = apply(outlier())
    wanted = run(outlier(), calls())
    assert db(wanted, run(kept.module, calls())) > db(wanted, run(plain.module, calls())) + 10


def test_sensitivity_leaves_the_model_as_it_was_and_reads_what_it_is_given() -> None:
    model, before, seen = net(), copy.deepcopy(net().state_dict()), []

    def evaluate(module: Any) -> float:
        seen.append(run(module, [(pictures(4),)]))
        return float(len(seen) == 1)  # the untouched model is asked first

    found = layer_sensitivities(model, EXAMPLE, [], evaluate=evaluate)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(set(layer.effects) == {"int8", "prune", "low_rank"} for layer in found)
    assert all(effect.drop == 1.0 for layer in found for effect in layer.effects.values())
    assert not any(torch.equal(seen[0], other) for other in seen[1:])
    worst = min(layer.effects["int8"].sqnr_db for layer in found)
    assert all(worst > layer.effects["prune"].sqnr_db for layer in found)


def test_low_rank_is_left_out_where_a_layer_has_none_and_a_fixed_batch_is_called_one_by_one() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.depthwise, self.head = nn.Conv2d(3, 3, 3, groups=3), nn.Linear(108, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.depthwise(x).view(1, 108))  # type: ignore[no-any-return]

    first, second = layer_sensitivities(Fixed().eval(), EXAMPLE, [(pictures(5),)])
    assert set(first.effects) == {"int8", "prune"} and "low_rank" in second.effects


def test_layers_called_twice_have_a_bias_for_each_call(tmp_path: Path) -> None:
    """XNNPACK's biases are integers of a scale that hangs on the input: one for both calls would be wrong."""
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(192, 192)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.conv(5 * torch.relu(self.conv(x)))).flatten(1)
            return self.head(torch.relu(self.head(x)))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    found = apply(Twice().eval())
    exported(found, tmp_path / "m.pte")
    assert db(run(found.module, calls()), pte(tmp_path / "m.pte", calls())) > 30


def test_dynamic_ranges_are_of_each_row_as_in_the_delegate(tmp_path: Path) -> None:
    """A tensor of many rows, one of them a hundred times as large."""
    torch.manual_seed(0)
    tokens = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4)).eval()
    x = torch.randn(1, 6, 64)
    x[0, 0] *= 100
    for scheme in ("dynamic", "8a4w"):
        found = apply(tokens, [], (x,), scheme=scheme)
        exported(found, tmp_path / "m.pte")
        wanted, have = run(found.module, [(x,)]), pte(tmp_path / "m.pte", [(x,)])
        assert db(wanted[0, 1:], have[0, 1:]) > 60  # the small rows
        alone = run(found.module, [(torch.cat([x[:, 1:], x[:, 1:2]], 1),)])
        assert torch.allclose(alone[0, :5], wanted[0, 1:], atol=1e-5)  # without the large one beside them


def test_layers_whose_inputs_make_no_groups_get_8_bits_and_are_named() -> None:
    found = apply(scheme="8a4w")
    assert "quantize_pt2e: int8 weights, inputs no multiple of 32: wide" in found.notes
    with pytest.raises(HarnessError, match="multiple of 128") as caught:
        preflight(net(), scheme="8a4w", group_size=128)
    assert "group_size: 32" in str(caught.value)


def test_the_weights_that_attention_reads_itself_stay_in_float() -> None:
    attention = nn.TransformerEncoderLayer(32, 2, 64, batch_first=True).eval()
    x = torch.randn(1, 5, 32)
    for scheme in ("dynamic", "8a4w"):
        found = apply(attention, [], (x,), scheme=scheme)
        assert 15 < db(run(attention, [(x,)]), run(found.module, [(x,)])) < 80


def test_half_keeps_the_dtypes_at_its_ends(tmp_path: Path) -> None:
    class Ends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(9, 8), nn.Linear(8, 4)

        def forward(self, index: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
            scores = self.head(self.table(index).mean(1)) * scale
            return {"scores": scores, "best": scores.argmax(1)}

    inputs = (torch.tensor([[1, 2, 8]]), torch.ones(1, 4))
    found = apply(Ends().eval(), [], inputs, scheme="fp16")
    have: Any = found.module(*inputs)
    assert (have["scores"].dtype, have["best"].dtype) == (torch.float32, torch.int64)
    assert all(p.dtype == torch.float16 for p in found.module.parameters())  # type: ignore[attr-defined]
    for backend in ("xnnpack", "portable"):
        exported(found, tmp_path / "m.pte", backend)
        assert db(have["scores"], pte(tmp_path / "m.pte", [inputs])) > 40


@pytest.mark.parametrize("shapes", [{"x": {0: torch.export.Dim("batch", min=1, max=9)}},
                                    ({0: torch.export.Dim("batch", min=1, max=9)},)], ids=["by name", "by place"])
@pytest.mark.parametrize("scheme", ["static", "dynamic", "fp16"])
def test_the_users_dynamic_shapes_hold_in_every_scheme(shapes: Any, scheme: str) -> None:
    found = apply(inputs=(pictures(3),), dynamic_shapes=shapes, scheme=scheme)
    module: Any = found.module
    program = torch.export.export(module, found.example_inputs, dynamic_shapes=found.dynamic_shapes).module()
    with torch.no_grad():
        assert program(pictures(7)).shape == (7, 4)


def test_fp16_that_cannot_hold_the_model_is_refused_and_folding_saves_what_it_can() -> None:
    large = net()
    with torch.no_grad():
        large.stem[1].running_var.fill_(1e6)  # beyond fp16, but gone once it is folded
        assert db(run(large, calls()), run(apply(large, scheme="fp16").module, calls())) > 30
        large.head.weight[0, 0] = 1e5
    with pytest.raises(HarnessError, match=r"head\.weight has values that fp16 cannot hold"):
        apply(large, scheme="fp16")
    with torch.no_grad():
        large.head.weight.fill_(6e4)
    with pytest.raises(HarnessError, match="outputs for the example inputs are not finite"):
        apply(large, scheme="fp16")


def test_folding_changes_nothing_but_where_the_numbers_are() -> None:
    class Some(Net):
        def __init__(self) -> None:
            super().__init__()
            self.loose, self.after = nn.BatchNorm2d(3), nn.BatchNorm1d(4)
            self.up, self.up_norm = nn.ConvTranspose2d(3, 3, 2, bias=False), nn.BatchNorm2d(3, affine=False)
            self.twice, self.twice_norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
            self.seen, self.seen_norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.up_norm(self.up(self.loose(x)))
            x = self.twice_norm(self.twice(self.twice_norm(self.twice(x))))
            y = self.seen(x)
            return self.after(super().forward(self.seen_norm(y) + y))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    model = Some().eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_()  # type: ignore[union-attr]
                module.running_var.uniform_(0.3, 3)  # type: ignore[union-attr]
        wanted = run(model, calls())
        folded = fold_batch_norms(model, torch.export.export(model, EXAMPLE))
        assert sorted(folded) == ["after", "stem.1", "up_norm"]  # the others are shared, or not alone behind a layer
        assert db(wanted, run(model, calls())) > 100


@pytest.mark.parametrize("scheme", ["static", "dynamic", "8a4w", "fp16"])
def test_two_inputs_go_through_every_scheme(scheme: str, tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right, self.head = nn.Linear(32, 32), nn.Linear(64, 32), nn.Linear(32, 4)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.head(torch.relu(self.left(x) + self.right(y)))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    items = [((torch.randn(32), torch.randn(64)), 0) for _ in range(20)]
    inputs = (torch.randn(1, 32), torch.randn(1, 64))
    found = apply(Two().eval(), items, inputs, scheme=scheme)
    exported(found, tmp_path / "m.pte")
    assert db(run(found.module, [inputs]), pte(tmp_path / "m.pte", [inputs])) > 40


def test_calibration_that_gives_nothing_or_does_not_fit_says_so() -> None:
    class Nothing:
        def __len__(self) -> int:
            return 1

        def __iter__(self) -> Iterator[Any]:
            return iter(())

    data = torch.utils.data.DataLoader(Nothing(), batch_sampler=[])  # type: ignore[arg-type,var-annotated]
    found = apply(items=data)
    assert not found.calibrated and found.notes == ("calibrated on 1 example inputs",)
    found = apply(items=[(torch.zeros(3, 9, 9), 0)])
    assert found.notes == ("calibrated on 1 example inputs: the calibration data has other shapes",)
    with pytest.raises(HarnessError, match="quantize_pt2e: calibration: not finite"):
        apply(items=[(torch.full((3, 8, 8), torch.nan), 0)])


class Branching(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if x.sum() > 0 else super().forward(-x)


@pytest.mark.parametrize("name", ["quantize_pt2e", "quantize_aware"])
def test_a_model_that_cannot_be_exported_is_refused_at_once(name: str, capfd: Any) -> None:
    technique = registry.load("technique", name)
    with pytest.raises(HarnessError, match=f"{name}: torch.export cannot export this model: .*data-dependent"):
        technique.preflight(technique.Params(), Branching().eval(), bench(model=Branching()))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("params", [
    {"scheme": "weight_only"}, {"scheme": "int8_weight_only"}, {"group_size": 48, "scheme": "8a4w"},
    {"group_size": 64}, {"scheme": "dynamic", "per_channel": False}, {"scheme": "8a4w", "observer": "minmax"},
    {"scheme": "fp16", "keep": ["a"]}, {"scheme": "fp16", "keep_sensitive": 1}, {"keep_sensitive": -1},
    {"observer": "percentile"}, {"calibration_batches": 0}])
def test_what_a_scheme_has_not_is_refused_when_it_is_read(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TECHNIQUE.Params(**params)
