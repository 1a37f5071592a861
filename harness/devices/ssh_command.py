"""One command over an SSH connection: its input fed as it is taken, its output bounded, ended when we stop waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import asyncssh

from harness.errors import DeviceError, Gone
from harness.interfaces import Completed

#: What a command may print; a device that prints on and on must not fill the host's memory.
MAX_OUTPUT_BYTES = 256 << 20
_CHUNK = 1 << 20


class _Session(asyncssh.SSHClientSession[bytes]):
    """Collects what the command prints; its standard output goes to `sink` where there is one."""

    def __init__(self, name: str, sink: Callable[[bytes], None] | None) -> None:
        self.name = name
        self.stdout, self.stderr = bytearray(), bytearray()
        self.ended, self.writable = asyncio.Event(), asyncio.Event()
        self.error: Exception | None = None
        self._sink = sink or self.stdout.extend
        self._room = None if sink else MAX_OUTPUT_BYTES
        self._channel: Any = None
        self.writable.set()

    def connection_made(self, chan: Any) -> None:
        self._channel = chan

    def data_received(self, data: bytes, datatype: int | None) -> None:
        try:
            (self._sink if datatype is None else self.stderr.extend)(data)
        except OSError as error:  # the sink's disk
            self._give_up(error)
        if self._room is not None and len(self.stdout) + len(self.stderr) > self._room:
            self._give_up(DeviceError(f"{self.name}: it printed more than {MAX_OUTPUT_BYTES >> 20} MiB"))

    def _give_up(self, error: Exception) -> None:
        self.error = self.error or error
        self._sink = lambda data: None
        self._room = None
        self._channel.abort()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = self.error or exc
        self.ended.set()
        self.writable.set()


async def execute(
    connection: asyncssh.SSHClientConnection,
    name: str,
    command: str,
    stdin: Iterable[bytes] = (),
    sink: Callable[[bytes], None] | None = None,
) -> Completed:
    """Waits for the command's end; `name` begins every error's message. A signal N that ended it is exit code 128+N, as a shell would say.

    Who cancels this (a timeout) ends the command on the device too. Raises Gone where the connection ended first,
    DeviceError where no command can be started or it prints too much, and what `sink` raises."""
    try:
        channel, session = await connection.create_session(
            lambda: _Session(name, sink), command, encoding=None, request_pty=False
        )
    except asyncssh.ChannelOpenError as error:
        if connection.is_closed():
            raise Gone(f"{name}: the connection ended") from error
        raise DeviceError(f"{name}: it starts no command: {error.reason}", "is MaxSessions of its sshd too small?") from error
    except asyncssh.DisconnectError as error:
        raise Gone(f"{name}: the connection ended: {error.reason}") from error
    try:
        await _feed(channel, session, stdin)
        await session.ended.wait()
    except BaseException:
        with suppress(OSError):
            channel.kill()
        channel.abort()
        raise
    if isinstance(session.error, DeviceError | OSError) and not isinstance(session.error, ConnectionError):
        raise session.error
    code = channel.get_returncode()
    if code is None:
        raise Gone(f"{name}: the connection ended before the command did{f': {session.error}' if session.error else ''}")
    returncode = code if code >= 0 else 128 - code
    return Completed(returncode=returncode, stdout=bytes(session.stdout), stderr=bytes(session.stderr))


async def _feed(channel: Any, session: _Session, stdin: Iterable[bytes]) -> None:
    """A command need not read its input: it may have ended, or closed it."""
    with suppress(ConnectionError):
        for block in stdin:
            for start in range(0, len(block), _CHUNK):
                await session.writable.wait()
                if session.ended.is_set():
                    return
                channel.write(block[start : start + _CHUNK])
        channel.write_eof()
