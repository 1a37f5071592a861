"""A connection to a phone's adbd, in its own protocol: hands are shaken, then services are opened as streams.

The packets are those of AOSP's protocol.txt. adb-shell's own connection is not used: it loses failures and bytes,
and does not see a phone go away; its USB access and its keys are."""

from __future__ import annotations

import struct
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Protocol

from harness.devices.adb_keys import Key
from harness.devices.adb_stream import left_s, printable
from harness.errors import DeviceError, Gone, HarnessError, TimedOut, TransportError, Unauthorized

VERSION_SKIPS_CHECKSUM = 0x01000001
#: what we take and send in one packet: large for speed, small enough for a slow link within one deadline
MAX_DATA = 256 << 10
#: for a person to look at the phone and accept the key
ACCEPT_S = 10.0
_CLOSE_S = 2.0
_MAX_TOKEN = 1024
_HEADER = struct.Struct("<4s5I")
_BANNER = b"host::features=shell_v2,cmd\0"
_TOKEN, _SIGNATURE, _PUBLIC_KEY = 1, 2, 3


class Wire(Protocol):
    """What carries the packets: a TCP socket or a pair of USB endpoints.

    `boundary`: a payload must not end on a multiple of it (a USB transfer would not be seen to end), or 0.
    Raises TimedOut at the deadline, Gone where the other side is no more."""

    boundary: int

    def send(self, header: bytes, data: bytes, deadline: float) -> None: ...

    def recv(self, size: int, deadline: float) -> bytes:
        """At least one byte, at most `size`."""
        ...

    def close(self) -> None: ...


class Packet(NamedTuple):
    command: bytes
    arg0: int
    arg1: int
    data: bytes


