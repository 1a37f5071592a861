"""The native runners: which one is used, and building it where there is none.

In order: a bundle that the user added, one that travels in the package, one built here. Only building needs a
compiler. What is built is kept by a hash of the sources, the flags, the SDK and the compiler."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.devices import bundle as bundles
from harness.devices import sdk as sdks
from harness.devices.bundle import Bundle, pack
from harness.errors import PackageError, ToolchainError, UsageError
from harness.locks import file_lock
from harness.metrics import nearest
from harness.paths import cache_dir, device_scripts_dir

__all__ = [
    "RUNTIMES",
    "Bundle",
    "Recipe",
    "add",
    "compile_program",
    "ensure",
    "find",
    "host_target",
    "listing",
    "pack",
]

_COMPILE_TIMEOUT_S = 900
#: Flags of every runner. RPATH, not RUNPATH, so that LD_LIBRARY_PATH cannot put another library in its place.
_FLAGS = ("-O2", "-Wall", "-Wextra", "-Wl,--disable-new-dtags", "-Wl,-rpath,$ORIGIN/lib")
#: What every Linux has and no bundle carries (the manylinux_2_28 policy's list, as far as the SDKs use it).
_SYSTEM = re.compile(r"(ld-linux.*|lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+|util))\.so.*")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one runner is built. `registers`: libraries that only register themselves, so that a linker would drop
    them as unneeded, and the run would then fail for want of a kernel or a backend."""

    sdk: sdks.Sdk | None
    version: str
    flags: tuple[str, ...]
    includes: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    registers: tuple[str, ...] = ()


RUNTIMES: dict[str, Recipe] = {
    "executorch": Recipe(
        sdk=sdks.EXECUTORCH,
        version=sdks.EXECUTORCH.version,
        # The wheel's headers need the first define to find their generated macros, and must agree with how its
        # libraries were compiled on the other two.
        flags=("-std=c++17", "-DC10_USING_CUSTOM_GENERATED_MACROS", "-DET_EVENT_TRACER_ENABLED", "-DET_USE_THREADPOOL"),
        includes=("", "executorch/runtime/core/portable_type/c10"),
        links=("libexecutorch.so", "libexecutorch_threadpool.so"),
        registers=(
            "libexecutorch_backend_xnnpack.so",
            "libexecutorch_kernels_optimized.so",
            "libexecutorch_kernels_quantized.so",
        ),
    ),
    "torchscript": Recipe(
        sdk=sdks.TORCH,
        version=sdks.TORCH.version,
        flags=("-std=c++20",),
        includes=("",),
        links=("libc10.so",),
        registers=("libtorch_cpu.so",),
    ),
    "null": Recipe(sdk=None, version="1", flags=("-std=c++17",)),
}


def host_target() -> str:
    """`linux-x86_64` and the like: what a runner for this computer is built for."""
    return f"{sys.platform}-{platform.machine().lower()}"


def check_own(path: Path, abi: str) -> None:
    """Raises UsageError where the user's runner is not a program for this device."""


def _recipe(runtime: str) -> Recipe:
    if runtime not in RUNTIMES:
        raise UsageError(f"unknown runtime {runtime!r}", nearest(runtime, RUNTIMES))
    return RUNTIMES[runtime]


def _sources(runtime: str) -> list[Path]:
    folder = device_scripts_dir() / "runner"
    found = [p for p in sorted(folder.glob("*.cpp")) if not p.name.startswith("runtime_")]
    sources = [*found, folder / f"runtime_{runtime}.cpp"]
    if not found or not sources[-1].is_file():
        raise ToolchainError(f"the sources of the {runtime} runner are not in this installation", "install it again")
    return sources


def _compiler() -> list[str]:
    """argv of the C++ compiler: $CXX, else g++. Raises ToolchainError if it is not there."""
    argv = shlex.split(os.environ.get("CXX", "")) or ["g++"]
    if shutil.which(argv[0]) is None:
        hint = "apt install g++ (or set CXX); or add a bundle made elsewhere with: harness runners add FILE"
        raise ToolchainError(f"no C++ compiler: {argv[0]} is not on the PATH", hint)
    return argv


def _source_key(runtime: str) -> str:
    """Hash of all that decides what the runner is, but for the compiler."""
    recipe = _recipe(runtime)
    digest = hashlib.sha256()
    headers = sorted((device_scripts_dir() / "runner").glob("*.h"))
    for path in (*_sources(runtime), *headers):
        digest.update(f"{path.name}\0{bundles.file_sha256(path)}\0".encode())
    digest.update(repr((recipe, _FLAGS, sys.platform)).encode())
    return digest.hexdigest()[:16]


