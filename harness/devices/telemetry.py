"""How a device is at one moment, by `device_scripts/telemetry.sh`: heat, clocks, battery, load. Data, never trusted."""

from __future__ import annotations

from harness.devices.depot import Depot
from harness.types import DeviceSpec, Snapshot


def snapshot(depot: Depot, spec: DeviceSpec) -> Snapshot:
    """One look, in one call. What the device does not say is None. Raises TransportError when the link fails."""
    return Snapshot()
