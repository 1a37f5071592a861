"""From what the user wrote to a device's address, checked, and to an opened transport.

Addresses are strict: they end in a shell's text, in an SSH option or in a request to the adb server, and what could
mean something there is refused before anything is asked of anybody."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness import registry
from harness.errors import UsageError
from harness.interfaces import Transport
from harness.metrics import nearest
from harness.paths import cache_dir
from harness.types import DeviceSpec

DEVICE_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
ANDROID = ("screen", "brightness", "airplane", "performance_mode", "stay_awake", "battery_saver", "doze")
#: what may be set on a device for measuring, and put back
SETTINGS = (*ANDROID, "governor")

_HOST = r"(?:[A-Za-z0-9_][A-Za-z0-9._-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])"
_PORT = r":(?P<{}>[0-9]{{1,5}})"
_ADDRESSES = {
    "ssh": rf"(?:[A-Za-z0-9_][A-Za-z0-9._-]{{0,63}}@)?{_HOST}(?:{_PORT.format('port')})?",
    # an IPv6 address and its port is a serial too; none at all is the only phone there
    "adb": rf"(?:[A-Za-z0-9\[][A-Za-z0-9._:\-\[\]%]{{0,199}})?(?:\?server={_HOST}{_PORT.format('port')})?",
    "adb+tcp": rf"{_HOST}(?:{_PORT.format('port')})?",
    "adb+usb": r"[A-Za-z0-9][A-Za-z0-9._:\-]{0,199}",
    "sim": r"[a-z0-9][a-z0-9-]{0,63}(?:\?[A-Za-z0-9_.+=&-]{0,200})?",  # what it says is understood by harness.sim alone
}
_FORMS = {
    "ssh": "ssh://[user@]host[:port]",
    "adb": "adb://SERIAL[?server=HOST:PORT]",
    "adb+tcp": "adb+tcp://HOST[:PORT]",
    "adb+usb": "adb+usb://SERIAL",
    "sim": "sim://PROFILE?seed=N",
}
#: of a third party's transport
_ANY_ADDRESS = r"[A-Za-z0-9_\[][A-Za-z0-9_.:@%/?&=,+~\[\]-]{0,300}"
_URI = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]{0,31})://(?P<rest>.*)", re.DOTALL)

#: folders that others use as well: ours must be one below, for in it we delete
_SHARED = {"/data/local", "/data/local/tmp", "/var/tmp", "/var/lib", "/var/cache", "/usr/local", "/sdcard/Download"}
_HOMES = ("home", "Users")
_SYSTEM = ("bin", "boot", "etc", "lib", "lib64", "proc", "sbin", "sys", "system", "usr", "vendor")


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """The devices that the user named, in the file's order; `file` is None where there is none."""

    file: str | None = None
    devices: Mapping[str, DeviceSpec] = field(default_factory=dict)

    def tagged(self, tag: str) -> list[str]:
        return [name for name, spec in self.devices.items() if tag in spec.tags]


def resolve(name: str, catalog: Catalog | None = None) -> DeviceSpec:
    """The device of this name in the catalog, or at this URI. Raises UsageError for what is neither."""
    known = catalog.devices if catalog is not None else {}
    if name in known:
        return known[name]
    if name == "local" or "://" in name:
        uri = checked_uri(name)
        return DeviceSpec(name=name, uri=uri, prepare=default_prepare(uri))
    shown = repr(name[:200])
    if name.startswith("tag:"):
        raise UsageError(f"{shown}: a tag may stand for several devices, one is needed here", "name the device itself")
    where = f"not in {catalog.file}" if catalog is not None and catalog.file else "and there is no devices.yaml"
    hint = nearest(name, [*known, "local"]) if re.fullmatch(DEVICE_NAME, name) else "local, a name or a URI is needed"
    raise UsageError(f"{shown} is not a device: no URI, {where}", hint)


