"""`measure FILE`: a package around one finished file, made without torch and without loading the file on the host."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

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
    artifact = _artifact(content, file.suffix, runtime, settings.files)
    files = Files(settings.files)
    if arrays is not None:
        tensors = _from_npz(arrays, "--inputs")
    else:
        specs = [_parse(text) for text in given] or _described(artifact, device, files, settings, screen)
        tensors = [_generated(spec, index) for index, spec in enumerate(specs)]
    inputs = tuple(_store_tensor(tensor, settings.files) for tensor in tensors)
    expected = () if expect is None else tuple(_store_tensor(t, settings.files) for t in _from_npz(expect, "--expect"))
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


def _artifact(content: bytes, suffix: str, runtime: str, folder: Path) -> Artifact:
    import zstandard

    sha256 = hashlib.sha256(content).hexdigest()
    (folder / f"{sha256}{suffix}").write_bytes(content)
    return Artifact(
        sha256=sha256,
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
    shape = tuple(int(n) for n in re.split("[,x]", match[1]))
    if 0 in shape or TensorSpec(dtype=dtype, shape=shape).call_bytes > 1 << 32:
        raise UsageError(f"--input {text!r}: impossible size")
    return TensorSpec(dtype=dtype, shape=shape)


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
    with opened(device, collector(settings.store_url, files.folder, settings.folder)) as bench:
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
        return [TensorSpec(dtype=i["dtype"], shape=tuple(i["shape"])) for i in load["inputs"]]
    except (KeyError, TypeError) as error:
        raise UsageError("the file does not describe its inputs", "name each with --input SHAPE[:DTYPE]") from error


def _generated(spec: TensorSpec, index: int) -> np.ndarray[Any, Any]:
    """Floats uniform in [-1, 1) by a fixed seed, integers and bools 0."""
    if spec.numpy.kind != "f":
        return np.zeros(spec.shape, spec.numpy)
    return np.random.default_rng([INPUT_SEED, index]).uniform(-1, 1, spec.shape).astype(spec.numpy)


def _from_npz(path: Path, option: str) -> list[np.ndarray[Any, Any]]:
    """The arrays of a .npz in the order they were saved; pickled objects are refused."""
    names = {np.dtype(code): name for name, code in DTYPES.items()}
    try:
        with np.load(path, allow_pickle=False) as archive:
            out = [archive[key] for key in archive.files]
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(f"{option} {path}: {error}", "np.savez(path, first, second) makes one") from error
    for array in out:
        if array.dtype not in names:
            raise UsageError(f"{option} {path}: dtype {array.dtype} is not one of {', '.join(DTYPES)}")
    return out


def _store_tensor(array: np.ndarray[Any, Any], folder: Path) -> TensorFile:
    raw = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
    sha256 = hashlib.sha256(raw).hexdigest()
    (folder / f"{sha256}.bin").write_bytes(raw)
    dtype = {np.dtype(code): name for name, code in DTYPES.items()}[array.dtype]
    samples = array.shape[0] if array.ndim else 1
    return TensorFile(spec=TensorSpec(dtype=dtype, shape=tuple(array.shape)), sha256=sha256, samples=samples)
