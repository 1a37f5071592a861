"""A phone as a transport, over services of its adbd; how one is opened differs (the adb server, a socket, USB)."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.devices import adb_run, adb_sync
from harness.devices.adb_stream import Stream
from harness.devices.quoting import quote
from harness.errors import DeviceError, TimedOut
from harness.interfaces import Completed
from harness.types import DeviceSpec

#: seconds in which a device answers that is there at all
ANSWER_S = 10.0
#: the adb server's requests end at 65535, a word of a program's start at 131071
MAX_COMMAND_BYTES = 65_000


class Adb(ABC):
    def __init__(self, spec: DeviceSpec) -> None:
        self.name = spec.name

    @abstractmethod
    def _open(self, service: bytes, deadline: float) -> Stream:
        """Raises DeviceError where the device refuses the service, TransportError for the link."""

    @abstractmethod
    def close(self) -> None: ...

    def push(self, local: Path, remote: str) -> None:
        with self._service(b"sync:") as stream:
            adb_sync.push(stream, local, remote, self.name)

    def pull(self, remote: str, local: Path) -> None:
        with self._service(b"sync:") as stream:
            adb_sync.pull(stream, remote, local, self.name)

    def run(self, argv: Sequence[str], timeout_s: float = 30.0, stdin: bytes = b"") -> Completed:
        service, deadline = b"shell,v2,raw:" + self._encoded(argv), time.monotonic() + timeout_s
        try:
            with self._service(service, deadline) as stream:
                return adb_run.run(stream, stdin, deadline, self.name)
        except TimedOut as error:
            if time.monotonic() < deadline - 0.05:  # it was adbd that did not answer, not the command that took long
                raise
            what = f"{self.name}: {argv[0]} did not end within {timeout_s:g} s"
            raise TimedOut(what, "is the phone awake, and is the link up?") from error

    def _encoded(self, argv: Sequence[str]) -> bytes:
        """Raises DeviceError for what cannot be sent: no words, broken ones, too much for the adb server's request."""
        try:
            command = quote(argv).encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise DeviceError(f"{self.name}: a word of the command is no text that can be sent") from error
        if not 0 < len(command) <= MAX_COMMAND_BYTES:
            raise DeviceError(f"{self.name}: a command of {len(command)} bytes cannot be sent", "push it as a script")
        return command

    @contextmanager
    def _service(self, service: bytes, deadline: float | None = None) -> Iterator[Stream]:
        soon = time.monotonic() + ANSWER_S
        stream = self._open(service, soon if deadline is None else min(soon, deadline))
        try:
            yield stream
        finally:
            stream.close()  # the remote process of a shell gets SIGHUP

    def _need_shell_v2(self, features: Sequence[str] | frozenset[str]) -> None:
        if "shell_v2" not in features:
            raise DeviceError(f"{self.name}: its Android is older than 7 and tells no exit codes", "use another phone")
