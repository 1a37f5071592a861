"""A TCP connection whose every wait has an end, and whose end is noticed: to an adb server, or to adbd itself."""

from __future__ import annotations

import selectors
import socket
from contextlib import suppress

from harness.devices.adb_stream import left_s
from harness.errors import Gone, Refused, TimedOut


class TcpSocket:
    """A Stream, and with `send` of two parts a Wire. Raises Refused where nobody listens, TimedOut, Gone."""

    boundary = 0

    def __init__(self, host: str, port: int, name: str, what: str, hint: str, deadline: float) -> None:
        self._name = name
        where = f"{name}: no {what} at {host}:{port}"
        try:
            self._socket = socket.create_connection((host, port), timeout=left_s(deadline, name))
        except TimeoutError as error:
            raise TimedOut(f"{where}: no answer", hint) from error
        except OSError as error:
            raise Refused(f"{where}: {error.strerror or error}", hint) from error
        # or each small packet waits for the acknowledgement of the last
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def incoming(self) -> bool:
        with selectors.DefaultSelector() as look:
            look.register(self._socket, selectors.EVENT_READ)
            return bool(look.select(0))

    def send_all(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        try:
            while view:
                self._socket.settimeout(left_s(deadline, self._name))
                view = view[self._socket.send(view) :]
        except TimeoutError as error:
            raise TimedOut(f"{self._name}: it takes nothing more", "is the link up?") from error
        except OSError as error:
            raise Gone(f"{self._name}: the connection ended: {error.strerror or error}") from error

    def recv_some(self, size: int, deadline: float) -> bytes:
        """b"" where the other side has ended the connection."""
        try:
            self._socket.settimeout(left_s(deadline, self._name))
            return self._socket.recv(size)
        except TimeoutError as error:
            raise TimedOut(f"{self._name}: no answer in time", "is the phone awake, and is the link up?") from error
        except OSError as error:
            raise Gone(f"{self._name}: the connection ended: {error.strerror or error}") from error

    def close(self) -> None:
        with suppress(OSError):
            self._socket.close()
