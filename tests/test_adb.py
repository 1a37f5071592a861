"""ADB against Android's real adbd on a link of MTU 1500: directly, and through a real adb server."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.devices import adb_server as servers
from harness.devices.spec import open_transport, resolve
from harness.errors import DeviceError, Gone, HarnessError, NoSpace, Refused, TimedOut, TransportError, Unauthorized
from harness.interfaces import Transport
from harness.paths import cache_dir
from tests.standins.phone import AdbServer, Phone, why_no_phone

pytestmark = pytest.mark.skipif(why_no_phone() is not None, reason=str(why_no_phone()))
TMP = "/data/local/tmp"


@pytest.fixture(scope="module", autouse=True)
def own_keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's own keys are not read, nor made."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        patch.setenv("HARNESS_CACHE", str(cache_dir()))  # below the other HOME adbd would be built again
        patch.setenv("HOME", str(home))
        for name in ("ADB_VENDOR_KEYS", "ADB_SERVER_SOCKET", "ANDROID_ADB_SERVER_ADDRESS", "ANDROID_ADB_SERVER_PORT"):
            patch.delenv(name, raising=False)
        yield home


@pytest.fixture(params=["adb+tcp", "adb"])
def uri(request: pytest.FixtureRequest, phone: Phone, adb_server: AdbServer) -> str:
    return phone.uri if request.param == "adb+tcp" else adb_server.uri(phone)


@pytest.fixture
def link(uri: str) -> Iterator[Transport]:
    transport = open_transport(resolve(uri))
    yield transport
    transport.close()


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


# -- files -------------------------------------------------------------------------------------------------------------


def test_the_link_has_the_packets_of_a_real_network(phone: Phone) -> None:
    """On plain loopback a sender that drops what does not fit its buffer is never seen."""
    assert "mtu 1500" in phone.inside("ip", "link", "show", "eth0", network=True)
    assert not phone.host.startswith("127.")


def test_64_mib_come_back_as_they_went(link: Transport, tmp_path: Path) -> None:
    sent, back = tmp_path / "sent", tmp_path / "back"
    sent.write_bytes(random.Random(0).randbytes(64 << 20))
    link.push(sent, f"{TMP}/64 MiB")
    link.pull(f"{TMP}/64 MiB", back)
    link.run(["rm", f"{TMP}/64 MiB"])
    assert back.read_bytes() == sent.read_bytes()


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 262144, 1048577])
def test_a_file_of_any_size_arrives_whole(link: Transport, phone: Phone, tmp_path: Path, size: int) -> None:
    file = tmp_path / "file"
    file.write_bytes(random.Random(size).randbytes(size))
    link.push(file, f"{TMP}/file")
    assert (phone.root / "data/local/tmp/file").read_bytes() == file.read_bytes()
    link.pull(f"{TMP}/file", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == file.read_bytes()


def test_a_program_can_be_started_where_it_went_and_a_file_cannot(link: Transport, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/system/bin/sh\necho started\n")
    for mode, code in ((0o755, 0), (0o644, 126)):
        script.chmod(mode)
        link.push(script, f"{TMP}/script")
        assert link.run([f"{TMP}/script"]).returncode == code


def test_names_may_have_spaces_commas_and_letters_of_any_alphabet(link: Transport, tmp_path: Path) -> None:
    file, remote = tmp_path / "file", f"{TMP}/new folder/Größe, „α“ 'x' $HOME\n*"
    file.write_bytes(b"content")
    link.push(file, remote)
    link.pull(remote, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"content"
    assert link.run(["cat", remote]).stdout == b"content"
    link.run(["rm", "-r", f"{TMP}/new folder"])


def test_a_path_that_adb_cannot_carry_is_refused(link: Transport, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for remote in (f"{TMP}/{'x/' * 600}", f"{TMP}/a\0b"):
        with pytest.raises(DeviceError) as failure:
            link.push(tmp_path / "file", remote)
        assert not isinstance(failure.value, TransportError)


def test_a_file_that_is_not_there_is_an_answer_and_leaves_ours(link: Transport, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_bytes(b"old")
    for remote in (f"{TMP}/missing", TMP, f"{TMP}/missing/too"):
        with pytest.raises(DeviceError) as failure:
            link.pull(remote, mine)
        assert not isinstance(failure.value, TransportError)
    assert mine.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [mine]
    with pytest.raises(HarnessError):
        link.push(tmp_path / "missing", f"{TMP}/x")
    assert link.run(["echo", "well"]).stdout == b"well\n"


@pytest.mark.parametrize("size", [1000, 32 << 20], ids=["small", "large"])
def test_a_folder_that_may_not_be_written_is_told(link: Transport, tmp_path: Path, size: int) -> None:
    (tmp_path / "file").write_bytes(bytes(size))
    with pytest.raises(DeviceError, match="ermission denied") as failure:
        link.push(tmp_path / "file", "/system/file")
    assert not isinstance(failure.value, TransportError)
    assert link.run(["echo", "well"]).stdout == b"well\n"


def test_a_full_device_is_told_in_the_middle_of_the_push(link: Transport, phone: Phone, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(32 << 20))
    with phone.small(TMP, "4m"):
        with pytest.raises(NoSpace):
            link.push(tmp_path / "file", f"{TMP}/file")
        until(lambda: link.run(["ls", TMP]).stdout == b"")  # adbd removes what it could not finish


# -- commands ----------------------------------------------------------------------------------------------------------


def test_exit_code_and_both_outputs_come_apart(link: Transport) -> None:
    done = link.run(["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


def test_a_program_that_is_not_there_and_one_that_is_killed_have_codes(link: Transport) -> None:
    assert link.run(["no-such-program"]).returncode == 127
    assert link.run(["sh", "-c", "kill -9 $$"]).returncode not in (0, None)


def test_a_command_that_is_silent_for_half_a_minute_has_not_failed(link: Transport) -> None:
    assert link.run(["sh", "-c", "sleep 31; echo done"], timeout_s=60).stdout == b"done\n"


def test_words_arrive_as_they_are(link: Transport) -> None:
    words = ["", " ", "a b", "it's", '"', "$(id)", "`id`", "$HOME", "\\", "a\nb", "*", "~", ";ls", "&", "é漢", "-n"]
    done = link.run(["printf", "%s\\001", *words])
    assert done.stdout.decode().split("\1")[:-1] == words


def test_input_goes_in_as_it_is_and_ends(link: Transport) -> None:
    data = random.Random(1).randbytes(20 << 20)
    assert link.run(["cat"], stdin=data).stdout == data
    assert link.run(["cat"]).stdout == b""
    assert link.run(["sh", "-c", "cat; exit 3"], stdin=b"x").returncode == 3


def test_input_that_nobody_reads_is_no_failure(link: Transport) -> None:
    data = bytes(40 << 20)
    done = link.run(["sh", "-c", "exit 5"], stdin=data)
    assert done.returncode == 5
    # adbd gives a command one socket for both directions; the kernel resets it where input is left unread, and what the
    # command wrote may go with it: how it ended is told all the same
    done = link.run(["head", "-c", "3"], stdin=data)
    assert (done.returncode, done.stdout) in ((0, bytes(3)), (0, b""))
    assert link.run(["echo", "well"]).stdout == b"well\n"


def test_large_output_comes_whole(link: Transport) -> None:
    done = link.run(["sh", "-c", "head -c 30000000 /dev/zero; head -c 3000000 /dev/zero >&2"])
    assert (len(done.stdout), len(done.stderr)) == (30_000_000, 3_000_000)


def test_a_word_that_cannot_be_sent_is_refused(link: Transport) -> None:
    for word in ("\ud800", "a\0b", "x" * 300_000):
        with pytest.raises(DeviceError) as failure:
            link.run(["echo", word])
        assert not isinstance(failure.value, TransportError)
    assert link.run(["echo", "well"]).stdout == b"well\n"


def test_at_the_timeout_the_command_ends_and_the_link_lives(link: Transport, phone: Phone) -> None:
    with pytest.raises(TimedOut, match="sleep did not end within 1 s"):
        link.run(["sleep", "4321"], timeout_s=1)
    until(lambda: not phone.processes("sleep", "4321"))
    with pytest.raises(TimedOut):  # talking is no excuse
        link.run(["yes"], timeout_s=0.5)
    assert link.run(["echo", "well"]).stdout == b"well\n"


def test_it_is_the_shell_user_and_no_other(link: Transport) -> None:
    assert link.run(["id", "-u"]).stdout == b"2000\n"


# -- devices that are not there, or go away ----------------------------------------------------------------------------


def test_a_port_where_nobody_listens_is_refused(phone: Phone) -> None:
    with pytest.raises(Refused, match="refused") as failure:
        open_transport(resolve(f"adb+tcp://{phone.host}:9"))
    assert failure.value.hint


def test_without_an_adb_server_it_says_so_and_starts_none(phone: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(Refused, match="no adb server") as failure:
        open_transport(resolve(f"adb://{phone.address}?server=127.0.0.1:{port}"))
    assert "adb start-server" in str(failure.value)
    for name, value in (("ADB_SERVER_SOCKET", f"tcp:127.0.0.1:{port}"), ("ANDROID_ADB_SERVER_PORT", str(port))):
        with monkeypatch.context() as patch, pytest.raises(Refused, match=str(port)):
            patch.setenv(name, value)
            open_transport(resolve("adb://x"))
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()


def test_a_serial_that_the_server_does_not_know_is_told_with_those_that_are_there(
    phone: Phone, adb_server: AdbServer
) -> None:
    adb_server.uri(phone)
    with pytest.raises(Refused) as failure:
        open_transport(resolve(f"adb://NoSuch?server={adb_server.address}"))
    assert phone.address in str(failure.value)


def test_without_a_serial_it_is_the_only_phone_or_the_choice_is_told(phone: Phone) -> None:
    with AdbServer() as server, Phone() as other:
        anyone = resolve(f"adb://?server={server.address}")
        with pytest.raises(Refused):
            open_transport(anyone)
        server.uri(phone)
        assert open_transport(anyone).run(["getprop", "ro.serialno"]).stdout.decode().strip() == phone.serial
        server.uri(other)
        with pytest.raises(DeviceError) as failure:
            open_transport(anyone)
        assert not isinstance(failure.value, TransportError)
        assert phone.address in str(failure.value)
        assert other.address in str(failure.value)


def test_a_phone_that_its_server_has_lost_is_not_there(adb_server: AdbServer) -> None:
    with Phone() as lost:
        uri = adb_server.uri(lost)
        link = open_transport(resolve(uri))
        assert link.run(["true"]).returncode == 0
    until(lambda: f"{lost.address}\tdevice" not in adb_server.adb("devices"))
    with pytest.raises(TransportError):  # offline, or forgotten
        link.run(["true"])
    with pytest.raises(TransportError):
        open_transport(resolve(uri))
    adb_server.adb("disconnect", lost.address)


def test_a_daemon_that_restarts_ends_the_command_at_once(link: Transport, phone: Phone, uri: str) -> None:
    timer = threading.Timer(1, phone.restart)
    timer.start()
    with pytest.raises(Gone):  # not TimedOut: it is noticed, not waited for
        link.run(["sleep", "100"], timeout_s=60)
    timer.join()
    if uri.startswith("adb+tcp"):
        with pytest.raises(Gone):
            link.run(["true"])
        open_transport(resolve(uri)).close()


def test_a_link_that_is_cut_is_told_at_the_timeout_and_comes_back(link: Transport, phone: Phone, uri: str) -> None:
    phone.cut()
    try:
        with pytest.raises(TransportError):
            link.run(["true"], timeout_s=2)
    finally:
        phone.mend()

    def back() -> bool:
        try:
            return open_transport(resolve(uri)).run(["true"], timeout_s=2).returncode == 0
        except TransportError:
            return False

    until(back)


def test_a_reboot_ends_everything_and_has_another_boot_id() -> None:
    with Phone() as own:
        boot_id = ["cat", "/proc/sys/kernel/random/boot_id"]
        link = open_transport(resolve(own.uri))
        before = link.run(boot_id).stdout
        own.reboot()
        with pytest.raises(TransportError):
            link.run(["true"], timeout_s=5)
        assert open_transport(resolve(own.uri)).run(boot_id).stdout not in (before, b"")


# -- keys --------------------------------------------------------------------------------------------------------------


def test_a_phone_that_nobody_looks_at_is_unauthorized_and_one_accepted_for_ever_is_not(own_keys: Path) -> None:
    with Phone() as own, AdbServer() as server:
        own.secure()
        with pytest.raises(Unauthorized) as failure:
            open_transport(resolve(own.uri))
        assert "screen" in str(failure.value)
        server.adb("connect", own.address)
        until(lambda: f"{own.address}\tunauthorized" in server.adb("devices"))
        with pytest.raises(Unauthorized):
            open_transport(resolve(f"adb://{own.address}?server={server.address}"))
        with own.person("no"), pytest.raises(Unauthorized):
            open_transport(resolve(own.uri))
        own.restart()
        with own.person("ok", always=True):
            assert open_transport(resolve(own.uri)).run(["echo", "in"]).stdout == b"in\n"
        own.restart()
        assert open_transport(resolve(own.uri)).run(["echo", "known"]).stdout == b"known\n"
    private = own_keys / ".android/adbkey"
    assert private.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in sorted(private.parent.iterdir()) if ".pub" in file.name] == ["adbkey.pub"]


def test_a_vendors_key_is_offered_too(own_keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from adb_shell.auth.keygen import keygen

    keygen(str(tmp_path / "lab.adb_key"))
    public = (tmp_path / "lab.adb_key.pub").read_bytes()
    with Phone() as own:
        (own.root / "data/misc/adb/adb_keys").write_bytes(public + b"\n")
        own.secure()
        monkeypatch.setenv("ADB_VENDOR_KEYS", f"{tmp_path}{os.pathsep}")
        assert open_transport(resolve(own.uri)).run(["echo", "in"]).stdout == b"in\n"


# -- discovery ---------------------------------------------------------------------------------------------------------


def test_the_servers_devices_and_services_are_listed(phone: Phone, adb_server: AdbServer) -> None:
    adb_server.uri(phone)
    where = ("127.0.0.1", adb_server.port)
    assert (phone.address, "device") in servers.server_devices(where)
    assert isinstance(servers.mdns_services(where), list)


def test_usb_is_searched_or_says_why_not() -> None:
    from harness.devices import adb_direct

    try:
        assert isinstance(adb_direct.usb_serials(), list)
    except DeviceError as error:
        assert error.hint
    except HarnessError as error:
        assert "USB" in error.what
    with pytest.raises(HarnessError):
        open_transport(resolve("adb+usb://NoSuchSerial"))


def test_the_stand_in_phone_leaves_nothing_behind() -> None:
    with Phone() as own:
        folder, name = own.folder, own._near
        pid = own.adbd_pid()
    assert not folder.exists()
    assert not Path(f"/sys/class/net/{name}").exists()
    assert not Path(f"/proc/{pid}").exists()
