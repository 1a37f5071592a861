"""Artifact files at a place that a team shares: HARNESS_ARTIFACTS as a URL that fsspec opens (s3://, …).

A folder in the cache stands before the place. A file's name is its SHA-256, so that the same name is the same bytes: a
file is fetched when it is first asked for, checked, and sent once; nothing is ever overwritten by something else.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.errors import PackageError, ToolchainError, UsageError
from harness.locks import file_lock
from harness.paths import cache_dir
from harness.urls import discreet_text
from harness.urls import shown as shown

VARIABLE = "HARNESS_ARTIFACTS"
UNSENT = "unsent"  # in the cache folder: names of the files that the place does not have yet, one a line
#: what fsspec opens a place with, where that is a package of its own
BACKENDS = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
BACKENDS |= {"sftp": "paramiko", "ssh": "paramiko", "smb": "smbprotocol"}
#: places without folders; what makes one there would make a bucket
BUCKETS = ("s3", "s3a", "gs", "gcs", "az", "abfs")
_NAME = re.compile(r"[0-9a-f]{64}\.[a-z0-9]{1,8}")


@dataclass(frozen=True, kw_only=True)
class Place:
    """The shared place at `url`, and the folder of this computer that stands before it."""

    url: str
    folder: Path

    def fetch(self, name: str) -> bool:
        """Brings a file into the folder; False where the place does not have it.

        Raises PackageError where the place cannot be read, or has something else under that name."""
        target = self.folder / name
        partial = self.folder / f".{name}.{os.getpid()}"
        try:
            with _explained(self.url, "read"):
                system, root = _open(self.url)
                self.folder.mkdir(parents=True, exist_ok=True)
                try:
                    digest = _copy(system.open(f"{root}/{name}", "rb"), partial)
                except FileNotFoundError:
                    return False
            if digest != name.partition(".")[0]:
                raise PackageError(
                    f"{shown(self.url)}: {name[:12]}… is damaged there, or is just being written",
                    "try again; if it stays so, delete it there: the next run on the computer that built it sends it",
                )
            partial.replace(target)
            return True
        finally:
            partial.unlink(missing_ok=True)

    def send(self, names: Iterable[str]) -> int:
        """Sends what the place does not have yet, with what earlier calls could not send; how many files it was.

        Raises PackageError where the place cannot be written. Then the names are kept for the next call."""
        wanted = sorted(set(names) | self._unsent())
        waiting, sent = list(wanted), 0
        try:
            with _explained(self.url, "written"):
                system, root = _open(self.url)
                if self.url.partition("://")[0] not in BUCKETS:
                    system.makedirs(root, exist_ok=True)
                while waiting:
                    sent += self._sent(system, root, waiting[0])
                    waiting.pop(0)
        finally:
            self._keep_unsent(waiting, done=wanted[: len(wanted) - len(waiting)])
        return sent

    def _sent(self, system: Any, root: str, name: str) -> bool:
        path = self.folder / name
        if not path.is_file():  # wiped meanwhile: there is nothing to send
            return False
        try:
            if system.info(f"{root}/{name}")["size"] == path.stat().st_size:  # else an earlier call was cut off in it
                return False
        except FileNotFoundError:
            pass
        system.put_file(str(path), f"{root}/{name}")
        return True

    def _unsent(self) -> set[str]:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return set(_NAME.findall((self.folder / UNSENT).read_text("utf-8")))
        return set()

    def _keep_unsent(self, waiting: Iterable[str], done: Iterable[str]) -> None:
        """Only this call's own names change: another process may have written its own meanwhile."""
        with file_lock(cache_dir() / "locks" / f"unsent-{self.folder.name}.lock"):
            text = "".join(f"{name}\n" for name in sorted((self._unsent() - set(done)) | set(waiting)))
            partial = self.folder / f".{UNSENT}.{os.getpid()}"
            if text:
                self.folder.mkdir(parents=True, exist_ok=True)
                partial.write_text(text, encoding="utf-8")
                partial.replace(self.folder / UNSENT)
            else:
                (self.folder / UNSENT).unlink(missing_ok=True)


def place_of(folder: Path) -> Place | None:
    """The shared place that this folder stands before; None for any other folder."""
    url = os.environ.get(VARIABLE, "")
    return Place(url=url, folder=folder) if "://" in url and folder == folder_of(url) else None


def folder_of(url: str) -> Path:
    return cache_dir() / "artifacts" / hashlib.sha256(url.encode()).hexdigest()[:16]


def usable(url: str) -> Path:
    """The folder that stands before the place. Raises UsageError for a URL that nothing can open, ToolchainError where
    what would open it is not installed; nothing is contacted."""
    protocol = url.partition("://")[0]
    try:
        from fsspec import get_filesystem_class

        get_filesystem_class(protocol)
    except ValueError as error:
        hint = "a folder, or a URL such as s3://bucket/harness"
        raise UsageError(f"{VARIABLE} {shown(url)}: nothing opens {protocol}://", hint) from error
    except ImportError as error:
        needs = [BACKENDS[protocol]] if protocol in BACKENDS else []
        line = " ".join(['pip install "ondevice-harness[shared]"', *needs])
        raise ToolchainError(f"{VARIABLE} {shown(url)}: what opens {protocol}:// is not installed", line) from error
    return folder_of(url)


def share(folder: Path, names: Iterable[str], say: Callable[[str], None]) -> None:
    """Sends the files to the shared place, where there is one. A place that fails is told and stops nobody: what was
    measured is stored, and the next command that measures sends the rest."""
    place = place_of(folder)
    if place is None:
        return
    try:
        sent = place.send(names)
    except (PackageError, ToolchainError, OSError) as error:
        what = error.what if isinstance(error, PackageError | ToolchainError) else str(error)
        say(f"the artifact files are on this computer only: {what}. The next run sends them")
    else:
        if sent:
            say(f"{sent} artifact files sent to {shown(place.url)}")


@lru_cache(maxsize=4)
def _open(url: str) -> tuple[Any, str]:
    import fsspec

    system, root = fsspec.core.url_to_fs(url)
    return system, str(root).rstrip("/")


def _copy(source: Any, target: Path) -> str:
    """Copies the open file; the SHA-256 of what was copied."""
    digest = hashlib.sha256()
    with source, target.open("wb") as out:
        while chunk := source.read(1 << 20):
            digest.update(chunk)
            out.write(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def _explained(url: str, verb: str) -> Iterator[None]:
    """What a backend raises (each has errors of its own), as one message that tells no password."""
    try:
        yield
    except (PackageError, ToolchainError):
        raise
    except Exception as error:
        reason = " ".join(discreet_text(str(error), url).split())[:300] or type(error).__name__
        hint = f"is the network there, are the credentials set, does the place in {VARIABLE} exist?"
        raise PackageError(f"{shown(url)} cannot be {verb}: {reason}", hint) from None  # its own text may tell all
