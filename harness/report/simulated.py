"""Numbers of a simulated device are never shown as measured, nor imported ones as this store's own: what every page,
table and card says of them first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: beside the title of every table and chart
TAG = "simulated"


def banner(document: Mapping[str, Any], where: str = "on this page") -> str | None:
    """What to say before anything else; None where every number was measured."""
    results = [r for r in document["results"] if r["device"] is not None]
    simulated = [r for r in results if r.get("simulated")]
    if not simulated:
        return None
    if len(simulated) == len(results):
        return f"SIMULATED DEVICE: no number {where} was measured"
    names = ", ".join(dict.fromkeys(str(r["device"]) for r in simulated))
    return f"SIMULATED DEVICE: the numbers of {names} were not measured"


def imported(document: Mapping[str, Any]) -> str | None:
    """What to say of a session that came out of a file; None of one that was measured into this store."""
    when = document.get("imported")
    return f"IMPORTED on {when[:10]}: these numbers came out of a file, and are its maker's word" if when else None
