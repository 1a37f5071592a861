"""devices.yaml: the user's devices by name, strictly. Every refusal names file, line and the path to the key."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from harness import registry
from harness.config import explain
from harness.devices.spec import DEVICE_NAME, SETTINGS, Catalog, checked_uri, checked_workdir, default_prepare
from harness.errors import ConfigError, UsageError
from harness.experiment import Measure, Name, Strict
from harness.types import DeviceSpec, RunnerSpec
from harness.yaml_reader import Document, read_yaml

HINT = "see configs/devices.example.yaml"
Setting = Literal[SETTINGS]  # type: ignore[valid-type]  # pydantic reads it at run time


def _with(check: Callable[[str], str]) -> AfterValidator:
    """A check that raises UsageError, as pydantic's kind, which knows the path to the key."""

    def validate(text: str) -> str:
        try:
            return check(text)
        except UsageError as error:
            raise ValueError(f"{error.what} (try: {error.hint})" if error.hint else error.what) from error

    return AfterValidator(validate)


def _printable(text: str) -> str:
    if not text or not text.isprintable():
        raise UsageError(f"{text[:80]!r}: printable text is needed")
    return text


def _sysroot(text: str) -> str:
    if not text.startswith("/") or not text.isprintable() or ".." in text.split("/"):
        raise UsageError(f"{text[:200]!r}: a sysroot is an absolute path without ..")
    return text


Printable = Annotated[str, Field(max_length=4096), _with(_printable)]


class Runner(Strict):
    """The user's own runner: a binary on the host, or words on the device; `env` goes before either."""

    path: Printable | None = None
    command: list[Printable] = Field(default_factory=list)
    env: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], Printable] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_of_them(self) -> Runner:
        if self.path is not None and self.command:
            raise ValueError("path (a file here) or command (words on the device), not both")
        return self


class Energy(Strict):
    """`meter`: instead of `auto`. `command`: of the meter exec, words on this computer. `rails`: which lines of a
    monitor count. `uncertainty`: of the meter's calibration, one standard deviation, as a fraction."""

    meter: Name | None = None
    command: list[Printable] = Field(default_factory=list)
    rails: list[Printable] = Field(default_factory=list, max_length=64)
    uncertainty: Annotated[float, Field(gt=0, lt=0.5)] | None = None

    @field_validator("meter")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        known = registry.names("meter")
        if value is not None and value not in known:
            raise ValueError(f"there is no meter {value!r}; one of: {', '.join(known)}")
        return value

    @model_validator(mode="after")
    def _its_command(self) -> Energy:
        if self.command and self.meter not in (None, "exec"):
            raise ValueError("command is of the meter exec")
        if self.meter == "exec" and not self.command:
            raise ValueError("the meter exec needs a command: [program, word, …]")
        return self


class Thermal(Strict):
    battery_c: Annotated[float, Field(ge=0, le=100)] | None = None
    wait_minutes: Annotated[float, Field(ge=0, le=24 * 60)] | None = None


class Entry(Strict):
    uri: Annotated[str, _with(checked_uri)]
    tags: list[Name] = Field(default_factory=list)
    runner: Runner = Runner()
    root: bool = False
    cpus: list[str] = Field(default_factory=list)
    workdir: Annotated[str, _with(checked_workdir)] | None = None
    sysroot: Annotated[str, _with(_sysroot)] = "/"
    prepare: dict[Setting, Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]] = Field(default_factory=dict)
    energy: Energy = Energy()
    thermal: Thermal = Thermal()

    @field_validator("cpus")
    @classmethod
    def _as_in_an_experiment(cls, value: list[str]) -> list[str]:
        if value:
            try:
                Measure(cpus=value)
            except ValidationError as error:
                raise ValueError("any, big or a mask such as 0xf is needed, each once") from error
        return value

    @field_validator("prepare", mode="before")
    @classmethod
    def _as_people_write_it(cls, value: Any) -> Any:
        """`none`, and `brightness: 20`."""
        if value == "none":
            return dict.fromkeys(SETTINGS, "leave")
        if not isinstance(value, dict):
            raise ValueError("none, or a mapping of settings is needed")
        return {k: str(v) if isinstance(v, int) and not isinstance(v, bool) else v for k, v in value.items()}


def load(file: Path | None, folder: Path) -> Catalog:
    """The user's devices: from `file`, else devices.yaml in `folder`, else in the user's config folder, else none.

    Raises ConfigError (file, line, path to the key)."""
    if file is not None:
        return _read(file)
    for place in (folder / "devices.yaml", config_dir() / "devices.yaml"):
        if place.exists():
            return _read(place)
    return Catalog()


def config_dir() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "harness"


def _read(file: Path) -> Catalog:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}", HINT) from error
    return parse(text, str(file), file.resolve().parent)


def parse(text: str, name: str, folder: Path) -> Catalog:
    document = read_yaml(text, name)
    if document.value is None:
        return Catalog(file=name)
    if not isinstance(document.value, dict):
        raise document.refuse((), "devices.yaml maps names to devices", HINT)
    return Catalog(file=name, devices={key: _device(document, key, raw, folder) for key, raw in document.value.items()})


def _device(document: Document, name: str, raw: Any, folder: Path) -> DeviceSpec:
    if not re.fullmatch(DEVICE_NAME, name):
        raise document.refuse((name,), "a device's name is letters, digits, . _ -, at most 128 of them")
    if not isinstance(raw, dict):
        raise document.refuse((name,), "a device is a mapping with a uri", HINT)
    if name == "local":
        raw = {"uri": "local"} | raw
    try:
        entry = Entry.model_validate(raw)
    except ValidationError as error:
        raise explain(document, error, (name,)) from error
    if name == "local" and entry.uri != "local":
        raise document.refuse((name, "uri"), "local is always the computer that the harness runs on", "another name")
    own = entry.runner
    return DeviceSpec(
        name=name,
        uri=entry.uri,
        workdir=entry.workdir,
        sysroot=entry.sysroot,
        tags=tuple(entry.tags),
        runner=RunnerSpec(
            path=None if own.path is None else os.fspath(folder / Path(own.path).expanduser()),
            command=tuple(own.command),
            env=own.env,
        ),
        root=entry.root,
        cpus=tuple(entry.cpus),
        prepare=_prepare(entry),
        energy=entry.energy.model_dump(exclude_defaults=True),
        thermal=entry.thermal.model_dump(exclude_none=True),
    )


def _prepare(entry: Entry) -> dict[str, str]:
    """What is not named has its default; `leave` takes a setting out."""
    wanted = default_prepare(entry.uri, entry.root) | {str(name): value for name, value in entry.prepare.items()}
    return {name: value for name, value in wanted.items() if value != "leave"}
