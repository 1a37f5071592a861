"""A lock between processes: one of them computes what several need.

The lock is the kernel's (flock), so it goes with its process: a killed holder never blocks the next one.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Holds an exclusive lock on `path` (made with its folder where missing); waits for other holders.

    Threads of one process exclude each other too, since each call opens its own descriptor. The file stays:
    removing it would let two processes lock two files of one name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)  # closing gives the lock back


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt
        import time

        while True:
            try:
                return msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            except OSError:
                time.sleep(0.05)  # Windows has no blocking lock of unlimited patience
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX)
