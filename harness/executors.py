"""Where work runs: `concurrent.futures.Executor`s, so that a cluster's can take their place.

Builds go to processes (torch, user code, chatter on stdout stay away from us), each device's lane to a thread.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any


def _in_worker() -> None:
    """A worker's stdout is its stderr (stdout carries one JSON document), and it never outlives its parent."""
    import multiprocessing
    import signal

    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers Ctrl-C for all
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


def build_processes(tasks: int) -> Executor:
    """One single-threaded process per core, at most 4 (each holds torch: some 500 MB), never more than tasks."""
    import multiprocessing

    workers = max(1, min(os.cpu_count() or 1, 4, tasks))
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_in_worker)


def lane_thread(device: str) -> Executor:
    """One worker: a device is measured by one thing at a time."""
    return ThreadPoolExecutor(1, thread_name_prefix=f"lane-{device}")


def abandon(pool: Executor) -> None:
    """Ends a pool's processes at once: nobody waits any more for what they are doing (a training takes minutes)."""
    for process in list((getattr(pool, "_processes", None) or {}).values()):  # public only from Python 3.14 on
        process.terminate()


@dataclass(frozen=True, kw_only=True)
class Executors:
    builds: Callable[[int], Executor] = build_processes
    lane: Callable[[str], Executor] = lane_thread
