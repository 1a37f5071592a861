"""The experiment file: YAML -> Experiment, strictly. Every refusal names file, line and the path to the key.

Reading imports no torch: techniques and exporters are asked for their `Params` and forms only.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness import chains, controls, registry
from harness.errors import ConfigError, HarnessError
from harness.experiment import FACTORY, NAME, Experiment, Export, Strict
from harness.sweep import expand
from harness.types import Step
from harness.yaml_reader import Document, read_yaml


def load(path: Path) -> tuple[Experiment, str]:
    """The experiment in this file, and its text. Raises ConfigError (file, line, path to the key)."""
    if path.suffix in (".pte", ".ptl"):
        raise ConfigError(f"{path} is a finished file, not an experiment", f"harness measure {path}")
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
    document = expand(document)
    raw = dict(document.value)
    if "folder" in raw:
        raise document.refuse(("folder",), "unknown key")
    raw["variants"] = _variants(document, raw.get("variants"))
    raw["export"] = _exports(document, raw.get("export", ["executorch"]))
    if "reference" not in raw and raw["variants"]:
        raw["reference"] = raw["variants"][0].get("name", "")
    if raw.get("control") is not None:
        raw["control"] = _step(document, ("control",), raw["control"])
        raw["variants"] = controls.added(document, raw["variants"], raw["reference"], raw["control"])
    try:
        experiment = Experiment.model_validate(raw | {"folder": str(folder)})
    except ValidationError as error:
        raise explain(document, error) from error
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
        raise explain(document, error, (*path, name)) from error
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
            raise explain(document, error, (*path, name)) from error
        except HarnessError as error:
            raise document.refuse((*path, name), error.what, error.hint) from error
        label = entry.get("as", name) if isinstance(entry, dict) else name
        out.append(Export.model_construct(exporter=name, params=checked.model_dump(mode="json"), label=label))
        if not re.fullmatch(NAME, str(label)):
            raise document.refuse((*path, "as"), f"{label!r} is not a name: letters, digits, . _ -, at most 128")
    return out


def _refuse_impossible_chains(document: Document, experiment: Experiment) -> None:
    for i, variant in enumerate(experiment.variants):
        if (found := chains.refusal(variant.steps)) is not None:
            path = ("variants", i, "steps", found.index, variant.steps[found.index].name)
            raise document.refuse(path, found.reason, found.hint)
        for j, step in enumerate(variant.steps):
            if chains.traits(step).needs_train and experiment.data is None:
                raise document.refuse(
                    ("variants", i, "steps", j, step.name),
                    f"{step.name} trains, and the experiment has no data",
                    "add data: {factory: module:callable} whose mapping has a train split",
                )


def explain(document: Document, error: ValidationError, prefix: tuple[str | int, ...] = ()) -> ConfigError:
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
