"""A database that goes away in the middle of a measurement is waited for: nothing that was measured is lost by it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from harness.errors import StoreError
from harness.store.told import GO_ON, Lost

PATIENCE_S = 60.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
log = logging.getLogger("harness.store")
T = TypeVar("T")


def patiently(work: Callable[[bool], T], stop: threading.Event | None = None) -> T:
    """Does `work`, and again for up to a minute where it raises Lost; it is told whether it is done again, for its
    first answer may be what got lost. `stop`: gives up at once when this is set. Raises StoreError."""
    end, pause, again = time.monotonic() + PATIENCE_S, _FIRST_PAUSE_S, False
    while True:
        try:
            return work(again)
        except Lost as error:
            left = end - time.monotonic()
            if left <= 0 or (stop is not None and stop.is_set()):
                raise StoreError(error.what, f"start the database, {GO_ON}") from error
            if not again:
                log.warning("%s; tried again for up to %.0f s", error.what, PATIENCE_S)
            again = True
            _wait(min(pause, left), stop)
            pause = min(2 * pause, _LONGEST_PAUSE_S)


def _wait(seconds: float, stop: threading.Event | None) -> None:
    if stop is None:
        time.sleep(seconds)
    else:
        stop.wait(seconds)
