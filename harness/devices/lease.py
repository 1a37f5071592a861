"""The lease on a device: one benchmark at a time in its folder, across processes and hosts.

It lies on the device and ends by the device's own clock (`device_scripts/lease.sh` says how, and why no two can have
it), so a host that dies, sleeps or loses its link blocks the others for two minutes and no longer."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from harness.devices.depot import Depot
from harness.errors import DeviceError, HarnessError
from harness.interfaces import Transport
from harness.locks import file_lock
from harness.paths import cache_dir, device_scripts_dir

#: for how long a lease holds without being renewed
TERM_S = 120
#: lease.sh takes no longer ones for true
MAX_TERM_S = 600
#: who waits must not disturb what is measured: each question is a process on the device
ASK_EVERY_S = 5
_SOMEBODY = "another harness"


class Lease:
    """Raises TransportError for a failed link, DeviceError where the device refuses, or where the lease was lost."""

    def __init__(self, depot: Depot, takeover: bool, term_s: int = TERM_S) -> None:
        self._depot, self._takeover, self._term_s = depot, takeover, term_s
        self._who = (host_id(), secrets.token_hex(8))
        self._label = _label()
        self._until = 0.0  # by this host's clock; the device's own is what counts

    def acquire(self) -> str | None:
        """None when it is ours now, else who has it."""
        takeover = "yes" if self._takeover else "no"
        asked = _clock()
        state, who = self._ask("acquire", *self._who, str(self._term_s), takeover, self._label)
        if state != "mine":
            return who
        self._until = asked + self._term_s
        return None

    def renew(self, for_s: float = 0.0) -> None:
        """Makes sure that it is still ours, and for so long (at most ten minutes). The device is asked only when a
        third of the term is gone."""
        asked = _clock()
        term_s = max(self._term_s, min(MAX_TERM_S, round(for_s)))
        if self._until - asked > max(self._term_s * 2 / 3, term_s if for_s else 0):
            return
        state, who = self._ask("renew", *self._who, str(term_s), self._label)
        if state != "mine":
            what = f"{self._depot.name}: the lease was lost to {who}"
            raise DeviceError(what, "the link was down, or this computer asleep: run it again")
        self._until = asked + term_s

    def release(self) -> None:
        """Gives back what is ours, and nothing else."""
        self._run("release", self._who[1])

    def _ask(self, verb: str, *words: str) -> tuple[str, str]:
        state, _, who = _answer(self._run(verb, *words)).partition(" ")
        if state not in ("mine", "held", "lost"):
            raise DeviceError(f"{self._depot.name}: it does not say who holds it", "is its shell a POSIX one?")
        return state, who or _SOMEBODY

    def _run(self, verb: str, *words: str) -> bytes:
        depot = self._depot
        done = depot.transport.run(["sh", depot.script("lease.sh"), verb, depot.workdir, *words])
        if done.returncode != 0:
            what = f"{depot.name}: lease.sh {verb} failed: {_answer(done.stderr) or f'exit {done.returncode}'}"
            raise DeviceError(what, f"is {depot.workdir} writable, with room, and has it symbolic links?")
        return done.stdout


@contextmanager
def leased(depot: Depot, while_waiting: Callable[[str], None], takeover: bool) -> Iterator[Lease]:
    """Holds the device's folder, once nobody else does.

    `while_waiting(who)` is called about once a second while another holds it; it may raise to give up. `takeover`:
    the caller has this host's own lock on the device, so a lease of this host is a dead process's."""
    lease = Lease(depot, takeover)
    try:
        while (who := lease.acquire()) is not None:
            for _ in range(ASK_EVERY_S):
                while_waiting(who)
                time.sleep(1.0)
        yield lease
    finally:
        with suppress(HarnessError):  # the link is gone: it expires
            lease.release()


def holder(transport: Transport, workdir: str) -> str | None:
    """Who holds the device's folder just now. Nothing is written there. Raises TransportError when the link fails."""
    script = (device_scripts_dir() / "lease.sh").read_bytes()
    done = transport.run(["sh", "-s", "holder", workdir], stdin=script)
    state, _, who = _answer(done.stdout).partition(" ")
    return (who or _SOMEBODY) if state == "held" else None


def host_id() -> str:
    """Stands for this computer. The name of the computer is mixed in: a home folder may be shared between several."""
    path = cache_dir() / "host-id"
    with file_lock(cache_dir() / "locks" / "host-id.lock"):
        kept = path.read_text(encoding="ascii", errors="replace").strip() if path.is_file() else ""
        if not re.fullmatch(r"[0-9a-f]{32}", kept):
            kept = secrets.token_hex(16)
            path.write_text(kept + "\n", encoding="ascii")
    return hashlib.blake2s(platform.node().encode(), key=kept.encode(), digest_size=8).hexdigest()


def _label() -> str:
    node = "".join(c for c in platform.node() if c.isascii() and c.isprintable())[:64] or "a computer"
    return f"{_SOMEBODY} on {node}, pid {os.getpid()}, since {time.strftime('%H:%M', time.gmtime())} UTC"


def _answer(said: bytes) -> str:
    """The first line, as something that may be shown."""
    line = said[:1000].decode("utf-8", "replace").partition("\n")[0]
    return "".join(c for c in line if c.isprintable())[:200].strip()


def _clock() -> float:
    """Seconds that go on while this computer sleeps, as the device's do; where the system has such a clock."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)
