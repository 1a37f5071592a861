"""How a device is at one moment, by `device_scripts/telemetry.sh`: heat, clocks, battery, load. Data, never trusted."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.devices.depot import Depot
from harness.devices.facts import Said, understood
from harness.errors import DeviceError
from harness.types import DeviceSpec, Snapshot

MAX_BYTES = 1 << 18
MAX_KHZ = 100_000_000
#: what no sensor in a computer that runs reads
COLDEST_C, HOTTEST_C = -40.0, 150.0
SKIN = 3  # android.os.Temperature.TYPE_SKIN
_DECIMAL = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,12})?")
_POLICY = re.compile(r"(policy[0-9]{1,4}) (\S{1,40})")
_GOVERNOR = re.compile(r"[A-Za-z0-9_-]{1,32}")
_BITS = re.compile(r"0x[0-9a-fA-F]{1,8}")
_TEMPERATURE = re.compile(r"(cached|now) Temperature\{([^{}]*)\}")


def snapshot(depot: Depot, spec: DeviceSpec) -> Snapshot:
    """One look, in one call. What the device does not say is None.

    Raises TransportError when the link fails, DeviceError when the script did not run: a device that cannot be asked
    is not one that has no sensors."""
    done = depot.transport.run(["sh", depot.script("telemetry.sh"), spec.sysroot])
    if done.returncode != 0:
        raise DeviceError(f"{depot.name}: telemetry.sh failed with exit {done.returncode}", "does its shell work?")
    return parsed(done.stdout[:MAX_BYTES].decode("utf-8", "replace"))


def parsed(text: str) -> Snapshot:
    """What telemetry.sh said; what is no number, or none that can be, is left out."""
    said = understood(text)
    heat = _android(said.get("temperature", ()))
    percent, bits = _first(said, "battery_percent"), _first(said, "throttled")
    charging, screen = _first(said, "charging"), _first(said, "screen")
    status = _number(_first(said, "thermal_status"))
    return Snapshot(
        uptime_s=_within(_number(_first(said, "uptime_s")), 0, 1e10),
        # a shell on a recent Android may not read the kernel's zones: then its service's sensors stand for them
        zones_c=_zones(said.get("zone", ())) or {name: celsius for name, (_, celsius) in heat.items()},
        skin_c=_skin(heat),
        battery_c=_celsius(_number(_first(said, "battery_decicelsius")), 10),
        battery_percent=_whole(_within(_number(percent), 0, 100)),
        charging={"yes": True, "full": True, "no": False}.get(charging or ""),
        thermal_status=_whole(_within(status, 0, 6)),  # NONE to SHUTDOWN
        throttled=int(bits, 16) if bits and _BITS.fullmatch(bits) else None,
        max_khz={p: khz for p, v in _by_policy(said, "max_khz") if (khz := _khz(v)) is not None},
        governors={p: v for p, v in _by_policy(said, "governor") if _GOVERNOR.fullmatch(v)},
        loadavg=_within(_number(_first(said, "loadavg")), 0, 1e6),
        screen_on={"true": True, "false": False}.get(screen or ""),
    )


def _first(said: Said, key: str) -> str | None:
    return next(iter(said.get(key, ())), None)


def _number(text: str | None) -> float | None:
    return float(text) if text is not None and _DECIMAL.fullmatch(text) else None


def _within(value: float | None, low: float, high: float) -> float | None:
    return value if value is not None and low <= value <= high else None


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _celsius(value: float | None, parts: int) -> float | None:
    """°C from `parts` of a degree."""
    return None if value is None else _within(value / parts, COLDEST_C, HOTTEST_C)


def _khz(text: str) -> int | None:
    return _whole(_within(_number(text), 1, MAX_KHZ))


def _by_policy(said: Said, key: str) -> list[tuple[str, str]]:
    return [(m[1], m[2]) for line in said.get(key, ()) if (m := _POLICY.fullmatch(line))]


def _zones(lines: Sequence[str]) -> dict[str, float]:
    """Zone -> °C. A second zone of one name becomes `NAME#2`, so that none hides another.

    Within a degree of freezing it is left out: far more often this is a driver that counts in whole degrees, or a
    sensor that is off, than a computer in the frost."""
    zones: dict[str, float] = {}
    seen: dict[str, int] = {}
    for line in lines:
        name, _, millidegrees = line.rpartition(" ")
        name = name.strip()[:60] or "zone"
        seen[name] = seen.get(name, 0) + 1
        celsius = _celsius(_number(millidegrees), 1000)
        if celsius is not None and abs(celsius) >= 1:
            zones[name if seen[name] == 1 else f"{name}#{seen[name]}"] = celsius
    return zones


def _android(lines: Sequence[str]) -> dict[str, tuple[int | None, float]]:
    """Sensor -> (type, °C). What was read just now counts; the service's cache, which may be hours old, only where
    there is nothing else. Exactly 0 is a sensor that is not fitted."""
    found: dict[str, dict[str, tuple[int | None, float]]] = {"cached": {}, "now": {}}
    for line in lines:
        if (match := _TEMPERATURE.fullmatch(line)) is None:
            continue
        fields = dict(part.strip().partition("=")[::2] for part in match[2].split(","))
        celsius = _celsius(_number(fields.get("mValue")), 1)
        if celsius:
            kind = _number(fields.get("mType"))
            found[match[1]][fields.get("mName", "")[:60] or "sensor"] = (_whole(kind), celsius)
    return found["now"] or found["cached"]


def _skin(heat: dict[str, tuple[int | None, float]]) -> float | None:
    """The hottest of the skin sensors. A name is worth more than a type, since some vendors count their types apart;
    the two together most, since what is called VIRTUAL-SKIN-… may be an estimate of something else."""
    named = {name: value for name, value in heat.items() if "skin" in name.lower()}
    both = [celsius for kind, celsius in named.values() if kind == SKIN]
    typed = [celsius for kind, celsius in heat.values() if kind == SKIN]
    return max(both or [celsius for _, celsius in named.values()] or typed, default=None)
