"""The one place where words become a shell's text: ADB and SSH take a command as a string, not as argv."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from harness.errors import DeviceError


def quote(argv: Sequence[str]) -> str:
    """One POSIX shell command that is exactly these words. Raises DeviceError for a word that no shell can carry."""
    if any("\0" in word for word in argv):
        raise DeviceError("a word with a NUL byte cannot be sent to a device")
    return shlex.join(argv)
