"""The user's data: a mapping of splits -> batches for steps, samples for devices.

Steps get train, calibration and validation only; `test` is read by `device_samples` and nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserCodeError
from harness.loading import import_factory, roots, seeded, user_code

if TYPE_CHECKING:
    import torch

    from harness.experiment import Experiment
    from harness.interfaces import Batch

Item = tuple[tuple["torch.Tensor", ...], Any]
VALIDATION_SHARE = 10  # one in ten of train, where the data has no validation split


@dataclass(frozen=True, kw_only=True)
class Split:
    """One split as the user gave it (Dataset, sequence or DataLoader), or some rows of it."""

    name: str
    source: Any
    rows: Sequence[int] | None = None

    @property
    def is_loader(self) -> bool:
        loaders = sys.modules.get("torch.utils.data")  # not imported: then nobody can have made a loader
        return loaders is not None and isinstance(self.source, loaders.DataLoader)

    def __len__(self) -> int:
        return len(self.rows) if self.rows is not None else len(self.source)

    def item(self, index: int) -> Item:
        """Inputs and target of one item, without batch dimension. Raises UserCodeError naming the item."""
        row = self.rows[index] if self.rows is not None else index
        with user_code(f"data: item {row} of {self.name} cannot be read"):
            raw = self.source[row]
        return _pair(raw, f"item {row} of {self.name}")

    def whole(self) -> Any:
        """The user's object itself; a torch Subset where only some of its rows are this split's."""
        if self.rows is None:
            return self.source
        from torch.utils.data import Subset

        return Subset(self.source, list(self.rows))

    def batches(self, batch_size: int, order: Iterable[int] | None = None) -> Iterator[Batch]:
        """Stacked batches; a DataLoader's batches as they come (its own size and order)."""
        if self.is_loader:
            with user_code(f"data: the loader of {self.name} failed"):
                for raw in self.source:
                    yield _pair(raw, f"a batch of {self.name}")
            return
        indices = list(order if order is not None else range(len(self)))
        for start in range(0, len(indices), batch_size):
            yield stack([self.item(i) for i in indices[start : start + batch_size]], self.name)


@dataclass(frozen=True, kw_only=True)
class Data:
    """The user's mapping, checked. `metric` is the mapping's own (`custom`)."""

    train: Split | None
    calibration: Split | None
    validation: Split | None
    test: Split | None
    loss: Callable[[Any, torch.Tensor], torch.Tensor] | None = None
    metric: Callable[..., Any] | None = None

    def bench_splits(self, seed: int) -> dict[str, Callable[[int], Iterable[Batch]] | None]:
        """What a Workbench gets: makers of fresh batches. `train` is shuffled anew at each call, by `seed`."""

        def plain(split: Split | None) -> Callable[[int], Iterable[Batch]] | None:
            return None if split is None else split.batches

        return {"train": Shuffled(self.train, seed) if self.train else None,
                "calibration": plain(self.calibration), "validation": plain(self.validation)}


    def sources(self) -> dict[str, Any]:
        """The splits but `test` as the user's own trainer gets them: what the user gave, or those rows of it."""
        named = {"train": self.train, "calibration": self.calibration, "validation": self.validation}
        return {name: split.whole() for name, split in named.items() if split is not None} | (
            {"loss": self.loss} if self.loss is not None else {})


