"""JSON from elsewhere: parsed only where it is bounded and means one thing."""

from __future__ import annotations

import json
from typing import Any

from harness.exchange.wrong import DEEPEST
from harness.store.values import visible

_MOST_WHOLE = 2**63


def parsed(text: str, most: int) -> Any:
    """Raises ValueError, saying why, for what is too long, too deep, or no strict JSON (a key twice, NaN), and for a
    whole number beyond 64 bits: others are finite as floats."""
    if len(text) > most:
        raise ValueError(f"{len(text)} characters, at most {most} are taken")
    try:
        found = json.loads(text, object_pairs_hook=once, parse_constant=refused, parse_int=whole)
    except RecursionError:
        raise ValueError("lists in lists without end") from None
    if _deeper(found, DEEPEST):
        raise ValueError(f"more than {DEEPEST} levels")
    json.dumps(found, allow_nan=False)  # 1e999 is read as infinity
    return found


def canonical(value: Any) -> str:
    """As a store of ours has it."""
    return json.dumps(value, allow_nan=False)


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `object_pairs_hook`."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key that is there twice")
    return found


def whole(digits: str) -> int:
    """For `parse_int`."""
    if len(digits) > 20 or not -_MOST_WHOLE < (found := int(digits)) < _MOST_WHOLE:
        raise ValueError(f"{digits[:20]}…, a whole number beyond 64 bits")
    return found


def refused(word: str) -> None:
    """For `parse_constant`."""
    raise ValueError(f"{word}, which is no JSON")


def _deeper(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return bool(inner) and (not levels or any(_deeper(item, levels - 1) for item in inner))


def sound(text: str) -> bool:
    """Whether every database can keep it as it is: no NUL, no half of a surrogate pair."""
    return visible(text) == text
