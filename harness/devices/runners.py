"""The native runners: which one is used, and building it where there is none.

In order: a bundle that the user added, one that travels in the package, one built here. Only building needs a
compiler. What is built is kept by a hash of the sources, the flags, the SDK and the compiler.

A target is `linux-` or `android-` and an architecture. Android's bundles are Linux's: both bring their own loader and
C library, and no more of the system than its kernel."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.devices import bundle as bundles
from harness.devices import sdk as sdks
from harness.devices import toolchain
from harness.devices.bundle import Bundle, pack
from harness.devices.elf import check_own
from harness.devices.toolchain import LOADERS, host_arch
from harness.errors import PackageError, ToolchainError, UsageError
from harness.locks import file_lock
from harness.metrics import nearest
from harness.paths import cache_dir, device_scripts_dir

__all__ = [
    "RUNTIMES",
    "Bundle",
    "Recipe",
    "add",
    "check_own",
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
_TARGET = re.compile(r"(?:linux|android)-([a-z0-9_]{1,32})")


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
        links=("libexecutorch.so", "libexecutorch_etdump.so", "libexecutorch_threadpool.so"),
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
#: where an architecture's SDK is another one
_OTHER_SDKS = {("torchscript", "aarch64"): sdks.TORCH_AARCH64}


def host_target() -> str:
    """`linux-x86_64` and the like: what a runner for this computer is built for."""
    return f"{sys.platform}-{host_arch()}"


def _bundle_target(target: str) -> str:
    """The target whose bundle serves this one. Raises UsageError for what is no target."""
    match = _TARGET.fullmatch(target)
    if match is None or match[1] not in LOADERS:
        known = ", ".join(f"{system}-{arch}" for system in ("linux", "android") for arch in LOADERS)
        raise UsageError(f"there is no runner for {target!r}", f"a target is one of: {known}")
    return f"linux-{match[1]}"


def _arch(target: str) -> str:
    return target.partition("-")[2]


def _recipe(runtime: str, target: str) -> Recipe:
    if runtime not in RUNTIMES:
        raise UsageError(f"unknown runtime {runtime!r}", nearest(runtime, RUNTIMES))
    recipe = RUNTIMES[runtime]
    other = _OTHER_SDKS.get((runtime, _arch(target)))
    return recipe if other is None else replace(recipe, sdk=other, version=other.version)


def _sources(runtime: str) -> list[Path]:
    folder = device_scripts_dir() / "runner"
    found = [p for p in sorted(folder.glob("*.cpp")) if not p.name.startswith("runtime_")]
    sources = [*found, folder / f"runtime_{runtime}.cpp"]
    if not found or not sources[-1].is_file():
        raise ToolchainError(f"the sources of the {runtime} runner are not in this installation", "install it again")
    return sources


def _source_key(runtime: str, target: str) -> str:
    """Hash of all that decides what the runner is, but for the compiler."""
    digest = hashlib.sha256()
    headers = sorted((device_scripts_dir() / "runner").glob("*.h"))
    for path in (*_sources(runtime), *headers):
        digest.update(f"{path.name}\0{bundles.file_sha256(path)}\0".encode())
    digest.update(repr((_recipe(runtime, target), _FLAGS, bundles.SCHEMA)).encode())
    return digest.hexdigest()[:16]


def _built(runtime: str, target: str) -> Path | None:
    """Where the built bundle is or would be; None where that cannot be built here. The compiler is part of the
    name; with no compiler, what an earlier one built from these sources will do."""
    if not sys.platform.startswith("linux"):
        return None
    start = cache_dir() / "runners" / "built"
    stem = f"{runtime}-{target}-{_source_key(runtime, target)}"
    try:
        compiler = toolchain.compiler(_arch(target))
    except ToolchainError:
        earlier = sorted(start.glob(f"{stem}-????????"))
        return earlier[-1] if earlier else None
    version = " ".join([*compiler, toolchain.version(compiler)])
    return start / f"{stem}-{hashlib.sha256(version.encode()).hexdigest()[:8]}"


def _newest_added(runtime: str, target: str) -> list[Path]:
    found = (cache_dir() / "runners" / "added").glob(f"{runtime}-{target}-*")
    return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _packaged(runtime: str, target: str) -> Path:
    return Path(__file__).resolve().parents[1] / "_bundles" / f"{runtime}-{target}"


def find(runtime: str, target: str) -> Bundle | None:
    """The bundle that is used for this runtime and target, or None. Builds nothing.

    Raises UsageError for an unknown runtime or target, PackageError for a damaged bundle."""
    target = _bundle_target(target)
    _recipe(runtime, target)
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
    target = _bundle_target(target)
    if not sys.platform.startswith("linux"):
        hint = "build it on Linux with: harness runners build --target … -o FILE; then here: harness runners add FILE"
        raise ToolchainError(f"a {runtime} runner for {target} cannot be built on {host_target()}", hint)
    toolchain.compiler(_arch(target))  # before anything is fetched
    folder = _built(runtime, target)
    assert folder is not None  # there is a compiler, and this is Linux
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
    """Compiles the runner into `folder` with its libraries, loader and manifest; asks it for its version where this
    computer can run it."""
    recipe, arch = _recipe(runtime, target), _arch(target)
    entry = f"harness-runner-{runtime}"
    compile_program(recipe, _sources(runtime), folder / entry, say, arch)
    if arch == host_arch():
        said = toolchain.run([str(folder / entry), "--version"], f"starting {entry}", timeout_s=60).strip()
        if said != f"{runtime} {recipe.version}":
            raise ToolchainError(f"{entry} says it is {said!r}", "remove the cache folder and build again")
    compiler = toolchain.version(toolchain.compiler(arch))
    bundles.write_manifest(
        folder,
        runtime=runtime,
        version=recipe.version,
        target=target,
        entry=entry,
        loader=f"glibc/{LOADERS[arch]}",
        built={"compiler": compiler, "flags": [*_FLAGS, *recipe.flags]},
    )


def compile_program(
    recipe: Recipe, sources: Sequence[Path], out: Path, say: Callable[[str], None], arch: str | None = None
) -> None:
    """Compiles `sources` into the program `out`, with every library of the SDK that it needs in lib/ beside it, and
    the loader and the C and C++ libraries in glibc/.

    Raises ToolchainError with the compiler's first complaint."""
    arch = arch or host_arch()
    try:
        _compile(recipe, sources, out, say, arch)
    except toolchain.IncompleteSdk:
        if recipe.sdk:
            sdks.forget(recipe.sdk, arch)
        raise


