"""Our folder on a device: a content-addressed store of files and bundles, and one folder per detached process.

    WORKDIR/store/<sha256><suffix>     artifacts, inputs, scripts: pushed once, checked on the device
    WORKDIR/bundles/<sha256>/…         a runner with its libraries
    WORKDIR/runs/<run id>/…            one process: claim, pid, result.jsonl, stderr, exit, out/

Nothing outside WORKDIR is ever written or deleted.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from harness.errors import DeviceError, TransportError
from harness.interfaces import Completed, Transport
from harness.paths import device_scripts_dir

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Depot:
    """Raises TransportError for a failed link, DeviceError for what the device refuses."""

    def __init__(self, transport: Transport, workdir: str, name: str) -> None:
        self.transport, self.workdir, self.name = transport, workdir, name
        self.pushed_bytes = 0
        self._runs_sh: str | None = None

    # -- files ---------------------------------------------------------------------------------------------------

    def put(self, local: Path, sha256: str, suffix: str = "") -> str:
        """The device's path of this content; pushed only where it is not there yet, right."""
        remote = f"{self.workdir}/store/{_safe(sha256 + suffix)}"
        if self.sha256([remote]).get(remote) != sha256:
            self._must(["mkdir", "-p", f"{self.workdir}/store"])
            self._push(local, remote, sha256)
        return remote

    def put_bundle(self, local: Path, sha256: str, files: Mapping[str, str]) -> str:
        """The device's folder of this bundle. `files`: relative path -> sha256; every one is checked."""
        folder = f"{self.workdir}/bundles/{_safe(sha256)}"
        paths = {f"{folder}/{relative}": digest for relative, digest in files.items()}
        have = self.sha256(paths)
        missing = [path for path, digest in paths.items() if have.get(path) != digest]
        self._room(sum((local / posixpath.relpath(path, folder)).stat().st_size for path in missing))
        for parent in sorted({posixpath.dirname(path) for path in missing}):
            self._must(["mkdir", "-p", parent])
        for path in missing:
            self._push(local / posixpath.relpath(path, folder), path, paths[path])
        return folder

    def _push(self, local: Path, remote: str, sha256: str) -> None:
        size = local.stat().st_size
        self._room(size)
        partial = f"{posixpath.dirname(remote)}/.tmp-{uuid.uuid4().hex}"
        try:
            self.transport.push(local, partial)
            if self.sha256([partial]).get(partial) != sha256:
                raise TransportError(
                    f"{self.name}: {local.name} arrived damaged", "check the link and the device's storage"
                )
            self._must(["mv", "-f", partial, remote])
        except BaseException:
            self.transport.run(["rm", "-f", partial])
            raise
        self.pushed_bytes += size

    def _room(self, size: int) -> None:
        """Room for the file and 16 MiB more, as far as the device's df can be understood."""
        self._must(["mkdir", "-p", self.workdir])
        last = self.transport.run(["df", "-kP", self.workdir]).stdout.decode("utf-8", "replace").splitlines()[-1:]
        fields = last[0].split() if last else []
        if size and len(fields) >= 4 and fields[3].isdigit() and int(fields[3]) * 1024 < size + (16 << 20):
            raise DeviceError(
                f"{self.name}: no space: {size} bytes to write, {int(fields[3]) * 1024} free in {self.workdir}",
                "free some space there, or give the device another workdir",
            )

    def sha256(self, paths: Iterable[str]) -> dict[str, str]:
        """path -> sha256 as computed on the device; paths that cannot be read are left out."""
        paths = list(paths)
        done = self.transport.run(["sha256sum", *paths], timeout_s=300)
        out = {}
        for line in done.stdout.decode("utf-8", "replace").splitlines():
            digest, _, path = line.partition(" ")
            out[path.lstrip(" *")] = digest
        return out

    def remove(self, path: str) -> None:
        if not path.startswith(f"{self.workdir}/") or ".." in path.split("/"):
            raise DeviceError(f"{self.name}: will not remove {path}: it is not in our folder")
        self.transport.run(["rm", "-rf", path], timeout_s=120)

    def _must(self, argv: Sequence[str]) -> Completed:
        done = self.transport.run(argv)
        if done.returncode != 0:
            reason = done.stderr.decode("utf-8", "replace").strip()[:300] or f"exit {done.returncode}"
            raise DeviceError(f"{self.name}: {argv[0]} failed: {reason}", "is the device's workdir writable?")
        return done

    # -- detached processes --------------------------------------------------------------------------------------

    def _script(self) -> str:
        if self._runs_sh is None:
            local = device_scripts_dir() / "runs.sh"
            self._runs_sh = self.put(local, hashlib.sha256(local.read_bytes()).hexdigest(), ".sh")
        return self._runs_sh

    def run_dir(self, run: str) -> str:
        return f"{self.workdir}/runs/{_safe(run)}"

    def start(self, run: str, argv: Sequence[str], notes: bytes) -> str:
        """Starts argv detached in a new folder that also holds `notes` (what a later host must know); the folder."""
        folder = self.run_dir(run)
        script = self._script()
        self._must(["mkdir", "-p", f"{folder}/out"])
        self.transport.run(
            ["sh", "-c", 'cat > "$1.tmp" && mv "$1.tmp" "$1"', "sh", f"{folder}/notes.json"], stdin=notes
        )
        self._must(["sh", script, "start", folder, *argv])
        return folder

    def poll(self, run: str) -> str:
        """`waiting`, `running`, `exit N` or `lost`."""
        return self._must(["sh", self._script(), "poll", self.run_dir(run)]).stdout.decode().strip()

    def end(self, run: str) -> str:
        """Makes sure that nothing of this run is or comes alive; its state as `poll` says it."""
        return self._must(["sh", self._script(), "end", self.run_dir(run)]).stdout.decode().strip()

    def leftovers(self) -> list[str]:
        """Runs that an earlier host left behind, oldest first."""
        done = self.transport.run(["ls", "-1tr", f"{self.workdir}/runs"])
        return [name for name in done.stdout.decode("utf-8", "replace").split("\n") if _ID.fullmatch(name)]


def _safe(name: str) -> str:
    if not _ID.fullmatch(name):
        raise DeviceError(f"{name!r} is not a safe name for a file on a device")
    return name
