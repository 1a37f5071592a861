"""`adb+tcp://HOST:PORT` and `adb+usb://SERIAL`: a phone without any adb, by adbd's own protocol."""

from __future__ import annotations

import time

from harness.devices.adb import ANSWER_S, Adb
from harness.devices.adb_connection import Connection, Wire
from harness.devices.adb_keys import user_keys
from harness.devices.adb_socket import TcpSocket
from harness.devices.adb_stream import Stream
from harness.errors import DeviceError, Gone, Refused, ToolchainError
from harness.interfaces import Transport
from harness.types import DeviceSpec


class _Direct(Adb):
    def __init__(self, spec: DeviceSpec, wire: Wire, deadline: float) -> None:
        super().__init__(spec)
        self._connection = Connection(wire, spec.name, user_keys, deadline)
        self._need_shell_v2(self._connection.features)

    def _open(self, service: bytes, deadline: float) -> Stream:
        return self._connection.open(service, deadline)

    def close(self) -> None:
        self._connection.close()


class AdbTcp(_Direct):
    def __init__(self, spec: DeviceSpec) -> None:
        host, _, port = spec.uri.removeprefix("adb+tcp://").rpartition(":")
        if not host or not port.isdigit():
            host, port = spec.uri.removeprefix("adb+tcp://"), "5555"
        deadline = time.monotonic() + ANSWER_S
        super().__init__(spec, _TcpWire(host.strip("[]"), int(port), spec.name, deadline), deadline)


class AdbUsb(_Direct):
    def __init__(self, spec: DeviceSpec) -> None:
        from harness.devices.adb_usb import UsbWire

        serial = spec.uri.removeprefix("adb+usb://") or _only_one(spec.name)
        super().__init__(spec, UsbWire(serial, spec.name), time.monotonic() + ANSWER_S)


class _TcpWire(TcpSocket):
    def __init__(self, host: str, port: int, name: str, deadline: float) -> None:
        hint = "is the phone in this network, and TCP debugging on? by cable: adb tcpip 5555"
        super().__init__(host, port, name, "adb daemon", hint, deadline)

    def send(self, header: bytes, data: bytes, deadline: float) -> None:
        self.send_all(header + data, deadline)

    def recv(self, size: int, deadline: float) -> bytes:
        if not (data := self.recv_some(size, deadline)):
            raise Gone(f"{self._name}: the phone ended the connection", "is it still there?")
        return data


def usb_serials() -> list[str]:
    """Raises ToolchainError without libusb, DeviceError where there are phones and none may be opened."""
    from harness.devices.adb_usb import serials

    return serials()


def _only_one(name: str) -> str:
    try:
        found = usb_serials()
    except ToolchainError as error:
        raise DeviceError(f"{name}: {error.what}", error.hint) from error
    if len(found) == 1:
        return found[0]
    if found:
        raise DeviceError(f"{name}: there are {len(found)} phones: {', '.join(found)}", f"name one: adb+usb://{found[0]}")
    raise Refused(f"{name}: there is no phone by USB", "plug it in and switch USB debugging on")


_TCP: type[Transport] = AdbTcp
_USB: type[Transport] = AdbUsb
