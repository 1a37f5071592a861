"""What a device says of itself, by `device_scripts/facts.sh`. Its answers are data: bounded and never trusted."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from harness.errors import DeviceError
from harness.interfaces import Transport
from harness.paths import device_scripts_dir
from harness.types import DeviceFacts, DeviceSpec


def read_facts(transport: Transport, spec: DeviceSpec) -> DeviceFacts:
    """Raises TransportError when the link fails, DeviceError when the answer has no ABI or no identity."""
    script = (device_scripts_dir() / "facts.sh").read_bytes()
    done = transport.run(["sh", "-s", spec.sysroot], stdin=script)
    return parse_facts(done.stdout.decode("utf-8", "replace"), spec.name)


def parse_facts(text: str, device: str) -> DeviceFacts:
    said: dict[str, list[str]] = {}
    for line in text.splitlines()[:1000]:
        key, equals, value = line.partition("=")
        if equals and value.strip():
            said.setdefault(key, []).append("".join(c for c in value.strip()[:500] if c.isprintable()))

    def one(key: str) -> str | None:
        return said.get(key, [None])[0]

    abi, serial = one("abi"), one("serial")
    if abi is None or serial is None:
        raise DeviceError(f"{device}: it does not say what it is (no ABI or no identity)", "is `uname` there?")
    return DeviceFacts(
        device_id=device_id(serial),
        abi=abi,
        cores=_number(one("cores")) or 1,
        model=one("model"),
        soc=one("soc"),
        os=one("android") or one("os_release"),
        kernel=one("kernel"),
        memory_bytes=None if (kib := _number(one("memory_kib"))) is None else kib * 1024,
        page_size=_number(one("page_size")),
        boot_id=one("boot_id"),
        clusters=tuple(_cluster(line) for line in said.get("cluster", []) if " max_khz " in line),
    )


def device_id(serial: str) -> str:
    """Names the unit without telling its serial: the same over every link and from every host."""
    return hashlib.blake2s(serial.encode(), digest_size=4, key=b"ondevice-harness device").hexdigest()


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,15}", text) else None


def _cluster(line: str) -> dict[str, Any]:
    cpus, _, khz = line.partition(" max_khz ")
    return {"cpus": [int(c) for c in cpus.split() if c.isdigit()], "max_khz": _number(khz.strip())}


def target(facts: DeviceFacts) -> str:
    """The runner bundle that fits this device."""
    return f"linux-{facts.abi}"


def cpu_mask(facts: DeviceFacts, cpus: str) -> str | None:
    """The runner's `--cpus` for `any`, `big` or a mask; None where the device does not say which CPUs are big."""
    if cpus != "big":
        return cpus
    clusters = [c for c in facts.clusters if c["max_khz"] and c["cpus"]]
    if not clusters:
        return None
    fastest = max(c["max_khz"] for c in clusters)
    return hex(sum(1 << cpu for c in clusters if c["max_khz"] == fastest for cpu in c["cpus"]))
