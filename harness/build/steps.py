"""From the baseline through a variant's steps to a model that can be exported, and what that model answers.

`Loaded` is the user's side of an experiment, loaded once a process; `Job` one variant on one input case.
"""

from __future__ import annotations

import base64
import copy
import functools
import platform
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness import chains, registry
from harness.build import cache as build_cache
from harness.build import keys as build_keys
from harness.build.layers import profile
from harness.compress.channels import count
from harness.data import Data, load_data
from harness.errors import HarnessError, UserCodeError
from harness.interfaces import Compressed, Workbench
from harness.loading import (
    check_forward,
    dtype_name,
    example_inputs,
    first_line,
    flatten,
    import_factory,
    load_model,
    user_code,
)
from harness.paths import cache_dir
from harness.samples import Samples, write_tensor
from harness.screen import duration
from harness.task_metric import task_metric
from harness.types import Step, TensorFile, TensorSpec, Variant

if TYPE_CHECKING:
    import torch

    from harness.experiment import Experiment


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """The baseline (never change it), the data, and each input case's example inputs."""

    experiment: Experiment
    model: torch.nn.Module
    data: Data | None
    cases: Mapping[str, tuple[torch.Tensor, ...]]
    dynamic_shapes: Any

    @property
    def folder(self) -> Path:
        return Path(self.experiment.folder)

    @functools.cached_property
    def data_key(self) -> str | None:
        return build_keys.data_key(self.experiment, self.data)

    @functools.cached_property
    def asked(self) -> dict[tuple[type, str, str], HarnessError | None]:
        """(exporter, its options, input case) -> why it cannot take the baseline, for those that were asked."""
        return {}

    @functools.cached_property
    def validation_key(self) -> str:
        return repr(build_keys.split_key(self.data.validation if self.data else None))

    @functools.cached_property
    def base_key(self) -> str:
        return build_keys.base_key(self.experiment, self.model, next(iter(self.cases.values())))


_last: dict[str, Loaded] = {}  # one experiment a process; loading it may take a minute


def load(experiment: Experiment) -> Loaded:
    """Raises UserCodeError for a model, inputs or data that cannot be used."""
    key = _memo_key(experiment)
    if key not in _last:
        _last.clear()
        _last[key] = _load(experiment)
    if _last[key].experiment != experiment:  # the same model and data, to be trained or judged otherwise
        _last[key] = replace(_last[key], experiment=experiment)
    return _last[key]


def _memo_key(experiment: Experiment) -> str:
    from harness import fingerprint
    from harness.loading import roots

    model, data = experiment.model, experiment.data
    texts = [model.factory, *([data.factory] if data else [])]
    weights = Path(experiment.folder) / model.weights if model.weights else None
    stat = weights.stat() if weights and weights.is_file() else None
    where = roots(Path(experiment.folder))
    return fingerprint.of_json([
        model.model_dump(mode="json"), data.model_dump(mode="json") if data else None, [str(r) for r in where],
        fingerprint.of_source([t.partition(":")[0] for t in texts], where),
        [stat.st_mtime_ns, stat.st_size] if stat else None, str(cache_dir()),
    ])


def _load(experiment: Experiment) -> Loaded:
    model = load_model(experiment)
    folder = Path(experiment.folder)
    cases = {name: example_inputs(spec, folder) for name, spec in experiment.model.cases.items()}
    for inputs in cases.values():
        leaves, _ = flatten(check_forward(model, inputs))
        for index, leaf in enumerate(leaves):
            dtype_name(leaf, f"output {index}")
    shapes = None
    if experiment.model.dynamic_shapes:
        factory = import_factory(experiment.model.dynamic_shapes, folder)
        with user_code(f"dynamic_shapes {experiment.model.dynamic_shapes!r} failed"):
            shapes = factory()
    data = load_data(experiment)
    return Loaded(experiment=experiment, model=model, data=data, cases=cases, dynamic_shapes=shapes)


def device_of(experiment: Experiment) -> str:
    """Where steps train; `auto` is CUDA, else Apple's MPS, else the CPU. Part of the key of what is trained.

    Raises UserCodeError for a device that torch does not have here."""
    import torch

    wanted = experiment.train.device
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(1, device=wanted)
    except Exception as error:  # torch answers an unknown or absent device in many ways
        raise UserCodeError(f"train.device: {wanted!r} cannot be used here: {first_line(error)[:60]}…",
                            "auto, cpu, cuda, cuda:N or mps") from error
    return wanted


