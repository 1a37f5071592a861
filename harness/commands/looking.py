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
from harness.devices import catalog, runners
from harness.devices.bench import facts_of
from harness.devices.discover import Found, discover
from harness.devices.facts import target
from harness.devices.spec import resolve
from harness.errors import HarnessError, StoreError, UsageError
from harness.paths import cache_dir
from harness.store import Store
from harness.store.engine import shown

COMPRESS = ("torch", "torchao", "executorch", "torch_pruning", "mlxtend", "safetensors")


FACTS = ("model", "soc", "abi", "os", "cores", "clusters", "memory_bytes", "page_size")


def look(names: Sequence[str], devices_file: Path | None = None) -> list[Found]:
    """What is in reach; a device that is not is an entry too, and no error. Raises UsageError for what is no device."""

    def note(text: str) -> None:
        print(f"note: {text}", file=sys.stderr)

    return discover(catalog.load(devices_file, Path.cwd()), also=names, note=note)


def devices(names: Sequence[str], devices_file: Path | None, json_out: bool) -> int:
    found = look(names, devices_file)
    if json_out:
        emit([_entry(one) for one in found])
    else:
        print("\n\n".join("\n".join(_block(one)) for one in found))
    return 0


def _entry(one: Found) -> dict[str, Any]:
    said = None if one.facts is None else asdict(one.facts)
    return {
        "name": one.name,
        "uri": one.uri,
        "transport": one.transport,
        "device_id": None if one.facts is None else one.facts.device_id,
        "state": one.state,
        "reason": None if one.reason is None else _remedied(one),
        "facts": said and {key: list(said[key]) if key == "clusters" else said[key] for key in FACTS},
        "energy": [] if one.condition is None else [dict(source) for source in one.condition.energy],
    }


def _remedied(one: Found) -> str:
    return f"{one.reason} (try: {one.hint})" if one.hint else str(one.reason)


def _block(one: Found) -> list[str]:
    """A device as some lines to read."""
    lines = [f"{one.name}: {one.state}"]
    if one.uri != one.name:
        lines.append(f"  at       {one.uri}")
    if one.reason is not None:
        lines.append(f"  {'but' if one.state == 'ready' else 'because':<8} {one.reason}")
    if one.hint is not None:
        lines.append(f"  try      {one.hint}")
    facts, now = one.facts, one.condition
    if facts is None or now is None:
        return lines
    lines.append(f"  id       {facts.device_id}")
    lines.append(f"  is       {', '.join(part for part in (facts.model, facts.soc, facts.abi) if part)}")
    lines.append(f"  runs     {', '.join(part for part in (facts.os, facts.kernel) if part)}")
    clusters = ", ".join(f"{len(c['cpus'])} at up to {(c['max_khz'] or 0) / 1e6:.2f} GHz" for c in facts.clusters)
    memory = f", {facts.memory_bytes / 2**30:.1f} GiB of memory" if facts.memory_bytes else ""
    pages = f", pages of {facts.page_size // 1024} KiB" if facts.page_size else ""
    lines.append(f"  has      {facts.cores} cores{f' ({clusters})' if clusters else ''}{memory}{pages}")
    if now.battery_percent is not None:
        heat = "" if now.battery_c is None else f", {now.battery_c:g} °C"
        lines.append(f"  battery  {now.battery_percent} %{heat}{', charging' if now.charging else ''}")
    if now.root is not None:
        lines.append(f"  root     {'yes' if now.root else 'not given, though devices.yaml says that it may be used'}")
    for source in now.energy:
        lines.append(f"  energy   {source['source']}: {source['reason'] or 'usable'}")
    if not now.energy:
        lines.append("  energy   nothing on this device tells it")
    return lines


def doctor(store: str | None, devices_file: Path | None, json_out: bool) -> int:
    found = look([], devices_file)
    checks = [*_checks(store), *_foreign_runner_checks(found), *(_device_check(one) for one in found)]
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
    built = {bundle.runtime for bundle in runners.listing() if bundle.target == runners.host_target()}
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
    add("store", *_store(store_url(store)))
    return out


def _store(url: str) -> tuple[str, str]:
    """What is there, or (empty) nothing that can be used and what to try."""
    try:
        name = shown(url)
    except UsageError as error:
        return "", str(error)
    try:
        Store.open(url).close()
    except UsageError:
        return f"{name} (made by the first run)", ""
    except HarnessError as error:
        return "", str(error)
    try:
        Store.open(url, create=True).close()
    except StoreError as error:
        return f"{name} (it can only be read: {error.what.removeprefix(f'store {name}: ')})", ""
    return name, ""


def _foreign_runner_checks(found: Sequence[Found]) -> list[dict[str, Any]]:
    """The runners that the other devices in reach need, where their processor is not this computer's."""
    abis = [one.facts.abi for one in found if one.facts is not None]
    there = {(bundle.runtime, bundle.target) for bundle in runners.listing()}
    out = []
    for abi in sorted(set(abis) - set(abis[:1])):
        built = all((runtime, f"linux-{abi}") in there for runtime in ("executorch", "torchscript"))
        compiler = shutil.which(f"{abi}-linux-gnu-g++")
        out.append(
            {
                "what": f"runners for {abi}",
                "state": "ok" if built or compiler else "missing",
                "found": "there" if built else "will be built at first use" if compiler else "not there",
                "remedy": f"apt install g++-{abi.replace('_', '-')}-linux-gnu (or harness runners add FILE)",
                "needed": False,
            }
        )
    return out


def _device_check(one: Found) -> dict[str, Any]:
    """Only this computer must be ready: a phone may well be in somebody's pocket just now."""
    return {
        "what": f"device {one.name}",
        "state": "ok" if one.state in ("ready", "busy") else "missing",  # in use is in order
        "found": one.state if one.reason is None else f"{one.state}: {one.reason}",
        "remedy": one.hint or "",
        "needed": one.name == "local",
    }


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
