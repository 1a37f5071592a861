"""The harness inside another's program: what it changes of the process for a while is put back whatever happens."""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import ParamSpec, TypeVar

from harness.clock import stopping
from harness.errors import HarnessError, UserCodeError
from harness.quiet import stdout_to_stderr

P = ParamSpec("P")
T = TypeVar("T")

_one_at_a_time = threading.Lock()


@contextmanager
def guest() -> Iterator[None]:
    """stdout goes to stderr meanwhile; sys.path and the working folder come back.

    One call at a time, others wait: these belong to the whole process, and so does what ends a measurement early. A
    Ctrl-C that ended an earlier call ends this one no more."""
    with _one_at_a_time:
        stopping.clear()
        with _put_back(), stdout_to_stderr():
            yield


@contextmanager
def _put_back() -> Iterator[None]:
    path, folder = sys.path.copy(), os.getcwd()  # a user's metric is looked for in its project, and may move
    try:
        yield
    finally:
        if sys.path != path:
            sys.path[:] = path
        with suppress(OSError):
            os.chdir(folder)


def own_errors(function: Callable[P, T]) -> Callable[P, T]:
    """What the operating system refuses becomes a HarnessError too: the file and the reason.

    An expected failure comes without the frames that lead to it: its message says what failed and what to try, they
    are a hundred lines in a notebook, and a store's URL with its password stands in their variables. What the user's
    own code raised stays behind it as its cause."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            failure = HarnessError(f"{place}{error.strerror or error}")
        except HarnessError as error:
            failure = error.with_traceback(None)
        failure.__cause__ = failure.__cause__ if isinstance(failure, UserCodeError) else None
        failure.__suppress_context__ = True
        raise failure

    return call