class Connection:
    """For one thread at a time. Raises from its making what the handshake meets: Unauthorized, TransportError."""

    def __init__(self, wire: Wire, name: str, keys: Callable[[], list[Key]], deadline: float) -> None:
        self.name = name
        self._wire = wire
        self._checks = True  # what we send, until the device says that it needs none
        self._verifies = False  # a device knows our version, and sends none in its side of the handshake either
        self._max_data = MAX_DATA
        self._head: tuple[bytes, int, int, int, int] | None = None  # of a packet that has not all arrived
        self._got = bytearray()
        self._dead: str | None = None
        self._streams: dict[int, PacketStream] = {}
        self._last_id = 0
        try:
            self.features = self._shake_hands(keys, deadline)
        except BaseException:
            self.close()
            raise

    def open(self, service: bytes, deadline: float) -> PacketStream:
        """Raises DeviceError where the device has no such service."""
        if len(service) >= self._max_data:
            raise DeviceError(f"{self.name}: a command of {len(service)} bytes is too long for it")
        self._last_id += 1
        stream = self._streams[self._last_id] = PacketStream(self, self._last_id)
        padding = 1 + (self._splits(len(service) + 1))  # adbd strips all NULs at the end
        try:
            self.send(b"OPEN", stream.id, 0, service + bytes(padding), deadline)
            while not stream.ready and not stream.ended:
                self.pump(deadline)
        except BaseException:
            stream.close()
            raise
        if stream.ended and not stream.remote:
            raise DeviceError(f"{self.name}: its adb daemon refuses {printable(service, 40)!r}")
        return stream

    def close(self) -> None:
        self._dead = self._dead or "the connection is closed"
        self._streams.clear()
        self._wire.close()

    # -- packets -------------------------------------------------------------------------------------------------

    def pump(self, deadline: float) -> None:
        """Takes one packet and gives it to its stream; those of streams that are closed are dropped."""
        packet = self._receive(deadline)
        stream = self._streams.get(packet.arg1)
        if packet.command in (b"CNXN", b"AUTH"):
            raise self._died(Gone(f"{self.name}: its adb daemon has started anew", "try again"))
        if packet.command not in (b"OKAY", b"WRTE", b"CLSE", b"OPEN", b"SYNC"):
            raise self._garbage()
        if stream is None:
            return
        if packet.command == b"OKAY":
            stream.remote, stream.ready = packet.arg0, True
        elif packet.command == b"WRTE" and packet.arg0 == stream.remote:
            stream.arrived.append(packet.data)
            # a deadline that passes just now must not cut this packet off: the connection would be lost with it
            self.send(b"OKAY", stream.id, stream.remote, b"", max(deadline, time.monotonic() + _CLOSE_S))
        elif packet.command == b"CLSE":
            stream.ended = True
            del self._streams[stream.id]

    def send(self, command: bytes, arg0: int, arg1: int, data: bytes, deadline: float) -> None:
        self._alive()
        check = sum(data) & 0xFFFFFFFF if self._checks else 0
        magic = int.from_bytes(command, "little") ^ 0xFFFFFFFF
        try:
            self._wire.send(_HEADER.pack(command, arg0, arg1, len(data), check, magic), data, deadline)
        except BaseException as error:  # also at Ctrl-C: half a packet may be on its way, nothing can follow it
            self._dead = "a packet was cut off"
            if isinstance(error, Gone):
                raise self._died(error) from error.__cause__
            raise

    def _receive(self, deadline: float) -> Packet:
        """The next packet. After TimedOut it goes on where it was."""
        self._alive()
        try:
            if self._head is None:
                self._fill(_HEADER.size, deadline)
                command, arg0, arg1, size, check, magic = _HEADER.unpack(self._got)
                if magic != int.from_bytes(command, "little") ^ 0xFFFFFFFF or size > max(MAX_DATA, _MAX_TOKEN):
                    raise self._garbage()
                self._head, self._got = (command, arg0, arg1, size, check), bytearray()
            command, arg0, arg1, size, check = self._head
            self._fill(size, deadline)
        except Gone as error:
            raise self._died(error) from error.__cause__
        data, self._head, self._got = bytes(self._got), None, bytearray()
        if self._verifies and check != sum(data) & 0xFFFFFFFF:
            raise self._garbage()
        return Packet(command, arg0, arg1, data)

    def _fill(self, size: int, deadline: float) -> None:
        while len(self._got) < size:
            self._got += self._wire.recv(size - len(self._got), deadline)

    def _splits(self, size: int) -> bool:
        return bool(self._wire.boundary) and size % self._wire.boundary == 0

    def _alive(self) -> None:
        if self._dead is not None:
            raise Gone(f"{self.name}: {self._dead}", "open it again")

    def _died(self, error: TransportError) -> TransportError:
        self._dead = self._dead or "the connection ended"
        self._wire.close()
        return error

    def _garbage(self) -> TransportError:
        return self._died(TransportError(f"{self.name}: what it sends is not ADB", "is this an adb daemon's port?"))

    # -- the handshake -------------------------------------------------------------------------------------------

    def _shake_hands(self, keys: Callable[[], list[Key]], deadline: float) -> frozenset[str]:
        """What the device can. Its token is signed by each key in turn; then a person is asked to accept ours."""
        self.send(b"CNXN", VERSION_SKIPS_CHECKSUM, MAX_DATA, _BANNER, deadline)
        ours: list[Key] = []
        left: list[Key] | None = None
        asked = False
        while True:
            try:
                packet = self._receive(deadline)
            except (TimedOut, Gone) as error:
                if asked:
                    raise self._not_accepted() from error
                raise
            if packet.command == b"CNXN":
                return self._welcome(packet)
            if packet.command == b"STLS":
                raise DeviceError(
                    f"{self.name}: it wants TLS (Android's wireless debugging), which is not spoken directly",
                    "pair it once with: adb pair HOST:PORT; then measure through the adb server: adb://SERIAL",
                )
            if packet.command != b"AUTH" or packet.arg0 != _TOKEN:
                continue  # left over from an earlier connection on the same cable
            if left is None:
                ours = keys()
                left = list(ours)
            if left:
                self.send(b"AUTH", _SIGNATURE, 0, left.pop(0).sign(packet.data), deadline)
            elif not asked:
                asked = True
                deadline = time.monotonic() + ACCEPT_S
                self.send(b"AUTH", _PUBLIC_KEY, 0, ours[0].public + b"\0", deadline)
            else:
                raise self._not_accepted()

    def _not_accepted(self) -> Unauthorized:
        hint = "unlock the phone and accept the key on its screen (“always allow”), then try again"
        return Unauthorized(f"{self.name}: it does not accept this computer's key", hint)

    def _welcome(self, packet: Packet) -> frozenset[str]:
        self._checks = self._verifies = packet.arg0 < VERSION_SKIPS_CHECKSUM
        self._max_data = min(MAX_DATA, packet.arg1)
        if self._max_data < 1024:
            raise self._garbage()
        banner = packet.data.decode("utf-8", "replace").rstrip("\0")
        found = [part.removeprefix("features=") for part in banner.split(";") if part.startswith("features=")]
        # a daemon that lists properties only in part begins the first after "device::"
        found += [part.split("features=")[1] for part in banner.split(";")[:1] if "::features=" in part]
        return frozenset(feature for part in found for feature in part.split(","))


class PacketStream:
    """A service of the device over a Connection. One write is under way at a time, as the protocol wants it."""

    def __init__(self, connection: Connection, number: int) -> None:
        self._connection = connection
        self.id, self.remote = number, 0
        self.ready = self.ended = False
        self.arrived: deque[bytes] = deque()

    @property
    def incoming(self) -> bool:
        return bool(self.arrived) or self.ended

    def send(self, data: bytes, deadline: float) -> bool:
        connection = self._connection
        while data:
            while not self.ready and not self.ended:
                connection.pump(deadline)
            if self.ended:
                return False
            size = min(len(data), connection._max_data)
            size -= connection._splits(size)
            self.ready = False
            connection.send(b"WRTE", self.id, self.remote, data[:size], deadline)
            data = data[size:]
        return True

    def recv(self, deadline: float) -> bytes:
        while not self.arrived and not self.ended:
            left_s(deadline, self._connection.name)
            self._connection.pump(deadline)
        return self.arrived.popleft() if self.arrived else b""

    def close(self) -> None:
        if self._connection._streams.pop(self.id, None) is not None and self.remote:
            with suppress(HarnessError):
                self._connection.send(b"CLSE", self.id, self.remote, b"", time.monotonic() + _CLOSE_S)
        self.ended = True
