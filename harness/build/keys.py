"""When two builds are the same build: the keys of the cache. A key holds content, never a path or a time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import chains, fingerprint, registry
from harness.data import Data, Split
from harness.loading import roots, seeded
from harness.types import CheckSet, Step

if TYPE_CHECKING:
    import torch

    from harness.experiment import Experiment

_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
ALL_ITEMS = 4096  # a larger split counts by SPREAD of its items, evenly chosen, and its length
SPREAD = 512


def own_source() -> str:
    """Our steps and exporters, and what runs them: another version of them builds another file."""
    home = Path(__file__).parent.parent
    build = home / "build"
    return fingerprint.of_package(home / "compress", home / "export", build / "steps.py", build / "layers.py")


def factory_source(text: str, folder: Path) -> str:
    """What `module:callable` names: the callable, its module (wherever it is) and all that imports of the user's."""
    name = text.partition(":")[0]
    file = fingerprint.locate(name, roots(folder))
    own = fingerprint.of_file(file) if file else None
    return fingerprint.of_json([text, own, fingerprint.of_source([name], roots(folder))])


def data_key(experiment: Experiment, data: Data | None) -> str | None:
    """Content of the splits that steps read, and the source of their factory."""
    if data is None or experiment.data is None:
        return None
    splits = [split_key(s) for s in (data.train, data.calibration, data.validation)]
    return fingerprint.of_json([splits, source_of_data(experiment)])


def source_of_data(experiment: Experiment) -> Any:
    assert experiment.data is not None
    return [experiment.data.kwargs, factory_source(experiment.data.factory, Path(experiment.folder))]


def split_key(split: Split | None) -> Any:
    """Hash of the items (up to ALL_ITEMS, else SPREAD of them), or only their number where items are random even
    under a fixed seed (augmentation from a generator of the dataset's own)."""
    if split is None:
        return None
    if split.is_loader:  # its order may be random: what it draws from counts
        dataset = getattr(split.source, "dataset", None)
        if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
            return ["loader", len(split)]
        loader = split.source
        how = [repr(getattr(loader, "batch_size", None)), type(getattr(loader, "sampler", None)).__qualname__]
        return ["loader", how, split_key(Split(name=split.name, source=dataset))]
    count = len(split)
    rows = range(count) if count <= ALL_ITEMS else [i * count // SPREAD for i in range(SPREAD)]
    if _items(split, [0]) != _items(split, [0]):
        return ["random", count]
    return [count, fingerprint.of_json(_items(split, rows))]


def _items(split: Split, rows: Iterable[int]) -> list[Any]:
    with seeded(0):  # augmented items then count by their content too
        return [_item(split, i) for i in rows]


def _item(split: Split, index: int) -> Any:
    import torch

    inputs, target = split.item(index)
    return [fingerprint.of_tensors(inputs),
            fingerprint.of_tensors([target]) if isinstance(target, torch.Tensor) else repr(target)]


def base_key(experiment: Experiment, model: torch.nn.Module, inputs: Iterable[torch.Tensor]) -> str:
    """The baseline: its source, arguments and weights, the example inputs, the tools and our own source."""
    spec = experiment.model
    return fingerprint.of_json([
        factory_source(spec.factory, Path(experiment.folder)), spec.kwargs, structure(model),
        fingerprint.of_model(model), fingerprint.of_tensors(inputs), fingerprint.toolchain(), own_source(),
    ])


def structure(model: torch.nn.Module) -> list[Any]:
    """Every module by name, class and plain attributes: what a factory took from a file or the environment and kept
    is neither in its source nor in the weights."""
    return [
        [name, f"{type(module).__module__}.{type(module).__qualname__}", module.extra_repr(), _plain(vars(module))]
        for name, module in model.named_modules()
    ]


def _plain(attributes: Mapping[str, Any]) -> list[list[str]]:
    return [[key, repr(value)] for key, value in sorted(attributes.items()) if _is_plain(value)]


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(_is_plain(item) for pair in value.items() for item in pair)
    return value is None or isinstance(value, bool | int | float | complex | str | bytes)


def step_key(before: str, step: Step, *, seed: int, data: str | None, train: Mapping[str, Any], machine: str,
             folder: Path) -> str:
    """One step more. Seed, data, training options and processor count only where the step uses them."""
    own = chains.traits(step)
    named = sorted(v for v in step.params.values() if isinstance(v, str) and _FACTORY.fullmatch(v))
    return fingerprint.of_json([
        before, step.name, _implementation("technique", step.name, folder), dict(step.params),
        seed if own.seeded else None, data if own.reads_data else None, dict(train) if own.reads_data else None,
        machine if own.reads_machine else None, [factory_source(n, folder) for n in named],
    ])


def export_key(model_key: str, experiment: Experiment, exporter: str, params: Any, inputs: Any) -> str:
    return fingerprint.of_json([
        "export", model_key, exporter, _implementation("exporter", exporter, Path(experiment.folder)),
        params.model_dump(mode="json"), registry.load("exporter", exporter)().target(None),
        fingerprint.of_tensors(inputs), _shapes_source(experiment),
    ])


def score_key(model_key: str, experiment: Experiment, check: CheckSet, inputs: Any, targets: str | None) -> str:
    """Expected outputs and host score: the model, what it is captured with and run on, and the metric."""
    metric = None
    if experiment.data is not None:
        spec = experiment.data.metric
        named = [n for n in (spec.factory, spec.per_sample) if n]
        metric = [spec.model_dump(mode="json"), [factory_source(n, Path(experiment.folder)) for n in named],
                  source_of_data(experiment) if spec.name == "custom" else None]
    return fingerprint.of_json(["score", model_key, [t.sha256 for t in check.inputs], targets, check.has_data,
                                fingerprint.of_tensors(inputs), _shapes_source(experiment), metric])


def _shapes_source(experiment: Experiment) -> str | None:
    shapes = experiment.model.dynamic_shapes
    return factory_source(shapes, Path(experiment.folder)) if shapes else None


def _implementation(kind: str, name: str, folder: Path) -> str | None:
    """Third parties' steps count by their source; ours are in `own_source`."""
    module: str = registry.load(kind, name).__module__
    return None if module.startswith("harness.") else factory_source(module, folder)
