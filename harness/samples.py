"""What goes to devices: a fixed subset of `test`, the same for every variant, as raw tensor files named by content."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness import fingerprint
from harness.data import Data, Item, Split, stack
from harness.errors import UserCodeError
from harness.loading import dtype_name
from harness.types import DTYPES, CheckSet, TensorFile, TensorSpec

if TYPE_CHECKING:
    import torch

    from harness.experiment import Experiment

Array = np.ndarray[Any, Any]
STRATIFY_LIMIT = 20_000  # reading every target of a larger split just to stratify would take minutes


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Inputs of whole calls (rows padded to the call's batch) and the targets of the `rows` true rows.

    `targets` is None where they are no tensors of one shape; `raw_targets` always has them (None without data)."""

    inputs: tuple[Array, ...]
    call: tuple[TensorSpec, ...]
    rows: int
    has_data: bool
    targets: Array | None = None
    raw_targets: Any = None
    targets_absent: str | None = None

    @property
    def batch(self) -> int:
        """Rows of one call."""
        return self.call[0].shape[0] if self.call and self.call[0].shape else 1


def device_samples(experiment: Experiment, data: Data | None, case: tuple[torch.Tensor, ...]) -> Samples:
    """Seeded random items of `test` (stratified where targets are integers) in this case's call shape; the example
    inputs where there is no test split or its items do not fit the case.

    Raises UserCodeError for items of the right shape but the wrong kind of dtype."""
    wanted = experiment.measure.accuracy_samples
    split = data.test if data is not None else None
    return samples_of(split, case, None if wanted == "all" else wanted, without_data=data is None)


def samples_of(
    split: Split | None, case: tuple[torch.Tensor, ...], wanted: int | None, *, without_data: bool = False
) -> Samples:
    """`wanted` items of the split (None: all), as `device_samples` has them."""
    call = tuple(TensorSpec(dtype=dtype_name(t, f"input {i}"), shape=tuple(t.shape)) for i, t in enumerate(case))
    absent = "no data in the experiment" if without_data else "the data has no test split"
    if split is not None:
        items, targets = _chosen(split, wanted)
        if _fits(items, call):
            inputs = tuple(_calls(a, spec, i) for i, (a, spec) in enumerate(zip(items, call, strict=True)))
            held = _target_array(targets)
            why = None if held is not None else "the targets are not tensors of one shape and a known dtype"
            return Samples(
                inputs=inputs,
                call=call,
                rows=len(items[0]),
                has_data=True,
                targets=held,
                raw_targets=targets,
                targets_absent=why,
            )
        got = ", ".join(str(list(a.shape[1:])) for a in items)
        absent = f"{split.name} items have shape {got}, which does not fit this input case"
    return Samples(inputs=tuple(t.numpy() for t in case), call=call, rows=1, has_data=False, targets_absent=absent)


def _chosen(split: Split, wanted: int | None) -> tuple[list[Array], Any]:
    """Stacked inputs and targets of the chosen items."""
    import torch

    if split.is_loader:
        batches = list(split.batches(1))
        inputs = [torch.cat(parts) for parts in zip(*(b[0] for b in batches), strict=True)]
        targets: Any = (
            [t for b in batches for t in b[1]]
            if not isinstance(batches[0][1], torch.Tensor)
            else torch.cat([b[1] for b in batches])
        )
        picked = choose(len(inputs[0]), wanted, _integers(targets))
        kept = targets[picked] if isinstance(targets, torch.Tensor) else [targets[i] for i in picked]
        return [t[picked].numpy() for t in inputs], kept
    labels = _labels(split) if wanted is not None and wanted < len(split) else None
    items: list[Item] = [split.item(i) for i in choose(len(split), wanted, labels)]
    stacked, targets = stack(items, split.name)
    return [t.detach().cpu().numpy() for t in stacked], targets


def _labels(split: Split) -> Array | None:
    """Integer targets of the whole split, without reading its inputs where the dataset lists them."""
    listed = getattr(split.source, "targets", None)
    if listed is None and hasattr(split.source, "tensors"):
        listed = split.source.tensors[-1]
    if listed is None and len(split) <= STRATIFY_LIMIT:
        listed = [split.item(i)[1] for i in range(len(split))]
    try:
        return _integers(listed) if listed is not None and len(listed) == len(split) else None
    except (TypeError, ValueError):
        return None


