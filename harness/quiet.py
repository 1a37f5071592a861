"""Keeps foreign libraries' chatter off our stdout and stderr, at the level of file descriptors (C++ writes there).

stdout belongs to the one JSON document; whatever user code or a library prints goes to stderr.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def _redirected(source: int, target: int) -> Iterator[None]:
    kept = os.dup(source)
    try:
        os.dup2(target, source)
        yield
    finally:
        os.dup2(kept, source)
        os.close(kept)


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """While inside, what is printed to stdout (by Python or C) comes out on stderr."""
    sys.stdout.flush()
    with _redirected(1, 2), contextlib.redirect_stdout(sys.stderr):
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Swallows stderr and warnings; gives the text back on stderr if the body fails."""
    sys.stderr.flush()
    with tempfile.TemporaryFile("w+", errors="replace") as sink, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with _redirected(2, sink.fileno()), contextlib.redirect_stderr(sink):
                yield
        except BaseException:
            sink.flush()
            sink.seek(0)
            sys.stderr.write(sink.read()[-4000:])
            raise
