"""Builds Android's own adbd as a program for this machine, from Debian's source package; once, into the cache.

Nothing of the machine's package sources is changed: the source package is asked for with a list of our own, made
from the places that apt uses already. `python -m tests.standins.adbd_build` builds it by hand."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from harness.locks import file_lock
from harness.paths import cache_dir

RECIPE = Path(__file__).parent / "adbd"
SOURCE, VERSION = "android-platform-tools", "29.0.6-28"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
#: what adbd is linked to, and what the stand-in's file tree is made of
RUNS_WITH = ["mksh", "toybox", "iproute2", "android-libbase", "android-liblog", "android-libcutils"]
RUNS_WITH += ["android-libboringssl"]
BUILT_WITH = ["g++", "cmake", "ninja-build", "dpkg-dev", "libcap-dev"]
BUILT_WITH += [f"{name}-dev" for name in RUNS_WITH if name.startswith("android-")]


def why_not() -> str | None:
    """What keeps it from being built and started here, with the command that helps; or None."""
    if not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        return "the stand-in phone is Android's adbd built for Linux on x86_64: run the tests there"
    if os.geteuid() != 0:
        return "the stand-in phone has namespaces and an address of its own: sudo -E python -m pytest tests/test_adb.py"
    if not _path().is_file() and shutil.which("apt-get") is None:
        return "the stand-in phone is built from Debian 12's source package: there is no apt-get here"
    return None


def build() -> Path:
    """The program. Raises RuntimeError with what a command said where it cannot be built."""
    path = _path()
    with file_lock(path.parent.with_name(path.parent.name + ".lock")):
        _install(RUNS_WITH)
        if path.is_file():
            return path
        _install(BUILT_WITH)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".tmp-", dir=path.parent) as name:
            work = Path(name)
            work.chmod(0o755)  # apt fetches as a user of its own
            source = _source(work)
            _run("cmake", "-G", "Ninja", f"-DAPT_SRC={source}", "-B", str(work / "build"), str(RECIPE), cwd=work)
            _run("ninja", "-C", str(work / "build"), cwd=work)
            os.replace(work / "build" / "adbd", path)
    return path


def _path() -> Path:
    recipe = b"".join((RECIPE / name).read_bytes() for name in ("CMakeLists.txt", "prelude.h", "shim.cpp"))
    return cache_dir() / "standins" / f"adbd-{hashlib.sha256(VERSION.encode() + recipe).hexdigest()[:16]}" / "adbd"


def _install(packages: list[str]) -> None:
    """Only what is missing, so that this needs no network where all is there."""
    missing = [one for one in packages if not _installed(one)]
    if missing:
        _run("apt-get", "update")
        _run("apt-get", "install", "-y", "--no-install-recommends", *missing)


def _installed(package: str) -> bool:
    argv = ["dpkg-query", "-W", "-f", "${db:Status-Status}", package]
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout == "installed"


def _source(work: Path) -> Path:
    """The unpacked source package."""
    form = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)"
    targets = _run("apt-get", "indextargets", "--format", form, "Created-By: Packages").splitlines()
    known = ("main|Debian", "main|$(ORIGIN)")  # the latter before the first apt-get update
    places = {tuple(line.split("|")[:2]) for line in targets if line.endswith(known)}
    signed = f"[signed-by={_KEYRING}] " if Path(_KEYRING).is_file() else ""
    lines = [f"deb-src {signed}{uri} {release} main" for uri, release in places]
    (work / "sources.list").write_text("\n".join(sorted(lines)) + "\n")
    (work / "lists" / "partial").mkdir(parents=True)
    ours = ["-o", f"Dir::Etc::sourcelist={work / 'sources.list'}", "-o", "Dir::Etc::sourceparts=-"]
    ours += ["-o", f"Dir::State::lists={work / 'lists'}"]
    ours += ["-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="]
    _run("apt-get", *ours, "update", cwd=work)
    _run("apt-get", *ours, "source", f"{SOURCE}={VERSION}", cwd=work)
    return next(path for path in work.glob(f"{SOURCE}-*") if path.is_dir())


def _run(*argv: str, cwd: Path | None = None) -> str:
    env = os.environ | {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv[:3])} failed ({done.returncode}): {(done.stderr or done.stdout)[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    print(why_not() or build())
