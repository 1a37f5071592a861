"""The experiment as values: what a YAML file may say, each with its default and its bounds (pydantic, strict).

`config.py` reads the file; here is what it may hold. Reading imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from harness import chains, registry
from harness.errors import UsageError
from harness.metrics import ALSO, JUDGED, constraint, nearest
from harness.metrics import metric as known_metric
from harness.types import INPUT_DTYPES, Constraint, Step, Variant

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
FACTORY = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"

Name = Annotated[str, Field(pattern=f"^{NAME}$")]
Factory = Annotated[str, Field(pattern=f"^{FACTORY}$")]
Positive = Annotated[int, Field(ge=1)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Inputs(Strict):
    """Example inputs: one shape, several shapes, or a factory that returns the tuple of tensors."""

    shape: list[Positive] | None = None
    shapes: list[list[Positive]] | None = None
    dtype: str | list[str] | None = None
    factory: Factory | None = None
    kwargs: dict[str, Any] = {}

    @model_validator(mode="after")
    def _one_of(self) -> Inputs:
        given = [k for k in ("shape", "shapes", "factory") if getattr(self, k) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of shape, shapes, factory")
        dtypes = self.dtypes
        if unknown := [d for d in dtypes if d not in INPUT_DTYPES]:
            raise ValueError(f"unknown dtype {unknown[0]!r}; one of: {', '.join(INPUT_DTYPES)}")
        if self.factory is None and len(dtypes) not in (0, 1, len(self.all_shapes)):
            raise ValueError(f"{len(dtypes)} dtypes for {len(self.all_shapes)} shapes")
        if self.factory is not None and self.dtype is not None:
            raise ValueError("dtype goes with shape or shapes; a factory's tensors have their own")
        return self

    @property
    def all_shapes(self) -> list[list[int]]:
        return [self.shape] if self.shape is not None else (self.shapes or [])

    @property
    def dtypes(self) -> list[str]:
        return [self.dtype] if isinstance(self.dtype, str) else list(self.dtype or [])


class Model(Strict):
    factory: Factory
    kwargs: dict[str, Any] = {}
    weights: str | None = None
    allow_pickle: bool = False
    example_inputs: Inputs | None = None
    inputs: dict[Name, Inputs] | None = None
    dynamic_shapes: Factory | None = None

    @model_validator(mode="after")
    def _cases(self) -> Model:
        if (self.example_inputs is None) == (self.inputs is None):
            raise ValueError("give exactly one of example_inputs (one case) and inputs (named cases)")
        if self.inputs is not None and not self.inputs:
            raise ValueError("inputs names no case")
        return self

    @property
    def cases(self) -> dict[str, Inputs]:
        if self.inputs is not None:
            return dict(self.inputs)
        assert self.example_inputs is not None
        return {"default": self.example_inputs}


class MetricSpec(Strict):
    """`accuracy` (built in), `custom` (the data mapping's own), or one made by a factory."""

    name: Name
    factory: Factory | None = None
    better: Literal["higher", "lower"] = "higher"
    per_sample: Factory | None = None


class Data(Strict):
    factory: Factory
    kwargs: dict[str, Any] = {}
    metric: MetricSpec = MetricSpec(name="accuracy")

    @field_validator("metric", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, str):
            if value not in ("accuracy", "custom"):
                raise ValueError(
                    f"metric {value!r} is neither accuracy nor custom; a metric of your own is "
                    "{name: …, factory: module:callable, better: higher|lower}"
                )
            return MetricSpec(name=value)
        return value


class Train(Strict):
    device: str = "auto"
    batch_size: Positive = 64
    max_steps: Positive | None = None


class VariantSpec(Strict):
    name: Name
    steps: list[Step] = []
    artifact: str | None = None
    exporter: str | None = None
    backend: str | None = None
    control: str | None = None  # the variant that shows what the training alone does

    @model_validator(mode="after")
    def _prebuilt(self) -> VariantSpec:
        given = [k for k in ("artifact", "exporter", "backend") if getattr(self, k) is not None]
        if given and len(given) < 3:
            raise ValueError("a variant made elsewhere needs artifact, exporter and backend")
        if given and self.steps:
            raise ValueError("a variant has either steps or a finished artifact")
        return self


class Export(Strict):
    """One entry of `export`: the exporter, its options and the label results carry (`as`)."""

    exporter: str
    params: dict[str, Any] = {}
    label: Name


class Measure(Strict):
    threads: list[Positive] = [1]
    cpus: list[Annotated[str, Field(pattern=r"^(any|big|0x[0-9a-fA-F]{1,16})$")]] = ["any"]
    repeats: Annotated[int, Field(ge=1, le=1000)] = 5
    min_seconds: Annotated[float, Field(gt=0, le=600)] = 2.0
    min_iterations: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    memory: bool = True
    cold_loads: Annotated[int, Field(ge=0, le=1000)] = 0
    energy: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")] = "off"  # off, auto, or a meter's name
    energy_seconds: Annotated[float, Field(ge=1, le=3600)] = 30.0  # of each idle and each load window
    sustained_minutes: Annotated[float, Field(gt=0, le=24 * 60)] | None = None
    profile: bool = False
    target_ci: Annotated[float, Field(gt=0, lt=1)] | None = None
    budget_minutes: Annotated[float, Field(gt=0, le=7 * 24 * 60)] | None = None
    accuracy_samples: Annotated[int, Field(ge=1)] | Literal["all"] = 500

    @field_validator("energy")
    @classmethod
    def _a_meter(cls, value: str) -> str:
        known = {"off", "auto", *registry.names("meter")}
        if value not in known:
            raise ValueError(f"there is no meter {value!r}; one of: {', '.join(sorted(known))}")
        return value

    @model_validator(mode="after")
    def _adaptive(self) -> Measure:
        if self.budget_minutes is not None and self.target_ci is None:
            raise ValueError("budget_minutes bounds the repeats that target_ci asks for: give both")
        return self

    @field_validator("threads", "cpus")
    @classmethod
    def _distinct(cls, value: list[Any]) -> list[Any]:
        if not value:
            raise ValueError("the list is empty")
        if len(set(value)) != len(value):
            raise ValueError("the list names a value twice")
        return value


class Check(Strict):
    min_sqnr_db: float | None = None


def _checked(text: str, check: Callable[[str], object]) -> str:
    """`text`, when `check` takes it; a UsageError becomes pydantic's kind, which knows the path to the key."""
    try:
        check(text)
    except UsageError as error:
        raise ValueError(f"{error.what}; {error.hint}") from error
    return text


MetricName = Annotated[str, AfterValidator(lambda text: _checked(text, known_metric))]
ConstraintText = Annotated[str, AfterValidator(lambda text: _checked(text, constraint))]



def _one_of(known: tuple[str, ...]) -> AfterValidator:
    """A metric that releases are judged by; another would never be looked at."""

    def check(text: str) -> str:
        _checked(text, known_metric)
        if text not in known:
            raise ValueError(f"{text!r} is not judged between releases; {nearest(text, known)}")
        return text

    return AfterValidator(check)


Bound = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, lt=1)]
Budgets = dict[Annotated[str, _one_of((*JUDGED, *ALSO))], Bound]
Thresholds = dict[Annotated[str, _one_of(JUDGED)], Share]


