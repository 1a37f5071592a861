"""Tiny models and a way to run the native runners on them: fixtures of test_runner.py and test_runner_refusals.py."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from harness.devices import runners

SCHEMA = json.loads((Path(__file__).parent / "schema" / "runner_line.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
BRIEF = ("--min-seconds", "0.05", "--min-iterations", "10", "--max-warmup-seconds", "2")


def few(value: Any) -> Any:
    """A block's thousands of numbers checked here and shortened: the validator is slow."""
    if isinstance(value, list) and len(value) > 8 and not isinstance(value[0], dict):
        assert len(value) <= 4096 and all(type(item) is int and item >= 0 for item in value)
        return value[:8]
    return value


@dataclass(frozen=True)
class Answer:
    returncode: int
    lines: list[dict[str, Any]]

    def one(self, kind: str) -> dict[str, Any]:
        (line,) = [line for line in self.lines if line["type"] == kind]
        return line

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["type"] == kind]


@dataclass(frozen=True)
class Models:
    """Files of tiny models, and what eager says to the input files. `inputs[name]`: --input arguments."""

    folder: Path
    inputs: dict[str, list[str]]
    expected: dict[str, list[np.ndarray[Any, Any]]]

    def file(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")

    class Cnn(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = torch.nn.Conv2d(1, 4, 3), torch.nn.Conv2d(4, 8, 3), torch.nn.Linear(8 * 16, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.c(torch.relu(self.b(torch.relu(self.a(x)))).flatten(1))

    class Pair(torch.nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"sum": x + y, "product": x * y, "difference": x - y}

    class Nest(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[Any, ...]:
            return (x * 2.0, [x.permute(1, 0) - 1.0, x + 3.0]), x.permute(1, 0)

    class Turned(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x * 2.0).to(memory_format=torch.channels_last)

    class Tokens(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(16, 4)

        def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.table(ids).mean(1), ids + 1

    generator = torch.Generator().manual_seed(1)
    images = [torch.randn(1, 1, 8, 8, generator=generator) for _ in range(3)]
    pairs = [(torch.randn(2, 3, generator=generator), torch.randn(2, 3, generator=generator)) for _ in range(3)]
    tokens = [torch.randint(0, 16, (1, 5), generator=generator) for _ in range(3)]
    calls: dict[str, tuple[torch.nn.Module, list[tuple[torch.Tensor, ...]]]] = {
        "cnn": (Cnn().eval(), [(image,) for image in images]),
        "pair": (Pair(), list(pairs)),
        "nest": (Nest(), [(pair[0],) for pair in pairs]),
        "turned": (Turned(), [(torch.randn(1, 2, 3, 4, generator=generator),) for _ in range(3)]),
        "tokens": (Tokens().eval(), [(ids,) for ids in tokens]),
    }
    inputs: dict[str, list[str]] = {}
    expected: dict[str, list[np.ndarray[Any, Any]]] = {}
    for name, (model, samples) in calls.items():
        inputs[name], leaves = [], []
        for k, example in enumerate(samples[0]):
            file = folder / f"{name}.{k}.bin"
            file.write_bytes(b"".join(sample[k].contiguous().numpy().tobytes() for sample in samples))
            dtype, shape = str(example.dtype).removeprefix("torch."), ",".join(map(str, example.shape))
            inputs[name] += ["--input", f"{k}:{dtype}:{shape}:{file}"]
        with torch.no_grad():
            for sample in samples:
                leaves.append([leaf.contiguous().numpy() for leaf in torch.utils._pytree.tree_leaves(model(*sample))])
            expected[name] = [np.stack(leaf) for leaf in zip(*leaves, strict=True)]
            traced = torch.jit.trace(model, samples[0], strict=False)
        traced._save_for_lite_interpreter(str(folder / f"{name}.ptl"))
        program = torch.export.export(model, samples[0])
        for backend, partitioner in {"xnnpack": [XnnpackPartitioner()], "portable": []}.items():
            lowered = to_edge_transform_and_lower(program, partitioner=partitioner).to_executorch()
            (folder / f"{name}.{backend}.pte").write_bytes(lowered.buffer)
    (folder / "nothing").write_bytes(b"x" * 64)
    inputs["null"] = inputs["cnn"]
    return Models(folder, inputs, expected)


@pytest.fixture(scope="session")
def binary() -> Callable[[str], Path]:
    return lambda runtime: runners.ensure(runtime, runners.host_target()).binary


@pytest.fixture
def run(binary: Callable[[str], Path]) -> Callable[..., Answer]:
    def call(runtime: str, *flags: object, check_lines: bool = True) -> Answer:
        argv = [str(binary(runtime)), *map(str, flags)]
        done = subprocess.run(argv, capture_output=True, timeout=120, check=False)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        if check_lines:
            for number, line in enumerate(lines):
                VALIDATOR.validate({key: few(value) for key, value in line.items()})
                assert line["seq"] == number
            assert lines[-1]["type"] == "end"
        return Answer(done.returncode, lines)

    return call


Run = Callable[..., Answer]
