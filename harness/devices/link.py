"""A transport that comes back: after the link failed, the next try opens a new connection.

All that is asked of a device through it can be asked twice without harm (what `Depot` does is made so), and a
process on the device goes on without us: a cut of some minutes loses nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from harness.clock import Clock, clock_of
from harness.devices.spec import open_transport
from harness.errors import HarnessError, TransportError
from harness.interfaces import Completed, Transport
from harness.types import DeviceSpec

#: seconds for which a lost link is tried again: a phone's reboot, a Wi-Fi that roams
PATIENCE_S = 180.0

Waiting = Callable[[str], None]
T = TypeVar("T")


class Link:
    """`waiting(reason)` is called about once a second while the link is down; it may raise to give up.

    `patience_s` is 0 for a device that was never reached: a wrong address is told at once."""

    def __init__(self, spec: DeviceSpec, waiting: Waiting = lambda why: None, patience_s: float = 0.0) -> None:
        self.spec, self.waiting, self.patience_s = spec, waiting, patience_s
        self._transport: Transport | None = None

    def push(self, local: Path, remote: str) -> None:
        self._ask(lambda transport: transport.push(local, remote))

    def pull(self, remote: str, local: Path) -> None:
        self._ask(lambda transport: transport.pull(remote, local))

    def run(self, argv: Sequence[str], timeout_s: float = 30.0, stdin: bytes = b"") -> Completed:
        return self._ask(lambda transport: transport.run(argv, timeout_s, stdin))

    def close(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            with suppress(HarnessError):  # it is gone either way
                transport.close()

    @property
    def host_key_fingerprint(self) -> str | None:
        """The connection's, where it has one."""
        return getattr(self.transport, "host_key_fingerprint", None)

    @property
    def clock(self) -> Clock:
        return clock_of(self.transport)

    @property
    def transport(self) -> Transport:
        """The open connection. Raises what opening it raises."""
        if self._transport is None:
            self._transport = open_transport(self.spec)
        return self._transport

    def _ask(self, work: Callable[[Transport], T]) -> T:
        until: float | None = None
        clock: Clock | None = None  # one for all of it: what cannot be opened again has none of its own
        while True:
            try:
                return work(self.transport)
            except TransportError as error:
                clock = clock or clock_of(self._transport)
                self.close()
                until = until or clock.now() + self.patience_s
                if clock.now() >= until:
                    self.patience_s = 0.0  # it was given its time; who cleans up behind it waits no more
                    raise
                self.waiting(f"{error.what}; trying for up to {self.patience_s:g} s")
                clock.sleep(1.0)


_: type[Transport] = Link