class Pick(Strict):
    minimize: MetricName = "latency_ms"
    where: list[ConstraintText] = []
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.9

    @property
    def constraints(self) -> list[Constraint]:
        return [constraint(text) for text in self.where]


def _at(message: str, *path: str | int) -> PydanticCustomError:
    """A refusal by the whole experiment of something that stands at `path`."""
    return PydanticCustomError("at", "{message}", {"message": message, "path": path})


class Experiment(Strict):
    """The resolved experiment: every default filled in, every name known, every chain possible."""

    name: Name
    model: Model
    data: Data | None = None
    train: Train = Train()
    reference: str = ""  # filled with the first variant; must be one of them
    variants: list[VariantSpec]
    export: list[Export]
    seeds: list[Annotated[int, Field(ge=0, lt=2**31)]] = [0]
    control: Step | None = None  # adds the reference, trained as long as each variant
    select_on: Literal["test", "validation"] = "test"
    devices: list[str] = ["local"]
    measure: Measure = Measure()
    check: Check = Check()
    objectives: list[MetricName] = ["latency_ms", "peak_memory_bytes", "size_bytes", "accuracy"]
    pick: Pick | None = None
    budgets: Budgets = {}  # of what would ship: the most it may be, the least where higher is better
    thresholds: Thresholds = {}  # the relative change that matters, where it is not the usual one
    folder: str = Field(default=".", exclude=True)  # of the YAML file: stays on this host

    @model_validator(mode="after")
    def _names(self) -> Experiment:
        lists = {
            "variants": [v.name for v in self.variants],
            "export": [e.label for e in self.export],
            "seeds": [str(seed) for seed in self.seeds],
            "devices": self.devices,
            "objectives": self.objectives,
        }
        for key, texts in lists.items():
            if not texts:
                raise _at("the list is empty", key)
            for i, text in enumerate(texts):
                if text in texts[:i]:
                    raise _at(f"{text!r} is given twice", key, i)
        if self.reference not in lists["variants"]:
            raise _at(f"no variant is named {self.reference!r}", "reference")
        for i, variant in enumerate(self.variants):
            if variant.control is not None and variant.control not in lists["variants"]:
                raise _at(f"no variant is named {variant.control!r}", "variants", i, "control")
        if self.select_on == "validation" and self.data is None:
            raise _at("there is no data to validate on", "select_on")
        return self

    @property
    def planned_variants(self) -> list[Variant]:
        """Every variant, once per seed where it trains (others once, at the first seed)."""
        out = []
        for spec in self.variants:
            for seed in self.seeds if chains.trains(spec.steps) else self.seeds[:1]:
                out.append(Variant(name=spec.name, steps=tuple(spec.steps), seed=seed))
        return out
