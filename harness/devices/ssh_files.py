"""Files over an SSH connection: by SFTP with many blocks on the way at once, by `cat` where there is no SFTP."""

from __future__ import annotations

import asyncio
import os
import posixpath
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

import asyncssh

from harness.devices.ssh_command import execute, is_over
from harness.errors import DeviceError, Gone, HarnessError, NoSpace, TimedOut
from harness.interfaces import Completed

#: OpenSSH takes 255 KiB in one block; 32 of them keep a link of 80 MB/s and 100 ms full.
_BLOCK, _BLOCKS = 255 << 10, 32
#: a transfer of which nothing moved for so long has failed, though the link may live: the device's storage hangs
_STALL_S = 60.0
T = TypeVar("T")


class Files:
    """Raises Gone, TimedOut, NoSpace, DeviceError, each with the device's reason; `name` begins every message."""

    def __init__(self, connection: asyncssh.SSHClientConnection, name: str) -> None:
        self._connection, self._name = connection, name
        self._sftp: Any = None
        self._cat = False

    async def push(self, local: Path, remote: str) -> None:
        try:
            size = local.stat().st_size
            mode = 0o755 if os.access(local, os.X_OK) else 0o644
            with local.open("rb") as file:
                if (sftp := await self._client()) is None:
                    return await self._push_cat(file, remote, mode)
                try:
                    await self._transfer(sftp.put, str(local), remote)
                    await self._soon(sftp.chmod(remote, mode))
                except asyncssh.Error as error:
                    raise await self._explained(error, sftp, remote, size) from error
        except OSError as error:
            raise self._local(error, local) from error

    async def pull(self, remote: str, local: Path) -> None:
        """`local` appears whole or not at all."""
        temporary = local.with_name(f".{local.name}.{os.getpid()}.tmp")
        try:
            sftp = await self._client()
            try:
                # files of /proc and /sys say that they are empty
                if sftp is None or not await self._soon(sftp.getsize(remote)):
                    await self._pull_cat(remote, temporary)
                else:
                    await self._transfer(sftp.get, remote, str(temporary))
            except asyncssh.Error as error:
                raise await self._explained(error, sftp, remote) from error
            os.replace(temporary, local)
        except OSError as error:
            raise self._local(error, local) from error
        finally:
            temporary.unlink(missing_ok=True)

    async def _client(self) -> Any:
        """The SFTP client; None where the device has no SFTP server (small systems with dropbear)."""
        if self._sftp is None and not self._cat:
            try:
                async with asyncio.timeout(_STALL_S):
                    self._sftp = await self._connection.start_sftp_client()
            except (asyncssh.Error, TimeoutError) as error:
                if await is_over(self._connection):
                    raise Gone(f"{self._name}: the connection ended") from error
                self._cat = True
        return self._sftp

    async def _soon(self, answer: Awaitable[T]) -> T:
        """Raises TimedOut: sshd answers while its file server hangs on a dead SD card."""
        try:
            async with asyncio.timeout(_STALL_S):
                return await answer
        except TimeoutError as error:
            raise TimedOut(f"{self._name}: its file server does not answer", "is its storage sound?") from error

    async def _transfer(self, work: Callable[..., Any], source: str, target: str) -> None:
        clock = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(_STALL_S) as limit:
                await work(
                    source, target, block_size=_BLOCK, max_requests=_BLOCKS, sparse=False,
                    progress_handler=lambda *_: limit.reschedule(clock() + _STALL_S),
                )  # fmt: skip
        except TimeoutError as error:
            raise TimedOut(f"{self._name}: nothing of {Path(source).name} moved for {_STALL_S:g} s") from error

    async def _push_cat(self, file: IO[bytes], remote: str, mode: int) -> None:
        def blocks() -> Iterator[bytes]:
            while block := file.read(1 << 20):
                yield block

        argv = ["sh", "-c", 'cat > "$1" && chmod "$2" "$1"', "sh", remote, f"{mode:o}"]
        done = await execute(self._connection, self._name, argv, blocks())
        if done.returncode != 0:
            raise self._refused(_said(done), f"cannot write {remote}")

    async def _pull_cat(self, remote: str, temporary: Path) -> None:
        with temporary.open("wb") as file:
            done = await execute(self._connection, self._name, ["cat", remote], sink=file.write)
        if done.returncode != 0:
            raise self._refused(_said(done), f"cannot read {remote}")

    async def _explained(self, error: Any, sftp: Any, remote: str, size: int | None = None) -> HarnessError:
        """`size`: of what was to be written. An SFTP server says no more than `Failure` of most things, a full disk
        among them, so that the device is asked for its reason."""
        verb = "read" if size is None else "write"
        if await is_over(self._connection) or not isinstance(error, asyncssh.SFTPError):
            return Gone(f"{self._name}: the connection ended while {remote} was on its way")
        reason = str(error.reason)
        if isinstance(error, asyncssh.SFTPFailure) and size is not None:
            try:
                left = await sftp.statvfs(posixpath.dirname(remote))
                if left.frsize * left.bavail < _BLOCK:
                    reason = "No space left on device"
                else:
                    probe = ["sh", "-c", '[ ! -d "$1" ] && : >> "$1"', "sh", remote]
                    reason = _said(await execute(self._connection, self._name, probe)) or reason
            except (asyncssh.Error, HarnessError):
                pass  # then `Failure` is all that is known
        return self._refused(reason, f"cannot {verb} {remote}", isinstance(error, asyncssh.SFTPNoSpaceOnFilesystem))

    def _refused(self, reason: str, what: str, full: bool = False) -> DeviceError:
        reason = "".join(c for c in reason[-300:] if c.isprintable())
        if full or "No space left" in reason or "quota exceeded" in reason.lower():
            return NoSpace(f"{self._name}: {what}: {reason}", "free some space there, or give it another workdir")
        return DeviceError(f"{self._name}: {what}: {reason or 'the device gives no reason'}")

    def _local(self, error: OSError, local: Path) -> DeviceError:
        if isinstance(error, ConnectionError):
            return Gone(f"{self._name}: the connection ended while {local.name} was on its way")
        return DeviceError(f"{self._name}: {local.name} on this computer: {error.strerror or error}")


def _said(done: Completed) -> str:
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else ""
