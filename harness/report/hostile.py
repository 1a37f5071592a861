"""Names, reasons and device texts come from outside: here they become harmless for a page, a terminal and markdown.

HTML is escaped by jinja2's autoescape; these functions see to what that does not cover.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from markupsafe import Markup

#: control characters move a terminal's cursor, bidirectional overrides reorder text so that it lies
_LONGEST = 20_000
_HARMLESS = frozenset((float, int, bool))


def clean(value: Any) -> Any:
    """The same JSON value with every control character, bidirectional override and lone surrogate shown as `\\x1b`."""
    if value is None or type(value) in _HARMLESS:  # most of a large document: told apart first
        return value
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, Mapping):
        return {clean_text(str(k)): v if type(v) in _HARMLESS else clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [v if type(v) in _HARMLESS else clean(v) for v in value]
    return value


@lru_cache(maxsize=1 << 16)
def clean_text(text: str) -> str:
    if len(text) <= _LONGEST and text.isascii() and text.isprintable():
        return text
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]} … ({len(text) - _LONGEST} more characters)"
    text = text.replace("\r\n", "\n")
    return text if text.isascii() and text.isprintable() else "".join(map(_visible, text))


def one_line(text: str, longest: int = 300) -> str:
    """For a table cell or a list: white space folded, the end cut off with `…`."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def markdown_text(text: str) -> str:
    """Text that no markdown renderer reads as markup, a mention or a link; for one table cell or list item."""
    line = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*_\[\]|~]|^[#+-])", r"\\\1", line)
    return re.sub(r"(@|://|www\.|#(?=\d))", lambda m: f"{m[1][:1]}&#8203;{m[1][1:]}", line)


def script_json(data: Any) -> Markup:
    """JSON for a `<script type="application/json">`: cannot end the element, nor hold what a parser stumbles over.

    Raises ValueError for NaN and infinity, which are not JSON."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _visible(character: str) -> str:
    if character in "\n\t":
        return character
    category = unicodedata.category(character)
    if category in ("Cc", "Cs") or character in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069":
        code = ord(character)
        return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    return " " if category in ("Zl", "Zp") else character
