"""A device behind `ssh://[user@]host[:port]`: one connection, kept for as long as the transport is.

The SSH library is asynchronous and this seam is not: a thread of the transport's own runs the loop."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from harness.devices import ssh_connect
from harness.devices.ssh_address import parse
from harness.devices.ssh_command import execute
from harness.devices.ssh_files import Files
from harness.errors import DeviceError, TimedOut
from harness.interfaces import Completed, Transport
from harness.types import DeviceSpec

T = TypeVar("T")
log = logging.getLogger("harness.ssh")
# of blocks that are sent before the link's end is known; what is raised then says more
logging.getLogger("asyncio").addFilter(lambda record: record.msg != "socket.send() raised exception.")


class Ssh:
    """`host_key_fingerprint` names the unit where nothing else does: `SHA256:…`."""

    def __init__(self, spec: DeviceSpec) -> None:
        """Connects. Raises UsageError, Unauthorized, Refused, TimedOut, Gone, DeviceError."""
        address = parse(spec.uri)
        self._name = spec.name
        self._loop = asyncio.new_event_loop()
        # Each block on its way has the failure of its link; the one that is raised says it, and asyncio would write a
        # traceback for every other on the user's terminal.
        self._loop.set_exception_handler(lambda _, context: log.debug("%s: %s", spec.name, context["message"]))
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"ssh {address.host}", daemon=True)
        self._thread.start()
        self._connections: list[ssh_connect.Connection] = []
        try:
            self._connections = self._wait(ssh_connect.connect(address, spec.name))
        except BaseException:
            self.close()
            raise
        self._device = self._connections[-1]
        self._files = Files(self._device, spec.name)
        key = self._device.get_server_host_key()
        self.host_key_fingerprint: str = key.get_fingerprint() if key is not None else ""

    def push(self, local: Path, remote: str) -> None:
        """Raises NoSpace, DeviceError, TransportError. Executable there where it is executable here."""
        self._wait(self._files.push(local, remote))

    def pull(self, remote: str, local: Path) -> None:
        """Raises DeviceError where there is no such file, TransportError."""
        self._wait(self._files.pull(remote, local))

    def run(self, argv: Sequence[str], timeout_s: float = 30.0, stdin: bytes = b"") -> Completed:
        """At the timeout the command is killed there with what it started, and TimedOut raised. Raises Gone where the
        connection ended first."""
        try:
            return self._wait(self._execute(argv, timeout_s, stdin))
        except TimeoutError as error:
            raise TimedOut(f"{self._name}: {argv[0]} did not end within {timeout_s:g} s") from error

    def close(self) -> None:
        """Also of what is half open; a second time nothing."""
        if self._loop.is_closed():
            return
        try:
            self._wait(self._end())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _execute(self, argv: Sequence[str], timeout_s: float, stdin: bytes) -> Completed:
        async with asyncio.timeout(timeout_s):
            return await execute(self._device, self._name, argv, [stdin])

    async def _end(self) -> None:
        await ssh_connect.close(self._connections)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._loop.shutdown_asyncgens()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Does `work` in the loop. Who stops waiting (Ctrl-C) stops the work."""
        if self._loop.is_closed():
            work.close()
            raise DeviceError(f"{self._name}: this connection was closed")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


_: type[Transport] = Ssh
