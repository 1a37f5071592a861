"""The C++ SDKs that the runners are built on: wheels fetched at pinned versions, unpacked into the cache.

Never taken from the environment: a runner must not depend on what else is installed, and the host may have no torch."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.devices.toolchain import host_arch
from harness.errors import ToolchainError
from harness.locks import file_lock
from harness.paths import cache_dir


@dataclass(frozen=True, kw_only=True)
class Sdk:
    """A wheel and what of it is unpacked. `libraries`: folders in the wheel where shared libraries are."""

    package: str
    version: str
    include: str
    libraries: tuple[str, ...]

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"


EXECUTORCH = Sdk(package="executorch", version="1.5.1", include="executorch/include", libraries=("executorch/lib",))
TORCH = Sdk(package="torch", version="2.13.0", include="torch/include", libraries=("torch/lib", "torch.libs"))
#: Newer wheels of torch for aarch64 are builds for NVIDIA's GPUs; this one's lite interpreter reads the same files.
TORCH_AARCH64 = Sdk(package="torch", version="2.9.1", include="torch/include", libraries=("torch/lib", "torch.libs"))
#: A wheel of torch for CUDA is near 1 GB; anything past this is not what we asked for.
MAX_UNPACKED_BYTES = 16 << 30
_LIBRARY = re.compile(r"[^/]+\.so(\.[0-9.]+)?")


def fetch(sdk: Sdk, arch: str, say: Callable[[str], None]) -> Path:
    """The folder that the SDK's wheel for this architecture is unpacked in; fetches it once.

    Raises ToolchainError if it cannot be fetched or is no such wheel."""
    folder = _place(sdk, arch)
    if folder.is_dir():
        return folder
    with file_lock(folder.parent / f"{folder.name}.lock"):
        if folder.is_dir():
            return folder
        work = Path(tempfile.mkdtemp(prefix=".tmp-", dir=folder.parent))
        try:
            say(f"fetching {sdk.requirement} for {arch}")
            wheel = _download(sdk, arch, work)
            say(f"unpacking {sdk.requirement}")
            _unpack(sdk, wheel, work / "unpacked")
            os.replace(work / "unpacked", folder)
        except OSError as error:
            raise ToolchainError(f"cannot keep {sdk.requirement}: {error.strerror}", "is the cache full?") from error
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return folder


def forget(sdk: Sdk, arch: str) -> None:
    """Removes an SDK that turned out to be unusable, so that the next fetch() asks pip again."""
    shutil.rmtree(_place(sdk, arch), ignore_errors=True)


def _place(sdk: Sdk, arch: str) -> Path:
    return cache_dir() / "sdk" / f"{sdk.package}-{sdk.version}-linux-{arch}"


def _download(sdk: Sdk, arch: str, folder: Path) -> Path:
    remedy = (
        f"check the network and pip's configuration with: {Path(sys.executable).name} -m pip download --no-deps "
        f"{sdk.requirement}; or add a bundle made elsewhere with: harness runners add FILE"
    )
    argv = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--quiet"]
    if arch != host_arch():  # any Python's wheel will do: its C++ libraries are the same
        argv += [f"--platform=manylinux_2_{glibc}_{arch}" for glibc in (28, 27, 17)]
        argv += [f"--platform=manylinux2014_{arch}", "--implementation=cp", "--python-version=3.11", "--abi=cp311"]
    try:
        done = subprocess.run(
            [*argv, "--dest", str(folder), sdk.requirement], capture_output=True, text=True, timeout=3600, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ToolchainError(f"{sdk.requirement} could not be fetched within an hour", remedy) from error
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        last = " / ".join(line for line in done.stderr.strip().splitlines()[-3:] if line.strip())
        raise ToolchainError(f"{sdk.requirement} could not be fetched: {last or 'pip gave no reason'}", remedy)
    return wheels[0]


def _unpack(sdk: Sdk, wheel: Path, folder: Path) -> None:
    """Only headers and libraries. A wheel is trusted no further than that its paths stay inside."""
    total = 0
    try:
        with zipfile.ZipFile(wheel) as archive:
            for info in archive.infolist():
                path = PurePosixPath(info.filename)
                if info.is_dir() or not _wanted(sdk, path):
                    continue
                if path.is_absolute() or ".." in path.parts or "\\" in info.filename:
                    raise ToolchainError(f"{wheel.name} holds a path that leads outside", "fetch it again")
                total += info.file_size
                if total > MAX_UNPACKED_BYTES:
                    raise ToolchainError(f"{wheel.name} unpacks to more than any SDK", "fetch it again")
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(info) as content, target.open("wb") as out:
                    shutil.copyfileobj(content, out)
    except zipfile.BadZipFile as error:
        raise ToolchainError(f"{wheel.name} is damaged: {error}", "fetch it again") from error
    if not (folder / sdk.include).is_dir():
        raise ToolchainError(f"{wheel.name} holds no headers in {sdk.include}", "fetch it again")


def _wanted(sdk: Sdk, path: PurePosixPath) -> bool:
    if path.is_relative_to(sdk.include):
        return True
    return str(path.parent) in sdk.libraries and _LIBRARY.fullmatch(path.name) is not None