def machine_of(experiment: Experiment) -> str:
    """The processor that the files are for, as far as it is known: this host's where every device is `local`."""
    return platform.machine() if all(device == "local" for device in experiment.devices) else ""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One variant: its steps' keys, and its model on demand. Steps up to the first that leaves `eager` are run once
    for all input cases; the others for each case, since an exported program has its inputs' shapes in it."""

    loaded: Loaded
    variant: Variant
    say: Callable[[str], None]

    @functools.cached_property
    def keys(self) -> list[str]:
        """keys[i]: the model after i steps."""
        experiment = self.loaded.experiment
        train = {"device": device_of(experiment), "batch_size": experiment.train.batch_size,
                 "max_steps": experiment.train.max_steps}
        found = [self.loaded.base_key]
        for index, step in enumerate(self.variant.steps):
            data = self.loaded.data_key if chains.traits(step).reads_data else None
            found.append(build_keys.step_key(found[-1], step, seed=self._seed(index), data=data, train=train,
                                             machine=machine_of(experiment), folder=self.loaded.folder))
        return found

    def _seed(self, index: int) -> int:
        return self.variant.seed + 1_000_003 * index  # two steps of one kind do not see the same order

    @property
    def eager_steps(self) -> int:
        return chains.eager_steps(self.variant.steps)

    @property
    def form(self) -> str:
        return chains.form(self.variant.steps)

    def preflight(self) -> None:
        """Asks each step whether the baseline lets it do its part. Raises HarnessError where it does not."""
        for index, step in chains.named_as_in_baseline(self.variant.steps):
            technique = registry.load("technique", step.name)
            if hasattr(technique, "preflight"):
                params = technique.Params.model_validate(dict(step.params))
                technique.preflight(params, self.loaded.model, self.bench(index))

    def eager(self) -> Compressed:
        """A fresh copy of the last eager form. Raises HarnessError where a step fails."""
        return self._prefix(self.eager_steps)

    def final(self, eager: Compressed, case: str) -> Compressed:
        """`eager` on this case's inputs, through the steps that are left."""
        inputs = self.loaded.cases[case]
        model = eager.with_(example_inputs=inputs, dynamic_shapes=self.loaded.dynamic_shapes)
        if self.eager_steps < len(self.variant.steps):
            model = model.with_(module=copy.deepcopy(model.module))
        for index in range(self.eager_steps, len(self.variant.steps)):
            model = self._apply(model, index)
        _same_outputs(self.loaded.model, model, inputs)
        return model

    def _prefix(self, steps: int) -> Compressed:
        if steps == 0:
            inputs = next(iter(self.loaded.cases.values()))
            return Compressed(module=copy.deepcopy(self.loaded.model), form="eager", example_inputs=inputs)
        key = self.keys[steps]
        with build_cache.locked(key):
            found = build_cache.read_prefix(key)
            if found is None:
                found = self._apply(self._prefix(steps - 1), steps - 1)
                build_cache.write_prefix(key, found)
        return found

    def _apply(self, model: Compressed, index: int) -> Compressed:
        step: Step = self.variant.steps[index]
        technique = registry.load("technique", step.name)
        if model.form not in technique.accepts:
            raise HarnessError(f"{step.name} cannot take a model in form {model.form}")
        self.say(step.name)
        params = technique.Params.model_validate(dict(step.params))
        began = time.perf_counter()
        result: Compressed = technique().apply(model, params, self.bench(index))
        return result.with_(costs=(*model.costs, (step.name, time.perf_counter() - began)))

    def bench(self, index: int) -> Workbench:
        """What the step at `index` may use."""
        experiment, data, seed = self.loaded.experiment, self.loaded.data, self._seed(index)
        splits: dict[str, Any] = data.bench_splits(seed) if data else {}
        name = self.variant.steps[index].name if self.variant.steps else "layers"
        return Workbench(
            seed=seed, teacher=self.loaded.model, example_inputs=next(iter(self.loaded.cases.values())),
            loss=data.loss if data else None, batch_size=experiment.train.batch_size,
            max_steps=experiment.train.max_steps, device=device_of(experiment),
            progress=progress_teller(self.say, name),
            import_factory=lambda text: import_factory(text, self.loaded.folder),
            evaluate=self._evaluate(), splits=data.sources() if data else {}, machine=machine_of(experiment), **splits,
        )

    def _evaluate(self) -> Callable[[Any], float] | None:
        """The task metric on the validation split, more is better; None where there is no split or no metric."""
        loaded = self.loaded
        metric = task_metric(loaded.experiment, loaded.data)
        if loaded.data is None or loaded.data.validation is None or metric is None:
            return None
        split, batch_size, sign = loaded.data.validation, loaded.experiment.train.batch_size, 1.0
        if metric.better == "lower":
            sign = -1.0

        def evaluate(module: Any) -> float:
            leaves, structure, targets = _whole(module, split.batches(batch_size))
            return sign * metric.score(leaves, structure, targets).value

        return evaluate


def _whole(module: Any, batches: Iterable[Any]) -> tuple[list[np.ndarray[Any, Any]], Any, Any]:
    """Outputs and targets of all batches, leaves concatenated."""
    import torch

    rows: list[list[Any]] = []
    targets: list[Any] = []
    structure: Any = None
    with torch.no_grad():
        for inputs, target in batches:
            leaves, structure = flatten(module(*inputs))
            rows.append([leaf.detach().cpu().numpy() for leaf in leaves])
            targets.extend(target.cpu().numpy() if isinstance(target, torch.Tensor) else target)
    whole = [np.concatenate([row[i] for row in rows]) for i in range(len(rows[0]))]
    return whole, structure, np.asarray(targets) if isinstance(targets[0], np.generic | np.ndarray) else targets


