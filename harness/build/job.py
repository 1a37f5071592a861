"""The build job: what a variant is made of -> exported files, expected outputs and the host's score.

`prepare` runs once, `build_variant` once a variant; both are plain functions of picklable values, made for a
spawned ProcessPoolExecutor. A second run with the same content builds nothing.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import chains, fingerprint, registry
from harness.build import cache as build_cache
from harness.build import keys as build_keys
from harness.build.cache import Record
from harness.build.steps import Job, Loaded, answers, device_of, facts, load, require_train, validated, write_answers
from harness.errors import HarnessError, UsageError, UserCodeError
from harness.export.refused import Refused
from harness.interfaces import Compressed
from harness.loading import check_forward, first_line, flatten
from harness.quiet import stdout_to_stderr
from harness.samples import Samples, check_set, device_samples, samples_of, write_atomically, write_tensor
from harness.task_metric import task_metric
from harness.types import Artifact, Build, CheckSet, TensorFile, TensorSpec, Variant

if TYPE_CHECKING:
    from harness.experiment import Experiment, Export, VariantSpec

log = logging.getLogger("harness.build")
SENSITIVITY_BATCHES = 16


@dataclass(frozen=True, kw_only=True)
class BuildTask:
    """Build `variant` into `folder` (artifacts and tensor files, named by content)."""

    experiment: Experiment
    variant: Variant
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What all variants share. `nulls`: runtime -> a one-op artifact, the baseline of model_memory_bytes."""

    checks: Mapping[str, CheckSet]
    nulls: Mapping[str, Artifact]
    null_input: TensorFile
    toolchain: Mapping[str, str] = field(default_factory=dict)


def prepare(experiment: Experiment, folder: Path) -> Prepared:
    """Loads model and data, tries both, and writes the check sets and the null artifacts.

    Raises UserCodeError for a model, data or metric that cannot be used."""
    with _worker():
        loaded = load(experiment)
        checks = {}
        for name in loaded.cases:
            checks[name], samples = _checks(loaded, name, folder)
            _try_metric(loaded, samples)
        return Prepared(checks=checks, nulls=nulls(_exporters(experiment), folder), null_input=null_input(folder),
                        toolchain=fingerprint.toolchain())


def preflight(experiment: Experiment) -> dict[str, str]:
    """Variant -> why this model or data cannot be that variant, as far as it shows before any time is spent.

    Raises UserCodeError for a model, data or metric that cannot be used, UsageError for a step that names what the
    model has not."""
    with _worker():
        loaded = load(experiment)
        require_train(experiment, loaded.data)
        device_of(experiment)
        found: dict[str, str] = {}
        for spec in experiment.variants:
            job = Job(loaded=loaded, variant=Variant(name=spec.name, steps=tuple(spec.steps)), say=lambda text: None)
            try:
                job.preflight()
            except UsageError as error:
                raise UsageError(f"variant {spec.name!r}: {error.what}", error.hint) from error
            except HarnessError as error:
                found[spec.name] = _told(error)
        return found


def sensitivity(task: BuildTask) -> list[dict[str, Any]]:
    """Each layer of the variant's last eager form (JSON values, in the model's order): what treating it alone costs.

    Raises UserCodeError for a model or data that cannot be used, HarnessError where a step fails."""
    from harness.compress.pt2e import calibration_batches
    from harness.compress.sensitivity import layer_sensitivities

    with _worker():
        loaded = load(task.experiment)
        require_train(task.experiment, loaded.data)
        job = Job(loaded=loaded, variant=task.variant, say=_teller(task))
        model, bench = job.eager(), job.bench(0)
        batches = calibration_batches(model, bench, SENSITIVITY_BATCHES)
        module: Any = model.module
        found = layer_sensitivities(module, model.example_inputs, batches, evaluate=bench.evaluate,
                                    progress=bench.progress)
        return [asdict(layer) for layer in found]