def _compile(recipe: Recipe, sources: Sequence[Path], out: Path, say: Callable[[str], None], arch: str) -> None:
    argv = [*toolchain.compiler(arch), *_FLAGS, *recipe.flags, f'-DRUNNER_RUNTIME_VERSION="{recipe.version}"']
    folders: list[Path] = []
    link: list[str] = []
    if recipe.sdk:
        root = sdks.fetch(recipe.sdk, arch, say)
        folders = [root / name for name in recipe.sdk.libraries]
        for include in recipe.includes:
            argv += ["-isystem", str(root / recipe.sdk.include / include)]
        link = ["-Wl,--no-as-needed", *(str(_there(folders, name)) for name in (*recipe.links, *recipe.registers))]
        # what the SDK's libraries want from the system is not the linker's business: the closure below is
        link += ["-Wl,--as-needed", "-Wl,--allow-shlib-undefined", *(f"-Wl,-rpath-link,{f}" for f in folders)]
    say(f"compiling {out.name} for {arch}")
    toolchain.run([*argv, *map(str, sources), "-o", str(out), *link], f"compiling {out.name}", _COMPILE_TIMEOUT_S)
    theirs, system = toolchain.closure(toolchain.needed(out), folders, arch)
    for place, libraries in (("lib", theirs), ("glibc", system)):
        (out.parent / place).mkdir(exist_ok=True)
        for name, path in libraries.items():
            _place(path, out.parent / place / name, link=place == "lib")
    (out.parent / "glibc" / LOADERS[arch]).chmod(0o755)


def _there(folders: Sequence[Path], name: str) -> Path:
    found = next((folder / name for folder in folders if (folder / name).is_file()), None)
    if found is None:
        raise toolchain.IncompleteSdk(f"the SDK holds no {name}")
    return found


def _place(source: Path, target: Path, link: bool) -> None:
    """A copy, or a link to the SDK's file where the file system can: libtorch is near 450 MB."""
    if link:
        try:
            os.link(source, target)
            return
        except OSError:
            pass
    shutil.copyfile(source, target)
