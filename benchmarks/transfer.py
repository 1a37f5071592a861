"""What getting a file onto a device costs, beside the tool that a person would use: one command, every pair printed.

    python benchmarks/transfer.py [--pairs N] [--mib N] [--seed N] [--quick] [--json] [ssh] [adb]

    ssh://      against scp        on an OpenSSH server of our own on loopback (target: <= 1.2 times scp)
    adb://      against adb push   on a real Android daemon in a network of its own (target: <= 2 times)
    adb+tcp://  against adb push   the same (target: <= 4 times)

Each pair pushes the same random bytes by both, in random order; the ratio is the median of the pairs' ratios, and
beside it is the range of the middle half. scp and adb are processes that start and connect each time: `fresh` opens and
closes our link each time too, `open` pushes over one that is open, as the harness does. Pulls are told, with no
target. The hash that the harness computes on the device after a push is timed apart. What a network or a card adds is
the same for both sides and not in here. Exit 1 if a target is missed; what cannot be tried here says why."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the stand-ins are the tests'

from harness.devices.spec import open_transport
from harness.errors import HarnessError
from harness.interfaces import Transport
from harness.types import DeviceSpec

Work = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """`ours_s` and `theirs_s` are of the same pairs, in order."""

    what: str
    against: str
    target: float | None
    ours_s: list[float]
    theirs_s: list[float]

    @property
    def ratios(self) -> list[float]:
        return [ours / theirs for ours, theirs in zip(self.ours_s, self.theirs_s, strict=True)]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def missed(self) -> bool:
        return self.target is not None and self.ratio > self.target

    def __str__(self) -> str:
        low, _, high = statistics.quantiles(self.ratios, n=4)
        times = f"{statistics.median(self.ours_s):7.3f} s  {self.against} {statistics.median(self.theirs_s):7.3f} s"
        verdict = "" if self.target is None else f"  target {self.target:g}: {'MISSED' if self.missed else 'met'}"
        pairs = " ".join(f"{ratio:.2f}" for ratio in self.ratios)
        return f"{self.what:24} {times}  ratio {self.ratio:.2f} ({low:.2f} to {high:.2f}){verdict}\n{'':24} {pairs}"


@dataclass(frozen=True)
class Bench:
    """`file`: what is pushed; its copy on the device is deleted before each push, untimed."""

    file: Path
    pairs: int
    chance: random.Random

    def compare(
        self, what: str, against: str, target: float | None, ours: Work, theirs: Work, before: Work = lambda: None
    ) -> Row:
        times: dict[str, list[float]] = {"ours": [], "theirs": []}
        for pair in range(-1, self.pairs):  # the first only warms up
            order = [("ours", ours), ("theirs", theirs)]
            self.chance.shuffle(order)
            for name, work in order:
                before()
                began = time.perf_counter()
                work()
                if pair >= 0:
                    times[name].append(time.perf_counter() - began)
        return Row(what, against, target, times["ours"], times["theirs"])

    def check(self, transport: Transport, remote: str) -> float:
        """Seconds that the hash takes on the device. Raises SystemExit if the copy is not the file."""
        began = time.perf_counter()
        said = transport.run(["sha256sum", remote], timeout_s=300).stdout.split()[:1]
        took = time.perf_counter() - began
        if said != [hashlib.sha256(self.file.read_bytes()).hexdigest().encode()]:
            raise SystemExit(f"{remote} is not what was pushed")
        return took


def over(uri: str, work: Callable[[Transport], object]) -> None:
    """A link opened for this alone."""
    transport = open_transport(DeviceSpec(name=uri, uri=uri))
    try:
        work(transport)
    finally:
        transport.close()


def quietly(argv: list[str], **more: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=os.environ | more)
    if done.returncode != 0:
        raise SystemExit(f"{argv[0]} failed: {(done.stderr or done.stdout).strip()[-300:]}")


def rows(
    bench: Bench, uri: str, tool: str, target: float, remote: str, push: Callable[[str], list[str]],
    pull: Callable[[str], list[str]], env: dict[str, str],
) -> Iterator[Row | str]:  # fmt: skip
    """`push(remote)` and `pull(local)`: the argv of the tool."""
    scheme = uri.partition("//")[0] + "//"
    copy = bench.file.with_name("copy")
    link = open_transport(DeviceSpec(name=uri, uri=uri))

    def away() -> None:
        link.run(["rm", "-f", remote])

    def theirs() -> None:
        quietly(push(remote), **env)

    try:
        fresh = bench.compare(
            f"{scheme} push, fresh", tool, target, lambda: over(uri, lambda t: t.push(bench.file, remote)), theirs, away
        )
        yield fresh
        yield bench.compare(
            f"{scheme} push, open", tool, target, lambda: link.push(bench.file, remote), theirs, away
        )
        link.push(bench.file, remote)
        hashes = [bench.check(link, remote) for _ in range(5)]
        yield f"{scheme + ' hash there':24} {statistics.median(hashes):7.3f} s"
        yield bench.compare(
            f"{scheme} pull, open", tool, None,
            lambda: link.pull(remote, copy), lambda: quietly(pull(str(copy)), **env),
        )  # fmt: skip
        if copy.read_bytes() != bench.file.read_bytes():
            raise SystemExit("what was pulled is not what was pushed")
        away()
    finally:
        link.close()


def ssh(bench: Bench) -> Iterator[Row | str]:
    from tests.standins.sshd import Sshd, why_no_sshd

    if (reason := why_no_sshd()) is not None:
        yield f"ssh:// not tried: {reason}"
        return
    with Sshd() as device:
        os.environ["HARNESS_SSH_CONFIG"] = str(device.config)
        scp = ["scp", "-q", "-F", str(device.config), "-P", str(device.direct_port)]
        remote = str(device.folder / "pushed")
        there = f"{device.user}@127.0.0.1:{remote}"
        yield from rows(
            bench, device.direct_uri, "scp", 1.2, remote,
            push=lambda remote: [*scp, str(bench.file), there],
            pull=lambda local: [*scp, there, local], env={},
        )  # fmt: skip


def adb(bench: Bench) -> Iterator[Row | str]:
    try:
        from tests.standins.phone import Phone, why_no_phone
    except ImportError as error:
        yield f"adb:// not tried: there is no stand-in phone: {error}"
        return
    if (reason := why_no_phone()) is not None:
        yield f"adb:// not tried: {reason}"
        return
    with Phone() as phone, adb_server(phone.uri.removeprefix("adb+tcp://")) as (binary, port, serial, env):
        argv = [binary, "-P", str(port), "-s", serial]
        for uri, target in ((f"adb://{serial}?server=127.0.0.1:{port}", 2.0), (phone.uri, 4.0)):
            yield from rows(
                bench, uri, "adb", target, "/data/local/tmp/pushed",
                push=lambda remote: [*argv, "push", str(bench.file), remote],
                pull=lambda local: [*argv, "pull", "/data/local/tmp/pushed", local], env=env,
            )  # fmt: skip


@contextmanager
def adb_server(serial: str) -> Iterator[tuple[str, int, str, dict[str, str]]]:
    """An adb server of our own, with keys of its own, connected to the phone."""
    from adbutils import adb_path

    from tests.standins.sshd import free_port

    binary, port = adb_path(), free_port()
    with tempfile.TemporaryDirectory(prefix="harness-adb-") as home:
        env = {"HOME": home, "ANDROID_USER_HOME": home}
        server = subprocess.Popen(
            [binary, "-P", str(port), "nodaemon", "server"], env=os.environ | env,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            for _ in range(100):
                done = subprocess.run(
                    [binary, "-P", str(port), "connect", serial], capture_output=True, text=True, env=os.environ | env
                )
                if "connected to" in done.stdout:
                    break
                time.sleep(0.1)
            else:
                raise SystemExit(f"adb does not reach the stand-in phone: {done.stdout.strip()}")
            yield binary, port, serial, env
        finally:
            server.terminate()
            server.wait(timeout=10)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="*", choices=["ssh", "adb", []], help="default: both")
    parser.add_argument("--pairs", type=int, default=11)
    parser.add_argument("--mib", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0, help="of the order within pairs, and of the bytes")
    parser.add_argument("--quick", action="store_true", help="three pairs of 8 MiB, to see that it works: no verdict")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    pairs, mib = (3, 8) if options.quick else (max(options.pairs, 2), options.mib)
    chance, found, notes = random.Random(options.seed), [], []
    with tempfile.TemporaryDirectory(prefix="harness-transfer-") as folder:
        file = Path(folder) / "random"
        file.write_bytes(chance.randbytes(mib << 20))
        print(f"{mib} MiB, {pairs} pairs, seed {options.seed}", file=sys.stderr)
        for name, tried in (("ssh", ssh), ("adb", adb)):
            if options.which and name not in options.which:
                continue
            try:
                for row in tried(Bench(file, pairs, chance)):
                    (found if isinstance(row, Row) else notes).append(row)
                    print(row, file=sys.stderr if options.json else sys.stdout, flush=True)
            except HarnessError as error:
                notes.append(f"{name} not finished: {error}")
                print(notes[-1], file=sys.stderr)
    if options.json:
        print(json.dumps({
            "mib": mib, "pairs": pairs, "seed": options.seed, "notes": notes,
            "rows": [{**asdict(row), "ratio": row.ratio, "missed": row.missed} for row in found],
        }))  # fmt: skip
    return int(not options.quick and any(row.missed for row in found))


if __name__ == "__main__":
    sys.exit(main())
