"""A FAKE adbd, for faults that the real one (tests/standins) does not make: half packets, garbage, late failures.

Each test writes the device's side of one conversation as a function of `Peer`. Nothing here is a device."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from harness.devices.spec import resolve
from harness.types import DeviceSpec

HEADER = struct.Struct("<4s5I")
DEVICE_STREAM = 77
FEATURES = b"device::ro.product.name=fake;ro.product.model=fake;features=shell_v2,cmd,stat_v2"


class Packet(NamedTuple):
    command: bytes
    arg0: int
    arg1: int
    data: bytes


def packed(command: bytes, arg0: int, arg1: int, data: bytes = b"", check: int | None = None) -> bytes:
    magic = int.from_bytes(command, "little") ^ 0xFFFFFFFF
    return HEADER.pack(command, arg0, arg1, len(data), sum(data) if check is None else check, magic) + data


class Peer:
    """The device's end of one connection."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        self.host_stream = 0
        self.version = 0

    def raw(self, data: bytes) -> None:
        self.link.sendall(data)

    def send(self, command: bytes, arg0: int, arg1: int, data: bytes = b"") -> None:
        self.raw(packed(command, arg0, arg1, data))

    def read(self) -> Packet:
        command, arg0, arg1, size, check, _ = HEADER.unpack(self._exactly(HEADER.size))
        data = self._exactly(size)
        if self.version == 0x01000000:
            assert check == sum(data), "an old device wants checksums"
        return Packet(command, arg0, arg1, data)

    def expect(self, command: bytes) -> Packet:
        """The next packet of this kind; what else comes is passed over."""
        while (packet := self.read()).command != command:
            pass
        return packet

    def welcome(self, features: bytes = FEATURES, version: int = 0x01000001, max_data: int = 1 << 20) -> None:
        assert self.read().command == b"CNXN"
        self.version = version
        self.send(b"CNXN", version, max_data, features)

    def opened(self) -> bytes:
        """The service that the host opens next; it is granted."""
        packet = self.expect(b"OPEN")
        self.host_stream = packet.arg0
        self.send(b"OKAY", DEVICE_STREAM, self.host_stream)
        return packet.data.rstrip(b"\0")

    def write(self, data: bytes) -> None:
        self.send(b"WRTE", DEVICE_STREAM, self.host_stream, data)

    def ack(self) -> None:
        self.send(b"OKAY", DEVICE_STREAM, self.host_stream)

    def written(self, size: int) -> bytes:
        """At least so many bytes that the host wrote, each packet acknowledged."""
        data = b""
        while len(data) < size:
            data += self.expect(b"WRTE").data
            self.ack()
        return data

    def shell(self, kind: int, data: bytes) -> None:
        """One packet of the shell protocol."""
        self.write(struct.pack("<BI", kind, len(data)) + data)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            if not (more := self.link.recv(size - len(data))):
                raise ConnectionResetError
            data += more
        return data


class FakeAdbd:
    """`with FakeAdbd(play) as device:` — `play(peer)` is called for each connection, then that is closed."""

    def __init__(self, play: Callable[[Peer], None]) -> None:
        self._play = play
        self._failures: list[BaseException] = []
        self._link: socket.socket | None = None

    def __enter__(self) -> FakeAdbd:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._listener.close()
        if self._link is not None:
            with suppress(OSError):
                self._link.shutdown(socket.SHUT_RD)  # what has arrived is still read, then it ends
        self._thread.join(timeout=10)
        if self._failures:
            raise self._failures[0]

    @property
    def spec(self) -> DeviceSpec:
        return resolve(f"adb+tcp://127.0.0.1:{self._listener.getsockname()[1]}")

    def _serve(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            self._link = link
            link.settimeout(30)
            try:
                self._play(Peer(link))
            except OSError:
                pass  # the host has gone
            except BaseException as error:  # an assertion of the test's: told at its end
                self._failures.append(error)
            finally:
                link.close()
