"""The values that flow from stage to stage: frozen, keyword-only, units in the names.

Only values here; what acts on them lives in the stages. `Compressed` (the one value that holds torch objects)
is in `interfaces.py`, since it never leaves the build.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Status = Literal["ok", "failed", "skipped", "invalid"]
#: `sentinel`: only the calibration kernel, to enrol a device · `burn_in`: a latency run that never counts as one, for
#: the heat · `load`: cold, the page cache dropped · `idle`: nothing runs, for the meter · `profile`: time per operator
Purpose = Literal[
    "check", "accuracy", "memory", "load", "sentinel", "burn_in", "latency", "idle", "energy", "sustained", "profile"
]
#: what a result stands on; without the others it lacks a metric, with the reason
ESSENTIAL: tuple[Purpose, ...] = ("check", "accuracy", "memory", "latency")
Precision = Literal["fp32", "fp16", "dynamic", "int4", "static_int8"]

#: numpy dtypes of the runner's wire format (tensor files are little endian, C order, no header)
DTYPES: dict[str, str] = {
    "float32": "<f4",
    "float16": "<f2",
    "int64": "<i8",
    "int32": "<i4",
    "uint8": "u1",
    "bool": "?",
    # of outputs only: no runner takes these as inputs
    "float64": "<f8",
    "int16": "<i2",
    "int8": "i1",
}
INPUT_DTYPES = ("float32", "float16", "int64", "int32", "uint8", "bool")


#: the variant name of the one-op model, the baseline of model_memory_bytes; a real name cannot have parentheses
NULL_VARIANT = "(null)"
#: ends the name of a variant that is the baseline's, where both are measured in the same blocks
BASE_SUFFIX = " (base)"
#: `experiment`: of a configuration · `measure`: of one file · `paired`: of a configuration or of two files, with a
#: baseline's variants (BASE_SUFFIX) in the same blocks, which only comparisons look at · `confirm`: some cells of two
#: sessions likewise, measured again; no release of anything: only the comparison that asked looks at it
Kind = Literal["experiment", "measure", "paired", "confirm"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One compression step: the technique's name and its validated parameters (JSON values, defaults filled in)."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The reference or a compressed form of the model: `steps` applied in order to the baseline."""

    name: str
    steps: tuple[Step, ...] = ()
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One tensor of one call: dtype name of `DTYPES`, shape with the batch dimension."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def numpy(self) -> np.dtype[Any]:
        return np.dtype(DTYPES[self.dtype])

    @property
    def call_bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.numpy.itemsize


@dataclass(frozen=True, kw_only=True)
class TensorFile:
    """A content-addressed raw tensor file holding `samples` calls of `spec`."""

    spec: TensorSpec
    sha256: str
    samples: int


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """One exported file. No path: a package or a cache fetches it by `sha256`."""

    sha256: str
    suffix: str
    size_bytes: int
    compressed_bytes: int
    runtime: str
    toolchain: Mapping[str, str]

    @property
    def file_name(self) -> str:
        return f"{self.sha256}{self.suffix}"


@dataclass(frozen=True, kw_only=True)
class Build:
    """One planned (variant, seed, exporter, input case): built, failed or skipped.

    `facts`: macs, parameters, sparsity, delegated_fraction and `delegation` (partitions, what was left outside).
    `expected`: outputs of the *compressed eager* model on the check set, one file per leaf.
    `host_score`: the task metric of the compressed eager model on the same samples; None without data.
    `validation`: the same model on the validation split, where the experiment selects on it: `value`, `samples`, and
    `scores`, one float32 a sample (little endian, zlib, base64), None where the metric has no score per sample.
    """

    variant: str
    seed: int
    exporter: str
    backend: str
    input: str
    status: Status
    reason: str | None = None
    caveats: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    precision: Precision = "fp32"
    calibrated: bool = True
    built: bool = False
    artifact: Artifact | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    expected: tuple[TensorFile, ...] = ()
    host_score: float | None = None
    validation: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class CheckSet:
    """What every artifact of one input case is checked on: device samples, or the example inputs without data.

    `has_data` is False when `inputs` are the example inputs. `targets` is None without data or where targets are
    not tensors that a raw file can hold. `structure` is the output's pytree with leaf indices as leaves
    (JSON: dict, list or int), so that a custom metric sees the eager model's structure."""

    input: str
    inputs: tuple[TensorFile, ...]
    has_data: bool
    targets: TensorFile | None = None
    targets_absent: str | None = None
    structure: Any = 0


@dataclass(frozen=True, kw_only=True)
class Package:
    """All that measuring needs, with the base install: no torch, no user code (but a custom metric).

    `experiment` is the resolved configuration as JSON; `nulls` maps a runtime to its one-op artifact, the
    baseline of `model_memory_bytes`."""

    schema: int
    experiment: Mapping[str, Any]
    yaml: str
    builds: tuple[Build, ...]
    checks: Mapping[str, CheckSet]
    nulls: Mapping[str, Artifact]
    null_input: TensorFile | None = None
    toolchain: Mapping[str, str] = field(default_factory=dict)

    @property
    def thresholds(self) -> Mapping[str, float]:
        """Metric -> the relative change that matters, where the experiment has one of its own."""
        return dict(self.experiment.get("thresholds") or {})


