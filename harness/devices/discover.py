"""What is in reach: the devices that the user named, and those that an adb server, the network or USB shows.

Everything is asked at once, each on a thread of its own that nobody waits for longer than the whole may take: what
hangs (a dead route, a phone with a frozen service) is told as silent, and keeps neither the others nor the exit."""

from __future__ import annotations

import os
import platform
import queue
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.devices import quarantine
from harness.devices.facts import Condition, Said, ask, at_home, condition, facts_of
from harness.devices.lease import holder
from harness.devices.spec import Catalog, open_transport, resolve, resolve_all, workdir
from harness.errors import DeviceError, HarnessError, TimedOut, UsageError
from harness.interfaces import Transport
from harness.types import DeviceFacts, DeviceSpec

TIMEOUT_S = 4.0  # the whole command then ends within five
MAX_DEVICES = 64  # of those that nobody named
LOW_BATTERY = 20

HINTS = {
    "unauthorized": {
        "adb": "unlock the phone and accept this computer's key on its screen; where it was accepted before, the "
        "authorisation has lapsed: accept it again",
        "ssh": "log in once with ssh and compare the host key, or copy your key there: ssh-copy-id",
    },
    "offline": {
        "adb": "unlock the phone (it may be asking whether to accept this computer's key), plug it in again, "
        "or: adb reconnect",
        "ssh": "check its power and the network",
    },
    "unreachable": {
        "adb": "plug it in, switch USB debugging on; is adb installed and its server running? adb start-server",
        "ssh": "check its name, its power and the network",
    },
}
UDEV = "this login may not open the USB device: install the udev rules (apt install android-sdk-platform-tools-common)"
HELD = "wait until that ends; if it died, a run from the same computer takes over at once, others after two minutes"
PAIRING = "adb connect {}; the first time, and when the pairing has lapsed, adb pair with the phone's own port and code"
#: what the adb server calls a serial's state -> our state, the reason and a remedy
SERVER_STATES = {
    "unauthorized": ("unauthorized", "it has not accepted this computer's key", HINTS["unauthorized"]["adb"]),
    "authorizing": ("unauthorized", "it is asking whether to accept this computer's key", "accept it on the screen"),
    "offline": ("offline", "the adb server sees it, but it does not answer", HINTS["offline"]["adb"]),
    "connecting": ("offline", "the adb server is still connecting to it", "try again in some seconds"),
    "no permissions": ("unreachable", "the adb server may not open it", UDEV),
}


@dataclass(frozen=True, kw_only=True)
class Found:
    """One device as it was found. `reason`: what is the matter, or worth knowing; `hint`: what to do about it."""

    name: str
    uri: str
    state: str
    reason: str | None = None
    hint: str | None = None
    facts: DeviceFacts | None = None
    condition: Condition | None = None

    @property
    def transport(self) -> str:
        return self.uri.partition(":")[0]


#: what a look saw, and what it could not look at
Seen = tuple[list[Found], list[str]]


def discover(
    catalog: Catalog,
    timeout_s: float = TIMEOUT_S,
    also: Sequence[str] = (),
    note: Callable[[str], None] = lambda text: None,
) -> list[Found]:
    """`local`, the devices of `also` and of the catalog, then what else is seen; within `timeout_s` whatever hangs.

    `note` is told what could not be looked at, with its remedy. Raises UsageError for a name in `also` that is no
    device's."""
    named = ["local", *also, *catalog.devices]
    specs = {spec.name: spec for spec in resolve_all(list(dict.fromkeys(named)), catalog)}
    survey = _Survey(time.monotonic() + timeout_s, note)
    for spec in specs.values():
        survey.examine(spec)
    survey.start("phones", phones)
    return _with_twins(survey.finish(timeout_s))


class _Survey:
    def __init__(self, deadline: float, note: Callable[[str], None]) -> None:
        self.deadline, self.note = deadline, note
        self.specs: dict[str, DeviceSpec] = {}
        self.found: dict[str, Found] = {}
        self.seen: dict[str, Found] = {}  # what nobody named and cannot be asked, by URI
        self.answers: queue.Queue[tuple[str, Any]] = queue.Queue()
        self.pending: set[str] = set()

    def examine(self, spec: DeviceSpec) -> None:
        self.specs[spec.name] = spec
        self._thread(spec.name, lambda: examine(spec))

    def start(self, what: str, look: Callable[[], Seen]) -> None:
        self._thread(f"({what})", look)

    def _thread(self, key: str, work: Callable[[], Any]) -> None:
        def answer() -> None:
            try:
                self.answers.put((key, work()))
            except Exception as error:  # a broken library or answer is one device's trouble
                self.answers.put((key, error))

        self.pending.add(key)
        threading.Thread(target=answer, name=f"look {key}", daemon=True).start()

    def finish(self, timeout_s: float) -> list[Found]:
        while self.pending and (left := self.deadline - time.monotonic()) > 0:
            try:
                key, answer = self.answers.get(timeout=left)
            except queue.Empty:
                break
            self.pending.discard(key)
            if key in self.specs:
                self.found[key] = answer if isinstance(answer, Found) else failed(self.specs[key], answer)
            elif isinstance(answer, Exception):
                self.note(f"{key}: {_one_line(answer)}")
            else:
                self._saw(*answer)
        for key in self.pending:
            silent = TimedOut(f"no answer within {timeout_s:g} s")
            if key in self.specs:
                self.found[key] = failed(self.specs[key], silent)
            else:
                self.note(f"{key}: {silent.what}")
        return [*(self.found[name] for name in self.specs), *list(self.seen.values())[:MAX_DEVICES]]

    def _saw(self, seen: Sequence[Found], notes: Sequence[str]) -> None:
        """What a look saw and the user did not name is examined too, where that is worth it."""
        for text in notes:
            self.note(text)
        known = {spec.uri for spec in self.specs.values()}
        for one in seen:
            if one.uri in known or len(self.specs) >= MAX_DEVICES:
                continue
            if one.state == "ready":
                self.examine(resolve(one.uri))
            else:
                self.seen.setdefault(one.uri, one)


