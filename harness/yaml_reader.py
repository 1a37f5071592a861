"""YAML 1.2 text -> plain values and where each stands. Strict: no tags, no duplicate keys, no tabs, bounded size.

Built on ruamel's *composer*, not its constructor: nodes carry their line, and nothing the text names is ever
constructed, so `!!python/object` has nothing to run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.errors import ConfigError

Path = tuple[str | int, ...]
MAX_BYTES = 1_000_000
MAX_NODES = 50_000  # aliases are expanded: a bound on what they may expand to

_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = {_TAG + kind for kind in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp")}


@dataclass(frozen=True, kw_only=True)
class Document:
    """`value`: dicts, lists and scalars. `lines`: path -> 1-based line of that key or item.

    `origin`: beginning of a path in `value` -> where that stands in the file, for what was expanded."""

    name: str
    value: Any
    lines: Mapping[Path, int]
    origin: Mapping[Path, Path] = field(default_factory=dict)

    def refuse(self, path: Path, message: str, hint: str | None = None) -> ConfigError:
        """The error that names file, line and the path to the key (or to its nearest parent that stands there)."""
        path = (*self.origin.get(path[:2], path[:2]), *path[2:])
        at = path
        while at and at not in self.lines:
            at = at[:-1]
        where = f"{self.name}:{self.lines.get(at, 1)}"
        return ConfigError(f"{where}: {dotted(path)}: {message}" if path else f"{where}: {message}", hint)


def dotted(path: Path) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def read_yaml(text: str, name: str) -> Document:
    """Raises ConfigError with the line for anything that is not a plain YAML 1.2 document."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    if len(text) > MAX_BYTES:
        raise ConfigError(f"{name}: larger than {MAX_BYTES} bytes", "an experiment is a few kilobytes")
    try:
        reader = YAML(typ="safe", pure=True)
        node = reader.compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = " ".join(str(error.problem or error).split())
        hint = "YAML is indented with spaces, never with tabs" if "\\t" in problem or "tab" in problem else None
        raise ConfigError(f"{name}:{line}: not valid YAML: {problem}", hint) from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{name}: not valid YAML: {' '.join(str(error).split())[:300]}") from error
    lines: dict[Path, int] = {}
    walker = _Walker(name, lines)
    return Document(name=name, value=None if node is None else walker.value(node, ()), lines=lines)


class _Walker:
    def __init__(self, name: str, lines: dict[Path, int]) -> None:
        self.name, self.lines, self.nodes = name, lines, 0

    def refuse(self, node: Any, path: Path, message: str, hint: str | None = None) -> ConfigError:
        where = f"{self.name}:{node.start_mark.line + 1}"
        return ConfigError(f"{where}: {dotted(path)}: {message}" if path else f"{where}: {message}", hint)

    def value(self, node: Any, path: Path) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES or len(path) > 50:
            raise self.refuse(node, path[:3], f"the document expands to more than {MAX_NODES} values")
        self.lines.setdefault(path, node.start_mark.line + 1)
        tag = str(node.tag)
        if tag not in _PLAIN_TAGS:
            raise self.refuse(node, path, f"the tag {tag.replace(_TAG, '!!')!r} is not allowed", "plain values only")
        kind = tag.removeprefix(_TAG)
        if kind == "map":
            return self.mapping(node, path)
        if kind == "seq":
            return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]
        return self.scalar(node, path, kind)

    def mapping(self, node: Any, path: Path) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key, str) or not str(key_node.tag).startswith(_TAG):
                raise self.refuse(key_node, path, "a key must be plain text")
            if key in out:
                raise self.refuse(key_node, (*path, key), "the key is given twice")
            self.lines[(*path, key)] = key_node.start_mark.line + 1
            out[key] = self.value(value_node, (*path, key))
        return out

    def scalar(self, node: Any, path: Path, kind: str) -> Any:
        text = node.value
        try:
            if kind == "int":
                return int(text.replace("_", ""), 0) if re.match(r"[-+]?0[xo]", text) else int(text.replace("_", ""))
            if kind == "float":
                number = float(
                    text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan").replace(".NaN", "nan")
                )
                if not math.isfinite(number):
                    raise ValueError("not a finite number")
                return number
        except ValueError as error:
            raise self.refuse(node, path, f"{text!r} is not a finite number") from error
        if kind == "bool" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        return None if kind == "null" else text
