"""`adb://SERIAL[?server=HOST:PORT]`: a phone through the adb server that runs on this computer or another.

The server is asked in its own words (AOSP's adb/SERVICES.TXT): a length in four hexadecimal digits and a request,
answered by OKAY or FAIL. It is never started by us: whose server it is, and of which version, is the user's choice."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from urllib.parse import parse_qs

from harness.devices.adb import ANSWER_S, Adb
from harness.devices.adb_socket import TcpSocket
from harness.devices.adb_stream import Stream, printable
from harness.errors import DeviceError, Gone, Offline, Refused, TransportError, Unauthorized
from harness.interfaces import Transport
from harness.types import DeviceSpec

ACCEPT = "unlock the phone and accept this computer's key on its screen"
Address = tuple[str, int]
Explain = Callable[[str], DeviceError]


class AdbServer(Adb):
    def __init__(self, spec: DeviceSpec) -> None:
        super().__init__(spec)
        serial, _, query = spec.uri.removeprefix("adb://").partition("?")
        self._server = server_address(next(iter(parse_qs(query).get("server", [])), None))
        self._serial = serial or _only_one(self._server, spec.name)
        self._need_shell_v2(_ask(self._server, f"host-serial:{self._serial}:features", self._explain).split(","))

    def _open(self, service: bytes, deadline: float) -> Stream:
        stream = _ServerStream(self._server, self._explain, deadline)
        try:
            stream.request(f"host:transport:{self._serial}".encode(), deadline)
            stream.request(service, deadline)
            return stream
        except BaseException:
            stream.close()
            raise

    def _explain(self, why: str) -> DeviceError:
        what = f"{self.name}: {why}"
        if "unauthorized" in why:
            return Unauthorized(f"{self.name}: the phone has not accepted this computer's key", ACCEPT)
        if any(word in why for word in ("offline", "connecting", "authorizing")):  # the last two pass by themselves
            return Offline(what, "unlock the phone, plug it in again, or: adb reconnect")
        if "not found" in why or "no devices" in why:
            there = ", ".join(serial for serial, _ in server_devices(self._server)) or "none"
            return Refused(what, f"the adb server has: {there}; adb connect HOST:PORT for one by Wi-Fi")
        if "closed" in why:
            return Offline(what, "is it still plugged in?")
        return DeviceError(what)

    def close(self) -> None:
        """Each service is a connection of its own: nothing is left open."""


class _ServerStream:
    """A connection to the adb server; after its last request it is a stream to the phone."""

    def __init__(self, server: Address, explain: Explain, deadline: float) -> None:
        self.name, self._explain = f"adb server {server[0]}:{server[1]}", explain
        self._socket = TcpSocket(*server, self.name, "adb server", "start it with: adb start-server", deadline)

    def request(self, word: bytes, deadline: float) -> None:
        if len(word) > 0xFFFF:
            raise DeviceError(f"{self.name}: a command of {len(word)} bytes is too long for it")
        self.send(f"{len(word):04x}".encode() + word, deadline)
        answer = self._exactly(4, deadline)
        if answer == b"FAIL":
            raise self._explain(self.text(deadline))
        if answer != b"OKAY":
            raise TransportError(f"{self.name}: it does not speak as one", "name the right one: adb://…?server=HOST:PORT")

    def text(self, deadline: float) -> str:
        try:
            size = int(self._exactly(4, deadline), 16)
        except ValueError as error:
            raise TransportError(f"{self.name}: its answer is not understood") from error
        lines = self._exactly(size, deadline).decode("utf-8", "replace").split("\n")
        return "\n".join("\t".join(printable(part) for part in line.split("\t")) for line in lines)

    def _exactly(self, size: int, deadline: float) -> bytes:
        data = b""
        while len(data) < size:  # never more than asked for: what follows is the phone's
            more = self._socket.recv_some(size - len(data), deadline)
            if not more:
                raise Refused(f"{self.name}: it ended the connection", "does the adb server run? adb start-server")
            data += more
        return data

    @property
    def incoming(self) -> bool:
        return self._socket.incoming

    def send(self, data: bytes, deadline: float) -> bool:
        try:
            self._socket.send_all(data, deadline)
        except Gone:  # the phone ended the service, and the server with it: what was said before is still to be read
            return False
        return True

    def recv(self, deadline: float) -> bytes:
        return self._socket.recv_some(1 << 18, deadline)

    def close(self) -> None:
        self._socket.close()


def server_address(given: str | None = None) -> Address:
    """Where the adb server is: what the URI says, else what adb itself would ask (its environment variables)."""
    given = given or os.environ.get("ADB_SERVER_SOCKET", "").removeprefix("tcp:") or None
    if given is None:
        port = os.environ.get("ANDROID_ADB_SERVER_PORT", "")
        return os.environ.get("ANDROID_ADB_SERVER_ADDRESS") or "127.0.0.1", int(port) if port.isdigit() else 5037
    host, _, port = given.rpartition(":")
    return host.strip("[]") or "127.0.0.1", int(port) if port.isdigit() else 5037


def _ask(server: Address, request: str, explain: Explain = DeviceError) -> str:
    """The server's own answer to a request. Raises Refused where no server is."""
    deadline = time.monotonic() + ANSWER_S
    stream = _ServerStream(server, explain, deadline)
    try:
        stream.request(request.encode(), deadline)
        return stream.text(deadline)
    finally:
        stream.close()


def server_devices(server: Address | None = None) -> list[tuple[str, str]]:
    """(serial, state) of every device the adb server knows; the state is adb's word (`device` is ready)."""
    lines = _ask(server or server_address(), "host:devices").split("\n")
    return [(serial, state) for serial, tab, state in (line.partition("\t") for line in lines) if tab]


def mdns_services(server: Address | None = None) -> list[tuple[str, str, str]]:
    """(name, type, HOST:PORT) of the wireless debugging that phones advertise, as the adb server hears it; nothing
    where this server cannot hear."""
    try:
        lines = _ask(server or server_address(), "host:mdns:services").split("\n")
    except TransportError:
        raise
    except DeviceError:
        return []
    fields = [line.split("\t") for line in lines]
    return [(field[0], field[1], field[2]) for field in fields if len(field) >= 3]


def _only_one(server: Address, name: str) -> str:
    """The serial of the only phone there is. Raises DeviceError naming all where there are several."""
    known = server_devices(server)
    ready = [serial for serial, state in known if state == "device"]
    if len(ready) == 1:
        return ready[0]
    if ready:
        raise DeviceError(
            f"{name}: there are {len(ready)} phones: {', '.join(ready)}", f"name one, such as adb://{ready[0]}"
        )
    others = ", ".join(f"{serial} ({state})" for serial, state in known)
    raise Refused(f"{name}: the adb server has no phone that is ready{': ' + others if others else ''}", ACCEPT)


_: type[Transport] = AdbServer
