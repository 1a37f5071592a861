"""A lock between processes: one of them computes what several need.

The lock is the kernel's (flock), so it goes with its process: a killed holder never blocks the next one.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def file_lock(path: Path, while_waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Holds an exclusive lock on `path` (made with its folder where missing); waits for other holders.

    `while_waiting` is called some times a second while another holds it; it may raise to give up.

    Threads of one process exclude each other too, since each call opens its own descriptor. The file stays:
    removing it would let two processes lock two files of one name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while while_waiting is not None and not _try_lock(descriptor):
            while_waiting()
            time.sleep(0.2)
        if while_waiting is None:
            _lock(descriptor)
        yield
    finally:
        os.close(descriptor)  # closing gives the lock back


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _lock(descriptor: int) -> None:
    while sys.platform == "win32" and not _try_lock(descriptor):
        time.sleep(0.05)  # Windows has no blocking lock of unlimited patience
    if sys.platform == "win32":
        return
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX)
