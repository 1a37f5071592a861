"""What a device says of itself, by `device_scripts/facts.sh`. Its answers are data: bounded and never trusted."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.devices.sources import sources
from harness.errors import DeviceError
from harness.interfaces import Transport
from harness.paths import device_scripts_dir
from harness.types import DeviceFacts, DeviceSpec

#: key -> what was said under it, the most trusted first
Said = Mapping[str, Sequence[str]]

ABIS = {"arm64": "aarch64", "arm64-v8a": "aarch64", "amd64": "x86_64", "armeabi-v7a": "armv7l", "x86": "i686"}
#: what a firmware says that has no serial; it would make one device of many
_NO_SERIAL = {"unknown", "uninitialized", "none", "default string", "to be filled by o.e.m.", "0123456789abcdef"}
#: brand/product/device:release/id/incremental:type/tags
_FINGERPRINT = re.compile(r"[^\s/]+/[^\s/]+/[^\s/:]+:\S+/\S+/\S+:\S+/\S+")
MAX_CPUS = 1024


@dataclass(frozen=True, kw_only=True)
class Condition:
    """How a device is just now, beside what it is. `energy`: sources that were found, and why one cannot be used."""

    battery_percent: int | None = None
    battery_c: float | None = None
    charging: bool | None = None
    thermal_zones: int | None = None
    throttled: str | None = None
    root: bool | None = None
    energy: tuple[Mapping[str, Any], ...] = ()


def read_facts(transport: Transport, spec: DeviceSpec) -> DeviceFacts:
    """Raises TransportError when the link fails, DeviceError when the answer has no ABI or no identity."""
    said = ask(transport, spec)  # first: the host's key is known once there is a connection
    return facts_of(said, spec, transport)


def facts_of(said: Said, spec: DeviceSpec, transport: Transport) -> DeviceFacts:
    """What was said through this transport. A simulated device's id is its whole address: by what it says of itself
    no device can pass for one."""
    facts = device_facts(said, spec.name, host_key(transport))
    return replace(facts, device_id=spec.uri) if spec.scheme == "sim" else facts


def host_key(transport: Transport) -> str | None:
    """The fingerprint of its SSH host key, for a device that has no better identity; None for other links."""
    return getattr(transport, "host_key_fingerprint", None) or None


def at_home(folder: str, said: Said) -> str | None:
    """The folder with the device's own word for `~`; None where it does not say where home is."""
    if not folder.startswith("~/"):
        return folder
    home = next(iter(said.get("home", ())), "")
    return f"{home.rstrip('/')}/{folder[2:]}" if home.startswith("/") else None


def ask(transport: Transport, spec: DeviceSpec) -> Said:
    """Raises TransportError when the link fails."""
    script = (device_scripts_dir() / "facts.sh").read_bytes()
    argv = ["sh", "-s", spec.sysroot, *(["su"] if spec.root else [])]
    return understood(transport.run(argv, stdin=script).stdout[: 1 << 20].decode("utf-8", "replace"))


def understood(text: str) -> Said:
    said: dict[str, list[str]] = {}
    for line in text.split("\n")[:1000]:  # splitlines() knows more line breaks than a device's shell, which are data
        key, equals, value = line.partition("=")
        value = "".join(c for c in value[:500] if c.isprintable()).strip()
        if equals and value:
            said.setdefault(key, []).append(value)
    return said


def parse_facts(text: str, device: str, host_key: str | None = None) -> DeviceFacts:
    return device_facts(understood(text), device, host_key)


