"""URLs and messages as they may be told: without what gives access."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, quote, unquote, urlsplit

#: a parameter of this name holds a secret, whatever else it says
_SECRET = re.compile(r"pass|pwd|token|secret|key|sig|cred", re.IGNORECASE)
_QUERY = re.compile(r"\?[^\s?'\"()<>]*=[^\s'\"()<>]*")


def shown(url: str) -> str:
    """The URL without a user's name and password, and without its query, which may be a token."""
    return re.sub(r"//.*@", "//", url).partition("?")[0]


def discreet_text(text: str, url: str, secrets: Iterable[str | None] = ()) -> str:
    """The text without the secrets of `url`, in any spelling, without other `secrets`, and without the users and the
    queries of any URL in it."""
    known = {secret for secret in secrets if secret} | _secrets(url)
    spelled = {form for secret in known for form in (secret, unquote(secret), quote(unquote(secret), safe=""))}
    for secret in sorted(spelled, key=len, reverse=True):  # the longest first: one may be a part of another
        text = text.replace(secret, "…")
    return _QUERY.sub("", re.sub(r"//\S*@", "//", text))


def _secrets(url: str) -> set[str]:
    try:
        parts = urlsplit(url)
        found = {parts.password}
    except ValueError:  # no URL; what stands before its last @ is nobody's business
        return {url.rpartition("@")[0].rpartition("//")[2].partition(":")[2]} - {""}
    found |= {value for name, value in parse_qsl(parts.query) if _SECRET.search(name)}
    return {secret for secret in found if secret}
