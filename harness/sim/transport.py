"""The link to a simulated device: everything above it is what measures a real one.

    sim://PROFILE?seed=N      docs/simulated-devices.md
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from harness.clock import Clock
from harness.errors import DeviceError, Gone
from harness.interfaces import Completed, Transport
from harness.paths import device_scripts_dir
from harness.sim import shell
from harness.sim.address import parse
from harness.sim.world import CALL_S, File, World, world
from harness.types import DeviceSpec

#: calls for which a new connection holds, however bad the link
_HOLDS = 10
T = TypeVar("T")


class Sim:
    def __init__(self, spec: DeviceSpec) -> None:
        self._name = spec.name
        self._world: World = world(spec.uri)
        self._calls = 0

    @staticmethod
    def check(uri: str) -> None:
        """Raises UsageError for an address that is none: before anything is built for it."""
        parse(uri)

    @property
    def clock(self) -> Clock:
        return self._world.clock

    def push(self, local: Path, remote: str) -> None:
        def put() -> None:
            path = local.absolute()
            script = path.name if path.parent == device_scripts_dir() else None
            self._world.files[remote] = File(local=path, script=script)

        self._over_the_link(put)

    def pull(self, remote: str, local: Path) -> None:
        def get() -> None:
            file = shell.read(self._world, remote)
            if file is None:
                raise DeviceError(f"{self._name}: cannot read {remote}: no such file")
            local.write_bytes(file.read())

        self._over_the_link(get)

    def run(self, argv: Sequence[str], timeout_s: float = 30.0, stdin: bytes = b"") -> Completed:
        return self._over_the_link(lambda: shell.run(self._world, argv, stdin))

    def close(self) -> None:
        pass

    def _over_the_link(self, work: Callable[[], T]) -> T:
        """A call takes its time; one that is dropped was heard or was not, and either way nobody answers."""
        with self._world.lock:
            self._world.advance(CALL_S)
            self._calls += 1
            often, chance = self._world.profile.drop_every, self._world.calls
            if not often or self._calls <= _HOLDS or chance.random() >= 1 / often:
                return work()
            if chance.random() < 0.5:
                work()
            raise Gone(f"{self._name}: the simulated link was dropped")


_: type[Transport] = Sim
