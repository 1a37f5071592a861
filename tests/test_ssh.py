"""`ssh://` against a real OpenSSH server on loopback: files, words, ends, and every way in which a link fails."""

from __future__ import annotations

import gc
import hashlib
import logging
import os
import signal
import socket
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from harness.devices.spec import open_transport
from harness.devices.ssh import Ssh
from harness.devices.ssh_address import Address, parse
from harness.devices.ssh_command import execute
from harness.errors import (
    DeviceError,
    Gone,
    NoSpace,
    Refused,
    TimedOut,
    TransportError,
    Unauthorized,
    UsageError,
)
from harness.interfaces import Transport
from harness.types import DeviceSpec
from tests.standins.sshd import Sshd, free_port, sshd, why_no_sshd

__all__ = ["sshd"]

pytestmark = pytest.mark.skipif(why_no_sshd() is not None, reason=str(why_no_sshd()))

Open = Callable[..., Transport]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Sshd, str], Transport]]:
    """`use(device, uri)`: a transport by that device's configuration; closed at the end."""
    opened: list[Transport] = []

    def call(device: Sshd, uri: str) -> Transport:
        monkeypatch.setenv("HARNESS_SSH_CONFIG", str(device.config))
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        opened.append(open_transport(DeviceSpec(name="board", uri=uri)))
        return opened[-1]

    yield call
    for transport in opened:
        transport.close()


@pytest.fixture
def link(use: Open, sshd: Sshd) -> Transport:
    return use(sshd, sshd.uri)


@pytest.fixture
def own() -> Iterator[Sshd]:
    """A server of this test's own, to be broken."""
    with Sshd("own") as device:
        yield device


# -- files -----------------------------------------------------------------------------------------------------------


def test_64_mib_arrive_and_come_back_unchanged(link: Transport, tmp_path: Path) -> None:
    there = tmp_path / "there"
    (tmp_path / "here").write_bytes(os.urandom(64 << 20))
    link.push(tmp_path / "here", str(there))
    link.pull(str(there), tmp_path / "back")
    digests = {hashlib.sha256((tmp_path / name).read_bytes()).digest() for name in ("here", "there", "back")}
    assert len(digests) == 1


@pytest.mark.parametrize("size", [0, 1, 255 * 1024, 255 * 1024 + 1])
def test_files_of_any_size_arrive_whole(link: Transport, tmp_path: Path, size: int) -> None:
    (tmp_path / "here").write_bytes(os.urandom(size))
    link.push(tmp_path / "here", str(tmp_path / "there it's $HOME"))
    link.pull(str(tmp_path / "there it's $HOME"), tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "here").read_bytes()


