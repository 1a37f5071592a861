"""One benchmark at a time on a device: whoever dies, sleeps, reboots or comes late, never two, and never nobody."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.devices import lease as leases
from harness.devices.depot import Depot
from harness.devices.lease import Lease, holder, host_id, leased
from harness.devices.local import Local
from harness.errors import DeviceError
from harness.interfaces import Completed
from harness.paths import device_scripts_dir
from harness.types import DeviceSpec
from tests.test_device_scripts import SHELLS, Device

SPEC = DeviceSpec(name="local", uri="local")
Host = Callable[..., Lease]


@pytest.fixture
def depot(tmp_path: Path) -> Depot:
    return Depot(Local(SPEC), str(tmp_path / "work dir"), "board")


@pytest.fixture
def host(depot: Depot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """`host("a")`: a lease, not yet acquired, of another process of that host."""

    def make(name: str, takeover: bool = True, term_s: int = 100) -> Lease:
        monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / name))
        made = Lease(depot, takeover, term_s)
        made._label = f"host {name}"
        return made

    return make


def number(depot: Depot) -> Path:
    """The link that counts."""
    return max((p for p in Path(depot.workdir, "lease").iterdir() if p.name.isdigit()), key=lambda p: int(p.name))


def rewrite(depot: Depot, **changes: str) -> None:
    """What the lease on the device says, changed as time or a reboot would."""
    link = number(depot)
    words = os.readlink(link).split(" ", 4)
    for key, value in changes.items():
        words[("host", "token", "boot", "until", "label").index(key)] = value
    link.unlink()
    link.symlink_to(" ".join(words))


def test_one_host_has_it_and_another_waits_until_it_is_released(host: Host, depot: Depot) -> None:
    a, b = host("a"), host("b")
    assert a.acquire() is None
    assert b.acquire() == "host a"
    assert holder(depot.transport, depot.workdir) == "host a"
    a.release()
    assert holder(depot.transport, depot.workdir) is None
    assert b.acquire() is None
    assert a.acquire() == "host b"


def test_who_waits_is_told_for_whom_and_may_give_up(host: Host, depot: Depot) -> None:
    host("a").acquire()
    host("b")  # from here on this is host b
    told: list[str] = []

    def give_up(who: str) -> None:
        told.append(who)
        raise TimeoutError

    with pytest.raises(TimeoutError), leased(depot, give_up, takeover=True):
        raise AssertionError("two held it")
    assert told == ["host a"]
    assert holder(depot.transport, depot.workdir) == "host a"


def test_it_is_given_back_however_the_work_ends(depot: Depot, host: Host) -> None:
    host("a")
    for error in (KeyboardInterrupt, RuntimeError):
        with pytest.raises(error), leased(depot, pytest.fail, takeover=True):
            assert holder(depot.transport, depot.workdir) is not None
            raise error
        assert holder(depot.transport, depot.workdir) is None


def test_a_dead_process_of_this_host_does_not_block_it_but_another_host(host: Host) -> None:
    assert host("a").acquire() is None  # and died
    assert host("b").acquire() == "host a"
    assert host("a", takeover=False).acquire() == "host a"  # without this host's lock it may be alive
    assert host("a").acquire() is None


def test_what_was_taken_over_is_lost_and_stays_the_others(host: Host, depot: Depot) -> None:
    a = host("a")
    a.acquire()
    rewrite(depot, until="1")
    b = host("b")
    assert b.acquire() is None
    a._until = 0.0  # time to renew
    with pytest.raises(DeviceError, match="lease was lost to host b"):
        a.renew()
    a.release()
    assert holder(depot.transport, depot.workdir) == "host b"


def test_a_late_holder_goes_on_if_nobody_came(host: Host, depot: Depot) -> None:
    a = host("a")
    a.acquire()
    rewrite(depot, until="1")
    a._until = 0.0
    a.renew()
    assert host("b").acquire() == "host a"


def test_a_renewal_is_a_longer_lease(host: Host, depot: Depot) -> None:
    a = host("a")
    a.acquire()
    until = int(os.readlink(number(depot)).split()[3])
    rewrite(depot, until=str(until - 90))
    a._until = 0.0
    a.renew()
    assert int(os.readlink(number(depot)).split()[3]) >= until


def test_the_device_is_asked_again_only_when_a_third_of_the_term_is_gone(
    host: Host, depot: Depot, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = host("a", term_s=90)
    clock = [1000.0]
    monkeypatch.setattr(leases, "_clock", lambda: clock[0])
    a.acquire()
    asked: list[object] = []
    run = depot.transport.run

    def counted(*args: object, **more: object) -> Completed:
        asked.append(args)
        return run(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(depot.transport, "run", counted)
    for clock[0] in (1001.0, 1029.0):
        a.renew()
    assert not asked
    clock[0] = 1031.0
    a.renew()
    a.renew()
    assert len(asked) == 1


def test_a_reboot_voids_it(host: Host, depot: Depot) -> None:
    host("a").acquire()
    rewrite(depot, boot="another-boot")
    assert holder(depot.transport, depot.workdir) is None
    assert host("b").acquire() is None


def test_a_lease_that_would_never_end_is_none(host: Host, depot: Depot) -> None:
    host("a").acquire()
    for until in ("999999999", "99999999999999999999", "-1", "soon"):
        rewrite(depot, until=until)
        assert holder(depot.transport, depot.workdir) is None
    assert host("b").acquire() is None


def test_what_a_dying_or_hostile_host_left_never_blocks(host: Host, depot: Depot, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    (theirs / "7").mkdir(parents=True)
    folder = Path(depot.workdir) / "lease"
    folder.parent.mkdir()
    folder.symlink_to(theirs)
    a = host("a")
    assert a.acquire() is None
    assert [p.name for p in theirs.iterdir()] == ["7"]
    a.release()
    (folder / f".{a._who[1]}").symlink_to("half-made")
    (folder / "8").write_text("no link")
    (folder / "9").mkdir()
    (folder / "10").symlink_to("$(touch pwned)")
    (folder / "a b").symlink_to("x")
    assert a.acquire() is None
    a._until = 0.0
    a.renew()
    assert number(depot).name == "11"


def test_a_label_is_shown_and_never_obeyed(host: Host, depot: Depot) -> None:
    host("a").acquire()
    rewrite(depot, label="x\x1b[31m $(touch pwned)\nheld y" + "z" * 500)
    shown = holder(depot.transport, depot.workdir)
    assert shown is not None
    assert shown.isprintable()
    assert len(shown) <= 200
    assert not Path("pwned").exists()


def test_nothing_is_written_by_who_only_looks(depot: Depot) -> None:
    assert holder(depot.transport, depot.workdir) is None
    assert not Path(depot.workdir).exists()


def test_a_folder_that_takes_no_lease_is_an_error_and_not_a_wait(host: Host, depot: Depot) -> None:
    Path(depot.workdir).mkdir()
    (Path(depot.workdir) / "lease").write_text("in the way")
    with pytest.raises(DeviceError, match="acquire failed"):
        host("a").acquire()


def test_a_host_is_known_by_a_number_that_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "a"))
    first = host_id()
    assert host_id() == first
    (tmp_path / "a" / "host-id").write_text("damaged")
    assert host_id() != first
    monkeypatch.setattr("platform.node", lambda: "another-computer-with-the-same-home")
    assert host_id() != first


# -- the script itself, under every shell -----------------------------------------------------------------------------


@pytest.fixture(params=SHELLS)
def device(request: pytest.FixtureRequest, tmp_path: Path) -> Device:
    if shutil.which(request.param) is None:
        pytest.skip(f"apt-get install {request.param}")
    return with_tools(Device(request.param, tmp_path / "a device"), request.param)


def with_tools(device: Device, shell: str) -> Device:
    box = shutil.which({"busybox": "busybox", "mksh": "toybox"}.get(shell, ""))
    for tool in ("ln", "readlink", "mv", "rm", "mkdir", "date", "timeout", "sync", "head", "sed", "tee", "sleep"):
        if box is not None and not (device.bin / tool).exists():
            (device.bin / tool).symlink_to(box)
    return device


def test_every_shell_knows_the_lease(device: Device, tmp_path: Path) -> None:
    folder = str(tmp_path / "a 'work' dir")
    (tmp_path / "a 'work' dir").mkdir()

    def ask(verb: str, *words: str) -> str:
        return device.run("lease.sh", verb, folder, *words)

    assert ask("holder") == ""
    assert ask("acquire", "h1", "t1", "100", "yes", "one, since $(date)") == "mine"
    assert ask("acquire", "h1", "t1", "100", "no", "one") == "mine"  # asked twice
    assert ask("acquire", "h2", "t2", "100", "yes", "two") == "held one, since $(date)"
    assert ask("renew", "h1", "t1", "100", "one") == "mine"
    assert ask("renew", "h2", "t2", "100", "two") == "lost one"
    assert ask("release", "t2") == ""
    assert ask("holder") == "held one"
    assert ask("release", "t1") == ""
    assert ask("release", "t1") == ""
    assert ask("holder") == ""
    assert ask("acquire", "h2", "t2", "1", "no", "two") == "mine"
    while ask("holder"):
        time.sleep(0.2)
    assert ask("acquire", "h3", "t3", "100", "no", "three") == "mine"
    assert ask("renew", "h2", "t2", "100", "two") == "lost three"
    assert len(list((tmp_path / "a 'work' dir" / "lease").iterdir())) == 1


@pytest.mark.parametrize("meanwhile", ["4", "6"])
def test_an_heir_steps_back_if_the_dead_one_lives_or_another_was_quicker(tmp_path: Path, meanwhile: str) -> None:
    """What another host does between two steps of taking over is played by a fake `ln` that does it first."""
    leases, bin, real = tmp_path / "lease", tmp_path / "bin", shutil.which("ln")
    leases.mkdir()
    bin.mkdir()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    until = int(float(Path("/proc/uptime").read_text().split()[0])) + 100
    (leases / "4").symlink_to(f"h4 t4 {boot} 1 four")
    first = f"{real} -sfn 'hx tx {boot} {until} x' '{leases}/{meanwhile}'"
    (bin / "ln").write_text(f'#!/bin/sh\n{first}\nexec {real} "$@"\n')
    (bin / "ln").chmod(0o755)
    argv = ["sh", str(device_scripts_dir() / "lease.sh"), "acquire", str(tmp_path), "h5", "t5", "100", "yes", "five"]
    env = os.environ | {"PATH": f"{bin}:{os.environ['PATH']}"}
    assert subprocess.run(argv, env=env, capture_output=True, text=True).stdout == "held x\n"
    assert not (leases / "5").is_symlink()


#: takes the device, checks that it is alone there, and gives it back, or, as a host that dies, does not
RACER = """
import os, random, subprocess, sys, time
script, folder, me, until = sys.argv[1], sys.argv[2], sys.argv[3], time.monotonic() + float(sys.argv[4])
def ask(*words):
    return subprocess.run(["sh", script, words[0], folder, *words[1:]], capture_output=True, check=True).stdout