class Shuffled:
    """Batches of `train`, in a new order at each call; the orders follow from the seed. Loaders shuffle themselves."""

    def __init__(self, split: Split, seed: int) -> None:
        import numpy

        self._split, self._random = split, numpy.random.default_rng(seed)

    def batches_in_epoch(self, batch_size: int) -> int:
        return len(self._split) if self._split.is_loader else -(-len(self._split) // batch_size)

    def __call__(self, batch_size: int) -> Iterator[Batch]:
        order = None if self._split.is_loader else self._random.permutation(len(self._split)).tolist()
        return self._split.batches(batch_size, order)


def load_data(experiment: Experiment) -> Data | None:
    """The data of the experiment; None where it has none. Raises UserCodeError for data that cannot be used."""
    if experiment.data is None:
        return None
    text, folder = experiment.data.factory, Path(experiment.folder)
    factory = import_factory(text, folder)
    with seeded(0), user_code(f"data factory {text!r} failed", roots(folder)):
        found = factory(**experiment.data.kwargs)
    if not isinstance(found, Mapping):
        raise UserCodeError(
            f"data factory {text!r} returned {type(found).__name__}, not a mapping",
            "return {'train': …, 'calibration': …, 'validation': …, 'test': …}",
        )
    splits = {name: _split(found, name) for name in ("train", "calibration", "validation", "test")}
    for name in ("loss", "metric"):
        if found.get(name) is not None and not callable(found[name]):
            raise UserCodeError(f"data: {name} is {type(found[name]).__name__}, not a callable")
    if splits["validation"] is None and splits["train"] is not None:
        splits["train"], splits["validation"] = _held_out(splits["train"])
    return Data(**splits, loss=found.get("loss"), metric=found.get("metric"))


def _split(found: Mapping[str, Any], name: str) -> Split | None:
    source = found.get(name)
    if source is None:
        return None
    split = Split(name=name, source=source)
    if not hasattr(source, "__len__") or not (split.is_loader or hasattr(source, "__getitem__")):
        raise UserCodeError(f"data: {name} is {type(source).__name__}, not a Dataset, sequence or DataLoader")
    if len(source) == 0:
        raise UserCodeError(f"data: {name} is empty")
    return split


def _held_out(train: Split) -> tuple[Split, Split | None]:
    """train less a tenth, and that tenth: the same rows for every seed. A loader is left whole (its batches are
    taken as they come), and there is then no validation."""
    import numpy

    if train.is_loader or len(train) < VALIDATION_SHARE:
        return train, None
    order = numpy.random.default_rng(0).permutation(len(train)).tolist()
    cut = len(train) // VALIDATION_SHARE
    return (
        Split(name="train", source=train.source, rows=sorted(order[cut:])),
        Split(name="validation", source=train.source, rows=sorted(order[:cut])),
    )


def _pair(raw: Any, where: str) -> Item:
    if not isinstance(raw, (tuple, list)) or len(raw) != 2:
        raise UserCodeError(f"data: {where} is {type(raw).__name__}, not (input, target)")
    inputs, target = raw
    inputs = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    return tuple(_tensor(value, where) for value in inputs), as_target(target)


def _tensor(value: Any, where: str) -> torch.Tensor:
    import numpy
    import torch

    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, (numpy.ndarray, numpy.generic, int, float)):
        return torch.as_tensor(value)
    raise UserCodeError(
        f"data: the input of {where} is {type(value).__name__}, not a tensor",
        "turn it into a tensor in the dataset (for pictures: torchvision's ToTensor)",
    )


def as_target(value: Any) -> Any:
    """A tensor where the target is a number or an array; anything else (text, boxes in dicts) as it is."""
    import numpy
    import torch

    if isinstance(value, (numpy.ndarray, numpy.generic, int, float)) and not (
        isinstance(value, numpy.ndarray) and value.dtype.kind in "OUS"
    ):
        return torch.as_tensor(value)
    return value


def stack(items: Sequence[Item], where: str) -> Any:
    """Inputs stacked on a new first dimension; targets too where they are tensors of one shape, else a list.

    Raises UserCodeError where the items' inputs differ in shape or number."""
    import torch

    inputs = []
    for position in zip(*(item[0] for item in items), strict=False):
        shapes = {tuple(t.shape) for t in position}
        if len(shapes) > 1:
            raise UserCodeError(
                f"data: items of {where} have different shapes ({sorted(shapes)[0]}, "
                f"{sorted(shapes)[1]}) and cannot be stacked",
                "pad them, or give a DataLoader",
            )
        inputs.append(torch.stack(position))
    if len({len(item[0]) for item in items}) > 1:
        raise UserCodeError(f"data: items of {where} have different numbers of inputs")
    targets = [item[1] for item in items]
    if all(isinstance(t, torch.Tensor) for t in targets) and len({t.shape for t in targets}) == 1:
        return tuple(inputs), torch.stack(targets)
    return tuple(inputs), targets
