"""From what the user wrote to an opened transport: `local` today, other schemes through the registry."""

from __future__ import annotations

import os
import re

from harness import registry
from harness.errors import UsageError
from harness.interfaces import Transport
from harness.paths import cache_dir
from harness.types import DeviceSpec

_URI = re.compile(r"^(?P<scheme>[a-z][a-z+]*)(://(?P<rest>[^\s]{1,300}))?$")


def resolve(name: str) -> DeviceSpec:
    """Raises UsageError for what is not a device's URI or name."""
    match = _URI.match(name)
    if match is None:
        raise UsageError(f"{name!r} is not a device", "local is the computer that the harness runs on")
    scheme = match["scheme"]
    if scheme not in registry.names("transport"):
        raise UsageError(
            f"{name!r}: there is no transport {scheme!r} here",
            f"this version measures on: {', '.join(sorted(registry.names('transport')))}",
        )
    if scheme == "local" and match["rest"]:
        raise UsageError(f"{name!r}: local takes no address", "local")
    return DeviceSpec(name=name, uri=name)


def open_transport(spec: DeviceSpec) -> Transport:
    transport: Transport = registry.load("transport", spec.uri.partition(":")[0])(spec)
    return transport


def workdir(spec: DeviceSpec) -> str:
    """The one folder on the device that is ours. On the host it is made private to this user."""
    if spec.workdir is not None:
        return spec.workdir.rstrip("/")
    folder = cache_dir() / "device"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return os.fspath(folder)


def resolve_all(names: list[str], catalog: object) -> list[DeviceSpec]:
    return [resolve(name) for name in names]
