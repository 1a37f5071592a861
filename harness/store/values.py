"""What may stand in a column: texts that every database can keep, and JSON without what is no JSON."""

from __future__ import annotations

import json
import math
from typing import Any

from sqlalchemy import Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from harness.errors import StoreError


class Words(TypeDecorator[str]):
    """Text from anywhere. NUL (which PostgreSQL cannot keep) and halves of surrogate pairs (which no UTF-8 has) are
    replaced by what stands for them visibly, U+2400 and U+FFFD."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return visible(value) if isinstance(value, str) else value


def visible(text: str) -> str:
    text = text.replace("\0", "\u2400")
    try:
        text.encode()
    except UnicodeEncodeError:  # a pair of halves becomes the character that it is
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def to_json(value: Any) -> str:
    """JSON in ASCII. Raises StoreError, naming the key, for NaN and infinity, which are no JSON: PostgreSQL refuses
    them, and nobody who reads SQLite's would know what they mean."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError as error:
        found = not_finite(value)
        if found is None:
            raise
        raise StoreError(f"{found} is not a finite number and cannot be stored") from error


def not_finite(value: Any, path: str = "") -> str | None:
    """Where in a value of dicts and lists the first NaN or infinity is, and which: `a.b[0] = nan`."""
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{path or 'the value'} = {value}"
    if isinstance(value, dict):
        inner = ((f"{path}.{key}".lstrip("."), item) for key, item in value.items())
    elif isinstance(value, list | tuple):
        inner = ((f"{path}[{position}]", item) for position, item in enumerate(value))
    else:
        return None
    return next((found for where, item in inner if (found := not_finite(item, where)) is not None), None)