def _compiler_version(argv: list[str]) -> str:
    done = _run([*argv, "--version"], "the C++ compiler", timeout_s=60)
    return done.strip().splitlines()[0] if done.strip() else "unknown"


def _built(runtime: str, target: str) -> Path | None:
    """Where the built bundle is or would be; None where that cannot be built here. The compiler is part of the
    name; with no compiler, what an earlier one built from these sources will do."""
    if target != host_target() or not target.startswith("linux-"):
        return None
    start = cache_dir() / "runners" / "built"
    stem = f"{runtime}-{target}-{_source_key(runtime)}"
    try:
        compiler = _compiler()
    except ToolchainError:
        earlier = sorted(start.glob(f"{stem}-????????"))
        return earlier[-1] if earlier else None
    version = " ".join([*compiler, _compiler_version(compiler)])
    return start / f"{stem}-{hashlib.sha256(version.encode()).hexdigest()[:8]}"


def _newest_added(runtime: str, target: str) -> list[Path]:
    found = (cache_dir() / "runners" / "added").glob(f"{runtime}-{target}-*")
    return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _packaged(runtime: str, target: str) -> Path:
    return Path(__file__).resolve().parents[1] / "_bundles" / f"{runtime}-{target}"


def find(runtime: str, target: str) -> Bundle | None:
    """The bundle that is used for this runtime and target, or None. Builds nothing.

    Raises UsageError for an unknown runtime, PackageError for a damaged bundle."""
    _recipe(runtime)
    for folder in (*_newest_added(runtime, target), _packaged(runtime, target)):
        if (folder / bundles.MANIFEST).is_file():
            return bundles.read(folder)
    built = _built(runtime, target)
    return bundles.read(built) if built and (built / bundles.MANIFEST).is_file() else None


def listing() -> list[Bundle]:
    """Every bundle there is, in the order in which they would be used; damaged ones are left out."""
    package = Path(__file__).resolve().parents[1] / "_bundles"
    runners = cache_dir() / "runners"
    parents = (runners / "added", package, runners / "built")
    folders = [path for parent in parents for path in sorted(parent.glob("*-*")) if path.is_dir()]
    found = []
    for folder in folders:
        try:
            found.append(bundles.read(folder))
        except PackageError:
            continue
    return found


def add(file: Path) -> Bundle:
    """Takes in a bundle made elsewhere by `pack`. From now on it goes before any other of its runtime and target.

    Raises PackageError if the file is damaged or not a bundle; UsageError if there is no such file."""
    if not file.is_file():
        raise UsageError(f"no such file: {file}", "harness runners build -o FILE makes a bundle")
    parent = cache_dir() / "runners" / "added"
    parent.mkdir(parents=True, exist_ok=True)
    bundle = bundles.unpack(file, parent)
    folder = parent / f"{bundle.runtime}-{bundle.target}-{bundle.sha256[:16]}"
    return _keep(bundle.path, folder)


def ensure(runtime: str, target: str, say: Callable[[str], None] = lambda text: None) -> Bundle:
    """find(), or build. `say` is told what is being done. One process builds, others wait for it.

    Raises ToolchainError with what is missing and how to get it."""
    if found := find(runtime, target):
        return found
    if target != host_target() or not sys.platform.startswith("linux"):
        hint = "build the bundle on such a device with: harness runners build -o FILE; then: harness runners add FILE"
        raise ToolchainError(f"a {runtime} runner for {target} cannot be built on {host_target()}", hint)
    _compiler()  # before anything is fetched
    folder = _built(runtime, target)
    assert folder is not None  # there is a compiler, and the target is this host
    with file_lock(folder.with_name(folder.name + ".lock")):
        if (folder / bundles.MANIFEST).is_file():
            return bundles.read(folder)
        work = Path(tempfile.mkdtemp(prefix=".tmp-", dir=folder.parent))
        try:
            _build(runtime, target, work, say)
            return _keep(work, folder)
        except OSError as error:
            raise ToolchainError(f"cannot keep the {runtime} runner: {error}", "is the cache full?") from error
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _keep(work: Path, folder: Path) -> Bundle:
    """Moves a complete bundle to its place; one that is there already is left alone, since it may be in use."""
    try:
        work.chmod(0o755)
        os.replace(work, folder)
    except OSError:
        if not (folder / bundles.MANIFEST).is_file():
            raise
        shutil.rmtree(work, ignore_errors=True)
    folder.touch()
    return bundles.read(folder)