def resolve_all(names: Sequence[str], catalog: Catalog | None = None) -> list[DeviceSpec]:
    """Every device meant, in order: `tag:NAME` stands for all with that tag which are not named themselves.

    Raises UsageError for an unknown name or tag."""
    catalog = catalog or Catalog()
    meant: list[str] = []
    for name in names:
        if name.startswith("tag:"):
            tag = name.removeprefix("tag:")
            found = catalog.tagged(tag)
            if not found:
                tags = {tag for spec in catalog.devices.values() for tag in spec.tags}
                where = catalog.file or "there is no devices.yaml"
                raise UsageError(f"no device has the tag {tag[:200]!r} ({where})", nearest(tag, tags) if tags else None)
            meant += [one for one in found if one not in meant and one not in names]
        else:
            meant.append(name)
    return [resolve(name, catalog) for name in meant]


def checked_uri(uri: str) -> str:
    """The URI, a missing port of `adb+tcp` filled in. Raises UsageError."""
    shown = repr(re.sub(r":[^@/]*@", ":…@", uri[:200]))  # no password is told back
    match = _URI.fullmatch(uri)
    if uri == "local":
        return uri
    if match is None:
        raise UsageError(f"{shown} is not a device's URI", "local, ssh://…, adb://…; see docs/devices.md")
    scheme, rest = match["scheme"], match["rest"]
    if scheme == "local":
        raise UsageError(f"{shown}: local takes no address", "local")
    if scheme not in registry.names("transport"):
        there = ", ".join(sorted(registry.names("transport")))
        raise UsageError(f"{shown}: there is no transport {scheme!r} here", f"this version measures on: {there}")
    address = re.fullmatch(_ADDRESSES.get(scheme, _ANY_ADDRESS), rest)
    if address is None:
        raise UsageError(f"{shown}: this is no address", f"the form is {_FORMS.get(scheme, f'{scheme}://ADDRESS')}")
    if scheme == "sim":
        registry.load("transport", scheme).check(uri)
    port = address.groupdict().get("port")
    if port is not None and not 1 <= int(port) <= 65535:
        raise UsageError(f"{shown}: there is no port {port}", "1 to 65535")
    return f"{uri}:5555" if scheme == "adb+tcp" and port is None else uri


def default_prepare(uri: str, root: bool = False) -> dict[str, str]:
    """What is set on such a device where the user says nothing: nothing at all on this computer."""
    if uri.startswith("adb"):
        return dict.fromkeys(SETTINGS if root else ANDROID, "auto")
    return {"governor": "auto"} if uri.startswith("ssh") else {}


def open_transport(spec: DeviceSpec) -> Transport:
    """Raises UsageError for an unknown scheme, ToolchainError where its library is missing, DeviceError where it does
    not get through."""
    transport: Transport = registry.load("transport", spec.scheme)(spec)
    return transport


def workdir(spec: DeviceSpec) -> str:
    """The one folder on the device that is ours; what begins with `~/` is meant from the login's home.

    On the host it is made, private to this user."""
    if spec.workdir is not None:
        return checked_workdir(spec.workdir)
    if spec.scheme.startswith("adb"):
        return "/data/local/tmp/harness"
    if spec.scheme != "local":
        return "~/.cache/harness-device"
    folder = cache_dir() / "device"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return os.fspath(folder)


def checked_workdir(path: str) -> str:
    """Raises UsageError for a folder in which deleting could cost somebody something."""
    parts = path.removeprefix("/").rstrip("/").split("/")
    if not path.startswith("/") or not path.isprintable() or len(path) > 300 or {"", ".", ".."} & set(parts):
        raise UsageError(f"{path[:300]!r}: a workdir is an absolute path without . and ..", "/data/local/tmp/harness")
    path = "/" + "/".join(parts)
    if len(parts) < 2 + (parts[0] in _HOMES) or parts[0] in _SYSTEM or path in _SHARED:
        raise UsageError(
            f"{path!r} is not ours alone, and files are deleted in a workdir", "a folder of its own: …/harness"
        )
    return path
