"""What a run's raw values say of it: its summary, its output check, its score. Nothing of the device is needed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from harness.analyze import energy, operators, stats, sustained
from harness.analyze.check import output_check
from harness.errors import HarnessError, RunnerError, UserCodeError
from harness.experiment import Experiment
from harness.measure import session as measuring
from harness.package import Files
from harness.task_metric import TaskMetric, task_metric
from harness.types import Build, CheckSet, Measurement, Package, Run


class Places(Protocol):
    """Where things lie on this host: artifacts and tensors, the user's code; `carried`: the package came from
    elsewhere."""

    @property
    def files(self) -> str: ...
    @property
    def folder(self) -> str: ...
    @property
    def carried(self) -> bool: ...


def judged(attempt: measuring.Attempt, package: Package, places: Places) -> Run:
    """The run with what follows from its raw values: the summary, the output check, the score."""
    run = attempt.run
    if run.status != "ok":
        return run
    try:
        if run.purpose in SUMMARIES:
            return summarised(run)
        if run.purpose in ("check", "accuracy"):
            return _checked(run, attempt, package, places)
    except RunnerError as error:
        return dataclasses.replace(run, status="failed", counts=False, reason=error.what[:500])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = f"the runner's values are not understood: {type(error).__name__}: {error}"[:500]
        return dataclasses.replace(run, status="failed", counts=False, reason=reason)
    return run


#: purpose -> what follows from the run's raw values alone: `Run.summary`
SUMMARIES: Mapping[str, Callable[[Run], Mapping[str, Any]]] = {
    "latency": lambda run: stats.summary(run.arrays["latency_ns"]),
    "burn_in": lambda run: stats.summary(run.arrays["latency_ns"]),
    "idle": energy.window,
    "energy": energy.window,
    "sustained": sustained.summary,
    "profile": operators.summary,
}


def summarised(run: Run) -> Run:
    return dataclasses.replace(run, summary=SUMMARIES[run.purpose](run)) if run.purpose in SUMMARIES else run


def _checked(run: Run, attempt: measuring.Attempt, package: Package, places: Places) -> Run:
    files = Files(Path(places.files))
    build = _build_of(run, package)
    check = package.checks[build.input]
    if len(attempt.outputs) != len(build.expected):
        reason = f"wrong output: {len(attempt.outputs)} outputs, expected {len(build.expected)}"
        return dataclasses.replace(run, status="failed", counts=False, reason=reason)
    expected = [
        measuring.read_tensors(files(file.sha256, ".bin"), file.spec.dtype, list(file.spec.shape))
        for file in build.expected
    ]
    metric = _metric(package, places) if check.targets is not None else None
    verdict = output_check(
        [_rows(leaf) for leaf in expected],
        [_rows(leaf) for leaf in attempt.outputs],
        precision=build.precision,
        has_data=check.has_data and build.calibrated,
        min_sqnr_db=package.experiment.get("check", {}).get("min_sqnr_db"),
        top1=isinstance(metric, TaskMetric) and metric.whole is None,
    )
    found = list(run.measurements)
    for name, value in (("output_sqnr_db", verdict.sqnr_db), ("output_max_abs", verdict.max_abs)):
        if value is not None:
            found.append(Measurement(metric=name, values=(float(value),), phase="check"))
    run = dataclasses.replace(run, measurements=tuple(found), caveats=(*run.caveats, *verdict.caveats))
    if not verdict.ok:
        return dataclasses.replace(run, status="failed", counts=False, reason=f"wrong output: {verdict.reason}")
    return run if metric is None else _scored(run, metric, attempt.outputs, check, files)


def _rows(leaf: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(calls, batch, …) -> (rows, …); rows beyond the targets are the last call's padding."""
    return leaf.reshape(-1, *leaf.shape[2:]) if leaf.ndim > 1 else leaf


def _metric(package: Package, places: Places) -> TaskMetric | str | None:
    """The task metric, or why it cannot be had on this host (the user's code did not travel)."""
    if package.experiment.get("data") is None:
        return None
    experiment = Experiment.model_validate_json(json.dumps(package.experiment))
    assert experiment.data is not None
    spec, folder = experiment.data.metric, Path(places.folder)
    if places.carried and spec.name != "accuracy":
        # a manifest may name any callable of any library: of what it names, only the user's own code here is run
        for named in (spec.factory or experiment.data.factory, spec.per_sample):
            module = folder / (named or "").partition(":")[0].replace(".", "/")
            if named and not module.with_suffix(".py").is_file() and not (module / "__init__.py").is_file():
                return f"the metric's code {named.partition(':')[0]} is not in the working folder"
    try:
        return task_metric(experiment.model_copy(update={"folder": str(folder)}))
    except HarnessError as error:
        return error.what


def _scored(run: Run, metric: TaskMetric | str, outputs: Any, check: CheckSet, files: Files) -> Run:
    assert check.targets is not None
    spec = check.targets.spec
    targets = np.fromfile(files(check.targets.sha256, ".bin"), spec.numpy).reshape(-1, *spec.shape[1:])
    try:
        if isinstance(metric, str):
            raise UserCodeError(metric)
        call = check.inputs[0].spec.shape
        score = metric.score([_rows(leaf) for leaf in outputs], check.structure, targets, call[0] if call else 1)
    except UserCodeError as error:
        return dataclasses.replace(run, conditions=dict(run.conditions) | {"accuracy_absent": error.what})
    measured = Measurement(metric="accuracy", values=(score.value,), phase="accuracy", source="device")
    arrays = dict(run.arrays) | ({} if score.per_sample is None else {"score": score.per_sample.astype("<f8")})
    return dataclasses.replace(run, measurements=(*run.measurements, measured), arrays=arrays)


def _build_of(run: Run, package: Package) -> Build:
    key = (run.cell.variant, run.cell.seed, run.cell.exporter, run.cell.backend, run.cell.input)
    return next(b for b in package.builds if (b.variant, b.seed, b.exporter, b.backend, b.input) == key)
