"""What the fixture `ondevice` does in one pytest session: devices by name, and each thing measured once.

The same content on the same device with the same options is measured once a session, however many tests ask; the next
session measures anew.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness import pipeline
from harness.answers import Result
from harness.commands.common import artifacts_folder, store_url
from harness.devices import catalog
from harness.devices.spec import resolve_all
from harness.guest import guest, own_errors
from harness.live import arrays
from harness.package import Files
from harness.pytest_plugin import Options
from harness.screen import Screen
from harness.settings import Settings
from harness.single import identity, measured, packaged, usable
from harness.store.engine import sqlite_path
from harness.types import DeviceSpec, Package


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asking:
    """`results`: what was measured, by the content of all that was asked; `packages`: files that were looked at."""

    options: Options
    devices: Mapping[str, DeviceSpec]
    settings: Settings
    results: dict[str, Result] = dataclasses.field(default_factory=dict)
    packages: dict[str, tuple[Package, Files]] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, options: Options) -> Asking:
        """Raises UsageError for an unknown device, ConfigError for a devices.yaml that cannot be read."""
        known = catalog.load(options.devices_file, options.folder)
        specs = resolve_all(list(dict.fromkeys(options.devices)), known)
        pipeline.refuse_mixed(specs)
        url = _anchored(store_url(options.store), options.folder)
        settings = Settings(
            store_url=url, files=artifacts_folder(url), folder=options.folder, kind="measure", fresh=True
        )
        return cls(options=options, devices={spec.name: spec for spec in specs}, settings=settings)

    @property
    def names(self) -> list[str]:
        return list(self.devices)

    @property
    def labels(self) -> list[str]:
        """For the tests' ids, which travel into logs: no address in them."""
        return [pipeline.device_label(spec, None, False) for spec in self.devices.values()]

    @own_errors
    def ask(
        self, device: str, what: Any, *, repeats: int | None, measured: Callable[[Result], None], **more: Any
    ) -> Result:
        """The result, `measured` called with it whatever became of it.

        Raises HarnessError where it cannot be measured, NotMeasured where it is not `ok`."""
        spec = self.devices[device]
        asked = more | {
            "repeats": self.options.repeats if repeats is None else repeats, "min_seconds": self.options.seconds,
        }  # fmt: skip
        with guest(), Screen(quiet=self.options.quiet) as screen:
            package, files = self._packaged(what, spec, screen, asked)
            key = identity(package, spec)
            if key not in self.results:
                self.results[key] = self._measured(package, files, spec, screen)
        measured(self.results[key])
        return usable(self.results[key])

    def _packaged(
        self, what: Any, spec: DeviceSpec, screen: Screen, asked: Mapping[str, Any]
    ) -> tuple[Package, Files]:
        """A file that was asked for before is not loaded on the device again to learn of its inputs."""
        key = None
        if isinstance(what, str | os.PathLike) and Path(what).is_file():
            key = _file_key(Path(what), spec, asked)
        if key is None:
            return packaged(what, spec, self.settings, screen, **asked)
        if key not in self.packages:
            self.packages[key] = packaged(what, spec, self.settings, screen, **asked)
        return self.packages[key]

    def _measured(self, package: Package, files: Files, spec: DeviceSpec, screen: Screen) -> Result:
        return measured(package, files, spec, self.settings, screen, self.options.confidence)


def _anchored(url: str, folder: Path) -> str:
    """A SQLite file's place does not follow a test that changes its working folder."""
    path = sqlite_path(url)
    return url if path is None or path.is_absolute() else f"sqlite:///{folder / path}"


def _file_key(file: Path, spec: DeviceSpec, asked: Mapping[str, Any]) -> str:
    """Raises UsageError for inputs that are none."""
    with file.open("rb") as stream:
        said = [hashlib.file_digest(stream, "sha256").hexdigest(), file.name, spec.name]
    for name, value in sorted(asked.items()):
        if name in ("inputs", "expect") and value is not None:
            found = arrays(value, name)
            said += [f"{name} {a.dtype} {a.shape} {hashlib.sha256(a.tobytes()).hexdigest()}" for a in found]
        else:
            said.append(f"{name} {value!r}")
    return hashlib.sha256("\n".join(said).encode()).hexdigest()
