"""Compilers for every architecture, and what a program needs to run where nothing is installed.

Only Linux programs are built here. Another architecture takes Debian's cross compiler, whose packages carry that
architecture's C and C++ libraries too."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from harness.devices import elf
from harness.errors import PackageError, ToolchainError
from harness.locks import file_lock
from harness.paths import cache_dir

#: architecture (`uname -m`) -> its dynamic loader and Debian's word for it
LOADERS = {"x86_64": "ld-linux-x86-64.so.2", "aarch64": "ld-linux-aarch64.so.1"}
_DEBIAN = {"x86_64": "amd64", "aarch64": "arm64"}
#: what comes with every C and C++ compiler (the manylinux_2_28 policy's list, as far as the SDKs use it)
_SYSTEM = re.compile(r"(ld-linux.*|lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+|util))\.so.*")


class IncompleteSdk(ToolchainError):
    """The SDK lacks what it should hold: what was fetched is another build than the one meant."""

    def __init__(self, what: str, hint: str | None = None) -> None:
        gpu = "if pip fetched a GPU build: set PIP_EXTRA_INDEX_URL to PyTorch's index of CPU builds"
        super().__init__(what, hint or gpu)


def host_arch() -> str:
    return platform.machine().lower()


def compiler(arch: str) -> list[str]:
    """argv of the C++ compiler for this architecture: $CXX, else g++; for another, $HARNESS_CXX_AARCH64 and the like,
    else Debian's. Raises ToolchainError if it is not there."""
    if arch == host_arch():
        argv = shlex.split(os.environ.get("CXX", "")) or ["g++"]
        package, variable = "g++", "CXX"
    else:
        variable = f"HARNESS_CXX_{arch.upper()}"
        argv = shlex.split(os.environ.get(variable, "")) or [f"{arch}-linux-gnu-g++"]
        package = f"g++-{arch.replace('_', '-')}-linux-gnu"
    if shutil.which(argv[0]) is None:
        hint = f"apt install {package} (or set {variable}); or a bundle made elsewhere: harness runners add FILE"
        raise ToolchainError(f"no C++ compiler for {arch}: {argv[0]} is not on the PATH", hint)
    return argv


def version(argv: Sequence[str]) -> str:
    done = run([*argv, "--version"], "the C++ compiler", timeout_s=60)
    return done.strip().splitlines()[0] if done.strip() else "unknown"


def needed(library: Path) -> list[str]:
    """The shared libraries that this one asks for. Raises IncompleteSdk where it is damaged."""
    try:
        return list(elf.read(library).needed)
    except PackageError as error:
        raise IncompleteSdk(error.what) from error


def closure(names: Sequence[str], folders: Sequence[Path], arch: str) -> tuple[dict[str, Path], dict[str, Path]]:
    """Everything that `names` need, by name: what the SDK's `folders` have, and what the system's libraries are.

    Raises IncompleteSdk for a library that nobody has, ToolchainError where the system's cannot be had."""
    theirs: dict[str, Path] = {}
    system: dict[str, Path] = {}
    waiting = [*names, LOADERS[arch]]
    while waiting:
        name = waiting.pop()
        if name in theirs or name in system:
            continue
        path = next((folder / name for folder in folders if (folder / name).is_file()), None)
        if path is not None:
            theirs[name] = path
        else:
            path = system[name] = _system_library(name, arch)
        waiting += needed(path)
    return theirs, system


def _system_library(name: str, arch: str) -> Path:
    if name == "libz.so.1":
        return _zlib(arch)
    if not _SYSTEM.fullmatch(name):
        raise IncompleteSdk(f"the SDK needs {name}, which neither it nor the compiler carries")
    said = run([*compiler(arch), f"-print-file-name={name}"], f"looking for {name}", timeout_s=60).strip()
    if not os.path.isabs(said) or not Path(said).is_file():
        raise ToolchainError(f"the compiler for {arch} knows no {name}", "use a compiler that brings glibc")
    return Path(said).resolve()


def _zlib(arch: str) -> Path:
    """Debian's zlib for this architecture, fetched by apt into the cache; nothing is installed, no source is added.

    torch's libgfortran on aarch64 wants it, and neither its wheel nor the cross compiler's packages have it."""
    debian = _DEBIAN[arch]
    folder = cache_dir() / "sdk" / f"zlib1g-{debian}"
    with file_lock(folder.with_name(folder.name + ".lock")):
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(prefix=".tmp-", dir=folder.parent) as scratch:
                _fetch_package("zlib1g", debian, Path(scratch))
                os.replace(Path(scratch) / "unpacked", folder)
    found = sorted(folder.glob("**/libz.so.1"))
    if not found:
        raise ToolchainError(f"zlib1g:{debian} holds no libz.so.1", f"remove {folder} and try again")
    return found[0].resolve()


def _fetch_package(package: str, debian: str, scratch: Path) -> None:
    """`apt-get download` with lists and state of its own, and for that architecture alone."""
    remedy = "needs Debian's or Ubuntu's apt-get and a mirror that has this architecture; or: harness runners add FILE"
    for name in ("state/lists/partial", "cache/archives/partial", "unpacked"):
        (scratch / name).mkdir(parents=True)
    (scratch / "state" / "status").touch()
    scratch.chmod(0o755)  # apt fetches as a user of its own
    options = {
        "APT::Architecture": debian, "APT::Architectures": debian, "Acquire::Languages": "none",
        "Dir::State": f"{scratch}/state", "Dir::State::status": f"{scratch}/state/status",
        "Dir::Cache": f"{scratch}/cache", "APT::Sandbox::User": "root",
    }  # fmt: skip
    words = ["apt-get", "-qq", *(f"-o{key}={value}" for key, value in options.items())]
    try:
        run([*words, "update"], "asking for Debian's packages", 300)
    except ToolchainError as error:
        if not any((scratch / "state" / "lists").glob("*_Packages*")):  # one dead source is no matter
            raise ToolchainError(error.what, remedy) from error
    try:
        run([*words, "download", f"{package}:{debian}"], f"fetching {package}:{debian}", 300, folder=scratch)
        (file,) = scratch.glob("*.deb")
        run(["dpkg-deb", "-x", str(file), str(scratch / "unpacked")], f"unpacking {file.name}", 60)
    except (ToolchainError, ValueError) as error:
        raise ToolchainError(f"{package}:{debian} could not be fetched: {error}", remedy) from error


def run(argv: Sequence[str], what: str, timeout_s: float, folder: Path | None = None) -> str:
    """stdout of argv. Raises ToolchainError with the first line of stderr that names an error."""
    try:
        env = {**os.environ, "LC_ALL": "C"}
        done = subprocess.run(argv, capture_output=True, timeout=timeout_s, check=False, env=env, cwd=folder)
    except FileNotFoundError as error:
        raise ToolchainError(f"{what}: {argv[0]} is not installed", "apt install g++") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolchainError(f"{what}: {error}") from error
    if done.returncode != 0:
        said = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()] or ["no message"]
        first = next((line for line in said if "error" in line or "undefined" in line), said[-1])
        raise ToolchainError(f"{what} failed ({done.returncode}): {first[:300]}", "apt install g++ (12 or newer)")
    return done.stdout.decode("utf-8", "replace")