def progress_teller(say: Callable[[str], None], name: str) -> Callable[[int, int, str], None]:
    """Tells share, time left and how well it goes; at most twice a second, since telling writes a file."""
    began, told = time.monotonic(), [0.0]

    def progress(done: int, total: int, what: str) -> None:
        now = time.monotonic()
        if done < total and now - told[0] < 0.5:
            return
        told[0] = now
        left = "" if not done or done >= total else f", {duration((now - began) / done * (total - done))} left"
        say(f"{name} {100 * done // max(1, total)} %{left}{', ' + what if what else ''}")

    return progress


def _same_outputs(baseline: Any, model: Compressed, inputs: tuple[Any, ...]) -> None:
    """Raises HarnessError where a variant's outputs have another structure or shape than the baseline's."""
    import torch

    with torch.no_grad():
        (want, shape), (have, other) = flatten(baseline(*inputs)), flatten(model.module(*inputs))
    if shape != other or [t.shape for t in want] != [t.shape for t in have]:
        raise HarnessError(f"the variant's outputs {[list(t.shape) for t in have]} are not the model's "
                           f"{[list(t.shape) for t in want]}")


def facts(eager: Compressed, final: Compressed, inputs: tuple[Any, ...]) -> dict[str, Any]:
    """parameters, sparsity, macs and `layers` of the last eager form, and what each step took. macs: half of what
    FlopCounterMode counts (matrix products and convolutions) in one call; left out where it cannot count."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    module: Any = eager.module
    zeros = sum(int((p == 0).sum()) for p in module.parameters())
    total = count(module)
    found: dict[str, Any] = {"parameters": total} | ({"sparsity": zeros / total} if total else {})
    found["layers"] = profile(module, inputs, final.precision)
    found["steps"] = [{"step": name, "seconds": round(seconds, 3)} for name, seconds in final.costs]
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module(*inputs)
        found["macs"] = counter.get_total_flops() // 2
    except Exception:  # a model may use what the counter cannot follow
        pass
    return found


def answers(module: Callable[..., Any], samples: Samples) -> tuple[list[np.ndarray[Any, Any]], list[TensorSpec]]:
    """What the model gives for every call, rows on the first dimension, and the shape of one call's leaves.

    Call by call as on a device: dynamic scales depend on the batch. Raises HarnessError where shapes vary."""
    import torch

    calls = len(samples.inputs[0].reshape(-1, *samples.call[0].shape[1:])) // max(1, samples.batch)
    inputs = [torch.from_numpy(a.reshape(calls, *s.shape)) for a, s in zip(samples.inputs, samples.call, strict=True)]
    rows: list[list[Any]] = []
    with torch.no_grad():
        for call in range(calls):
            leaves, _ = flatten(module(*(t[call] for t in inputs)))
            rows.append([leaf.detach().cpu().numpy().copy() for leaf in leaves])
    specs = []
    for index, first in enumerate(rows[0]):
        if any(row[index].shape != first.shape for row in rows):
            raise HarnessError(f"output {index} changes its shape from call to call; devices need a fixed one")
        specs.append(TensorSpec(dtype=dtype_name(torch.from_numpy(np.asarray(first)), f"output {index}"),
                                shape=tuple(first.shape)))
    return [np.concatenate([np.atleast_1d(row[i]) for row in rows]) for i in range(len(specs))], specs


def validated(loaded: Loaded, module: Callable[..., Any], samples: Samples, structure: Any) -> dict[str, Any] | None:
    """`Build.validation` of this model, call by call as on a device; None where the items do not fit the input case.

    Raises UserCodeError where the metric fails."""
    metric = task_metric(loaded.experiment, loaded.data)
    if metric is None or not samples.has_data:
        return None
    leaves, _ = answers(module, samples)
    targets = samples.targets if samples.targets is not None else samples.raw_targets
    score = metric.score(leaves, structure, targets, samples.batch)
    scores = None
    if score.per_sample is not None:
        packed = np.ascontiguousarray(score.per_sample, dtype="<f4").tobytes()
        scores = base64.b64encode(zlib.compress(packed)).decode()
    return {"value": score.value, "samples": samples.rows, "scores": scores}


def write_answers(leaves: Sequence[Any], specs: Sequence[TensorSpec], folder: Path) -> tuple[TensorFile, ...]:
    return tuple(write_tensor(leaf, spec, folder) for leaf, spec in zip(leaves, specs, strict=True))


def require_train(experiment: Experiment, data: Data | None) -> None:
    """Raises UserCodeError where a step trains and the data has nothing to train on."""
    for variant in experiment.variants:
        for step in variant.steps:
            if chains.traits(step).needs_train and (data is None or data.train is None):
                raise UserCodeError(f"variant {variant.name!r}: {step.name} trains, but the data has no 'train'",
                                    "add 'train' to what the data factory returns")
