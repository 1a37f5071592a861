"""Placeholder until preparing lands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


@contextmanager
def prepared(depot: object, spec: object, facts: object) -> Iterator[Mapping[str, Any]]:
    yield {}


def restore(depot: object) -> None:
    pass
