"""Our folder on a device: a content-addressed store of files and bundles, and one folder per detached process.

    WORKDIR/store/<sha256><suffix>     artifacts, inputs, scripts: pushed once, checked on the device
    WORKDIR/bundles/<sha256>/…         a runner with its libraries
    WORKDIR/runs/<run id>/…            one process: claim, pid, result.jsonl, stderr, exit, out/

Nothing outside WORKDIR is ever written or deleted, and everything asked for here can be asked twice without harm.
"""

from __future__ import annotations

import posixpath
import re
import tarfile
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from harness.clock import Clock, clock_of
from harness.devices.bundle import file_sha256
from harness.errors import DeviceError, HarnessError, NoSpace
from harness.interfaces import Completed, Transport
from harness.paths import device_scripts_dir

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
#: what store and bundles may take on a device; beyond it the least recently used go first
BUDGET_BYTES = 4 << 30
#: left free on the device whatever is pushed
MARGIN_BYTES = 64 << 20
#: a link slower than this, seen on a first MiB, gets its bundles packed
SLOW_BYTES_PER_S = 20 << 20
#: a push is expected to end within so many seconds, and at so slow a link
_LONG_S, _SLOWEST_BYTES_PER_S = 30.0, 1 << 20
_TRIES = 3  # of a push that arrives damaged