def device_facts(said: Said, device: str, host_key: str | None = None) -> DeviceFacts:
    """Raises DeviceError when the device does not say what it is."""
    abi, serial = _abi(said), _identity(said, host_key)
    if abi is None or serial is None:
        raise DeviceError(f"{device}: it does not say what it is (no ABI or no identity)", "is `uname` there?")
    return DeviceFacts(
        device_id=device_id(serial),
        abi=abi,
        cores=min(_number(_first(said, "cores")) or 1, MAX_CPUS) or 1,
        model=_first(said, "model"),
        soc=_first(said, "soc"),
        os=_first(said, "android") or _first(said, "os_release"),
        kernel=_first(said, "kernel"),
        memory_bytes=None if (kib := _number(_first(said, "memory_kib"))) is None else kib * 1024,
        page_size=_number(_first(said, "page_size")) or None,
        boot_id=_first(said, "boot_id"),
        clusters=tuple(_cluster(line) for line in said.get("cluster", []) if " max_khz " in line),
    )


def condition(said: Said, energy: Mapping[str, Any] = {}) -> Condition:
    """`energy`: what the device's own entry says of it."""
    percent, tenths = _number(_first(said, "battery_percent")), _number(_first(said, "battery_decicelsius"))
    throttled = _first(said, "throttled")
    charging, root = _first(said, "charging"), _first(said, "root")
    return Condition(
        battery_percent=percent if percent is not None and percent <= 100 else None,
        battery_c=tenths / 10 if tenths is not None and tenths < 2000 else None,
        charging=None if charging is None else charging in ("yes", "full"),
        thermal_zones=_number(_first(said, "thermal_zones")),
        throttled=throttled if throttled and re.fullmatch(r"0x[0-9a-fA-F]{1,8}", throttled) else None,
        root=None if root is None else root == "yes",
        energy=sources(said.get("energy", ()), charging in ("yes", "full"), energy),
    )


def device_id(serial: str) -> str:
    """Names the unit without telling its serial: the same over every link and from every host."""
    return hashlib.blake2s(serial.encode(), digest_size=4, key=b"ondevice-harness device").hexdigest()


def is_android(facts: DeviceFacts) -> bool:
    return facts.os is not None and _FINGERPRINT.fullmatch(facts.os) is not None


def target(facts: DeviceFacts) -> str:
    """The runner bundle that fits this device."""
    return f"{'android' if is_android(facts) else 'linux'}-{facts.abi}"


def cpu_mask(facts: DeviceFacts, cpus: str) -> str | None:
    """The runner's `--cpus` for `any`, `big` or a mask; None where the device does not say which CPUs are big."""
    if cpus != "big":
        return cpus
    clusters = [c for c in facts.clusters if c["max_khz"] and c["cpus"]]
    if not clusters:
        return None
    fastest = max(c["max_khz"] for c in clusters)
    return hex(sum(1 << cpu for c in clusters if c["max_khz"] == fastest for cpu in c["cpus"]))


def _first(said: Said, key: str) -> str | None:
    return next(iter(said.get(key, ())), None)


def _abi(said: Said) -> str | None:
    """A 64-bit one if either of kernel and Android names one: a 32-bit shell on a 64-bit kernel says armv8l."""
    named = [ABIS.get(text, text) for key in ("cpu_abi", "abi") if (text := _first(said, key)) is not None]
    named = [text for text in named if re.fullmatch(r"[A-Za-z0-9_.-]{1,32}", text)]
    return next((text for text in named if text in ("aarch64", "x86_64")), named[0] if named else None)


def _identity(said: Said, host_key: str | None) -> str | None:
    """The host name comes last: two devices often have the same, and it is changed at will."""
    for serial in said.get("serial", []):
        if serial.lower() not in _NO_SERIAL and len(set(serial)) > 1:
            return serial
    return host_key or _first(said, "hostname")


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,15}", text) else None


def _cluster(line: str) -> dict[str, Any]:
    cpus, _, rest = line.partition(" max_khz ")
    khz, _, midr = f"{rest} ".partition(" midr ")
    numbers = [number for text in cpus.split() if (number := _number(text)) is not None and number < MAX_CPUS]
    cluster: dict[str, Any] = {"cpus": numbers, "max_khz": _number(khz.strip())}
    if re.fullmatch(r"0x[0-9a-fA-F]{1,16}", midr.strip()):
        cluster["midr"] = hex(int(midr, 16))  # implementer and part number: which core it is
    return cluster
