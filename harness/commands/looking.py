"""`devices`, `doctor` and `runners`: what is there, and what to do where something is missing."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.commands.common import emit, store_url
from harness.devices import runners
from harness.devices.bench import facts_of
from harness.devices.facts import target
from harness.devices.spec import resolve
from harness.errors import DeviceError, HarnessError, UsageError
from harness.paths import cache_dir
from harness.store import Store
from harness.store.engine import shown

COMPRESS = ("torch", "torchao", "executorch", "torch_pruning", "mlxtend", "safetensors")


def look(names: Sequence[str]) -> list[dict[str, Any]]:
    """`local` and the devices named, each with its state; a device that is out of reach is an entry, not an error."""
    out = []
    for name in dict.fromkeys(["local", *names]):
        spec = resolve(name)
        entry: dict[str, Any] = {"name": name, "uri": spec.uri, "transport": spec.uri.partition(":")[0]}
        try:
            facts = facts_of(spec)
        except DeviceError as error:
            entry |= {"device_id": None, "state": "unreachable", "reason": str(error), "facts": None, "energy": []}
        else:
            said = asdict(facts)
            keys = ("model", "soc", "abi", "os", "cores", "clusters", "memory_bytes", "page_size")
            entry |= {
                "device_id": facts.device_id,
                "state": "ready",
                "reason": None,
                "facts": {k: list(said[k]) if k == "clusters" else said[k] for k in keys},
                "energy": [],
            }
        out.append(entry)
    return out


def devices(names: Sequence[str], json_out: bool) -> int:
    found = look(names)
    if json_out:
        emit(found)
        return 0
    for entry in found:
        facts = entry["facts"] or {}
        about = ", ".join(
            str(part)
            for part in (facts.get("model"), facts.get("soc"), facts.get("abi"), facts.get("os"))
            if part is not None
        )
        cores = f", {facts['cores']} cores" if facts else ""
        print(f"{entry['name']}: {entry['state']} {entry['device_id'] or ''} {about}{cores}{entry['reason'] or ''}")
        if not entry["energy"]:
            print("  energy: no source is read on this device yet")
    return 0


def doctor(store: str | None, json_out: bool) -> int:
    checks = [*_checks(store)]
    if json_out:
        emit({"schema": 1, "checks": checks})
    else:
        for check in checks:
            mark = {"ok": "ok     ", "missing": "missing"}[check["state"]]
            print(f"{mark}  {check['what']}: {check['found']}")
            if check["remedy"] and check["state"] != "ok":
                print(f"         try: {check['remedy']}")
    return 3 if any(c["state"] != "ok" and c["needed"] for c in checks) else 0


def _checks(store: str | None) -> list[dict[str, Any]]:
    out = []

    def add(what: str, found: object, remedy: str, needed: bool = True) -> None:
        state = "ok" if found else "missing"
        out.append(
            {"what": what, "state": state, "found": str(found or "not there"), "remedy": remedy, "needed": needed}
        )

    version = platform.python_version()
    add("python", version if sys.version_info >= (3, 11) else "", "Python 3.11 or newer")
    absent = [name for name in COMPRESS if importlib.util.find_spec(name) is None]
    add(
        "building (extra compress)",
        "" if absent else "all libraries",
        'pip install "ondevice-harness[compress]"',
        False,
    )
    compiler = os.environ.get("CXX") or shutil.which("g++") or ""
    built = {bundle.runtime for bundle in runners.listing()}
    add(
        "C++ compiler",
        compiler or ("not needed, runners are there" if built >= {"executorch", "torchscript"} else ""),
        "apt install g++ (or harness runners add FILE)",
    )
    for runtime in ("executorch", "torchscript"):
        add(
            f"runner {runtime}",
            (runtime in built and "there") or (compiler and "will be built at first use"),
            "harness runners build, or harness runners add FILE",
        )
    writable = _writable(cache_dir())
    add("cache folder", str(cache_dir()) if writable else "", "make it writable or set HARNESS_CACHE")
    url = store_url(store)
    name = shown(url)
    try:
        Store.open(url).close()
        add("store", name, "")
    except UsageError:
        add("store", f"{name} (made by the first run)", "")
    except HarnessError as error:
        add("store", "", str(error))
    for entry in look([]):
        add(f"device {entry['name']}", entry["state"] == "ready" and "ready", entry["reason"] or "")
    return out


def _writable(folder: Path) -> bool:
    while not folder.exists():
        folder = folder.parent
    return os.access(folder, os.W_OK)


def runners_build(runtimes: Sequence[str], wanted: str | None, out: Path | None, json_out: bool) -> int:
    for name in runtimes:
        if name not in runners.RUNTIMES:
            raise UsageError(f"unknown runtime {name!r}", f"one of: {', '.join(runners.RUNTIMES)}")
    if out is not None and len(runtimes) != 1:
        raise UsageError("-o packs one bundle", "name it with --runtime")
    where = wanted or target(facts_of(resolve("local")))
    wanted_names = runtimes or list(runners.RUNTIMES)
    bundles = [runners.ensure(name, where, lambda text: print(text, file=sys.stderr)) for name in wanted_names]
    _tell_bundles(bundles, json_out)
    if out is not None:
        runners.pack(bundles[0], out)
        print(out, file=sys.stderr if json_out else sys.stdout)
    return 0


def runners_add(file: Path, json_out: bool) -> int:
    _tell_bundles([runners.add(file)], json_out)
    return 0


def runners_list(json_out: bool) -> int:
    found = runners.listing()
    _tell_bundles(found, json_out)
    if not found and not json_out:
        print("no runner is built yet; harness runners build")
    return 0


def _tell_bundles(bundles: Sequence[runners.Bundle], json_out: bool) -> None:
    if json_out:
        keys = ("runtime", "version", "target", "sha256")
        emit([{key: getattr(bundle, key) for key in keys} for bundle in bundles])
        return
    for bundle in bundles:
        print(f"{bundle.runtime:<12} {bundle.version:<8} {bundle.target:<14} {bundle.sha256[:12]}")
