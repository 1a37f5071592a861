"""What an export makes discreet: who and where devices are, and places on this computer; never what was measured."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from harness.commands.common import discreet
from harness.exchange.row import Tell

Names = Mapping[str, str]
#: what JSON text has wherever `discreet` would change one of its strings, and mostly has not: that is told far sooner.
#: Each begins with one certain character, which is what makes the search quick
_MAYBE = [
    re.compile(r"""/[^\s/"'`#:,\]})]+/"""),
    re.compile("@"),
    re.compile(r"\.\d{1,3}\.\d{1,3}\.\d"),
    re.compile(r"\[[0-9A-Fa-f:.]*:"),
]


def teller(names: Names) -> Tell:
    """For `row.flat`: what may leave of a run's text. `names`: commands.common.names_of the session."""
    named = [json.dumps(name)[1:-1] for name in names]

    def tell(column: str, text: str) -> str:
        if column == "reason":  # a key by which `discreet` knows a message of a device
            return str(discreet({column: text}, False, names)[column])
        if column in ("measurements", "summary"):  # numbers and metrics of our own
            return text
        if not any(one.search(text) for one in _MAYBE) and not any(name in text for name in named):
            return text
        return json.dumps(discreet(json.loads(text), False, names))

    return tell


def hidden(record: Mapping[str, Any], names: Names) -> dict[str, Any]:
    """A session_record that tells no path, address, serial, login or environment. The session stays one that a store
    takes: names of variants, inputs and the like stay, though they may look like an address."""
    session = dict(record["session"])
    package = json.loads(session["package"])
    told = _hidden_package(package, names)
    if told != package:
        session["package"] = json.dumps(told, separators=(",", ":"), ensure_ascii=False)
    devices = [_hidden_device(device, names) for device in record["devices"]]
    taken: set[str] = set()
    for device in devices:  # two addresses of one unit
        while device["name"] in taken:
            device["name"] += "+"
            device["spec"] = device["spec"] | {"name": device["name"]}
        taken.add(device["name"])
    return dict(record) | {"session": session, "devices": devices}


def _hidden_package(package: Mapping[str, Any], names: Names) -> Any:
    uris = {name: label for name, label in names.items() if "://" in name}
    own = {package["experiment"].get("name"), *package["checks"], *package["nulls"], *package["toolchain"].values()}
    for build in package["builds"]:
        own |= {build[key] for key in ("variant", "exporter", "backend", "input")}

    def walk(value: Any) -> Any:
        if isinstance(value, str) and value not in own:
            for uri, label in uris.items():
                value = value.replace(uri, label)
            return discreet(value, False)
        if isinstance(value, dict):
            return {key: walk(item) for key, item in value.items()}
        return [walk(item) for item in value] if isinstance(value, list) else value

    return walk(package)


def _hidden_device(device: Mapping[str, Any], names: Names) -> dict[str, Any]:
    spec = dict(device["spec"])
    facts = device.get("facts")
    name, uri = (_hidden_uri(spec[key], facts) for key in ("name", "uri"))
    runner = spec["runner"] | {"env": dict.fromkeys(spec["runner"]["env"], "…")}  # which may hold keys
    spec |= {"runner": runner}
    spec = discreet({k: v for k, v in spec.items() if k not in ("name", "uri")}, False) | {"name": name, "uri": uri}
    unreached = discreet({"reason": device["unreached"]}, False, names)["reason"]
    return dict(device) | {"name": name, "spec": spec, "unreached": unreached}


def _hidden_uri(text: str, facts: Mapping[str, Any] | None) -> str:
    """As pipeline.device_label has it: the part after the scheme replaced by the unit's id."""
    scheme, separator, _ = text.partition("://")
    if not separator or scheme == "sim":
        return text
    return f"{scheme}://{facts['device_id'] if facts else hashlib.sha256(text.encode()).hexdigest()[:8]}"
