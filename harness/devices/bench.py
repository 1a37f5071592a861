"""One device, opened for measuring: exclusively ours, cleaned of what a dead host left, its runners deployed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.devices import runners
from harness.devices.bundle import file_sha256
from harness.devices.depot import Depot
from harness.devices.facts import ask, at_home, is_android, read_facts, target
from harness.devices.facts import facts_of as understood
from harness.devices.lease import leased
from harness.devices.link import PATIENCE_S, Link, Waiting
from harness.devices.prepare import prepared, restore
from harness.devices.spec import workdir
from harness.errors import DeviceError, StoreError, TransportError
from harness.locks import file_lock
from harness.paths import cache_dir
from harness.types import DeviceFacts, DeviceSpec

Collect = Callable[[Depot, str], None]
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """An opened device. `prepared`: what was set for measuring, and what could not be."""

    spec: DeviceSpec
    facts: DeviceFacts
    depot: Depot
    prepared: Mapping[str, Any] = field(default_factory=dict)

    @property
    def lock_file(self) -> str:
        return f"{self.depot.workdir}/runner.lock"

    def runner(self, runtime: str, say: Say = lambda text: None) -> list[str]:
        """The argv prefix of this runtime's runner on the device. It is deployed where it is missing; every file is
        checked once per process, some are hundreds of megabytes."""
        own = self.spec.runner
        env = ["env", *(f"{key}={value}" for key, value in own.env.items())] if own.env else []
        if (mine := self._own_runner(runtime)) is not None:
            return [*env, *mine]
        bundle = _bundle(runtime, target(self.facts), say)
        folder = f"{self.depot.workdir}/bundles/{bundle.sha256}"
        files = {relative: str(entry["sha256"]) for relative, entry in bundle.files.items()}
        key = (self.facts.device_id, self.facts.boot_id, folder)
        if key not in _checked or not self.depot.uses_bundle(bundle.sha256, bundle.entry, files[bundle.entry]):
            self.depot.put_bundle(bundle.path, bundle.sha256, files)
            _checked.add(key)
        return [*env, *bundle.command(folder, own_loader=self.spec.scheme != "local")]

    def runner_sha256(self, runtime: str) -> str:
        """What stands for the runner in a result."""
        own = self.spec.runner
        if self._own_runner(runtime) is not None:
            return hashlib.sha256(repr((own.command, own.path and file_sha256(Path(own.path)))).encode()).hexdigest()
        return _bundle(runtime, target(self.facts), lambda text: None).sha256

    def _own_runner(self, runtime: str) -> list[str] | None:
        """The user's runner, where there is one and it is of this runtime."""
        own = self.spec.runner
        if own.path is None and not own.command:
            return None
        argv = list(own.command)
        if own.path is not None:
            runners.check_own(Path(own.path), self.facts.abi, is_android(self.facts))
            argv.insert(0, self.depot.put(Path(own.path), file_sha256(Path(own.path))))
        key = (self.facts.device_id, *argv)
        if key not in _said:
            done = self.depot.transport.run([*argv, "--version"])
            if done.returncode != 0:
                why = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0][:200]
                why = why or f"exit {done.returncode}"
                what = f"{self.spec.name}: its own runner {argv[0]} cannot be started: {why}"
                raise DeviceError(what, "see runner: in devices.yaml, and docs/own-runner.md")
            _said[key] = done.stdout.decode("utf-8", "replace").strip()[:100]
        if _said[key].partition(" ")[0] not in runners.RUNTIMES:
            raise DeviceError(
                f"{self.spec.name}: its own runner says it is {_said[key]!r}",
                "--version must print RUNTIME VERSION; see docs/own-runner.md",
            )
        return argv if _said[key].partition(" ")[0] == runtime else None


_checked: set[tuple[str, str | None, str]] = set()
_said: dict[tuple[str, ...], str] = {}
_bundles: dict[tuple[str, str], runners.Bundle] = {}


def _bundle(runtime: str, wanted: str, say: Say) -> runners.Bundle:
    if (runtime, wanted) not in _bundles:
        _bundles[runtime, wanted] = runners.ensure(runtime, wanted, say)
    return _bundles[runtime, wanted]


@contextmanager
def opened(
    spec: DeviceSpec,
    collect: Collect,
    waiting: Waiting = lambda why: None,
    *,
    known: bool = False,
    prepare: bool = False,
    goes_on: bool = False,
) -> Iterator[Bench]:
    """Waits for the device to be free, then holds it, against other processes here and against other hosts.

    `waiting(reason)` is called about once a second while it waits for whatever; it may raise to give up. Before
    anything else, settings that a dead host changed are put back, and each run it left is ended (one that had
    finished is handed to `collect` first) and removed: no two runners are ever alive together.

    `known`: it was reached before, so that a link that is down is worth waiting for. `prepare`: what its entry allows
    is set, and stays set until it is opened without `goes_on`, which is for who prepared it the last time."""
    link = Link(spec, waiting, PATIENCE_S if known else 0.0)
    with ExitStack() as stack:
        stack.callback(link.close)
        said = ask(link, spec)
        facts = understood(said, spec, link)
        if (folder := at_home(workdir(spec), said)) is None:
            raise DeviceError(f"{spec.name}: it does not say where home is", "give it a workdir in devices.yaml")
        depot = Depot(link, folder, spec.name)
        mine = cache_dir() / "locks" / f"device-{_file_name(facts.device_id)}.lock"
        busy = "another measurement of this computer holds it"
        stack.enter_context(file_lock(mine, lambda: waiting(busy)))
        lease = stack.enter_context(leased(depot, waiting, takeover=True))
        link.patience_s = PATIENCE_S
        depot.renew = lease.renew
        if not goes_on:
            restore(depot, spec.sysroot)
        depot.sweep()
        clear(depot, collect)
        record = stack.enter_context(prepared(depot, spec, facts, keep=True)) if prepare else {}
        try:
            yield Bench(spec=spec, facts=facts, depot=depot, prepared=record)
        except BaseException:
            link.patience_s = 0.0  # putting back is tried, but nobody is kept waiting for a dead link
            raise


def _file_name(device_id: str) -> str:
    """A simulated device's id is an address, and too much for the name of a file."""
    return hashlib.sha256(device_id.encode()).hexdigest()[:16] if "/" in device_id else device_id


def clear(depot: Depot, collect: Collect) -> None:
    """Ends every run in the device's folder, hands it to `collect`, and removes it; but not where only the link or the
    store failed: what it holds can still be had."""
    for run in depot.leftovers():
        depot.end(run)
        try:
            collect(depot, run)
        except (TransportError, StoreError):
            raise
        except BaseException:
            depot.remove(depot.run_dir(run))
            raise
        depot.remove(depot.run_dir(run))


def facts_of(spec: DeviceSpec) -> DeviceFacts:
    """A look at the device, without waiting for it to be free."""
    link = Link(spec)
    try:
        return read_facts(link, spec)
    finally:
        link.close()


def probe(spec: DeviceSpec) -> None:
    """Asks the device something small. Raises DeviceError, TransportError."""
    link = Link(spec)
    try:
        if link.run(["echo", "harness"], timeout_s=10).stdout.strip() != b"harness":
            raise TransportError(f"{spec.name}: it does not answer what it was asked")
    finally:
        link.close()
