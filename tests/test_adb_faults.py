"""What the real adbd never does, played by a FAKE one: each fault is told as what it is, and at once."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest

from harness.devices import adb_run, adb_socket, adb_sync
from harness.devices.spec import open_transport
from harness.errors import DeviceError, Gone, NoSpace, TimedOut, TransportError
from harness.interfaces import Transport
from tests.fake_adbd import DEVICE_STREAM, FakeAdbd, Peer, packed

STDOUT, STDERR, EXIT = 1, 2, 3


def sync(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<4sI", kind, len(data)) + data


def opened(device: FakeAdbd) -> Transport:
    return open_transport(device.spec)


def test_a_failure_in_the_middle_of_a_large_push_is_seen_and_the_rest_is_not_sent(tmp_path: Path) -> None:
    received = []

    def play(peer: Peer) -> None:
        peer.welcome()
        assert peer.opened() == b"sync:"
        received.append(len(peer.written(1 << 20)))
        peer.write(sync(b"FAIL", b"write failed: No space left on device"))
        while (packet := peer.read()).command != b"CLSE":
            if packet.command == b"WRTE":
                received.append(len(packet.data))
                peer.ack()

    file = tmp_path / "large"
    file.write_bytes(bytes(64 << 20))
    with FakeAdbd(play) as device, pytest.raises(NoSpace, match="No space left on device"):
        opened(device).push(file, "/data/local/tmp/x")
    assert sum(received) < 4 << 20


def test_a_refusal_that_comes_only_at_the_end_of_a_push_is_told_in_the_devices_words(tmp_path: Path) -> None:
    def play(peer: Peer) -> None:
        peer.welcome()
        peer.opened()
        peer.written(100)
        peer.write(sync(b"FAIL", b"\x1b[31mno\0 way\n" + b"x" * 50_000))
        peer.expect(b"CLSE")

    file = tmp_path / "small"
    file.write_bytes(b"x" * 100)
    with FakeAdbd(play) as device, pytest.raises(DeviceError) as failure:
        opened(device).push(file, "/data/local/tmp/x")
    assert not isinstance(failure.value, TransportError)
    assert "no  way" in failure.value.what
    assert failure.value.what.isprintable()
    assert len(failure.value.what) < 500


def test_a_connection_that_ends_in_the_middle_of_a_packet_is_gone_and_leaves_the_old_file(tmp_path: Path) -> None:
    def play(peer: Peer) -> None:
        peer.welcome()
        peer.opened()
        peer.expect(b"WRTE")
        peer.ack()
        peer.write(sync(b"DATA", b"x" * 1000))
        peer.raw(packed(b"WRTE", DEVICE_STREAM, peer.host_stream, sync(b"DATA", b"y" * 1000))[:500])

    target = tmp_path / "target"
    target.write_bytes(b"old")
    with FakeAdbd(play) as device:
        transport = opened(device)
        with pytest.raises(Gone):
            transport.pull("/data/local/tmp/x", target)
        assert target.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [target]
        with pytest.raises(Gone):  # and it stays so, without waiting
            transport.run(["true"])


def test_a_stream_that_ends_in_the_middle_of_an_answer_is_gone(tmp_path: Path) -> None:
    def play(peer: Peer) -> None:
        peer.welcome()
        for answer in (struct.pack("<BI", STDOUT, 100) + b"only some", b""):
            peer.opened()
            if answer:
                peer.write(answer)
            peer.send(b"CLSE", DEVICE_STREAM, peer.host_stream)
        peer.expect(b"OPEN")

    with FakeAdbd(play) as device:
        transport = opened(device)
        for _ in range(2):
            with pytest.raises(Gone):
                transport.run(["true"])


def test_a_device_that_falls_silent_is_told_at_the_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adb_sync, "STALL_S", 0.5)

    def play(peer: Peer) -> None:
        peer.welcome()
        peer.opened()
        peer.link.settimeout(None)
        while peer.link.recv(1 << 16):
            pass

    (tmp_path / "file").write_bytes(b"x" * 1000)
    with FakeAdbd(play) as device:
        with pytest.raises(TimedOut, match=r"sleep did not end within 0\.5 s"):
            opened(device).run(["sleep", "9"], timeout_s=0.5)
        with pytest.raises(TimedOut):
            opened(device).push(tmp_path / "file", "/data/local/tmp/x")
        with pytest.raises(TimedOut):
            opened(device).pull("/data/local/tmp/x", tmp_path / "back")


def test_a_late_answer_of_a_command_that_was_given_up_is_no_answer_of_the_next() -> None:
    def play(peer: Peer) -> None:
        peer.welcome()
        peer.opened()
        first = peer.host_stream
        peer.expect(b"CLSE")
        late = struct.pack("<BI", STDOUT, 4) + b"late"
        for _ in range(3):
            peer.send(b"WRTE", DEVICE_STREAM, first, late)
        peer.send(b"OKAY", DEVICE_STREAM, first)
        peer.send(b"CLSE", DEVICE_STREAM, first)
        peer.opened()
        peer.send(b"WRTE", DEVICE_STREAM + 1, peer.host_stream, late)  # of no stream that is ours
        peer.shell(STDOUT, b"mine")
        peer.shell(EXIT, b"\0")
        peer.expect(b"CLSE")

    with FakeAdbd(play) as device:
        transport = opened(device)
        with pytest.raises(TimedOut):
            transport.run(["slow"], timeout_s=0.3)
        assert transport.run(["quick"]).stdout == b"mine"


def test_a_packet_that_arrives_in_two_halves_around_a_timeout_is_still_whole() -> None:
    def play(peer: Peer) -> None:
        peer.welcome()
        peer.opened()
        stray = packed(b"WRTE", DEVICE_STREAM, peer.host_stream, struct.pack("<BI", STDOUT, 5) + b"stray")
        peer.raw(stray[:30])
        peer.expect(b"CLSE")
        peer.raw(stray[30:])
        peer.opened()
        peer.shell(EXIT, b"\5")
        peer.expect(b"CLSE")

    with FakeAdbd(play) as device:
        transport = opened(device)
        with pytest.raises(TimedOut):
            transport.run(["slow"], timeout_s=0.3)
        assert transport.run(["quick"]).returncode == 5


GARBAGE = [
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
    packed(b"WRTE", 1, 1)[:20] + bytes(4),  # wrong magic
    struct.pack("<4s5I", b"WRTE", 1, 1, 0xFFFFFFF0, 0, int.from_bytes(b"WRTE", "little") ^ 0xFFFFFFFF),  # 4 GiB
    packed(b"EVIL", 1, 1),
]


@pytest.mark.parametrize("garbage", GARBAGE[:3], ids=["http", "magic", "size"])
def test_what_is_no_adb_daemon_is_told_at_once(garbage: bytes) -> None:
    def play(peer: Peer) -> None:
        peer.read()
        peer.raw(garbage)
        peer.read()

    with FakeAdbd(play) as device, pytest.raises(TransportError, match="not ADB"):
        opened(device)


@pytest.mark.parametrize("garbage", GARBAGE, ids=["http", "magic", "size", "command"])
def test_garbage_in_a_connection_ends_it(garbage: bytes) -> None:
    def play(peer: Peer) -> None:
        peer.welcome()
        peer.opened()
        peer.raw(garbage)
        peer.expect(b"CLSE")

    with FakeAdbd(play) as device:
        transport = opened(device)
        with pytest.raises(TransportError, match="not ADB"):
            transport.run(["true"])
        with pytest.raises(Gone):
            transport.run(["true"])


def test_a_damaged_packet_of_a_device_that_sends_checksums_is_not_believed() -> None:
    def play(peer: Peer) -> None:
        peer.welcome(version=0x01000000)
        peer.opened()
        data = struct.pack("<BI", STDOUT, 4) + b"evil"
        peer.raw(packed(b"WRTE", DEVICE_STREAM, peer.host_stream, data, check=sum(data) + 1))
        peer.read()

    with FakeAdbd(play) as device, pytest.raises(TransportError, match="not ADB"):
        opened(device).run(["true"])


def test_an_old_device_gets_checksums_and_small_packets(tmp_path: Path) -> None:
    content = bytes(range(256)) * 400
    got = []

    def play(peer: Peer) -> None:
        peer.welcome(version=0x01000000, max_data=4096)
        peer.opened()
        want = len(content) + 8 + len(b"/x,33188") + 8 * 2 + 8
        while len(b"".join(got)) < want:
            packet = peer.expect(b"WRTE")
            assert len(packet.data) <= 4096
            got.append(packet.data)
            peer.ack()
        peer.write(sync(b"OKAY"))
        peer.expect(b"CLSE")

    file = tmp_path / "file"
    file.write_bytes(content)
    with FakeAdbd(play) as device:
        opened(device).push(file, "/x")
    sent = b"".join(got)
    first = 65536
    assert sent[16:24] == struct.pack("<4sI", b"DATA", first)
    assert sent[24 : 24 + first] + sent[24 + first + 8 : -8] == content


def test_over_usb_no_packet_ends_on_the_boundary_of_a_transfer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A payload that fills its last USB transfer would not be seen to end."""
    monkeypatch.setattr(adb_socket.TcpSocket, "boundary", 512)
    sizes = []

    def play(peer: Peer) -> None:
        peer.welcome()
        for _ in range(512):
            packet = peer.expect(b"OPEN")
            sizes.append(len(packet.data))
            peer.send(b"CLSE", 0, packet.arg0)
        peer.opened()
        received = b""
        while len(received) < 5 + 507 + 5:
            packet = peer.expect(b"WRTE")
            sizes.append(len(packet.data))
            received += packet.data
            peer.ack()
        assert received[5:512] == b"x" * 507
        peer.shell(EXIT, b"\0")
        peer.expect(b"CLSE")

    with FakeAdbd(play) as device:
        transport = opened(device)
        for length in range(512):
            with pytest.raises(DeviceError):
                transport.run(["x" * (1 + length)])
        transport.run(["cat"], stdin=b"x" * 507)
    assert len(sizes) > 512
    assert not [size for size in sizes if size % 512 == 0]


