"""One command over an SSH connection: its input fed as it is taken, its output bounded, ended when we stop waiting."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, cast

import asyncssh

from harness.devices.quoting import quote
from harness.errors import DeviceError, Gone, HarnessError
from harness.interfaces import Completed

#: What a command may print; a device that prints on and on must not fill the host's memory.
MAX_OUTPUT_BYTES = 256 << 20
_CHUNK = 1 << 20
_KILL_S = 3.0


class _Session(asyncssh.SSHClientSession[bytes]):
    """Collects what the command prints; its standard output goes to `sink` where there is one.

    `mark`: begins the line, with the command's process id, after which its output begins. What comes before is not
    the command's: a login shell's start-up files may print."""

    def __init__(self, name: str, mark: bytes, sink: Callable[[bytes], object] | None) -> None:
        self.name, self.pid = name, ""
        self.stdout, self.stderr = bytearray(), bytearray()
        self.ended, self.writable = asyncio.Event(), asyncio.Event()
        self.error: Exception | None = None
        self._mark, self._before = mark, bytearray()
        self._sink = sink or self.stdout.extend
        self._room = None if sink else MAX_OUTPUT_BYTES
        self._channel: Any = None
        self.writable.set()

    def connection_made(self, chan: Any) -> None:
        self._channel = chan

    def data_received(self, data: bytes, datatype: int | None) -> None:
        if self.error is not None:
            return
        try:
            if datatype is not None:
                self.stderr += data
            elif self.pid:
                self._sink(data)
            else:
                self._seek(data)
        except OSError as error:  # the sink's disk
            self._give_up(error)
        printed = len(self.stdout) + len(self.stderr) + len(self._before)
        if self._room is not None and printed > self._room:
            self._give_up(DeviceError(f"{self.name}: it printed more than {self._room >> 20} MiB"))

    def _seek(self, data: bytes) -> None:
        self._before += data
        _, found, rest = self._before.partition(self._mark)
        pid, newline, rest = rest.partition(b"\n")
        if found and newline:
            self.pid = pid.decode("ascii", "replace").strip()
            self._before.clear()
            self._sink(bytes(rest))

    def _give_up(self, error: Exception) -> None:
        self.error = error
        self._channel.abort()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = self.error or exc
        self.stdout += self._before  # no mark: no command was started, and this may say why
        self.ended.set()
        self.writable.set()


async def execute(
    connection: asyncssh.SSHClientConnection,
    name: str,
    argv: Sequence[str],
    stdin: Iterable[bytes] = (),
    sink: Callable[[bytes], object] | None = None,
) -> Completed:
    """Waits for the command's end; `name` begins every error's message.

    A signal N that ended it is exit code 128+N, as a shell would say. Who cancels this (a timeout) ends the command on
    the device too. Raises Gone where the connection ended first, DeviceError where no command can be started or it
    prints too much, and what `sink` raises."""
    mark = f"harness-{uuid.uuid4().hex}"
    command = quote(["sh", "-c", f'echo {mark} $$; exec "$@"', "sh", *argv])
    channel, session = await _open(connection, name, lambda: _Session(name, mark.encode(), sink), command)
    try:
        await _feed(channel, session, stdin)
        await session.ended.wait()
    except BaseException:
        channel.abort()
        if session.pid.isdigit():
            await _kill(connection, name, session.pid)
        raise
    if isinstance(session.error, HarnessError | OSError) and not isinstance(session.error, ConnectionError):
        raise session.error
    code = channel.get_returncode()
    if code is None:
        raise Gone(f"{name}: the connection ended before {argv[0]} did")
    returncode = code if code >= 0 else 128 - code
    return Completed(returncode=returncode, stdout=bytes(session.stdout), stderr=bytes(session.stderr))


async def is_over(connection: asyncssh.SSHClientConnection) -> bool:
    """Asked after a failure. A connection that breaks refuses everything at once, and calls itself closed only when
    the loop has come round."""
    await asyncio.sleep(0)
    return connection.is_closed()


async def _open(
    connection: asyncssh.SSHClientConnection, name: str, factory: Callable[[], _Session], command: str
) -> tuple[Any, _Session]:
    try:
        channel, session = await connection.create_session(factory, command, encoding=None, request_pty=False)
        return channel, cast(_Session, session)
    except (asyncssh.Error, ConnectionError) as error:
        if await is_over(connection) or not isinstance(error, asyncssh.ChannelOpenError):
            raise Gone(f"{name}: the connection ended") from error
        hint = "is MaxSessions of its sshd too small?"
        raise DeviceError(f"{name}: it starts no command: {error.reason}", hint) from error


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


async def _kill(connection: asyncssh.SSHClientConnection, name: str, pid: str) -> None:
    """By a command of its own: OpenSSH passes no signal on to what root runs. sshd made the command a group's leader,
    unless the login shell is one that starts no command without staying itself."""
    script = 'kill -9 -"$1" 2>/dev/null || kill -9 "$1"'
    with suppress(HarnessError, TimeoutError):
        async with asyncio.timeout(_KILL_S):
            await execute(connection, name, ["sh", "-c", script, "sh", pid])
