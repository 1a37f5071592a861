"""Whose time passes while a device works: this host's, or a simulated device's own.

A transport with an attribute `clock` brings its own; everything that waits for a device waits by that one, so that
ten minutes of a simulated device take no longer than computing them.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Protocol

#: set when the user interrupts: who sleeps wakes, runs end at once, on the device too, and none begins
stopping = threading.Event()


class Clock(Protocol):
    def now(self) -> float:
        """Seconds that never go back."""
        ...

    def sleep(self, seconds: float) -> None:
        """Returns early when the user interrupts."""
        ...


class Wall:
    """This host's."""

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        stopping.wait(seconds)


WALL = Wall()


def clock_of(transport: Any) -> Clock:
    """The transport's own clock, or this host's."""
    found: Clock = getattr(transport, "clock", None) or WALL
    return found


_: type[Clock] = Wall
