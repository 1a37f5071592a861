"""Sets what a device's entry allows for measuring, and puts it back: at the end, on an error, on an interrupt, and
after this host died, by the next one that holds the device.

`device_scripts/prepare.sh` does it in one call, and keeps a journal on the device of what was changed from what. What
is asked for is decided here: nothing that could cut the link in use."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from harness.devices.depot import Depot
from harness.devices.facts import is_android
from harness.errors import DeviceError, HarnessError
from harness.types import DeviceFacts, DeviceSpec

log = logging.getLogger("harness.prepare")
Say = Callable[[str], None]

#: what an interrupt leaves for putting back; the rest is the next opening's
UNDO_S = 4.5
#: setting -> what `auto` is, and what may be asked for instead; the order is that of being set
_SETTINGS: Mapping[str, tuple[str, str]] = {
    "stay_awake": ("7", r"[0-9]|1[0-5]"),  # on any charger: the bits of Android's own setting
    "screen": ("on", r"on|off"),
    "brightness": ("10", r"[0-9]{1,4}"),  # of 255: lit, and the same for every run
    "airplane": ("on", r"on"),
    "battery_saver": ("off", r"on|off"),
    "doze": ("off", r"on|off"),
    "performance_mode": ("on", r"on|off"),
    "governor": ("performance", r"[A-Za-z][A-Za-z0-9_-]{0,31}"),
}
_ON_OFF = {"1": "on", "0": "off"}
_WORDS = {setting: _ON_OFF for setting, (_, form) in _SETTINGS.items() if form.startswith("on")} | {
    "brightness_mode": {"0": "manual", "1": "automatic"}
}
#: a serial of the adb server that stands for a cable: no address, and no name found by mDNS
_CABLE = re.compile(r"adb(\+usb)?://(?!adb-)[A-Za-z0-9_-]+(\?.*)?")


@contextmanager
def prepared(
    depot: Depot, spec: DeviceSpec, facts: DeviceFacts, say: Say = log.warning, keep: bool = False
) -> Iterator[Mapping[str, Any]]:
    """Yields `{"set": setting -> value read back, "not_set": setting -> reason}`; neither stops the measuring.

    With `keep` only an error undoes it: more is to come, and the last one undoes all by `restore`.
    Raises TransportError for a failed link, DeviceError where the device cannot run the script."""
    words, not_set = wanted(spec, facts)
    if not words:
        yield {"set": {}, "not_set": not_set}
        return
    try:
        argv = ["begin", depot.workdir, spec.sysroot, "yes" if spec.root else "no", *words]
        yield _record(_run(depot, argv, timeout_s=60), not_set)
    except BaseException:
        keep = False
        raise
    finally:
        if not keep:
            try:
                depot.renew(0.0)  # raises where another holds the device by now: it has put back, and set its own
                _undo(depot, spec.sysroot, UNDO_S, say)
            except HarnessError as error:  # what happened inside matters more than what comes of this
                say(f"{depot.name}: not put back yet, the next harness there will do it: {error.what}")


def restore(depot: Depot, sysroot: str = "/", say: Say = log.warning) -> None:
    """Puts back what a dead host left changed; only for who holds the device. Raises TransportError, DeviceError."""
    _undo(depot, sysroot, 60, say)


def wanted(spec: DeviceSpec, facts: DeviceFacts) -> tuple[list[str], dict[str, str]]:
    """The script's words for what is to be set, and setting -> reason for what is not even tried."""
    words: list[str] = []
    not_set = {setting: "there is no such setting" for setting in spec.prepare if setting not in _SETTINGS}
    for setting, (auto, form) in _SETTINGS.items():
        asked = spec.prepare.get(setting, "leave")
        if asked == "leave":
            continue
        value = auto if asked == "auto" else asked
        if not re.fullmatch(form, value):
            not_set[setting] = f"it cannot be {value[:80]!r}"
        elif setting != "governor" and not is_android(facts):
            not_set[setting] = "only Android has it"
        elif setting == "airplane" and not _CABLE.fullmatch(spec.uri):
            not_set[setting] = "it could cut the link in use"
        else:
            number = {"on": "1", "off": "0"}.get(value, value) if setting in _WORDS else value
            words += ["brightness_mode=0"] if setting == "brightness" else []
            words.append(f"{setting}={number}")
    return words, not_set


def _record(said: str, not_set: Mapping[str, str]) -> dict[str, Any]:
    done: dict[str, str] = {}
    refused = dict(not_set)
    for verb, key, rest in _lines(said):
        if verb == "set":
            done[key] = _WORDS.get(key, {}).get(rest, rest)
        elif verb == "not":
            refused[key] = rest
    return {"set": done, "not_set": refused}


def _undo(depot: Depot, sysroot: str, timeout_s: float, say: Say) -> None:
    for verb, key, rest in _lines(_run(depot, ["undo", depot.workdir, sysroot], timeout_s)):
        value = _WORDS.get(key, {}).get(rest, rest)
        if verb == "left":
            say(f"{depot.name}: {key} was changed meanwhile to {value}, and stays so")
        elif verb == "failed":
            say(f"{depot.name}: {key} could not be put back ({rest}); it is tried again the next time")
        elif verb == "ignored":
            say(f"{depot.name}: in the journal of changes {key} made no sense, and was removed")


def _run(depot: Depot, argv: list[str], timeout_s: float) -> str:
    done = depot.transport.run(["sh", depot.script("prepare.sh"), *argv], timeout_s)
    if done.returncode != 0:
        why = "".join(c for c in done.stderr[:300].decode("utf-8", "replace") if c.isprintable())
        raise DeviceError(f"{depot.name}: prepare.sh {argv[0]} failed: {why}", f"is {depot.workdir} writable?")
    return done.stdout[: 1 << 16].decode("utf-8", "replace")


def _lines(said: str) -> Iterator[tuple[str, str, str]]:
    """(verb, key, the rest) of each line, as far as it may be one of the script's."""
    for line in said.split("\n")[:1000]:
        verb, _, rest = "".join(c for c in line[:300] if c.isprintable()).partition(" ")
        key, _, rest = rest.partition(" ")
        if re.fullmatch(r"[a-z_]+(\.policy[0-9]{1,9})?", key):
            yield verb, key, rest
