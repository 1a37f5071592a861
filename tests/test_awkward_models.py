"""Every technique on models that are not the usual picture classifier: each works, or says why in one message."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from harness import chains, registry
from harness.data import Data, Split
from harness.errors import HarnessError
from harness.interfaces import Compressed, Workbench
from harness.loading import flatten
from harness.types import Step


class Shared(nn.Module):
    """One convolution called twice, and a second one with the first's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.body, self.twin = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.twin.weight = self.body.weight
        self.head = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(self.body(torch.relu(self.body(x))))
        return self.head(torch.relu(self.twin(x)).mean((2, 3)))  # type: ignore[no-any-return]


class Branching(nn.Module):
    """Which way it goes hangs on the values: torch.export and fx refuse it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.head = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        if x.sum() > 0:
            x = x * 2
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.side, self.body, self.head = nn.Linear(5, 16), nn.Linear(32, 16), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        seen = torch.relu(self.norm(self.stem(x))).mean((2, 3))
        return self.head(torch.relu(self.body(torch.cat([seen, torch.relu(self.side(y))], 1))))  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Weights that are read and not called, and a token embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.attend, self.head = nn.MultiheadAttention(16, 2, batch_first=True), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(1).reshape(x.shape[0], 12, 16)
        return self.head(self.attend(tokens, tokens, tokens, need_weights=False)[0].mean(1))  # type: ignore[no-any-return]


def no_convolution() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 4))


def plain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))


def no_weights() -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d((2, 2)), nn.Flatten(), nn.ReLU())


MODELS: dict[str, Callable[[], nn.Module]] = {
    "shared weights": Shared, "control flow": Branching, "two inputs": TwoInputs, "attention": Attention,
    "no convolution": no_convolution, "no weights": no_weights, "a batch of one": plain,
}
STEPS = {name: [{}] for name in registry.TECHNIQUES} | {
    "prune_magnitude": [{}, {"scope": "layer"}],
    "prune_channels": [{}, {"importance": "taylor"}, {"importance": "bn_scale"}],
    "low_rank": [{"ratio": 0.25}, {"method": "tucker", "ratio": 0.25}, {"method": "cp", "ratio": 0.25}],
    "quantize_pt2e": [{}, {"scheme": "dynamic"}, {"scheme": "fp16"}],
    "quantize_eager": [{}, {"scheme": "dynamic"}],
}
CASES = [(model, name, params) for model in MODELS for name, some in STEPS.items() for params in some]


def bench(example: tuple[torch.Tensor, ...], teacher: Any, batch_size: int) -> Workbench:
    torch.manual_seed(1)
    items = [(tuple(torch.randn(t.shape[1:]) for t in example), i % 4) for i in range(8)]
    data = Data(train=Split(name="train", source=items), validation=Split(name="validation", source=items[:4]),
                calibration=Split(name="calibration", source=items[:4]), test=None)
    return Workbench(seed=0, teacher=teacher, example_inputs=example, batch_size=batch_size, max_steps=2,
                     evaluate=lambda module: 0.0, **data.bench_splits(0))


@pytest.mark.parametrize(("kind", "name", "params"), CASES, ids=[f"{k}-{n}-{p}" for k, n, p in CASES])
def test_a_technique_does_its_part_or_says_why_not_in_one_message(kind: str, name: str, params: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model: Any = MODELS[kind]().eval()
    example = (torch.rand(1, 3, 8, 8), torch.rand(1, 5)) if kind == "two inputs" else (torch.rand(1, 3, 8, 8),)
    work = bench(example, model, 1 if kind == "a batch of one" else 4)
    technique = registry.load("technique", name)
    known = technique.Params.model_fields
    settings = technique.Params(**params, **({"epochs": 1} if "epochs" in known else {}))
    before = copy.deepcopy(model.state_dict())
    try:
        if hasattr(technique, "preflight"):
            technique.preflight(settings, model, work)
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items()), "preflight changed the model"
        start = Compressed(module=copy.deepcopy(model), form="eager", example_inputs=example)
        made = technique().apply(start, settings, work)
    except HarnessError as error:
        assert error.what.startswith(f"{name}: ") or "train" in error.what, error.what
        assert "\n" not in error.what and len(error.what) < 400 and "Traceback" not in error.what
        assert kind != "a batch of one", error.what  # an ordinary model, only trained one by one
        return
    assert made.form == chains.traits(Step(name=name, params=settings.model_dump())).gives
    with torch.no_grad():
        want, have = flatten(model(*example))[0], flatten(made.module(*example))[0]
    assert [t.shape for t in have] == [t.shape for t in want] and [t.dtype for t in have] == [t.dtype for t in want]
    assert all(torch.isfinite(t).all() for t in have)
