"""Placeholder until quarantine lands."""

from __future__ import annotations

from collections.abc import Callable

from harness.types import DeviceSpec


def admit(spec: DeviceSpec, probe: Callable[[], None]) -> None:
    pass


def failed(spec: DeviceSpec) -> None:
    pass


def succeeded(spec: DeviceSpec) -> None:
    pass
