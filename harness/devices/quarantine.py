"""Devices whose link failed several times in a row: such a one must answer twice before it is used again.

Counted over processes, in a file of the user's cache folder, by the device's address: the unit itself cannot be asked
for its identity when it is out of reach."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.errors import DeviceError
from harness.locks import file_lock
from harness.paths import cache_dir
from harness.types import DeviceSpec

Entries = dict[str, dict[str, Any]]

LIMIT = 3
PAUSE_S = 2.0  # between the two answers: a bad cable answers once
REMEDY = "check cable, network and power; it is used again when it answers twice in a row"


def admit(spec: DeviceSpec, probe: Callable[[], None]) -> None:
    """Lets a device pass that is not in quarantine, or that `probe` reaches twice in a row, which ends it.

    Raises DeviceError."""
    held = why(spec)
    if held is None:
        return
    try:
        probe()
        time.sleep(PAUSE_S)
        probe()
    except DeviceError as error:
        raise DeviceError(f"{spec.name}: {held}, and still: {error.what}", error.hint or REMEDY) from error
    succeeded(spec)


def why(spec: DeviceSpec) -> str | None:
    """That the device is in quarantine, and since when; None if it is not."""
    entry = _read().get(_key(spec))
    if entry is None or entry["failures"] < LIMIT:
        return None
    return f"in quarantine after {entry['failures']} failures in a row since {entry['since']}"


def failed(spec: DeviceSpec) -> None:
    """The link to it failed once more."""
    now = datetime.now(UTC).isoformat(timespec="seconds")

    def count(entries: Entries) -> None:
        entry = entries.setdefault(_key(spec), {"failures": 0, "since": now})
        entry["failures"] += 1

    _change(count)


def succeeded(spec: DeviceSpec) -> None:
    """The link to it worked: what was counted is forgotten."""
    if _key(spec) in _read():
        _change(lambda entries: entries.pop(_key(spec), None))


def _key(spec: DeviceSpec) -> str:
    return hashlib.blake2s(spec.uri.encode(), digest_size=8).hexdigest()


def _file() -> Path:
    return cache_dir() / "quarantine.json"


def _read() -> Entries:
    """What is counted; a file that cannot be understood counts nothing."""
    try:
        entries = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(entries, dict):
        return {}
    return {
        key: entry
        for key, entry in entries.items()
        if isinstance(entry, dict) and type(entry.get("failures")) is int and isinstance(entry.get("since"), str)
    }


def _change(work: Callable[[Entries], object]) -> None:
    """One process at a time, written whole or not at all.

    A cache folder that cannot be written counts nothing: that must not hide the failure that is being counted."""
    with suppress(OSError), file_lock(cache_dir() / "locks" / "quarantine.lock"):
        entries = _read()
        work(entries)
        partial = _file().with_name(f".quarantine.{os.getpid()}")
        partial.write_text(json.dumps(entries, indent=1), encoding="utf-8")
        partial.replace(_file())