def build_variant(task: BuildTask) -> tuple[Build, ...]:
    """One Build for each (input case, exporter). What goes wrong with this variant alone is its status and reason.

    Raises UserCodeError for a model, data or metric that no variant could be built with."""
    with _worker():
        loaded = load(task.experiment)
        spec = next((v for v in task.experiment.variants if v.name == task.variant.name), None)
        job = Job(loaded=loaded, variant=task.variant, say=_teller(task))
        rows: list[Build] = []
        for case in loaded.cases:
            check, samples = _checks(loaded, case, task.folder)
            one = _Case(job=job, name=case, check=check, samples=samples, folder=task.folder)
            if spec is not None and spec.artifact is not None:
                rows.append(_guarded(lambda one=one: _prebuilt(one, spec), _blank(job, spec.exporter or "", case)))
                continue
            for export in task.experiment.export:
                exporter = registry.load("exporter", export.exporter)()
                params = exporter.Params.model_validate(dict(export.params))
                blank = replace(_blank(job, export.label, case), backend=exporter.backend(params))
                rows.append(_guarded(lambda one=one, export=export, blank=blank: one.build(export, blank), blank))
        job.say("done")
        return tuple(rows)


def _blank(job: Job, label: str, case: str) -> Build:
    return Build(variant=job.variant.name, seed=job.variant.seed, exporter=label, backend="", input=case,
                 status="failed", reason="not built")


def _guarded(make: Any, blank: Build) -> Build:
    """The one place where what a build raises becomes a row."""
    try:
        result: Build = make()
        return result
    except Refused as refusal:
        return replace(blank, status="skipped", reason=refusal.what)
    except _Unusable as error:
        raise UserCodeError(error.what, error.hint) from error
    except HarnessError as error:
        return replace(blank, reason=_told(error))
    except Exception as error:
        log.debug("unexpected error in a build", exc_info=True)
        return replace(blank, reason=f"unexpected {first_line(error)}")


def _told(error: HarnessError) -> str:
    return f"{error.what}; {error.hint}" if error.hint else error.what


class _Unusable(UserCodeError):
    """The user's metric fails on the baseline itself: no variant can be scored."""