class Depot:
    """Raises TransportError for a failed link, DeviceError for what the device refuses, NoSpace where it is full.

    `renew(seconds)` is called before whatever a run needs of the device: the lease is renewed there, and made to last
    over what takes longer."""

    def __init__(
        self, transport: Transport, workdir: str, name: str, renew: Callable[[float], None] = lambda seconds: None
    ) -> None:
        self.transport, self.workdir, self.name, self.renew = transport, workdir, name, renew
        self.pushed_bytes = 0
        self._push_s = 0.0
        self._scripts: dict[str, str] = {}
        self._used: set[str] = set()  # names in store and bundles that this opening needs

    @property
    def clock(self) -> Clock:
        """By which who waits for this device waits."""
        return clock_of(self.transport)

    # -- files ---------------------------------------------------------------------------------------------------

    def put(self, local: Path, sha256: str, suffix: str = "") -> str:
        """The device's path of this content; pushed only where it is not there yet, right."""
        self.renew(0.0)
        remote = f"{self.workdir}/store/{_safe(sha256 + suffix)}"
        self._used.add(sha256 + suffix)
        if self.sha256([remote]).get(remote) != sha256:
            self._room(local.stat().st_size)
            self._push(local, remote, sha256)
        return remote

    def put_bundle(self, local: Path, sha256: str, files: Mapping[str, str]) -> str:
        """The device's folder of this bundle. `files`: relative path -> sha256; every one is checked.

        Over a slow link what is still missing after a first MiB goes packed, where the device can unpack."""
        folder = f"{self.workdir}/bundles/{_safe(sha256)}"
        self._used.add(sha256)
        missing = self._missing(folder, files)
        if missing:
            sizes = {relative: (local / relative).stat().st_size for relative in missing}
            self._room(sum(sizes.values()))
            self._must(["mkdir", "-p", *sorted({posixpath.dirname(f"{folder}/{name}") for name in missing})])
            missing.sort(key=sizes.__getitem__)
        while missing:
            if self._slow() and len(missing) > 1 and self._unpacks():
                self._push_packed(local, folder, missing)
                missing = self._missing(folder, files)  # all are there now, unless the device lies or breaks
                if missing:
                    raise DeviceError(f"{self.name}: {missing[0]} was not unpacked right", "is its storage sound?")
                break
            name = missing.pop(0)
            self._push(local / name, f"{folder}/{name}", files[name])
        return folder

    def uses_bundle(self, sha256: str, entry: str, digest: str) -> bool:
        """Whether the bundle is there, by its entry's hash; from now on it is in use, and no room is made of it."""
        if sha256 not in self._used:
            folder = f"{self.workdir}/bundles/{_safe(sha256)}"
            if self._missing(folder, {entry: digest}):
                return False
            self._used.add(sha256)
        return True

    def _missing(self, folder: str, files: Mapping[str, str]) -> list[str]:
        have = self.sha256([folder, *(f"{folder}/{relative}" for relative in files)])  # the folder: used just now
        return [relative for relative, digest in files.items() if have.get(f"{folder}/{relative}") != digest]

    def _slow(self) -> bool:
        return self.pushed_bytes >= 1 << 20 and self.pushed_bytes < SLOW_BYTES_PER_S * self._push_s

    def _unpacks(self) -> bool:
        done = self.transport.run(["sh", "-c", "command -v tar && command -v gzip"])
        return done.returncode == 0

    def _push_packed(self, local: Path, folder: str, names: Sequence[str]) -> None:
        with tempfile.TemporaryDirectory(prefix="harness-") as scratch:
            parcel = Path(scratch) / "parcel.tar.gz"
            with tarfile.open(parcel, "w:gz", compresslevel=6) as tar:
                for name in names:
                    tar.add(local / name, arcname=name, recursive=False)
            digest = file_sha256(parcel)
            remote = f"{self.workdir}/store/.tmp-{uuid.uuid4().hex}"
            try:
                self._push(parcel, remote, digest)
                self.renew(600.0)
                done = self.transport.run(["sh", self.script("store.sh"), "unpack", remote, folder], timeout_s=600)
                if done.stdout.decode("utf-8", "replace").split()[-1:] != ["ok"]:
                    raise DeviceError(f"{self.name}: tar failed: {_first_line(done)}", "is the device's disk full?")
            finally:
                with suppress(HarnessError):
                    self.transport.run(["rm", "-f", remote])

    def _push(self, local: Path, remote: str, sha256: str) -> None:
        partial = f"{posixpath.dirname(remote)}/.tmp-{uuid.uuid4().hex}"
        for _ in range(_TRIES):
            self.renew(_LONG_S + local.stat().st_size / _SLOWEST_BYTES_PER_S)
            began = time.monotonic()
            try:
                self.transport.push(local, partial)
                self._push_s += time.monotonic() - began
                self.pushed_bytes += local.stat().st_size
                # the first script is what would answer: it is put in its place by plain words
                if self._place(partial, remote, sha256):
                    return
            except BaseException:
                with suppress(HarnessError):  # what happened matters more; `sweep` finds it too
                    self.transport.run(["rm", "-f", partial])
                raise
        raise DeviceError(f"{self.name}: {local.name} arrived damaged", "check the link and the device's storage")

    def _place(self, partial: str, remote: str, sha256: str) -> bool:
        if "store.sh" in self._scripts:
            argv = ["sh", self._scripts["store.sh"], "receive", partial, remote, sha256]
            return self._must(argv, 300).stdout.split() == [b"ok"]
        if self._hash([partial]).get(partial) != sha256:
            return False
        self._must(["mv", "-f", partial, remote])
        return True

    def _room(self, size: int) -> None:
        """Makes room for so many bytes, as far as the device's df can be understood. Raises NoSpace."""
        need = (size + MARGIN_BYTES) // 1024
        argv = ["sh", self.script("store.sh"), "room", self.workdir, str(need), str(BUDGET_BYTES // 1024)]
        answer = self._must([*argv, *sorted(self._used)], 300).stdout.decode("utf-8", "replace").split("\n")
        free = next((line.removeprefix("free ") for line in answer if line.startswith("free ")), "")
        if free.isdigit() and int(free) < need:
            raise NoSpace(
                f"{self.name}: no space: {size} bytes to write, {int(free) * 1024} free in {self.workdir}",
                f"free some space there ({MARGIN_BYTES >> 20} MiB are always left), or give the device another workdir",
            )

    def sha256(self, paths: Iterable[str]) -> dict[str, str]:
        """path -> sha256 as computed on the device; paths that cannot be read are left out."""
        return self._hash(list(paths), self.script("store.sh"))

    def _hash(self, paths: Sequence[str], script: str | None = None) -> dict[str, str]:
        argv = ["sha256sum"] if script is None else ["sh", script, "hash"]
        done = self.transport.run([*argv, *paths], timeout_s=300)
        if script is None and done.returncode == 127:
            what = f"{self.name}: it has no sha256sum, so nothing sent there can be checked"
            raise DeviceError(what, "Android 8 and every Linux have it")
        out = {}
        for line in done.stdout.decode("utf-8", "replace").splitlines():
            digest, _, path = line.partition(" ")
            out[path.lstrip(" *")] = digest
        return out

    def remove(self, path: str) -> None:
        if not path.startswith(f"{self.workdir}/") or ".." in path.split("/"):
            raise DeviceError(f"{self.name}: will not remove {path}: it is not in our folder")
        self.transport.run(["rm", "-rf", path], timeout_s=120)

    def sweep(self) -> None:
        """Removes what a dead host left half-way; only for who holds the device."""
        self.transport.run(["sh", self.script("store.sh"), "sweep", self.workdir], timeout_s=120)

    def _must(self, argv: Sequence[str], timeout_s: float = 30.0, stdin: bytes = b"") -> Completed:
        done = self.transport.run(argv, timeout_s, stdin)
        if done.returncode != 0:
            kind = NoSpace if b"No space left" in done.stderr else DeviceError
            what = " ".join(posixpath.basename(word) for word in argv[:3] if not word.startswith("-"))
            raise kind(f"{self.name}: {what} failed: {_first_line(done)}", f"is {self.workdir} writable, with room?")
        return done

    def script(self, name: str) -> str:
        """The device's path of one of `device_scripts/`; there from the first use on."""
        if name not in self._scripts:
            local = device_scripts_dir() / name
            digest = file_sha256(local)
            remote = f"{self.workdir}/store/{digest}.sh"
            if self._hash([remote]).get(remote) != digest:
                self._must(["mkdir", "-p", f"{self.workdir}/store", f"{self.workdir}/runs"])
                self._push(local, remote, digest)
            self._used.add(f"{digest}.sh")
            self._scripts[name] = remote
        return self._scripts[name]

    # -- detached processes --------------------------------------------------------------------------------------

    def run_dir(self, run: str) -> str:
        return f"{self.workdir}/runs/{_safe(run)}"

    def start(self, run: str, argv: Sequence[str], notes: bytes, limit_s: float = 3600.0) -> str:
        """Starts argv detached in a new folder that also holds `notes` (what a later host must know); the folder.

        After `limit_s` the device itself kills it: for a host that does not come back."""
        self.renew(0.0)
        folder = self.run_dir(run)
        self._must(["sh", self.script("runs.sh"), "start", folder, str(round(limit_s)), *argv], stdin=notes)
        return folder

    def poll(self, run: str) -> str:
        """`waiting`, `running`, `exit N`, `deadline`, `rebooted` or `lost`."""
        self.renew(0.0)
        return self._runs("poll", run)

    def end(self, run: str) -> str:
        """Makes sure that nothing of this run is or comes alive; its state as `poll` says it."""
        return self._runs("end", run)

    def _runs(self, verb: str, run: str) -> str:
        done = self._must(["sh", self.script("runs.sh"), verb, self.run_dir(run)])
        return done.stdout.decode("ascii", "replace").strip()

    def leftovers(self) -> list[str]:
        """Runs that an earlier host left behind, oldest first."""
        done = self.transport.run(["ls", "-1tr", f"{self.workdir}/runs"])
        return [name for name in done.stdout.decode("utf-8", "replace").split("\n") if _ID.fullmatch(name)]


def _first_line(done: Completed) -> str:
    said = (done.stderr.strip() or done.stdout.strip()).decode("utf-8", "replace").splitlines()
    return "".join(c for c in said[-1][:300] if c.isprintable()) if said else f"exit {done.returncode}"


def _safe(name: str) -> str:
    if not _ID.fullmatch(name):
        raise DeviceError(f"{name!r} is not a safe name for a file on a device")
    return name
