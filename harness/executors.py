"""Where work runs: `concurrent.futures.Executor`s, so that a cluster's can take their place.

Builds go to processes (torch, user code, chatter on stdout stay away from us), each device's lane to a thread.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import SpawnContext, SpawnProcess
from types import ModuleType
from typing import Any


def _in_worker(silent: bool) -> None:
    """A worker's stdout is its stderr (stdout carries one JSON document), and it never outlives its parent.

    `silent`: both go nowhere."""
    import signal

    if silent:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers Ctrl-C for all
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


class _Nameless(ModuleType):
    """Answers as the caller's `__main__`, but comes of no file and no import."""

    def __init__(self, main: ModuleType) -> None:
        super().__init__("__main__")
        self.__dict__["_main"] = main

    def __getattr__(self, name: str) -> Any:
        if name == "__file__":
            raise AttributeError(name)
        return getattr(self.__dict__["_main"], name)


_starting = threading.Lock()


@contextmanager
def _without_main() -> Iterator[None]:
    """`spawn` has each new process import the caller's script again, which would run a plain script once more; and
    nothing of ours is in it. While it looks for the script's name, there is none."""
    with _starting:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = _Nameless(main)
        try:
            yield
        finally:
            sys.modules["__main__"] = main


class _Process(SpawnProcess):
    def start(self) -> None:
        with _without_main():
            super().start()


class _Context(SpawnContext):
    Process = _Process


def build_processes(tasks: int, silent: bool = False) -> Executor:
    """One single-threaded process per core, at most 4 (each holds torch: some 500 MB), never more than tasks.

    `silent`: what they print goes nowhere, else to stderr."""
    workers = max(1, min(os.cpu_count() or 1, 4, tasks))
    return ProcessPoolExecutor(workers, _Context(), initializer=_in_worker, initargs=(silent,))


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
