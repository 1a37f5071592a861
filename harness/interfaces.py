"""The seams: what varies, as Protocols of four methods at most.

Adding one is one file and one line in `registry.py`; a third party uses the entry-point groups named there.
Each implementation ends with a conformance line (`_: type[Technique] = QuantizePt2e`), since `registry.load`
returns what it finds by name and a type checker cannot see through that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from pydantic import BaseModel

from harness.types import DeviceFacts, Precision

if TYPE_CHECKING:
    import torch

Batch = tuple[tuple["torch.Tensor", ...], "torch.Tensor"]


@dataclass(frozen=True, kw_only=True)
class Compressed:
    """A model on its way through the steps.

    `form` says what it is: `eager` (an nn.Module that can still be changed), or one that no later step can change:
    `exported:xnnpack` (a PT2E program for that delegate), `quantized:torch` (an nn.Module of torch's own quantized
    kernels, for the lite interpreter), `half` (fp16 inside, the baseline's dtypes at its ends). `module` is callable
    on `example_inputs` in every form.
    `calibrated` is False where PTQ had no calibration data and used the example inputs.
    `dynamic_shapes` is what the user's own callable gave, as torch.export takes it.
    `patterns`: parameter name -> what later training must keep of it (`zeros`, `values`; compress/patterns.py).
    `costs`: (step, seconds that it took) in order, as the build measured them when it was really computed.
    """

    module: Callable[..., Any]
    form: str
    example_inputs: tuple[torch.Tensor, ...]
    precision: Precision = "fp32"
    calibrated: bool = True
    notes: tuple[str, ...] = ()
    dynamic_shapes: Any = None
    patterns: Mapping[str, frozenset[str]] = field(default_factory=dict)
    costs: tuple[tuple[str, float], ...] = ()

    def with_(self, **changes: Any) -> Compressed:
        return replace(self, **changes)


@dataclass(frozen=True, kw_only=True)
class Workbench:
    """What a step may use: data splits (never `test`), loss, the baseline as teacher, seed and limits.

    `train`, `calibration` and `validation` make fresh iterables of stacked batches `(inputs tuple, targets)`;
    None where the user's data has no such split. `train(batch_size)` is shuffled by `seed`.
    `teacher` is the uncompressed baseline in eval mode; never change it.
    `evaluate(module)` is the task metric on the validation split, negated where lower is better, so that more is
    always better; None without such a split or metric. `splits`: the user's own objects (no `test`), for a trainer
    of the user's own. `machine`: the processor the file is for (platform.machine()) where every device is `local`,
    else empty.
    `progress(done, total, what)` may be called as often as wanted; `what` says what is going on and how well.
    """

    seed: int
    teacher: torch.nn.Module
    example_inputs: tuple[torch.Tensor, ...]
    train: Callable[[int], Iterable[Batch]] | None = None
    calibration: Callable[[int], Iterable[Batch]] | None = None
    validation: Callable[[int], Iterable[Batch]] | None = None
    loss: Callable[[Any, torch.Tensor], torch.Tensor] | None = None
    batch_size: int = 64
    max_steps: int | None = None
    device: str = "cpu"
    evaluate: Callable[[Any], float] | None = None
    splits: Mapping[str, Any] = field(default_factory=dict)
    machine: str = ""
    progress: Callable[[int, int, str], None] = lambda done, total, what: None
    import_factory: Callable[[str], Callable[..., Any]] | None = None


class Technique(Protocol):
    """One compression technique. The class attributes are read when the YAML is read: the module must not
    import torch at its top.

    `Params` validates the step's parameters (strict, every default written). `accepts`: forms it takes.
    `gives`: the form it returns. `needs_train`: refused at reading when the data has no `train`.

    Further class attributes are optional (chains.py has their defaults and reads them all): `seeded`, `reads_data`,
    `reads_machine` (what its result follows from), `makes` and `refuses` (which orders cannot work), `renames`.
    `traits(params)`, a static method, gives those that depend on the parameters. `preflight(params, model, bench)`, a
    static method, raises HarnessError for what this baseline cannot do; it is called before any time is spent.
    """

    Params: ClassVar[type[BaseModel]]
    accepts: ClassVar[frozenset[str]]
    gives: ClassVar[str]
    needs_train: ClassVar[bool]

    def apply(self, model: Compressed, params: Any, bench: Workbench) -> Compressed:
        """The compressed model. May change `model.module` in place: the caller hands over a copy."""
        ...


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an exporter says of the file it wrote."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Exporter(Protocol):
    """One file format. `accepts`: forms it can take; others are `skipped` rows with `refusal(form)` as the reason.

    `Params` validates the options under its name in the YAML (`{executorch: {backend: portable}}`). Optional:
    `preflight(model, params)`, a static method, raises HarnessError where the baseline cannot be exported so; variants
    that train ask it before they train."""

    Params: ClassVar[type[BaseModel]]
    runtime: ClassVar[str]
    suffix: ClassVar[str]
    accepts: ClassVar[frozenset[str]]

    def refusal(self, form: str) -> str:
        """Why this form cannot be exported here, for the skipped row."""
        ...

    def backend(self, params: Any) -> str: ...

    def target(self, facts: DeviceFacts | None) -> str:
        """Part of the build key: what the file is built for; `any` where one file serves every device."""
        ...

    def export(self, model: Compressed, params: Any, out: Path) -> Exported:
        """Writes `out`. Raises ExportError-like HarnessErrors with the reason."""
        ...


@dataclass(frozen=True, kw_only=True)
class Completed:
    """A command's end on a device."""

    returncode: int
    stdout: bytes
    stderr: bytes


class Transport(Protocol):
    """The link to one device. Paths on the device are absolute POSIX paths.

    Every method raises TransportError when the link fails (only that may be retried)."""

    def push(self, local: Path, remote: str) -> None: ...

    def pull(self, remote: str, local: Path) -> None:
        """Raises DeviceError where the device has no such file."""
        ...

    def run(self, argv: Sequence[str], timeout_s: float = 30.0, stdin: bytes = b"") -> Completed:
        """Runs argv (never a shell string) and waits. Raises TransportError at the timeout."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class EnergyTrace:
    """Raw readings of one meter, in order; `analyze/energy.py` integrates.

    `kind`: `counter` (energy so far, J) or `power` (W). `t_s`: seconds since the device's boot (CLOCK_BOOTTIME), one a
    reading, or one of every rail of it where the rails have stamps of their own. `values`: readings × rails, flat.
    `clock`: whose stamps they are: `own` (the counter's), `read` (the moment of reading), `mapped` (another clock's,
    brought to the device's). `clock_s`: how far a stamp may be off. `period_s`: from one reading to the next.
    `uncertainty`: of the meter's calibration, one standard deviation, as a fraction. `range_j`: of a counter that
    wraps, its range for each rail. `counts`: accumulations that one refresh of an `own` counter stands for.
    `uncalibrated`: unit and sign are only assumed; idle and load together must show them (analyze/gauge.py)."""

    kind: Literal["counter", "power"]
    clock: Literal["own", "read", "mapped"]
    rails: tuple[str, ...]
    t_s: tuple[float, ...]
    values: tuple[float, ...]
    period_s: float
    uncertainty: float
    clock_s: float = 0.0
    range_j: tuple[float | None, ...] = ()
    counts: int = 1
    uncalibrated: bool = False
    notes: Mapping[str, Any] = field(default_factory=dict)


class Meter(Protocol):
    """One energy source of a device. Made without arguments, for one run."""

    def unfit(self, bench: Any) -> str | None:
        """Why this source cannot be used here, or None."""
        ...

    def start(self, bench: Any) -> None:
        """Begins to read. Called once, behind `unfit`."""
        ...

    def stop(self) -> EnergyTrace:
        """Ends reading, whatever happened, and leaves nothing behind. Raises RunnerError for readings that cannot be
        understood."""
        ...


@dataclass(frozen=True, kw_only=True)
class PageData:
    """What the page is made of: the document of `report --json`, and each result's latency quantiles in ms
    (101 values, pooled over its runs), by index in `document["results"]`. `provenance`: heading -> lines.
    `comparison`: with the baseline, as `compare --json` has it; `history`: as `history --json` has it; None where
    there is none."""

    document: Mapping[str, Any]
    quantiles_ms: Mapping[int, Sequence[float]]
    provenance: Mapping[str, Any]
    comparison: Mapping[str, Any] | None = None
    history: Mapping[str, Any] | None = None


class Section(Protocol):
    """One section of the page."""

    title: ClassVar[str]

    def render(self, data: PageData) -> str | None:
        """Safe HTML, or None when there is nothing to say (the page then names what was left out)."""
        ...
