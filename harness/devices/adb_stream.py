"""One service of a phone's adbd as a stream of bytes: what `adb://` and the direct schemes have in common."""

from __future__ import annotations

import time
from typing import Protocol

from harness.errors import Gone, TimedOut


class Stream(Protocol):
    """Both directions at once: what arrives while we send is kept for recv().

    `deadline` is of time.monotonic(). Raises TimedOut when it passes, Gone when the link ends."""

    @property
    def incoming(self) -> bool:
        """Whether recv() would answer at once."""
        ...

    def send(self, data: bytes, deadline: float) -> bool:
        """Sends all of it. False: the device has ended the stream, the rest is not wanted."""
        ...

    def recv(self, deadline: float) -> bytes:
        """Some bytes; b"" where the device has ended the stream."""
        ...

    def close(self) -> None:
        """Ends the service on the device. Raises nothing."""
        ...


class Reader:
    """Takes whole pieces out of a stream."""

    def __init__(self, stream: Stream, name: str) -> None:
        self._stream, self._name = stream, name
        self._have = bytearray()

    def exactly(self, size: int, deadline: float) -> bytes:
        """Raises Gone where the stream ends before."""
        while len(self._have) < size:
            data = self._stream.recv(deadline)
            if not data:
                raise Gone(f"{self._name}: the connection ended in the middle of an answer", "is it still plugged in?")
            self._have += data
        taken = bytes(self._have[:size])
        del self._have[:size]
        return taken


def left_s(deadline: float, name: str) -> float:
    """Seconds until the deadline. Raises TimedOut when it has passed."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimedOut(f"{name}: no answer in time", "is the phone awake, and is the link up?")
    return left


def printable(text: bytes | str, limit: int = 300) -> str:
    """A device's own words, fit for a message: bounded, one line, no control characters."""
    if isinstance(text, bytes):
        text = text[: 4 * limit].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else " " for c in text[:limit]).strip()