class _Case:
    """One variant on one input case: the model is made on demand, once for all exporters."""

    def __init__(self, *, job: Job, name: str, check: CheckSet, samples: Samples, folder: Path) -> None:
        self.job, self.name, self.check, self.samples, self.folder = job, name, check, samples, folder
        self.inputs = job.loaded.cases[name]
        self._made: tuple[Compressed, Compressed] | None = None
        self._broken: HarnessError | None = None

    def models(self) -> tuple[Compressed, Compressed]:
        """The last eager form, and the form to export. A failure is remembered, not repeated per exporter."""
        if self._broken is not None:
            raise self._broken
        if self._made is None:
            try:
                eager = self.job.eager()
                self._made = eager, self.job.final(eager, self.name)
            except HarnessError as error:
                self._broken = error
                raise
        return self._made

    def build(self, export: Export, blank: Build) -> Build:
        exporter = registry.load("exporter", export.exporter)()
        if self.job.form not in exporter.accepts:
            raise Refused(exporter.refusal(self.job.form))
        params = exporter.Params.model_validate(dict(export.params))
        experiment, model_key = self.job.loaded.experiment, self.job.keys[-1]
        key = build_keys.export_key(model_key, experiment, export.exporter, params, self.inputs)
        with build_cache.locked(key):
            record = build_cache.read(key, self.folder)
            built = record is None
            if record is None:
                self._ask_first(exporter, params)
                record = self._export(exporter, params)
                build_cache.write(key, record, self.folder)
        score = self.score()
        return replace(blank, status="ok", reason=None, notes=record.notes + score.notes, built=built,
                       precision=record.precision, calibrated=record.calibrated, artifact=record.artifact,
                       facts=record.facts, expected=score.expected, host_score=score.host_score,
                       validation=self.validation())

    def _ask_first(self, exporter: Any, params: Any) -> None:
        """A variant that trains asks whether this format takes the baseline, before the minutes and not after."""
        steps = self.job.variant.steps
        if self._made is None and hasattr(exporter, "preflight") and chains.trains(steps):
            asked = self.job.loaded.asked
            key = type(exporter), params.model_dump_json(), self.name
            if key not in asked:
                asked[key] = self._refusal(exporter, params)
            if (refusal := asked[key]) is not None:
                raise refusal

    def _refusal(self, exporter: Any, params: Any) -> HarnessError | None:
        loaded = self.job.loaded
        model = Compressed(module=loaded.model, form="eager", example_inputs=self.inputs,
                           dynamic_shapes=loaded.dynamic_shapes)
        try:
            exporter.preflight(model, params)
        except HarnessError as error:
            return error
        return None

    def _export(self, exporter: Any, params: Any) -> Record:
        eager, final = self.models()
        self.job.say(f"export {exporter.suffix}")
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".part-") as part:
            out = Path(part) / f"model{exporter.suffix}"
            exported = exporter.export(final, params, out)
            artifact = keep(out, exporter, self.folder)
        return Record(artifact=artifact, facts=facts(eager, final, self.inputs) | dict(exported.facts),
                      notes=(*final.notes, *exported.notes), precision=final.precision, calibrated=final.calibrated)

    def score(self) -> Record:
        """Expected outputs and the host's score of the compressed model, from the cache where they are known."""
        loaded = self.job.loaded
        targets = self.check.targets.sha256 if self.check.targets else repr(self.samples.raw_targets)
        key = build_keys.score_key(self.job.keys[-1], loaded.experiment, self.check, self.inputs, targets)
        with build_cache.locked(key):
            record = build_cache.read(key, self.folder)
            if record is None:
                _, final = self.models()
                self.job.say("expected outputs")
                record = _scored(loaded, final.module, self.samples, self.check.structure, self.folder,
                                 strict=not self.job.variant.steps)
                build_cache.write(key, record, self.folder)
        return record


    def validation(self) -> Mapping[str, Any] | None:
        """The compressed model's score on the validation split, where the experiment selects on it."""
        loaded = self.job.loaded
        if loaded.experiment.select_on != "validation" or loaded.data is None or loaded.data.validation is None:
            return None
        model, split = self.job.keys[-1], f"validation {loaded.validation_key}"
        key = build_keys.score_key(model, loaded.experiment, self.check, self.inputs, split)
        with build_cache.locked(key):
            record = build_cache.read(key, self.folder)
            if record is None:
                _, final = self.models()
                self.job.say("validation")
                samples = samples_of(loaded.data.validation, self.inputs, None)
                record = Record(validation=validated(loaded, final.module, samples, self.check.structure))
                build_cache.write(key, record, self.folder)
        return record.validation


def _scored(loaded: Loaded, module: Any, samples: Samples, structure: Any, folder: Path, strict: bool) -> Record:
    leaves, specs = answers(module, samples)
    expected = write_answers(leaves, specs, folder)
    metric = task_metric(loaded.experiment, loaded.data)
    if metric is None or not samples.has_data:
        return Record(expected=expected)
    targets = samples.targets if samples.targets is not None else samples.raw_targets
    try:
        return Record(expected=expected, host_score=metric.score(leaves, structure, targets, samples.batch).value)
    except UserCodeError as error:
        if strict:
            raise _Unusable(error.what, error.hint) from error
        return Record(expected=expected, notes=(f"no host score: {error.what}",))


def keep(file: Path, exporter: Any, folder: Path) -> Artifact:
    """Moves an exported file into `folder` under its content's name."""
    import zstandard

    data = file.read_bytes()
    artifact = Artifact(
        sha256=fingerprint.of_bytes(data), suffix=exporter.suffix, size_bytes=len(data), runtime=exporter.runtime,
        compressed_bytes=len(zstandard.ZstdCompressor(level=19).compress(data)), toolchain=fingerprint.toolchain())
    write_atomically(folder / artifact.file_name, data)
    return artifact