inside, held, turn = folder + "/inside", 0, 0
while time.monotonic() < until:
    turn += 1
    token = f"{me}x{turn}"
    if ask("acquire", me, token, "2", "no", me) != b"mine\\n":
        continue
    began = time.monotonic()
    try:
        os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        sys.exit(f"{me} is not alone")
    held += 1
    time.sleep(random.random() / 50)
    os.unlink(inside)
    if time.monotonic() - began > 0.9:
        sys.exit("too slow for its lease: this proves nothing")
    if random.random() < 0.7:
        ask("release", token)
print(held)
"""


def test_of_many_hosts_one_has_it_at_a_time_and_no_death_blocks_the_rest(tmp_path: Path) -> None:
    script = str(device_scripts_dir() / "lease.sh")
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, script, str(tmp_path), f"h{i}", "12"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for i in range(8)
    ]  # fmt: skip
    ended = [racer.communicate(timeout=120) for racer in racers]
    assert not [err for _, err in ended if "not alone" in err]
    held = [int(out) for out, err in ended if not err]
    assert sum(held) >= 10  # three of ten died with it


def test_of_many_that_wait_for_an_expired_lease_exactly_one_gets_it(tmp_path: Path) -> None:
    script = str(device_scripts_dir() / "lease.sh")
    for turn in range(6):
        folder = tmp_path / str(turn)
        (folder / "lease").mkdir(parents=True)
        (folder / "lease" / "4").symlink_to("dead t0 another-boot 1 dead host")
        asked = [
            subprocess.Popen(
                ["sh", script, "acquire", str(folder), f"h{i}", f"t{i}", "100", "yes", f"host {i}"],
                stdout=subprocess.PIPE, text=True,
            )
            for i in range(16)
        ]  # fmt: skip
        answers = [process.communicate(timeout=60)[0].strip() for process in asked]
        assert answers.count("mine") == 1
