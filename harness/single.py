"""One thing on one device: a finished file or a live model, packaged, measured, and its one result.

`packaged` and `measured` are apart so that a caller may look whether it has measured this very package before
(`identity`): pytest's fixture does."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from harness import pipeline
from harness.answers import CONFIDENCE, Result
from harness.commands.common import concluded
from harness.errors import NotMeasured, UsageError
from harness.experiment import Measure
from harness.foreign import package_of
from harness.live import arrays, exported, fed
from harness.package import Files
from harness.screen import Screen
from harness.settings import Settings
from harness.store import Store
from harness.types import DTYPES, DeviceSpec, Package

if TYPE_CHECKING:
    import torch


def packaged(
    what: str | Path | torch.nn.Module,
    device: DeviceSpec,
    settings: Settings,
    screen: Screen,
    *,
    inputs: Any = None,
    expect: Any = None,
    backend: str = "xnnpack",
    threads: int = 1,
    repeats: int = 5,
    min_seconds: float = 2.0,
    min_sqnr_db: float | None = None,
) -> tuple[Package, Files]:
    """What `measured` takes. `inputs`, `expect`: tensors or arrays of one call; `backend` is of a live model.

    Raises UsageError for arguments that cannot be used, UserCodeError for a model that cannot be run or exported,
    DeviceError where a file has to be loaded to know its inputs, and cannot be."""
    plan = _plan(threads, repeats, min_seconds)
    pipeline.refuse_impossible_threads(plan, [device])
    if min_sqnr_db is not None and (isinstance(min_sqnr_db, bool) or not isinstance(min_sqnr_db, int | float)):
        raise UsageError(f"min_sqnr_db: {min_sqnr_db!r} is not a number", "in dB")
    if _is_module(what):
        files, module = Files(settings.files), _as_module(what)
        package = exported(
            module, inputs, measure=plan, device=device.name, files=files, expect=expect, backend=backend,
            min_sqnr_db=min_sqnr_db,
        )  # fmt: skip
        return package, files
    if not isinstance(what, str | os.PathLike):
        raise UsageError(
            f"{type(what).__name__}: a file or a model is measured", "the path of a .pte or .ptl, or a torch.nn.Module"
        )
    return _of_file(Path(what), device, settings, screen, inputs, expect, plan, min_sqnr_db)


def measured(
    package: Package,
    files: Files,
    device: DeviceSpec,
    settings: Settings,
    screen: Screen,
    confidence: float = CONFIDENCE,
) -> Result:
    """The result, whatever became of it (`usable` refuses what is not `ok`); every run is in the store.

    Raises DeviceError and ToolchainError where the device cannot be used at all, StoreError."""
    session = pipeline.run_package(package, files, [device], settings, screen)
    store = Store.open(settings.store_url)
    try:
        document = concluded(session, store.scored(session.id), settings.files, None, settings.identify)
    finally:
        store.close()
    return Result(document=document["results"][0], confidence=confidence)


def usable(result: Result) -> Result:
    """The same result. Raises NotMeasured where it is not `ok`: a fast wrong answer is no result."""
    if result.status == "ok":
        return result
    reason = result.reason or "no reason is known"
    hint = None
    if reason.startswith("wrong output") and "dB" in reason:
        hint = "where such a difference is meant, min_sqnr_db= is the floor in dB"
    raise NotMeasured(f"{result.variant} on {result.device}: {result.status}: {reason}", hint)


def identity(package: Package, device: DeviceSpec) -> str:
    """Hash of all that is measured and how: the files by content, the inputs, the plan, the device's entry."""
    content = TypeAdapter(Package).dump_python(package, mode="json")
    told = ("built", "notes", "facts")  # how the file came about: the seconds differ each time
    builds = [{key: value for key, value in build.items() if key not in told} for build in content["builds"]]
    spec = TypeAdapter(DeviceSpec).dump_python(device, mode="json")
    said = json.dumps([content["experiment"], builds, content["checks"], spec], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()


def _plan(threads: int, repeats: int, min_seconds: float) -> Measure:
    try:
        return Measure(threads=[threads], repeats=repeats, min_seconds=min_seconds)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{first['loc'][0]}: {first['msg']}, not {first['input']!r}"[:300]) from error


def _is_module(what: Any) -> bool:
    """Whoever has a module has imported torch; nobody else need."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(what, torch.nn.Module)


def _as_module(what: Any) -> torch.nn.Module:
    module: torch.nn.Module = what
    return module


def _of_file(
    file: Path, device: DeviceSpec, settings: Settings, screen: Screen, inputs: Any, expect: Any, plan: Measure,
    min_sqnr_db: float | None,
) -> tuple[Package, Files]:  # fmt: skip
    if file.suffix == ".ptl" and inputs is None:
        raise UsageError(f"{file}: a .ptl does not describe its inputs", "inputs=(x,): the tensors of one call")
    with tempfile.TemporaryDirectory() as kept:
        given = None if inputs is None else _npz(fed(inputs), Path(kept) / "inputs.npz")
        wanted = None if expect is None else _npz(_comparable(expect), Path(kept) / "expect.npz")
        package, files = package_of(
            file, device, [], given, wanted, plan.threads[0], plan.repeats, settings, screen
        )
    own = {"measure": plan.model_dump(mode="json")}
    if min_sqnr_db is not None:
        own["check"] = {"min_sqnr_db": float(min_sqnr_db)}
    return dataclasses.replace(package, experiment=dict(package.experiment) | own), files


def _comparable(expect: Any) -> tuple[np.ndarray[Any, Any], ...]:
    found = arrays(expect, "expect")
    for index, array in enumerate(found):
        if array.dtype.name not in DTYPES:
            raise UsageError(f"expect[{index}] is {array.dtype.name}; a file gives {', '.join(DTYPES)}")
    return found


def _npz(found: Sequence[np.ndarray[Any, Any]], path: Path) -> Path:
    np.savez(path, *found)
    return path
