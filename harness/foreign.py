"""`measure FILE`: a package around one finished file, made without torch and without loading the file on the host."""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.attempt import waiter
from harness.devices.bench import opened
from harness.errors import DeviceError, UsageError
from harness.experiment import NAME, Measure
from harness.measure import session as measuring
from harness.package import SCHEMA, Files
from harness.pipeline import refuse_impossible_threads
from harness.screen import Screen
from harness.settings import Settings
from harness.types import (
    DTYPES,
    INPUT_DTYPES,
    Artifact,
    Build,
    Cell,
    CheckSet,
    DeviceSpec,
    Package,
    PlannedRun,
    TensorFile,
    TensorSpec,
)
from harness.work import collector

RUNTIMES = {".pte": ("executorch", "executorch"), ".ptl": ("torchscript_lite", "torchscript")}
BACKENDS = {b"XnnpackBackend": "xnnpack", b"VulkanBackend": "vulkan", b"QnnBackend": "qnn", b"CoreMLBackend": "coreml"}
#: dB that --expect asks of a file whose precision nobody told us: the floor of static int8
FLOOR_DB = 25.0
INPUT_SEED = 0
MAX_INPUT_BYTES = 1 << 32
#: what numpy raises for a file that is no archive of arrays, or a broken one
DAMAGED = (
    *(OSError, ValueError, TypeError, AttributeError, EOFError, KeyError, MemoryError, SyntaxError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)


def package_of(
    file: Path,
    device: DeviceSpec,
    given: Sequence[str],
    arrays: Path | None,
    expect: Path | None,
    threads: int,
    repeats: int,
    settings: Settings,
    screen: Screen,
) -> tuple[Package, Files]:
    """Raises UsageError for a file, an input or an expectation that cannot be used."""
    if file.suffix not in RUNTIMES:
        raise UsageError(f"{file}: neither .pte nor .ptl", "measure takes files made by ExecuTorch or TorchScript-lite")
    exporter, runtime = RUNTIMES[file.suffix]
    measure = Measure(threads=[threads], repeats=repeats)
    refuse_impossible_threads(measure, [device])
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    settings.files.mkdir(parents=True, exist_ok=True)
    files = Files(settings.files)
    artifact = _artifact(content, file.suffix, runtime, files)
    if arrays is not None:
        tensors = _from_npz(arrays, "--inputs", INPUT_DTYPES)
    else:
        specs = [_parse(text) for text in given] or _described(artifact, device, files, settings, screen)
        tensors = [_generated(spec, index) for index, spec in enumerate(specs)]
    inputs = tuple(_store_tensor(tensor, files) for tensor in tensors)
    wanted = [] if expect is None else _from_npz(expect, "--expect", tuple(DTYPES))
    expected = tuple(_store_tensor(tensor, files) for tensor in wanted)
    name = re.sub(r"[^A-Za-z0-9._-]", "-", file.stem)[:100]
    name = name if re.fullmatch(NAME, name) else "file"
    build = Build(
        variant=name,
        seed=0,
        exporter=exporter,
        backend=_backend(content) if runtime == "executorch" else "cpu",
        input="default",
        status="ok",
        artifact=artifact,
        expected=expected,
    )
    experiment = {
        "name": name,
        "data": None,
        "reference": name,
        "measure": measure.model_dump(mode="json"),
        "check": {"min_sqnr_db": FLOOR_DB},
        "objectives": ["latency_ms", "peak_memory_bytes", "size_bytes"],
        "pick": None,
        "devices": [device.name],
    }
    checks = {"default": CheckSet(input="default", inputs=inputs, has_data=False)}
    return Package(schema=SCHEMA, experiment=experiment, yaml="", builds=(build,), checks=checks, nulls={}), files


def _artifact(content: bytes, suffix: str, runtime: str, files: Files) -> Artifact:
    import zstandard

    return Artifact(
        sha256=files.put(content, suffix),
        suffix=suffix,
        size_bytes=len(content),
        compressed_bytes=len(zstandard.ZstdCompressor(level=19).compress(content)),
        runtime=runtime,
        toolchain={},
    )


def _backend(content: bytes) -> str:
    """By the names of delegates that the file carries; `portable` where it names none."""
    return "+".join(sorted(name for key, name in BACKENDS.items() if key in content)) or "portable"


def _parse(text: str) -> TensorSpec:
    match = re.fullmatch(r"(\d{1,9}(?:[,x]\d{1,9})*)(?::(\w+))?", text)
    dtype = (match and match[2]) or "float32"
    if match is None or dtype not in INPUT_DTYPES:
        raise UsageError(
            f"--input {text!r} is not SHAPE[:DTYPE]",
            f"for example 1,3,224,224:float32; one of {', '.join(INPUT_DTYPES)}",
        )
    return _possible(dtype, [int(n) for n in re.split("[,x]", match[1])], f"--input {text!r}")


def _possible(dtype: Any, shape: Any, where: str) -> TensorSpec:
    """The input as it is told, by the user or by a file; UsageError where we cannot make such a tensor."""
    if dtype not in INPUT_DTYPES:
        raise UsageError(f"{where}: the dtype {dtype} cannot be fed", f"a runner takes {', '.join(INPUT_DTYPES)}")
    if not all(isinstance(n, int) and n > 0 for n in shape):
        raise UsageError(f"{where}: the shape {shape} is impossible", "every dimension is at least 1")
    if math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize > MAX_INPUT_BYTES:
        raise UsageError(f"{where}: impossible size", f"an input has at most {MAX_INPUT_BYTES >> 30} GiB")
    return TensorSpec(dtype=dtype, shape=tuple(shape))


def _described(
    artifact: Artifact, device: DeviceSpec, files: Files, settings: Settings, screen: Screen
) -> list[TensorSpec]:
    """The inputs as the file describes them to the runner."""
    if artifact.runtime != "executorch":
        raise UsageError("a .ptl does not describe its inputs", "name each with --input SHAPE[:DTYPE]")
    cell = Cell(
        variant="file", seed=0, exporter="executorch", backend="", input="default", device_id="", threads=1, cpus="any"
    )
    planned = PlannedRun(cell=cell, purpose="load", repeat=0, block=0, position=0, artifact=artifact, inputs=())
    with opened(device, collector(settings.store_url), waiter(device.name)) as bench:
        attempt = measuring.measure(
            planned,
            depot=bench.depot,
            prefix=bench.runner(artifact.runtime, screen.say),
            lock=bench.lock_file,
            session="",
            attempt=1,
            files=files,
            conditions={},
            provenance={},
        )
    if attempt.run.status != "ok":
        raise DeviceError(
            f"{device.name}: the file cannot be loaded: {attempt.run.reason}",
            "was it exported whole, for this runtime?",
        )
    load = attempt.lines.one("load") or {}
    try:
        said = [(i["dtype"], list(i["shape"])) for i in load["inputs"]]
    except (KeyError, TypeError) as error:
        hint = "name each: --input SHAPE[:DTYPE], or inputs=(x,) in Python"
        raise UsageError("the file does not describe its inputs", hint) from error
    return [_possible(dtype, shape, f"the file's input {index}") for index, (dtype, shape) in enumerate(said)]


def _generated(spec: TensorSpec, index: int) -> np.ndarray[Any, Any]:
    """Floats uniform in [-1, 1) by a fixed seed, integers and bools 0."""
    if spec.numpy.kind != "f":
        return np.zeros(spec.shape, spec.numpy)
    try:
        return np.random.default_rng([INPUT_SEED, index]).uniform(-1, 1, spec.shape).astype(spec.numpy)
    except MemoryError as error:
        raise UsageError(f"input {index}: {list(spec.shape)} does not fit this host's memory") from error


def _from_npz(path: Path, option: str, dtypes: Sequence[str]) -> list[np.ndarray[Any, Any]]:
    """The arrays of a .npz in the order they were saved; pickled objects are refused."""
    hint = "np.savez(path, first, second) makes one"
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise UsageError(f"{option} {path}: one bare array, not a .npz", hint)
        with archive:
            out = [archive[key] for key in archive.files]
    except DAMAGED as error:
        raise UsageError(f"{option} {path}: {error}", hint) from error
    if not out:
        raise UsageError(f"{option} {path}: no arrays", hint)
    known = [np.dtype(DTYPES[name]) for name in dtypes]
    for array in out:
        if not isinstance(array, np.ndarray) or array.dtype not in known:
            said = getattr(array, "dtype", "of a file that is no array")
            raise UsageError(f"{option} {path}: dtype {said} is not one of {', '.join(dtypes)}", hint)
        if array.size == 0:
            raise UsageError(f"{option} {path}: an array of shape {list(array.shape)} is empty", hint)
    return out


def _store_tensor(array: np.ndarray[Any, Any], files: Files) -> TensorFile:
    raw = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
    sha256 = files.put(raw, ".bin")
    dtype = {np.dtype(code): name for name, code in DTYPES.items()}[array.dtype]
    samples = array.shape[0] if array.ndim else 1
    return TensorFile(spec=TensorSpec(dtype=dtype, shape=tuple(array.shape)), sha256=sha256, samples=samples)