def _integers(targets: Any) -> Array | None:
    try:
        array = np.asarray([int(t) if getattr(t, "ndim", 0) == 0 else t for t in targets])
    except (TypeError, ValueError, RuntimeError):
        return None
    whole = [
        getattr(t, "dtype", None) is None or not t.dtype.is_floating_point
        for t in targets
        if hasattr(t, "dtype") and hasattr(t.dtype, "is_floating_point")
    ]
    return array if array.ndim == 1 and array.dtype.kind in "iu" and all(whole) else None


def choose(count: int, wanted: int | None, labels: Array | None) -> list[int]:
    """Row numbers, ascending: all, or `wanted` of `count` by a fixed seed, each class in proportion (largest
    remainder) where `labels` are given. Never depends on the variant, so that comparisons are paired."""
    if wanted is None or wanted >= count:
        return list(range(count))
    random = np.random.default_rng(0)
    if labels is None or len(classes := np.unique(labels)) > wanted:
        return sorted(random.permutation(count)[:wanted].tolist())
    members = [random.permutation(np.flatnonzero(labels == c)) for c in classes]
    exact = np.array([len(m) * wanted / count for m in members])
    quota = np.floor(exact).astype(int)
    for index in np.argsort(quota - exact, kind="stable")[: wanted - int(quota.sum())]:
        quota[index] += 1
    return sorted(int(i) for m, q in zip(members, quota, strict=True) for i in m[:q])


def _fits(items: Sequence[Array], call: Sequence[TensorSpec]) -> bool:
    return len(items) == len(call) and all(a.shape[1:] == s.shape[1:] for a, s in zip(items, call, strict=True))


def _calls(rows: Array, spec: TensorSpec, index: int) -> Array:
    """Rows in the call's dtype, the last call filled up with its last row."""
    if not np.can_cast(rows.dtype, spec.numpy, "same_kind"):
        raise UserCodeError(
            f"data: input {index} of test is {rows.dtype}, the model's input is {spec.dtype}",
            "make the dataset and example_inputs agree",
        )
    batch = spec.shape[0] if spec.shape else 1
    missing = -len(rows) % batch
    padded = np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows
    return np.ascontiguousarray(padded.astype(spec.numpy))


def _target_array(targets: Any) -> Array | None:
    import torch

    if not isinstance(targets, torch.Tensor):
        return None
    array = targets.detach().cpu().numpy()
    if array.dtype.kind == "f" and array.dtype.itemsize > 4:
        array = array.astype("<f4")
    if array.dtype.kind in "iu" and array.dtype.name not in ("int64", "int32", "uint8"):
        array = array.astype("<i8")
    return np.ascontiguousarray(array) if array.dtype.name in DTYPES else None


def write_tensor(array: Array, spec: TensorSpec, folder: Path) -> TensorFile:
    """Writes `<sha256>.bin` into `folder` (raw, C order, little endian) unless it is there already."""
    data = np.ascontiguousarray(array.astype(spec.numpy)).tobytes()
    sha256 = fingerprint.of_bytes(data)
    path = folder / f"{sha256}.bin"
    if not path.is_file() or fingerprint.of_file(path) != sha256:
        write_atomically(path, data)
    return TensorFile(spec=spec, sha256=sha256, samples=len(data) // spec.call_bytes if spec.call_bytes else 0)


def write_atomically(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".part-", delete=False) as file:
        file.write(data)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def check_set(name: str, samples: Samples, structure: Any, folder: Path) -> CheckSet:
    """The samples as files, for the package."""
    inputs = tuple(write_tensor(a, s, folder) for a, s in zip(samples.inputs, samples.call, strict=True))
    targets = None
    if samples.targets is not None:
        spec = TensorSpec(dtype=samples.targets.dtype.name, shape=(1, *samples.targets.shape[1:]))
        targets = write_tensor(samples.targets, spec, folder)
    return CheckSet(
        input=name,
        inputs=inputs,
        has_data=samples.has_data,
        targets=targets,
        targets_absent=samples.targets_absent,
        structure=structure,
    )
