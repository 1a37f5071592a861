"""The computer that the harness runs on, as a device like any other: files copied in, programs started by argv."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from harness.errors import DeviceError, NoSpace, TimedOut
from harness.interfaces import Completed, Transport
from harness.types import DeviceSpec


class Local:
    def __init__(self, spec: DeviceSpec) -> None:
        pass

    def push(self, local: Path, remote: str) -> None:
        try:
            shutil.copyfile(local, remote)
            shutil.copymode(local, remote)
        except OSError as error:
            raise _explained(error, f"cannot write {remote}") from error

    def pull(self, remote: str, local: Path) -> None:
        try:
            shutil.copyfile(remote, local)
        except OSError as error:
            raise _explained(error, f"cannot read {remote}") from error

    def run(self, argv: Sequence[str], timeout_s: float = 30.0, stdin: bytes = b"") -> Completed:
        try:
            process = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for the harness, which then ends things in its own order
            )
        except OSError as error:
            raise _explained(error, f"cannot start {argv[0]}") from error
        try:
            stdout, stderr = process.communicate(stdin, timeout_s)
        except subprocess.TimeoutExpired as error:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise TimedOut(f"local: {argv[0]} did not end within {timeout_s:g} s") from error
        return Completed(returncode=process.returncode, stdout=stdout, stderr=stderr)

    def close(self) -> None:
        pass


def _explained(error: OSError, what: str) -> DeviceError:
    """There is no link that could have failed: whatever it is, trying again will not help."""
    kind = NoSpace if error.errno in (errno.ENOSPC, errno.EDQUOT) else DeviceError
    return kind(f"local: {what}: {error.strerror or error}")


_: type[Transport] = Local
