"""The experiment's task metric, and what each row scored: on the device, and on the validation split on the host."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.analyze.measured import why_none
from harness.analyze.rows import Row
from harness.analyze.status import number
from harness.types import Build, Session

NO_DATA = "no data in the experiment"
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Task:
    """The experiment's task metric. `name` is None without data. `controls`: variant -> the variant that was trained
    as long, for those that have one. `on_validation`: whether builds were scored on that split, to select by it."""

    name: str | None
    better: str
    reference: str
    controls: Mapping[str, str] = field(default_factory=dict)
    on_validation: bool = False

    @classmethod
    def of(cls, session: Session) -> Task:
        experiment: Mapping[str, Any] = session.package.experiment
        metric = (experiment.get("data") or {}).get("metric")
        if isinstance(metric, str):
            metric = {"name": metric}
        known = metric or {}
        named = {str(v.get("name")): v.get("control") for v in experiment.get("variants") or ()}
        return cls(
            name=known.get("name", "accuracy") if experiment.get("data") else None,
            better=known.get("better") or "higher",
            reference=str(experiment.get("reference") or ""),
            controls={variant: str(control) for variant, control in named.items() if control},
            on_validation=experiment.get("select_on") == "validation",
        )

    @property
    def unit(self) -> str:
        return "fraction" if self.name == "accuracy" else "1"

    @property
    def sign(self) -> float:
        """Of a loss: positive is worse, whatever the metric's direction."""
        return -1.0 if self.better == "lower" else 1.0


@dataclass(frozen=True, kw_only=True)
class Score:
    """One task metric of one row; `samples` are per-sample scores, None where the metric has none. `count`: samples,
    also where there is no score of each.

    `absent` says why there is no value."""

    value: float | None = None
    samples: Floats | None = None
    count: int | None = None
    absent: str = ""


def on_device(row: Row, session: Session, task: Task) -> Score:
    """What the accuracy run said. Without data, without calibration data, or without targets it is absent."""
    checks = session.package.checks.get(row.build.input)
    if task.name is None:
        return Score(absent=NO_DATA)
    if checks and not checks.has_data:
        return Score(absent=checks.targets_absent or NO_DATA)
    if not row.build.calibrated:
        return Score(absent=_uncalibrated(row.build))
    if checks and checks.targets is None:
        return Score(absent=checks.targets_absent or "the data has no targets")
    runs = row.counted("accuracy")
    if not runs:
        return Score(absent=why_none(row, "accuracy"))
    run = runs[0]
    said_values = [number(v) for m in run.measurements if m.metric == "accuracy" for v in m.values]
    raw = run.arrays.get("score")
    if raw is None:
        raw = np.asarray([v for m in run.measurements if m.metric == "score" for v in m.values])
    samples = _usable(raw)
    value = said_values[0] if said_values else (float(samples.mean()) if samples is not None else None)
    if value is None:
        return Score(absent=str(run.conditions.get("accuracy_absent") or "the accuracy run reported no value"))
    # calls are fewer than samples where one takes a batch, and the last may be filled up: targets are what counts
    checked = checks.targets.samples if checks and checks.targets else None
    return Score(value=value, samples=samples, count=checked if samples is None else samples.size)


def on_validation(build: Build, task: Task) -> Score:
    """What the build said of the compressed model on the validation split; absent where nobody asked for it."""
    if task.name is None:
        return Score(absent=NO_DATA)
    if not task.on_validation:
        return Score(absent="select_on: test")
    if not build.calibrated:
        return Score(absent=_uncalibrated(build))
    said = build.validation or {}
    value, count = number(said.get("value")), number(said.get("samples"))
    if value is None or count is None:
        return Score(absent="the build has no score on the validation split")
    return Score(value=value, samples=_unpacked(said.get("scores"), int(count)), count=int(count))


def _uncalibrated(build: Build) -> str:
    return next((note for note in build.notes if "calibrated on" in note), "calibrated on example inputs")


def _usable(raw: Any) -> Floats | None:
    samples = np.asarray(raw, dtype=np.float64).reshape(-1)
    return samples if samples.size and bool(np.isfinite(samples).all()) else None


def _unpacked(text: Any, count: int) -> Floats | None:
    """float32 scores, little endian, zlib, base64; None for anything else (a package may come from anywhere)."""
    if not isinstance(text, str):
        return None
    try:
        packed = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), 4 * count + 1)
    except (binascii.Error, zlib.error, ValueError, OverflowError):
        return None
    return _usable(np.frombuffer(packed, "<f4")) if len(packed) == 4 * count else None
