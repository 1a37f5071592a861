"""A stored session names its devices, and may come from anybody: what it would run is compared with the user's own."""

from __future__ import annotations

from collections.abc import Sequence

from harness.devices import catalog
from harness.devices.spec import resolve
from harness.errors import UsageError
from harness.settings import Settings
from harness.types import DeviceSpec, RunnerSpec


def refuse_foreign(devices: Sequence[DeviceSpec], settings: Settings) -> None:
    """Raises UsageError for a stored device whose entry starts programs (a runner, a meter) that the user's own
    devices.yaml does not name for it: a copied or shared store is no reason to run somebody else's commands."""
    for spec in devices:
        if spec.scheme == "sim" or (spec.runner == RunnerSpec() and not spec.energy):
            continue  # a simulated one starts nothing
        if not _is_own(spec, settings):
            raise UsageError(
                f"{spec.name}: the stored session names a runner or a meter for it that your devices.yaml does not",
                "put the same entry into devices.yaml if you trust it",
            )


def _is_own(spec: DeviceSpec, settings: Settings) -> bool:
    try:
        own = resolve(spec.name, catalog.load(settings.devices_file, settings.folder))
    except UsageError:
        return False
    return (own.uri, own.runner, dict(own.energy)) == (spec.uri, spec.runner, dict(spec.energy))