def phones() -> Seen:
    """What the adb server, the network and USB show. A phone that the server holds cannot be opened by USB as well."""
    seen: list[Found] = []
    notes: list[str] = []

    def add(uri: str, state: str, reason: str | None = None, hint: str | None = None) -> None:
        try:
            resolve(uri)
        except UsageError:
            notes.append(f"{uri[:90]!r} is seen, and cannot be written as an address: it is left out")
        else:
            seen.append(Found(name=uri, uri=uri, state=state, reason=reason, hint=hint))

    try:
        from harness.devices import adb_server

        for serial, state in adb_server.server_devices():
            add(f"adb://{serial}", *_server_state(state))
        held = {one.uri.removeprefix("adb://") for one in seen}
        for service, kind, address in adb_server.mdns_services():
            known = address in held or any(serial.startswith(service) for serial in held)
            if not known and "pairing" not in kind:
                uri, offer = f"adb://{service}.{kind.rstrip('.')}", f"it offers adb at {address} and is not connected"
                add(uri, "unreachable", offer, PAIRING.format(address))
    except (ImportError, HarnessError) as error:
        notes.append(f"phones by the adb server: {_one_line(error)}")
    try:
        from harness.devices import adb_direct

        held = {one.uri.removeprefix("adb://") for one in seen}
        for serial in adb_direct.usb_serials():
            if serial not in held:
                add(f"adb+usb://{serial}", "ready")
    except (ImportError, HarnessError) as error:
        notes.append(f"phones by USB: {_one_line(error)}")
    return seen, notes


def _server_state(state: str) -> tuple[str, str | None, str | None]:
    if state == "device":
        return "ready", None, None
    word = state.partition("(")[0].partition(";")[0].strip()  # "no permissions (missing udev rules? …); see …"
    other = ("unreachable", f"it is in the state {state[:40]!r}", "boot it to Android's home screen")
    return SERVER_STATES.get(word, other)


def examine(spec: DeviceSpec) -> Found:
    """One device, asked now. What it raises is told by `failed`."""
    transport = open_transport(spec)
    try:
        said = ask(transport, spec)
        facts = facts_of(said, spec, transport)
        who = _holder(transport, spec, said)
    finally:
        transport.close()
    now = condition(said, spec.energy)
    found = Found(name=spec.name, uri=spec.uri, state="ready", facts=facts, condition=now)
    if who is not None and _dead(who):
        reason = "a harness was killed while it measured there; what it changed may not be put back yet"
        return replace(found, reason=reason, hint="the next run there puts it back")
    if who is not None:
        return replace(found, state="busy", reason=f"it is held by {who}", hint=HELD)
    if (held := quarantine.why(spec)) is not None:
        return replace(found, reason=held, hint=quarantine.REMEDY)
    if now.battery_percent is not None and now.battery_percent < LOW_BATTERY and not now.charging:
        return replace(found, reason=f"the battery is at {now.battery_percent} %", hint="charge it before measuring")
    if now.throttled is not None and int(now.throttled, 16) & 0xF:
        return replace(found, reason=f"it is throttled now ({now.throttled})", hint="cool it; check its power supply")
    return found


def _dead(who: str) -> bool:
    """Whether the holder is a process of this computer that is no more."""
    match = re.search(r" on (\S+), pid (\d{1,9}),", who)
    if match is None or match[1] != platform.node():
        return False
    try:
        os.kill(int(match[2]), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


def failed(spec: DeviceSpec, error: Exception) -> Found:
    """The device that answered with this error."""
    state = error.state if isinstance(error, DeviceError) else "unreachable"
    what, hint = f"{type(error).__name__}: {error}", None
    if isinstance(error, HarnessError):
        what, hint = error.what.removeprefix(f"{spec.name}: "), error.hint
    held = quarantine.why(spec)
    reason = "".join(c for c in what if c.isprintable())[:500] or type(error).__name__
    return Found(
        name=spec.name,
        uri=spec.uri,
        state=state,
        reason=f"{reason}; {held}" if held else reason,
        hint=hint or (_hint(state, spec) if isinstance(error, DeviceError) else None),
    )


def _one_line(error: Exception) -> str:
    if isinstance(error, HarnessError):
        return f"{error.what} (try: {error.hint})" if error.hint else error.what
    return f"{type(error).__name__}: {error}"


def _hint(state: str, spec: DeviceSpec) -> str | None:
    return HINTS.get(state, {}).get("adb" if spec.scheme.startswith("adb") else spec.scheme)


def _holder(transport: Transport, spec: DeviceSpec, said: Said) -> str | None:
    """Who measures on it just now."""
    folder = at_home(workdir(spec), said)
    return None if folder is None else holder(transport, folder)


def _with_twins(found: Sequence[Found]) -> list[Found]:
    """The same unit at several addresses is told at each: only one of them can be measured."""
    first: dict[str, str] = {}
    out = []
    for one in found:
        other = first.setdefault(one.facts.device_id, one.name) if one.facts is not None else one.name
        if other != one.name:
            same = f"the same unit as {other}"
            one = replace(one, reason=f"{one.reason}; {same}" if one.reason else same)
        out.append(one)
    return out