def _build(runtime: str, target: str, folder: Path, say: Callable[[str], None]) -> None:
    """Compiles the runner into `folder` with its libraries and manifest, and asks it for its version."""
    recipe = _recipe(runtime)
    entry = f"harness-runner-{runtime}"
    compile_program(recipe, _sources(runtime), folder / entry, say)
    said = _run([str(folder / entry), "--version"], f"starting {entry}", timeout_s=60).strip()
    if said != f"{runtime} {recipe.version}":
        raise ToolchainError(f"{entry} says it is {said!r}", "remove the cache folder and build again")
    built = {"compiler": _compiler_version(_compiler()), "flags": [*_FLAGS, *recipe.flags]}
    bundles.write_manifest(folder, runtime=runtime, version=recipe.version, target=target, entry=entry, built=built)


def compile_program(recipe: Recipe, sources: Sequence[Path], out: Path, say: Callable[[str], None]) -> None:
    """Compiles `sources` into the program `out`, with every library of the SDK that it needs in lib/ beside it.

    Raises ToolchainError with the compiler's first complaint."""
    argv = [*_compiler(), *_FLAGS, *recipe.flags, f'-DRUNNER_RUNTIME_VERSION="{recipe.version}"']
    libraries: dict[str, Path] = {}
    link: list[str] = []
    if recipe.sdk:
        root = sdks.fetch(recipe.sdk, say)
        libraries = _libraries(recipe, recipe.sdk, root)
        for include in recipe.includes:
            argv += ["-isystem", str(root / recipe.sdk.include / include)]
        link = ["-Wl,--no-as-needed", *(str(libraries[name]) for name in (*recipe.links, *recipe.registers))]
        link += ["-Wl,--as-needed", *(f"-Wl,-rpath-link,{root / name}" for name in recipe.sdk.libraries)]
    say(f"compiling {out.name}")
    _run([*argv, *map(str, sources), "-o", str(out), *link], f"compiling {out.name}", _COMPILE_TIMEOUT_S)
    (out.parent / "lib").mkdir(exist_ok=True)
    for name, path in libraries.items():
        _place(path, out.parent / "lib" / name)


def _libraries(recipe: Recipe, sdk: sdks.Sdk, root: Path) -> dict[str, Path]:
    try:
        return _closure([*recipe.links, *recipe.registers], [root / name for name in sdk.libraries])
    except ToolchainError:
        sdks.forget(sdk)
        raise


def _place(source: Path, target: Path) -> None:
    """A link to the file where the file system can, else a copy: libtorch is near 450 MB."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _closure(names: list[str], folders: list[Path]) -> dict[str, Path]:
    """Every library of the SDK that `names` need, by name. Raises ToolchainError for one that nobody has."""
    found: dict[str, Path] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        path = next((folder / name for folder in folders if (folder / name).is_file()), None)
        if path is not None:
            found[name] = path
            waiting += _needed(path)
        elif not _SYSTEM.fullmatch(name):
            hint = "if pip fetched a GPU build: set PIP_EXTRA_INDEX_URL to PyTorch's index of CPU builds"
            raise ToolchainError(f"the SDK needs {name}, which it does not carry", hint)
    return found


def _needed(library: Path) -> list[str]:
    """The shared libraries that this one asks for, from its dynamic section (readelf comes with g++)."""
    text = _run(["readelf", "-d", "-W", str(library)], "reading a library", timeout_s=60)
    return re.findall(r"\(NEEDED\).*\[([^\]]+)\]", text)


def _run(argv: list[str], what: str, timeout_s: float) -> str:
    """stdout of argv. Raises ToolchainError with the last lines of stderr."""
    try:
        env = {**os.environ, "LC_ALL": "C"}
        done = subprocess.run(argv, capture_output=True, timeout=timeout_s, check=False, env=env)
    except FileNotFoundError as error:
        raise ToolchainError(f"{what}: {argv[0]} is not installed", "apt install g++") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolchainError(f"{what}: {error}") from error
    if done.returncode != 0:
        said = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()] or ["no message"]
        first = next((line for line in said if "error" in line or "undefined" in line), said[-1])
        raise ToolchainError(f"{what} failed ({done.returncode}): {first[:300]}", "apt install g++ (12 or newer)")
    return done.stdout.decode("utf-8", "replace")
