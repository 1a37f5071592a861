"""Sweeps: one entry of `variants` that stands for many. Expanded before anything is validated or run.

    - sweep: {name: "slim{ratio}-int8", ratio: [0.25, 0.5], steps: [{prune_channels: {ratio: "{ratio}"}}, …]}

"{ratio}" as a whole value keeps its type, inside a text it is text; several lists make the product.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from harness.yaml_reader import Document, Path

MOST = 500  # variants that one sweep may make
_PLACE = re.compile(r"\{([A-Za-z_]\w*)\}")
_OWN = ("name", "steps")


def expand(document: Document) -> Document:
    """The document with each sweep replaced by its variants, which know where they stand in the file.

    Raises ConfigError for a sweep that is none, a placeholder without a list, and lists that make no name."""
    raw = document.value.get("variants")
    if not isinstance(raw, list):
        return document
    variants: list[Any] = []
    origin: dict[Path, Path] = {}
    for i, entry in enumerate(raw):
        path: Path = ("variants", i)
        if isinstance(entry, dict) and "sweep" in entry:
            for made in _variants(document, (*path, "sweep"), entry):
                origin["variants", len(variants)] = (*path, "sweep")
                variants.append(made)
        else:
            origin["variants", len(variants)] = path
            variants.append(entry)
    return replace(document, value={**document.value, "variants": variants}, origin=origin)


def _variants(document: Document, path: Path, entry: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    sweep = entry["sweep"]
    if len(entry) > 1:
        other = next(key for key in entry if key != "sweep")
        raise document.refuse((*path[:-1], other), "unknown key beside sweep", "put it into the sweep")
    if not isinstance(sweep, dict) or not isinstance(sweep.get("name"), str):
        raise document.refuse(path, "a sweep is a mapping with a name, lists and steps",
                              '{sweep: {name: "slim{ratio}", ratio: [0.25, 0.5], steps: [{prune_channels: '
                              '{ratio: "{ratio}"}}]}}')
    lists = {key: value for key, value in sweep.items() if key not in _OWN}
    for key, value in lists.items():
        if not isinstance(value, list) or not value:
            raise document.refuse((*path, key), "a sweep's own keys are lists of values", f"{key}: [0.25, 0.5]")
    count = 1
    for value in lists.values():
        count *= len(value)
    if not lists or count > MOST:
        reason = f"the lists make {count} variants, at most {MOST} are allowed" if lists else "a sweep without a list"
        raise document.refuse(path, reason)
    seen: dict[str, dict[str, Any]] = {}
    for values in itertools.product(*lists.values()):
        chosen = dict(zip(lists, values, strict=True))
        made = {key: _filled(document, (*path, key), sweep[key], chosen) for key in _OWN if key in sweep}
        if made["name"] in seen:
            raise document.refuse((*path, "name"), f"{seen[made['name']]} and {chosen} make the same name "
                                  f"{made['name']!r}", "put each list that has several values into the name")
        seen[made["name"]] = chosen
        yield made


def _filled(document: Document, path: Path, value: Any, chosen: Mapping[str, Any]) -> Any:
    """`value` with its placeholders filled in."""
    if isinstance(value, dict):
        return {key: _filled(document, (*path, key), item, chosen) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(document, (*path, i), item, chosen) for i, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    for name in _PLACE.findall(value):
        if name not in chosen:
            raise document.refuse(path, f"the sweep has no list {name!r}", f"its lists: {', '.join(chosen)}")
    if path[-1] != "name" and (whole := _PLACE.fullmatch(value)):
        return chosen[whole[1]]
    return _PLACE.sub(lambda place: _text(document, path, chosen[place[1]]), value)


def _text(document: Document, path: Path, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        raise document.refuse(path, f"{value!r} cannot stand inside a text", "only as a whole value")
    return "null" if value is None else str(value)