def test_what_replaces_a_longer_file_has_nothing_of_it(link: Transport, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(b"short")
    (tmp_path / "there").write_bytes(b"l" * 1000)
    link.push(tmp_path / "here", str(tmp_path / "there"))
    assert (tmp_path / "there").read_bytes() == b"short"


def test_a_program_arrives_as_a_program_and_data_as_data(link: Transport, tmp_path: Path) -> None:
    for mode in (0o755, 0o600):
        (tmp_path / "here").write_bytes(b"#!/bin/sh\nexit 5\n")
        (tmp_path / "here").chmod(mode)
        link.push(tmp_path / "here", str(tmp_path / "there"))
        assert bool((tmp_path / "there").stat().st_mode & 0o111) == (mode == 0o755)


def test_a_file_of_proc_that_says_it_is_empty_is_read_all_the_same(link: Transport, tmp_path: Path) -> None:
    link.pull("/proc/self/status", tmp_path / "status")
    assert b"Name:" in (tmp_path / "status").read_bytes()


def test_a_missing_file_is_an_error_and_leaves_no_file_here(link: Transport, tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(b"before")
    with pytest.raises(DeviceError, match="board: cannot read /no/such: No such file") as caught:
        link.pull("/no/such", tmp_path / "kept")
    assert not isinstance(caught.value, TransportError)
    assert (tmp_path / "kept").read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["kept"]


def test_a_missing_folder_and_a_missing_local_file_are_told_apart(link: Transport, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(b"x")
    with pytest.raises(DeviceError, match="cannot write /no/such/place: No such file"):
        link.push(tmp_path / "here", "/no/such/place")
    with pytest.raises(DeviceError, match="nowhere on this computer: No such file"):
        link.push(tmp_path / "nowhere", str(tmp_path / "there"))
    assert not (tmp_path / "there").exists()


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A small file system of the test's own, as the device's storage."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system to fill")
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> Path:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
        if done.returncode != 0:
            pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")
        return folder

    yield mount
    subprocess.run(["umount", str(folder)], capture_output=True)


def test_a_full_device_is_no_space(link: Transport, tmp_path: Path, mounted: Callable[[str], Path]) -> None:
    disk = mounted("size=2m")
    (tmp_path / "here").write_bytes(os.urandom(8 << 20))
    with pytest.raises(NoSpace, match=r"cannot write .*/disk/there: No space left"):
        link.push(tmp_path / "here", str(disk / "there"))
    (disk / "there").unlink()
    (tmp_path / "small").write_bytes(b"x")
    link.push(tmp_path / "small", str(disk / "there"))  # the same connection still serves


def test_a_card_that_turned_read_only_says_so(
    link: Transport, tmp_path: Path, mounted: Callable[[str], Path]
) -> None:
    disk = mounted("size=1m,ro")
    (tmp_path / "here").write_bytes(b"x" * 1000)
    with pytest.raises(DeviceError, match=r"(?i)read-only file system") as caught:
        link.push(tmp_path / "here", str(disk / "there"))
    assert not isinstance(caught.value, NoSpace | TransportError)


def test_a_folder_that_may_not_be_written_says_so(link: Transport, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(b"x")
    with pytest.raises(DeviceError, match="cannot write /proc/there"):
        link.push(tmp_path / "here", "/proc/there")


@pytest.mark.parametrize("extra", ["Subsystem other /bin/false", "Subsystem sftp /no/such/sftp-server"])
def test_a_device_without_sftp_gets_its_files_all_the_same(
    use: Open, tmp_path: Path, mounted: Callable[[str], Path], extra: str
) -> None:
    with Sshd("bare", extra) as device:
        link = use(device, device.uri)
        (tmp_path / "here").write_bytes(os.urandom(5 << 20))
        (tmp_path / "here").chmod(0o755)
        link.push(tmp_path / "here", str(tmp_path / "the re"))
        link.pull(str(tmp_path / "the re"), tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == (tmp_path / "here").read_bytes()
        assert (tmp_path / "the re").stat().st_mode & 0o111
        with pytest.raises(DeviceError, match=r"cannot read /no/such: .*No such file"):
            link.pull("/no/such", tmp_path / "nothing")
        assert not (tmp_path / "nothing").exists()
        with pytest.raises(NoSpace):
            link.push(tmp_path / "here", str(mounted("size=1m") / "there"))


# -- commands --------------------------------------------------------------------------------------------------------


def test_exit_code_and_both_streams_come_back(link: Transport) -> None:
    done = link.run(["sh", "-c", r"printf 'out\377'; printf err >&2; exit 7"])
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\xff", b"err")


def test_a_program_that_is_not_there_is_exit_code_127(link: Transport) -> None:
    done = link.run(["/no/such/program"])
    assert done.returncode == 127 and b"/no/such/program" in done.stderr


def test_death_by_a_signal_is_128_and_its_number(link: Transport) -> None:
    assert link.run(["sh", "-c", "kill -SEGV $$"]).returncode == 128 + signal.SIGSEGV


def test_words_arrive_as_they_were_written(link: Transport) -> None:
    words = ["", "a b", "$(reboot)", "`id`", "it's", '"', "\\", "*", "~", "a\nb", "ü", "-n", "!x", ";", "a=b", "#"]
    done = link.run(["printf", "%s\\0", *words])
    assert done.stdout.decode().split("\0")[:-1] == words


def test_a_word_with_a_nul_byte_is_refused(link: Transport) -> None:
    with pytest.raises(DeviceError, match="NUL"):
        link.run(["echo", "a\0b"])


def test_input_arrives_whole_and_ends(link: Transport) -> None:
    data = os.urandom(3 << 20)
    assert link.run(["cat"], stdin=data).stdout == data
    assert link.run(["cat"]).stdout == b""


def test_input_that_nobody_reads_is_no_failure(link: Transport) -> None:
    assert link.run(["true"], stdin=os.urandom(8 << 20)).returncode == 0


def test_a_command_that_is_silent_for_31_s_is_no_failure(link: Transport) -> None:
    assert link.run(["sh", "-c", "sleep 31; echo done"], timeout_s=60).stdout == b"done\n"


def test_a_command_that_does_not_end_is_killed_there_and_the_link_lives(link: Transport) -> None:
    mine = f"7351.{os.getpid()}"  # no other test run's
    with pytest.raises(TimedOut, match=r"board: sleep did not end within 1 s"):
        link.run(["sleep", mine], timeout_s=1)
    assert link.run(["echo", "on"]).stdout == b"on\n"
    assert _ends(lambda: not _running(mine))


def test_a_flood_of_output_is_bounded(link: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.devices.ssh_command.MAX_OUTPUT_BYTES", 4 << 20)
    with pytest.raises(DeviceError, match="board: it printed more than 4 MiB"):
        link.run(["cat", "/dev/zero"])
    assert link.run(["echo", "on"]).stdout == b"on\n"


def test_what_a_login_shell_prints_is_no_output_of_the_command(use: Open, tmp_path: Path) -> None:
    (tmp_path / "noisy").write_text("#!/bin/sh\necho Welcome!\nexec sh -c \"$SSH_ORIGINAL_COMMAND\"\n")
    (tmp_path / "noisy").chmod(0o755)
    with Sshd("noisy", f"ForceCommand {tmp_path}/noisy") as device:
        link = use(device, device.uri)
        assert link.run(["echo", "hi"]).stdout == b"hi\n"
        (tmp_path / "here").write_bytes(os.urandom(100_000))
        link.push(tmp_path / "here", str(tmp_path / "there"))
        link.pull(str(tmp_path / "there"), tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == (tmp_path / "here").read_bytes()


def test_what_was_started_detached_outlives_the_connection(use: Open, sshd: Sshd) -> None:
    link = use(sshd, sshd.uri)
    link.run(["sh", "-c", "setsid sleep 7352 </dev/null >/dev/null 2>&1 & echo started"])
    assert _ends(lambda: bool(_running("7352")))  # the shell is quicker than what it starts
    link.close()
    assert _running("7352")
    for process in _running("7352"):
        process.kill()


def test_several_threads_may_ask_at_once(link: Transport) -> None:
    answers: dict[int, bytes] = {}

    def ask(number: int) -> None:
        answers[number] = link.run(["sh", "-c", f"sleep 0.2; echo {number}"]).stdout

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: b"%d\n" % number for number in range(5)}


def _running(word: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.name() == "sleep" and word in process.cmdline():
                found.append(process)
    return found


def _ends(true: Callable[[], bool], within_s: float = 10.0) -> bool:
    until = time.monotonic() + within_s
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


# -- who it is, and who we are ---------------------------------------------------------------------------------------


def test_an_alias_of_the_configuration_is_a_device(use: Open, sshd: Sshd) -> None:
    assert use(sshd, f"ssh://{sshd.alias}").run(["echo", "hi"]).stdout == b"hi\n"


def test_a_device_behind_a_jump_host_is_reached(use: Open, sshd: Sshd, tmp_path: Path) -> None:
    link = use(sshd, f"ssh://{sshd.alias}-jump")
    client = link.run(["sh", "-c", "echo $SSH_CONNECTION"]).stdout.split()
    assert client[3] == b"%d" % sshd.direct_port
    (tmp_path / "here").write_bytes(os.urandom(2 << 20))
    link.push(tmp_path / "here", str(tmp_path / "there"))
    assert (tmp_path / "there").read_bytes() == (tmp_path / "here").read_bytes()


def test_a_jump_host_that_is_not_known_stops_it(use: Open, sshd: Sshd, own: Sshd) -> None:
    own.known_hosts.write_text(sshd.known_hosts.read_text())
    with own.config.open("a") as file:
        file.write(f"Host far\n  HostName 127.0.0.1\n  Port {sshd.port}\n  ProxyJump own\n")
    with pytest.raises(Unauthorized, match="board: jump host own: its host key is not known"):
        use(own, "ssh://far")


def test_a_proxy_jump_that_names_itself_ends(use: Open, own: Sshd) -> None:
    own.config.write_text(f"Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n{own.config.read_text()}")
    with pytest.raises(UsageError, match="circles"):
        use(own, "ssh://a")
    own.config.write_text(f"Host *\n  ProxyJump own\n{own.config.read_text()}")
    assert use(own, "ssh://own").run(["true"]).returncode == 0


def test_the_host_key_names_the_unit(link: Transport, sshd: Sshd) -> None:
    told = subprocess.run(["ssh-keygen", "-lf", sshd.folder / "host.pub"], capture_output=True, text=True).stdout
    assert getattr(link, "host_key_fingerprint") == told.split()[1]  # noqa: B009 - no part of the seam


def test_an_unknown_host_key_is_shown_and_not_trusted(use: Open, own: Sshd) -> None:
    own.known_hosts.unlink()
    told = subprocess.run(["ssh-keygen", "-lf", own.folder / "host.pub"], capture_output=True, text=True).stdout
    with pytest.raises(Unauthorized) as caught:
        use(own, own.uri)
    assert "not known" in caught.value.what and told.split()[1] in caught.value.what
    assert f"ssh-keyscan -p {own.port}" in str(caught.value.hint)
    assert not own.known_hosts.exists()


@pytest.mark.parametrize(
    "line", ["UserKnownHostsFile none", "UserKnownHostsFile /dev/null", "StrictHostKeyChecking no"]
)
def test_no_configuration_makes_us_trust_everybody(use: Open, own: Sshd, line: str) -> None:
    own.known_hosts.unlink()
    own.config.write_text(f"Host *\n  {line}\n{own.config.read_text()}")
    with pytest.raises(Unauthorized, match="not known"):
        use(own, own.uri)


def test_a_changed_host_key_is_told_apart_from_an_unknown_one(use: Open, own: Sshd) -> None:
    fingerprint = ["ssh-keygen", "-lf", own.folder / "host.pub"]
    before = subprocess.run(fingerprint, capture_output=True, text=True).stdout.split()[1]
    own.change_host_key()
    after = subprocess.run(fingerprint, capture_output=True, text=True).stdout.split()[1]
    with pytest.raises(Unauthorized) as caught:
        use(own, own.uri)
    assert "changed" in caught.value.what and before in caught.value.what and after in caught.value.what
    assert f"-R '[127.0.0.1]:{own.port}'" in str(caught.value.hint)
    own.trust()
    assert use(own, own.uri).run(["true"]).returncode == 0


def test_a_host_key_of_another_kind_counts_as_changed(use: Open, own: Sshd) -> None:
    key = own.folder / "ecdsa"
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", key], check=True)
    words = (own.folder / "ecdsa.pub").read_text().split()[:2]
    own.known_hosts.write_text(f"[127.0.0.1]:{own.port} {' '.join(words)}\n")
    with pytest.raises(Unauthorized, match=r"changed: .* holds ecdsa-\S+ SHA256:\S+, it shows ssh-ed25519 SHA256:"):
        use(own, own.uri)
    words = (own.folder / "host.pub").read_text().split()[:2]
    with own.known_hosts.open("a") as file:
        file.write(f"[127.0.0.1]:{own.port} {' '.join(words)}\n")
    assert use(own, own.uri).run(["true"]).returncode == 0


def test_a_host_key_of_the_kind_that_is_known_is_asked_for_first(use: Open) -> None:
    with Sshd("two") as device:
        subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", device.folder / "rsa"], check=True)
        device.stop()
        device.extra = f"HostKey {device.folder}/rsa"
        device.start()
        words = (device.folder / "rsa.pub").read_text().split()[:2]
        device.known_hosts.write_text(f"[127.0.0.1]:{device.port} {' '.join(words)}\n")
        assert use(device, device.uri).run(["true"]).returncode == 0


def test_a_key_that_the_device_does_not_know_is_unauthorized(use: Open, own: Sshd) -> None:
    (own.folder / "authorized_keys").write_text("")
    with pytest.raises(Unauthorized, match=f"does not let {own.user} in") as caught:
        use(own, own.uri)
    assert f"ssh-copy-id -p {own.port} {own.user}@127.0.0.1" in str(caught.value.hint)


def test_an_identity_file_that_is_missing_is_passed_over(use: Open, own: Sshd) -> None:
    own.config.write_text(f"Host *\n  IdentityFile {own.folder}/missing\n{own.config.read_text()}")
    assert use(own, own.uri).run(["true"]).returncode == 0


def test_a_key_with_a_passphrase_asks_nobody(use: Open, own: Sshd) -> None:
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret", "-f", own.folder / "client"], check=True)
    with pytest.raises(Unauthorized, match="does not let"):
        use(own, own.uri)


def test_the_agent_is_asked(use: Open, own: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    socket_file = own.folder / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket_file)], stdout=subprocess.DEVNULL)
    try:
        assert _ends(socket_file.exists)
        environment = os.environ | {"SSH_AUTH_SOCK": str(socket_file)}
        subprocess.run(["ssh-add", "-q", own.folder / "client"], env=environment, check=True, capture_output=True)
        own.config.write_text(
            f"Host *\n  UserKnownHostsFile {own.known_hosts}\n  IdentityAgent {socket_file}\n  IdentityFile /no/such\n"
        )
        assert use(own, own.uri).run(["true"]).returncode == 0
    finally:
        agent.terminate()
        agent.wait()


def test_a_configuration_that_cannot_be_read_is_a_usage_error(use: Open, own: Sshd) -> None:
    own.config.write_text("Host *\n  Port many\n")
    with pytest.raises(UsageError, match=r"board: the SSH configuration cannot be used: .*line 2"):
        use(own, own.uri)
    own.config.unlink()
    with pytest.raises(UsageError, match="cannot be used"):
        use(own, own.uri)


# -- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri",
    [
        "ssh://-oProxyCommand=id", "ssh://$(reboot)", "ssh://a b", "ssh://`id`", "ssh://a;id", "ssh://-rf", "ssh://",
        "ssh://-l@host", "ssh://me@-rf", "ssh://$(id)@host", "ssh://host:0", "ssh://host:65536", "ssh://host:x",
        "ssh://host/path", "ssh://me:secret@host", "ssh://a@b@c", "ssh://[zz]", "ssh://[1:2]", "ssh://host\nx",
        "ssh://host%h", "ssh://ho'st", "ssh://host?x=1", "ssh:host", "ssh",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_before_anything_is_opened(uri: str) -> None:
    with pytest.raises(UsageError):
        parse(uri)
    with pytest.raises(UsageError):
        open_transport(DeviceSpec(name="board", uri=uri))


def test_addresses_are_taken_apart() -> None:
    assert parse("ssh://pi") == Address(host="pi")
    assert parse("ssh://me.too@pi-5.local:2222") == Address(host="pi-5.local", user="me.too", port=2222)
    assert parse("ssh://[fe80::1]:22") == Address(host="fe80::1", port=22)


# -- links that fail -------------------------------------------------------------------------------------------------


def test_a_wrong_port_and_a_wrong_name_are_refused(use: Open, sshd: Sshd) -> None:
    with pytest.raises(Refused, match=r"nobody listens at 127\.0\.0\.1"):
        use(sshd, f"ssh://127.0.0.1:{free_port()}")
    with pytest.raises(Refused, match=r"no-such-host\.invalid"):
        use(sshd, "ssh://no-such-host.invalid")


def test_a_port_where_something_else_listens_is_told(use: Open, sshd: Sshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with suppress(OSError):
                near, _ = listener.accept()
                near.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n" * 1000)
                near.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(TransportError):
            use(sshd, f"ssh://127.0.0.1:{listener.getsockname()[1]}")
        thread.join()


def test_who_never_answers_is_given_up(use: Open, own: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.devices.ssh_connect.CONNECT_S", 2.0)
    own.cut("stall")
    with pytest.raises(TimedOut, match="board: no SSH connection within 2 s"):
        use(own, own.uri)
    own.mend()
    assert use(own, own.uri).run(["true"]).returncode == 0


def test_a_connection_that_breaks_is_gone_and_the_next_one_works(use: Open, own: Sshd) -> None:
    link = use(own, own.uri)
    timer = threading.Timer(0.5, own.cut, ["drop"])
    timer.start()
    with pytest.raises(Gone, match="board: "):
        link.run(["sleep", "20"], timeout_s=15)
    timer.join()
    with pytest.raises(TransportError):
        link.run(["true"])
    with pytest.raises(TransportError):
        use(own, own.uri)
    own.mend()
    assert use(own, own.uri).run(["true"]).returncode == 0


def test_a_link_that_falls_silent_is_noticed_long_before_the_timeout(use: Open, own: Sshd) -> None:
    link = use(own, own.uri)
    timer = threading.Timer(0.5, own.cut, ["stall"])
    timer.start()
    began = time.monotonic()
    with pytest.raises(Gone):
        link.run(["sleep", "200"], timeout_s=180)
    assert time.monotonic() - began < 90  # 16 s by the constants; the machine may be busy
    timer.join()
    own.mend()
    assert use(own, own.uri).run(["true"]).returncode == 0


@pytest.mark.parametrize("how", ["stall", "drop"])
def test_a_transfer_that_is_cut_is_a_failure_of_the_link(
    use: Open, own: Sshd, tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    with (tmp_path / "here").open("wb") as file:
        file.truncate(1 << 30)
    link = use(own, own.uri)
    timer = threading.Timer(0.3, own.cut, [how])
    timer.start()
    with pytest.raises(TransportError):
        link.push(tmp_path / "here", str(tmp_path / "there"))
    timer.join()
    (tmp_path / "here").write_bytes(b"whole")
    own.mend()
    again = use(own, own.uri)
    again.push(tmp_path / "here", str(tmp_path / "there"))
    again.pull(str(tmp_path / "there"), tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"whole"
    gc.collect()  # what was on its way has ended
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]  # it would be on the terminal


def test_a_connection_that_has_just_broken_is_gone(sshd: Sshd, use: Open) -> None:
    """It calls itself closed a moment later; what is asked of it in between fails as if the device refused."""
    link = use(sshd, sshd.uri)
    assert isinstance(link, Ssh)

    async def broken() -> None:
        link._device.abort()
        await execute(link._device, "board", ["true"])

    with pytest.raises(Gone, match="board: the connection ended"):
        link._wait(broken())


def test_a_server_that_restarts_is_gone_then_back(use: Open, own: Sshd) -> None:
    link = use(own, own.uri)
    own.stop()
    with pytest.raises(TransportError):
        link.run(["true"])
    with pytest.raises(TransportError):
        use(own, own.direct_uri)
    own.start()
    assert use(own, own.uri).run(["true"]).returncode == 0


def test_nothing_is_left_of_a_closed_transport(own: Sshd, use: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.active_count(), len(psutil.Process().open_files()), psutil.Process().num_fds()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for uri in (own.direct_uri, "ssh://own-jump"):
            for _ in range(2):
                link = use(own, uri)
                link.run(["true"])
                link.close()
                link.close()
        with pytest.raises(DeviceError, match="closed"):
            link.run(["true"])
    assert _ends(lambda: threading.active_count() <= before[0] and psutil.Process().num_fds() <= before[2])


def test_closing_over_a_dead_link_does_not_wait_for_it(use: Open, own: Sshd) -> None:
    link = use(own, own.uri)
    own.cut("stall")
    thread = threading.Thread(target=link.close)
    thread.start()
    thread.join(timeout=30)
    assert not thread.is_alive()
