"""The experiment file: YAML -> Experiment, strictly. Every refusal names file, line and the path to the key.

Reading imports no torch: techniques and exporters are asked for their `Params` and forms only.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from harness import registry
from harness.errors import ConfigError, HarnessError, UsageError
from harness.metrics import constraint
from harness.metrics import metric as known_metric
from harness.types import INPUT_DTYPES, Constraint, Step, Variant
from harness.yaml_reader import Document, read_yaml

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
    energy: Literal["off"] = "off"
    accuracy_samples: Annotated[int, Field(ge=1)] | Literal["all"] = 500

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
    devices: list[str] = ["local"]
    measure: Measure = Measure()
    check: Check = Check()
    objectives: list[MetricName] = ["latency_ms", "peak_memory_bytes", "size_bytes", "accuracy"]
    pick: Pick | None = None
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
        return self

    @property
    def planned_variants(self) -> list[Variant]:
        """Every variant, once per seed where it trains (others once, at the first seed)."""
        out = []
        for spec in self.variants:
            trains = any(registry.load("technique", step.name).needs_train for step in spec.steps)
            for seed in self.seeds if trains else self.seeds[:1]:
                out.append(Variant(name=spec.name, steps=tuple(spec.steps), seed=seed))
        return out


def load(path: Path) -> tuple[Experiment, str]:
    """The experiment in this file, and its text. Raises ConfigError (file, line, path to the key)."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        hint = "harness init writes one" if isinstance(error, FileNotFoundError) else None
        raise ConfigError(f"{path}: {reason}", hint) from error
    return parse(text, str(path), path.resolve().parent), text


def parse(text: str, name: str, folder: Path) -> Experiment:
    document = read_yaml(text, name)
    if not isinstance(document.value, dict):
        raise document.refuse((), "an experiment is a mapping of keys", "harness init writes one")
    raw = dict(document.value)
    if "folder" in raw:
        raise document.refuse(("folder",), "unknown key")
    raw["variants"] = _variants(document, raw.get("variants"))
    raw["export"] = _exports(document, raw.get("export", ["executorch"]))
    if "reference" not in raw and raw["variants"]:
        raw["reference"] = raw["variants"][0].get("name", "")
    try:
        experiment = Experiment.model_validate(raw | {"folder": str(folder)})
    except ValidationError as error:
        raise _explain(document, error) from error
    _refuse_impossible_chains(document, experiment)
    return experiment


def _variants(document: Document, raw: Any) -> Any:
    """Each step as a `Step` whose parameters its technique has validated."""
    if not isinstance(raw, list):
        raise document.refuse(("variants",), "a list of variants is needed", "- {name: fp32}")
    out = []
    for i, variant in enumerate(raw):
        path: tuple[str | int, ...] = ("variants", i)
        if not isinstance(variant, dict):
            raise document.refuse(path, "a variant is a mapping with a name", "- {name: fp32}")
        steps = variant.get("steps", [])
        if not isinstance(steps, list):
            raise document.refuse((*path, "steps"), "a list of steps is needed", "steps: [{quantize_pt2e: {}}]")
        if "steps" in variant:
            checked = [_step(document, (*path, "steps", j), step) for j, step in enumerate(steps)]
            variant = variant | {"steps": checked}
        out.append(variant)
    return out


def _step(document: Document, path: tuple[str | int, ...], raw: Any) -> Step:
    if isinstance(raw, str):
        raw = {raw: {}}
    if not isinstance(raw, dict) or len(raw) != 1:
        raise document.refuse(path, "a step is one technique with its parameters", "{prune_channels: {ratio: 0.5}}")
    ((name, params),) = raw.items()
    try:
        technique = registry.load("technique", name)
        checked = technique.Params.model_validate(params if params is not None else {})
    except ValidationError as error:
        raise _explain(document, error, (*path, name)) from error
    except HarnessError as error:
        raise document.refuse((*path, name), error.what, error.hint) from error
    return Step(name=name, params=checked.model_dump(mode="json"))