def _prebuilt(one: _Case, spec: VariantSpec) -> Build:
    """A file made elsewhere: copied in, checked against the *baseline's* outputs, with the tolerance of fp32 unless
    the experiment's `check` says otherwise."""
    path = one.job.loaded.folder / str(spec.artifact)
    if not path.is_file():
        raise _Unusable(f"variant {spec.name!r}: {spec.artifact} does not exist", "paths are relative to the YAML")
    exporter = registry.load("exporter", str(spec.exporter))()
    artifact = replace(keep(path, exporter, one.folder), toolchain={})
    record = one.score()
    return replace(_blank(one.job, str(spec.exporter), one.name), backend=str(spec.backend), status="ok", reason=None,
                   notes=("made elsewhere",), artifact=artifact, expected=record.expected)


def _checks(loaded: Loaded, case: str, folder: Path) -> tuple[CheckSet, Samples]:
    """The case's samples, and the check set of their files in `folder`."""
    inputs = loaded.cases[case]
    samples = device_samples(loaded.experiment, loaded.data, inputs)
    _, structure = flatten(check_forward(loaded.model, inputs))
    return check_set(case, samples, structure, folder), samples


def _try_metric(loaded: Loaded, samples: Samples) -> None:
    """The built-in accuracy on one call, so that targets it cannot use are refused before anything is built."""
    metric = task_metric(loaded.experiment, loaded.data)
    if metric is None or not samples.has_data or metric.whole is not None:
        return
    first = replace(samples, inputs=tuple(a[:samples.batch] for a in samples.inputs))
    leaves, _ = answers(loaded.model, first)
    if samples.targets is None:
        raise UserCodeError("metric accuracy needs integer targets", "use metric: custom")
    metric.score(leaves, None, samples.targets[:samples.batch], samples.batch)


def null_input(folder: Path) -> TensorFile:
    import numpy

    return write_tensor(numpy.ones(1, dtype="float32"), TensorSpec(dtype="float32", shape=(1,)), folder)


def _exporters(experiment: Experiment) -> list[str]:
    prebuilt = [str(v.exporter) for v in experiment.variants if v.artifact is not None]
    return list(dict.fromkeys([e.exporter for e in experiment.export] + prebuilt))


def nulls(exporters: Sequence[str], folder: Path) -> dict[str, Artifact]:
    """runtime -> artifact of one addition, by the exporter's default options."""
    import torch

    class AddOne(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1.0

    found: dict[str, Artifact] = {}
    for name in exporters:
        exporter = registry.load("exporter", name)()
        if exporter.runtime in found:
            continue
        key = fingerprint.of_json(["null", name, fingerprint.toolchain(), build_keys.own_source()])
        with build_cache.locked(key):
            record = build_cache.read(key, folder)
            if record is None or record.artifact is None:
                model = Compressed(module=AddOne().eval(), form="eager", example_inputs=(torch.ones(1),))
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as part:
                    out = Path(part) / f"null{exporter.suffix}"
                    exporter.export(model, exporter.Params(), out)
                    record = Record(artifact=keep(out, exporter, folder))
                build_cache.write(key, record, folder)
        assert record.artifact is not None
        found[exporter.runtime] = record.artifact
    return found


def _teller(task: BuildTask) -> Any:
    """Writes what is being done to `progress/VARIANT-SEED.txt`, one line, whole at any moment; the host reads it."""
    path = task.folder / "progress" / f"{task.variant.name}-{task.variant.seed}.txt"

    def say(text: str) -> None:
        with contextlib.suppress(OSError):
            write_atomically(path, f"{text}\n".encode())

    return say


@contextlib.contextmanager
def _worker() -> Iterator[None]:
    """A build's surroundings: stdout is not for users' prints, and one thread, since builds run side by side."""
    from harness.loading import require_torch

    require_torch()
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with stdout_to_stderr():
            yield
    finally:
        torch.set_num_threads(before)