def test_a_device_without_exit_codes_is_refused() -> None:
    def play(peer: Peer) -> None:
        peer.welcome(features=b"device::ro.product.name=old;")
        peer.read()

    with FakeAdbd(play) as device, pytest.raises(DeviceError, match="exit codes") as failure:
        opened(device).run(["true"])
    assert not isinstance(failure.value, TransportError)


def test_a_device_that_wants_tls_is_referred_to_the_adb_server() -> None:
    def play(peer: Peer) -> None:
        peer.read()
        peer.send(b"STLS", 0x01000000, 0)
        peer.read()

    with FakeAdbd(play) as device, pytest.raises(DeviceError) as failure:
        opened(device)
    assert not isinstance(failure.value, TransportError)  # trying again does not help
    assert "adb pair" in str(failure.value)
    assert "adb://" in str(failure.value)


def test_a_daemon_that_starts_anew_on_the_same_cable_is_gone() -> None:
    def play(peer: Peer) -> None:
        peer.welcome()
        peer.opened()
        peer.send(b"CNXN", 0x01000001, 1 << 20, b"device::")
        peer.read()

    with FakeAdbd(play) as device, pytest.raises(Gone):
        opened(device).run(["true"])


def test_a_service_that_the_device_refuses_is_an_answer() -> None:
    def play(peer: Peer) -> None:
        peer.welcome()
        for _ in range(2):
            packet = peer.expect(b"OPEN")
            peer.send(b"CLSE", 0, packet.arg0)

    with FakeAdbd(play) as device, pytest.raises(DeviceError) as failure:
        opened(device).run(["true"])
    assert not isinstance(failure.value, TransportError)