def _exports(document: Document, raw: Any) -> Any:
    if not isinstance(raw, list):
        raise document.refuse(("export",), "a list of exporters is needed", "export: [executorch]")
    out = []
    for i, entry in enumerate(raw):
        path: tuple[str | int, ...] = ("export", i)
        rest = {k: v for k, v in entry.items() if k != "as"} if isinstance(entry, dict) else {entry: {}}
        if len(rest) != 1 or not isinstance(next(iter(rest)), str):
            raise document.refuse(path, "an export is a name, or {name: {options}, as: label}")
        ((name, params),) = rest.items()
        try:
            checked = registry.load("exporter", name).Params.model_validate(params if params is not None else {})
        except ValidationError as error:
            raise _explain(document, error, (*path, name)) from error
        except HarnessError as error:
            raise document.refuse((*path, name), error.what, error.hint) from error
        label = entry.get("as", name) if isinstance(entry, dict) else name
        out.append(Export.model_construct(exporter=name, params=checked.model_dump(mode="json"), label=label))
        if not re.fullmatch(NAME, str(label)):
            raise document.refuse((*path, "as"), f"{label!r} is not a name: letters, digits, . _ -, at most 128")
    return out


def _refuse_impossible_chains(document: Document, experiment: Experiment) -> None:
    for i, variant in enumerate(experiment.variants):
        form, before = "eager", "the model"
        for j, step in enumerate(variant.steps):
            path = ("variants", i, "steps", j, step.name)
            technique = registry.load("technique", step.name)
            if form not in technique.accepts:
                raise document.refuse(
                    path,
                    f"{step.name} cannot follow {before}: it gives a finished program ({form}) that no step "
                    "can change any more",
                    f"put {step.name} before {before}",
                )
            if technique.needs_train and experiment.data is None:
                raise document.refuse(
                    path,
                    f"{step.name} trains, and the experiment has no data",
                    "add data: {factory: module:callable} whose mapping has a train split",
                )
            form, before = technique.gives, step.name


def _explain(document: Document, error: ValidationError, prefix: tuple[str | int, ...] = ()) -> ConfigError:
    """pydantic's refusals in our form: the first five, each with file, line and path."""
    refusals: list[ConfigError] = []
    names = {part for path in document.lines for part in path}
    for item in error.errors()[:5]:
        kind, context = item["type"], item.get("ctx", {})
        # pydantic puts the branch of a union into the location; only what stands in the file is shown
        loc = tuple(part for part in item["loc"] if isinstance(part, int) or part in names or kind == "missing")
        message, hint = item["msg"].removeprefix("Value error, "), None
        given = repr(item["input"])[:80]
        if kind == "at":
            loc = context["path"]
        elif kind == "extra_forbidden":
            message, hint = "unknown key", _near_key(str(item["loc"][-1]))
        elif kind == "missing":
            message = "this key is needed"
        elif kind == "list_type":
            message = f"a list is needed, not {given}"
        elif kind == "string_pattern_mismatch":
            wanted = _PATTERNS.get(context["pattern"], f"must match {context['pattern']}")
            message = f"{str(item['input'])[:200]!r} is not allowed here: {wanted}"
        elif kind != "value_error":
            message = f"{message[0].lower()}{message[1:]} (given: {given})"
        if not any(other.what.endswith(f" {message}") for other in refusals):
            refusals.append(document.refuse((*prefix, *loc), message, hint))
    first = refusals[0]
    others = "".join(f"\n{other.what}" for other in refusals[1:])
    return ConfigError(first.what + others, first.hint)


_PATTERNS = {
    f"^{NAME}$": "letters, digits, . _ - only, beginning with a letter or digit, at most 128",
    f"^{FACTORY}$": "it must be module:callable",
}


def _near_key(name: str) -> str | None:
    import difflib

    known = {field for model in Strict.__subclasses__() for field in model.model_fields}
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else None
