"""One device, opened for measuring: exclusively ours, cleaned of what a dead host left, its runners deployed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.devices import runners
from harness.devices.depot import Depot
from harness.devices.facts import read_facts, target
from harness.devices.spec import open_transport, workdir
from harness.locks import file_lock
from harness.paths import cache_dir
from harness.types import DeviceFacts, DeviceSpec


@dataclass(frozen=True, kw_only=True)
class Bench:
    """An opened device. `runner(runtime)` gives the argv prefix of that runtime's runner on the device."""

    spec: DeviceSpec
    facts: DeviceFacts
    depot: Depot
    lock_file: str

    def runner(self, runtime: str, say: Callable[[str], None] = lambda text: None) -> list[str]:
        """Deploys it where it is missing; every file is checked once per process, some are hundreds of megabytes."""
        bundle = _bundle(runtime, target(self.facts), say)
        folder = f"{self.depot.workdir}/bundles/{bundle.sha256}"
        if (self.facts.device_id, folder) not in _checked:
            files = {relative: str(entry["sha256"]) for relative, entry in bundle.files.items()}
            folder = self.depot.put_bundle(bundle.path, bundle.sha256, files)
            _checked.add((self.facts.device_id, folder))
        return [f"{folder}/{bundle.entry}"]

    def runner_sha256(self, runtime: str) -> str:
        return _bundle(runtime, target(self.facts), lambda text: None).sha256


_checked: set[tuple[str, str]] = set()
_bundles: dict[tuple[str, str], runners.Bundle] = {}


def _bundle(runtime: str, wanted: str, say: Callable[[str], None]) -> runners.Bundle:
    if (runtime, wanted) not in _bundles:
        _bundles[runtime, wanted] = runners.ensure(runtime, wanted, say)
    return _bundles[runtime, wanted]


Collect = Callable[[Depot, str], None]


@contextmanager
def opened(spec: DeviceSpec, collect: Collect, while_waiting: Callable[[], None] = lambda: None) -> Iterator[Bench]:
    """Waits for the device to be free (calling `while_waiting`, which may raise), then holds it. Before anything
    else, each run that a dead host left is ended (one that had finished is handed to `collect` first) and removed: no
    two runners are ever alive together."""
    transport = open_transport(spec)
    try:
        facts = read_facts(transport, spec)
        depot = Depot(transport, workdir(spec), spec.name)
        locks = cache_dir() / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        with file_lock(Path(locks / f"device-{facts.device_id}.lock"), while_waiting):
            clear(depot, collect)
            yield Bench(spec=spec, facts=facts, depot=depot, lock_file=f"{depot.workdir}/runner.lock")
    finally:
        transport.close()


def clear(depot: Depot, collect: Collect) -> None:
    """Ends every run in the device's folder, hands it to `collect`, and removes it whatever comes of that."""
    for run in depot.leftovers():
        depot.end(run)
        try:
            collect(depot, run)
        finally:
            depot.remove(depot.run_dir(run))


def facts_of(spec: DeviceSpec) -> DeviceFacts:
    """A look at the device, without waiting for it to be free."""
    transport = open_transport(spec)
    try:
        return read_facts(transport, spec)
    finally:
        transport.close()
