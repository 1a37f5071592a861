"""What could tell a device's energy, by `facts.sh`: the cheap look of `harness devices`, without holding the device.

What a meter then says of itself (harness/measure/meters) is decided where it is used."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from harness import registry

MAX_LINES = 50


def sources(lines: Sequence[str], charging: bool | None, entry: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """One of each meter that was found, in the order in which `auto` tries them: `source`, `usable`, `reason`.

    `lines`: `readable|unreadable METER NAME`. `entry`: what the device's own entry says under `energy`."""
    shut: dict[str, list[str]] = {}
    found: dict[str, list[str]] = {}
    for line in list(lines)[:MAX_LINES]:
        state, _, rest = line.partition(" ")
        meter, _, name = rest.partition(" ")
        if meter in registry.METERS:
            found.setdefault(meter, []).append(name or "unnamed")
            if state != "readable":
                shut.setdefault(meter, []).append(name or "unnamed")
    reasons = {
        meter: f"this login may not read {', '.join(shut[meter][:4])}"
        if meter in shut
        else _unfit(meter, names, charging, entry)
        for meter, names in found.items()
    }
    if command := entry.get("command"):
        missing = shutil.which(command[0]) is None
        reasons["exec"] = f"there is no program {command[0]!r} on this computer" if missing else None
    return tuple(
        {"source": meter, "usable": reasons[meter] is None, "reason": reasons[meter]}
        for meter in registry.METERS
        if meter in reasons
    )


def _unfit(meter: str, names: Sequence[str], charging: bool | None, entry: Mapping[str, Any]) -> str | None:
    rails = entry.get("rails")
    if meter == "battery" and charging:
        return "the battery is charging: take the cable out, and use Wi-Fi meanwhile"
    if meter != "hwmon" or rails:
        return None
    supplies = [name for name in names if name.lower().startswith("ina")]
    if not supplies:
        return f"{names[0]} need not be a supply: name it under energy: {{rails: […]}} if it is"
    if len(supplies) > 1:
        lines = ", ".join(supplies[:8])
        return f"several lines are monitored ({lines}): name those to add up under energy: {{rails: […]}}"
    return None
