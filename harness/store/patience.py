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


class Patience:
    """Of all who use one store together: they say once that it is away. `stop`: gives up at once when this is set."""

    def __init__(self, stop: threading.Event | None = None) -> None:
        self._stop = stop
        self._away = threading.Event()

    def __call__(self, work: Callable[[bool], T]) -> T:
        """Does `work`, and again for up to a minute where it raises Lost; it is told whether it is done again, for its
        first answer may be what got lost. Raises StoreError."""
        end, pause, again = time.monotonic() + PATIENCE_S, _FIRST_PAUSE_S, False
        while True:
            try:
                done = work(again)
            except Lost as error:
                left = end - time.monotonic()
                if left <= 0 or (self._stop is not None and self._stop.is_set()):
                    raise StoreError(error.what, f"start the database, {GO_ON}") from error
                if not self._away.is_set():
                    self._away.set()
                    log.warning("%s; tried again for up to %.0f s", error.what, PATIENCE_S)
                again = True
                self._wait(min(pause, left))
                pause = min(2 * pause, _LONGEST_PAUSE_S)
            else:
                self._away.clear()
                return done

    def _wait(self, seconds: float) -> None:
        if self._stop is None:
            time.sleep(seconds)
        else:
            self._stop.wait(seconds)