def test_output_without_end_is_refused_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adb_run, "MAX_OUTPUT_BYTES", 1 << 20)

    def play(peer: Peer) -> None:
        peer.welcome()
        peer.opened()
        while True:
            peer.shell(STDOUT, bytes(200_000))
            peer.expect(b"OKAY")

    with FakeAdbd(play) as device, pytest.raises(DeviceError, match="more than 1 MiB"):
        opened(device).run(["cat", "/dev/zero"])


def test_a_shell_packet_of_impossible_size_is_refused() -> None:
    def play(peer: Peer) -> None:
        peer.welcome()
        peer.opened()
        peer.write(struct.pack("<BI", STDERR, 0xFFFFFFFF))
        peer.expect(b"CLSE")

    with FakeAdbd(play) as device, pytest.raises(DeviceError):
        opened(device).run(["true"])


def test_data_of_impossible_size_in_a_pull_is_refused(tmp_path: Path) -> None:
    def play(peer: Peer) -> None:
        peer.welcome()
        peer.opened()
        peer.expect(b"WRTE")
        peer.ack()
        peer.write(struct.pack("<4sI", b"DATA", 0x7FFFFFFF) + b"x" * 100)
        peer.expect(b"CLSE")

    with FakeAdbd(play) as device, pytest.raises(TransportError):
        opened(device).pull("/data/local/tmp/x", tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_here_is_not_the_devices_failure(tmp_path: Path) -> None:
    def play(peer: Peer) -> None:
        peer.welcome()
        peer.opened()
        peer.expect(b"WRTE")
        peer.ack()
        peer.write(sync(b"DATA", b"x") + sync(b"DONE"))
        peer.expect(b"CLSE")

    with FakeAdbd(play) as device, pytest.raises(DeviceError) as failure:
        opened(device).pull("/data/local/tmp/x", tmp_path / "no such folder" / "file")
    assert not isinstance(failure.value, TransportError)
    assert "cannot write" in failure.value.what


def test_nobody_behind_an_open_port_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.devices import adb, adb_direct

    for module in (adb, adb_direct):
        monkeypatch.setattr(module, "ANSWER_S", 0.5, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TimedOut):
        from harness.devices.spec import resolve

        open_transport(resolve(f"adb+tcp://127.0.0.1:{silent.getsockname()[1]}"))