@dataclass(frozen=True, kw_only=True)
class RunnerSpec:
    """The user's own runner for a device: a binary on the host (`path`, pushed once) or a command on the device."""

    path: str | None = None
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DeviceSpec:
    """A device as the user wrote it: `name` is the URI or the name in devices.yaml.

    `prepare`: setting -> `auto`, or a value; what is not named is not touched. `cpus` replaces the experiment's."""

    name: str
    uri: str
    workdir: str | None = None
    sysroot: str = "/"
    tags: tuple[str, ...] = ()
    runner: RunnerSpec = field(default_factory=lambda: RunnerSpec())
    root: bool = False
    cpus: tuple[str, ...] = ()
    prepare: Mapping[str, str] = field(default_factory=dict)
    energy: Mapping[str, Any] = field(default_factory=dict)
    thermal: Mapping[str, Any] = field(default_factory=dict)

    @property
    def scheme(self) -> str:
        return self.uri.partition(":")[0]

    @property
    def context(self) -> str:
        """How a runner lives there: `host`, `shell-bundle` or, with the user's own, `shell-ndk`."""
        if self.scheme == "local":
            return "host"
        return "shell-ndk" if self.runner.path or self.runner.command else "shell-bundle"


@dataclass(frozen=True, kw_only=True)
class DeviceFacts:
    """What the device said of itself. `device_id` names the unit; None means the device did not say."""

    device_id: str
    abi: str
    cores: int
    model: str | None = None
    soc: str | None = None
    os: str | None = None
    kernel: str | None = None
    memory_bytes: int | None = None
    page_size: int | None = None
    boot_id: str | None = None
    clusters: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The identity of a result (with the experiment and the metric): what comparisons and history match on."""

    variant: str
    seed: int
    exporter: str
    backend: str
    input: str
    device_id: str
    threads: int | None
    cpus: str
    context: str = "host"


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Raw values of one metric in its unit (metrics.py), as measured; never a mean."""

    metric: str
    values: tuple[float, ...]
    phase: str = "steady"
    source: str = "runner"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One process, one purpose, one attempt; always stored, whatever became of it.

    `counts` marks the attempt that stands for (session, cell, purpose, repeat).
    `summary`: figures recomputable from `arrays` (latency: n, p50, p90, p95, p99, mean, min in ms, `quantiles` in ms
    at 0, 1/100 … 1). `arrays`: raw samples by name (`latency_ns`, `warmup_ns`, `input_ns`, `score`), kept out of
    the row's summary columns and empty unless asked for."""

    id: str
    session: str
    cell: Cell
    purpose: Purpose
    repeat: int
    attempt: int
    counts: bool
    status: Status
    reason: str | None = None
    caveats: tuple[str, ...] = ()
    block: int = 0
    position: int = 0
    started_utc: str = ""
    boot_id: str | None = None
    start_boottime_ns: int | None = None
    end_boottime_ns: int | None = None
    artifact_sha256: str = ""
    measurements: tuple[Measurement, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    conditions: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray[Any, Any]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One run of the schedule, before it is made. `cpu_mask` is the runner's `--cpus`: `any` or a hexadecimal mask.

    `min_seconds`: of latency the least steady time; of idle, energy and sustained the time that it goes on."""

    cell: Cell
    purpose: Purpose
    repeat: int
    block: int
    position: int
    artifact: Artifact
    inputs: tuple[TensorFile, ...]
    cpu_mask: str = "any"
    min_seconds: float = 2.0
    min_iterations: int = 100


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """How a device is at one moment, as far as it says; None and empty mean that it does not.

    `uptime_s`: seconds since its boot, sleep included. `zones_c`: thermal zone -> °C. `skin_c`: Android's skin sensor.
    `thermal_status`: Android's, 0 is none. `throttled`: the bits of a Pi's `vcgencmd get_throttled`.
    `max_khz`: frequency policy -> the highest clock that it may take just now."""

    uptime_s: float | None = None
    zones_c: Mapping[str, float] = field(default_factory=dict)
    skin_c: float | None = None
    battery_c: float | None = None
    battery_percent: int | None = None
    charging: bool | None = None
    thermal_status: int | None = None
    throttled: int | None = None
    max_khz: Mapping[str, int] = field(default_factory=dict)
    governors: Mapping[str, str] = field(default_factory=dict)
    loadavg: float | None = None
    screen_on: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Enrolment:
    """What a device is like at rest, from the sentinel runs that open a session; None where it could not be told.

    `sentinel_ns`: median of the calibration kernel, `sentinel_sd`: the standard deviation of its logarithm from run to
    run. `change_sd`: that of what it changed within each timed run since, by their median absolute deviation: a shared
    machine that was quiet for the seconds of its enrolment is not so for long. `rest`: its state then, cooled down."""

    sentinel_ns: float | None = None
    sentinel_sd: float | None = None
    change_sd: float | None = None
    rest: Snapshot | None = None


@dataclass(frozen=True, kw_only=True)
class SessionDevice:
    """One device of a session, filled in when it is first reached; `unreached` says why it was not."""

    spec: DeviceSpec
    facts: DeviceFacts | None = None
    runners: Mapping[str, str] = field(default_factory=dict)
    unreached: str | None = None


@dataclass(frozen=True, kw_only=True)
class Session:
    """One (experiment, label, resolved plan, artifacts) and what each of its devices was.

    `imported_utc`: when it came into this store out of a file; None for what was measured into it."""

    id: str
    experiment: str
    kind: Kind
    label: str | None
    created_utc: str
    finished_utc: str | None
    quick: bool
    plan: Mapping[str, Any]
    package: Package
    devices: tuple[SessionDevice, ...] = ()
    imported_utc: str | None = None


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A metric (with a statistic, e.g. `latency_ms.p90`) to optimise; the direction comes from METRICS."""

    metric: str

    @property
    def key(self) -> tuple[str, str]:
        base, _, stat = self.metric.partition(".")
        return base, stat or "value"


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """`METRIC[.STAT] OP NUMBER` of a pick."""

    metric: str
    op: Literal["<=", ">=", "<", ">"]
    bound: float

    def __str__(self) -> str:
        return f"{self.metric} {self.op} {self.bound:g}"
