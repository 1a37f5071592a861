"""The keys by which a phone knows this computer: adb's own, made where there are none yet."""

from __future__ import annotations

import logging
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import DeviceError
from harness.locks import file_lock

log = logging.getLogger("harness.adb")


@dataclass(frozen=True, kw_only=True)
class Key:
    """`public` is what the phone shows the fingerprint of. The private part is in no repr, log or message."""

    public: bytes
    signer: Any = field(repr=False)

    def sign(self, token: bytes) -> bytes:
        return bytes(self.signer.Sign(token))


def user_keys() -> list[Key]:
    """~/.android/adbkey first (made if missing), then what ADB_VENDOR_KEYS names. Raises DeviceError for a key that
    cannot be used."""
    own = Path.home() / ".android" / "adbkey"
    try:
        own.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        with file_lock(own.with_name("adbkey.harness-lock")):
            if not own.exists():
                _make(own)
    except OSError as error:
        raise DeviceError(f"cannot keep adb's key: {error.strerror}", f"is {own.parent} writable?") from error
    files = [own]
    for named in os.environ.get("ADB_VENDOR_KEYS", "").split(os.pathsep):
        path = Path(named)
        files += sorted(path.glob("*.adb_key")) if named and path.is_dir() else [path] if named else []
    keys = []
    for file in dict.fromkeys(files):
        try:
            keys.append(_load(file))
        except DeviceError as error:
            if file == own:
                raise
            log.warning("%s", error.what)  # one of many: the others may do
    return keys


def _make(path: Path) -> None:
    from adb_shell.auth.keygen import keygen

    with tempfile.TemporaryDirectory(prefix=".adbkey-", dir=path.parent) as private:  # mode 0700
        made = Path(private) / path.name
        keygen(str(made))
        made.chmod(0o600)
        made.with_name(f"{path.name}.pub").replace(path.with_name(f"{path.name}.pub"))
        made.replace(path)


def _load(path: Path) -> Key:
    from adb_shell.auth.keygen import write_public_keyfile
    from adb_shell.auth.sign_pythonrsa import PythonRSASigner

    try:
        public = path.with_name(path.name + ".pub")
        if not public.exists():
            write_public_keyfile(str(path), str(public))
        text = public.read_text().strip()
        return Key(public=text.encode(), signer=PythonRSASigner(text, path.read_text()))
    except Exception as error:  # whatever the parsers of broken keys raise
        what = f"adb's key {path} cannot be used: {type(error).__name__}"
        raise DeviceError(what, "remove it; a new one is made") from error
