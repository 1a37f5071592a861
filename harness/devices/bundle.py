"""A runner bundle: a folder with one binary, all libraries it needs, its own dynamic loader, and a manifest of hashes.

What is measured with, not what is measured: `Bundle.sha256` stands for the runner in every result."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from harness.errors import PackageError

SCHEMA = 2
MANIFEST = "manifest.json"
#: The largest bundle known is torch's, near 450 MB; more than these is no runner.
MAX_FILES, MAX_BYTES, MAX_MANIFEST_BYTES = 256, 4 << 30, 1 << 20

_NAME = re.compile(r"[a-z][a-z0-9]{0,31}")
_TARGET = re.compile(r"[a-z0-9]+-[a-z0-9_]{1,32}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """`files`: path inside the bundle -> {"sha256", "size"}. `sha256`: of that table, so of every byte."""

    runtime: str
    target: str
    version: str
    path: Path
    entry: str
    loader: str
    sha256: str
    files: Mapping[str, Mapping[str, Any]]

    @property
    def binary(self) -> Path:
        return self.path / self.entry

    @property
    def executables(self) -> tuple[str, str]:
        """The files that a device must be allowed to execute; the rest is read."""
        return self.entry, self.loader

    def command(self, folder: str, own_loader: bool) -> list[str]:
        """The argv prefix that starts the runner in `folder` on a device: by the bundle's own loader and C library,
        so that it needs none there, or by the system's."""
        entry = f"{folder}/{self.entry}"
        if not own_loader:
            return [entry]
        libraries = f"{folder}/lib:{folder}/{posixpath.dirname(self.loader)}"
        return [f"{folder}/{self.loader}", "--library-path", libraries, entry]


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(
    folder: Path, *, runtime: str, version: str, target: str, entry: str, loader: str, built: Mapping[str, Any]
) -> None:
    """Hashes every file of `folder` into its manifest. `built` is kept for people: compiler, flags."""
    files = {
        path.relative_to(folder).as_posix(): {"sha256": file_sha256(path), "size": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    manifest = {
        "schema": SCHEMA,
        "runtime": runtime,
        "version": version,
        "target": target,
        "entry": entry,
        "loader": loader,
        "files": files,
        "built": dict(built),
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read(folder: Path) -> Bundle:
    """The bundle in `folder`. Its files were checked when it was built or added; here only the manifest is.

    Raises PackageError where there is none or it says nonsense."""
    try:
        text = (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise PackageError(f"no runner bundle in {folder.name}: {error.strerror}") from error
    return _parse(text, folder)


def _parse(text: bytes, folder: Path) -> Bundle:
    """Every word of a manifest is hostile until here."""

    def refuse(why: str) -> PackageError:
        return PackageError(f"runner bundle: {why}", "make the bundle again with: harness runners build -o FILE")

    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise refuse("its manifest is no JSON") from error
    if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
        raise refuse(f"its manifest is not of schema {SCHEMA}")
    words: dict[str, str] = {}
    for key, pattern in (("runtime", _NAME), ("target", _TARGET), ("version", _VERSION), ("entry", _PART)):
        value = raw.get(key)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise refuse(f"its {key} is not acceptable")
        words[key] = value
    table = raw.get("files")
    if not isinstance(table, dict) or not 0 < len(table) <= MAX_FILES:
        raise refuse("its list of files is missing or too long")
    files: dict[str, dict[str, Any]] = {}
    for name, fact in table.items():
        if not _acceptable(name) or not isinstance(fact, dict):
            raise refuse("a file has a path that is not acceptable")
        size, digest = fact.get("size"), fact.get("sha256")
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise refuse("a file has no size")
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise refuse("a file has no hash")
        files[name] = {"sha256": digest, "size": size}
    if sum(fact["size"] for fact in files.values()) > MAX_BYTES:
        raise refuse("its files are larger than any runner")
    loader = raw.get("loader")
    if not isinstance(loader, str) or loader not in files or "/" not in loader:
        raise refuse("its loader is not among its files")
    if words["entry"] not in files:
        raise refuse("its entry is not among its files")
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    return Bundle(path=folder, sha256=digest, files=files, loader=loader, **words)


def _acceptable(name: str) -> bool:
    parts = name.split("/")
    return len(parts) <= 3 and all(_PART.fullmatch(part) for part in parts) and name != MANIFEST


def pack(bundle: Bundle, out: Path) -> None:
    """Writes the bundle as .tar.xz: manifest first, same bytes for the same bundle. Raises PackageError."""
    temporary = out.with_name(f"{out.name}.{os.getpid()}.tmp")
    try:
        with tarfile.open(temporary, "w:xz", preset=3) as tar:
            for name in (MANIFEST, *sorted(bundle.files)):
                info = tarfile.TarInfo(name)
                info.size = (bundle.path / name).stat().st_size
                info.mode = 0o755 if name in bundle.executables else 0o644
                with (bundle.path / name).open("rb") as file:
                    tar.addfile(info, file)
        os.replace(temporary, out)
    except OSError as error:
        raise PackageError(f"cannot write {out.name}: {error.strerror or error}", "is there space left?") from error
    finally:
        temporary.unlink(missing_ok=True)


def unpack(file: Path, parent: Path) -> Bundle:
    """Unpacks a .tar.xz made by pack() into a new folder of `parent`, each file checked as it comes.

    The archive is hostile: nothing that its manifest does not list is written, no link, no path outside, no byte
    more than listed. Raises PackageError and leaves nothing behind."""
    folder = Path(tempfile.mkdtemp(prefix=".tmp-", dir=parent))
    try:
        with tarfile.open(file, "r:xz") as tar:
            return _unpack(tar, folder)
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        hint = "harness runners build -o FILE makes one"
        raise PackageError(f"{file.name} is no runner bundle: {error}", hint) from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _unpack(tar: tarfile.TarFile, folder: Path) -> Bundle:
    first = tar.next()
    if first is None or first.name != MANIFEST or not first.isreg() or first.size > MAX_MANIFEST_BYTES:
        raise PackageError("runner bundle: it does not begin with a manifest")
    text = _content(tar, first).read()
    bundle = _parse(text, folder)
    (folder / MANIFEST).write_bytes(text)
    missing = dict(bundle.files)
    while (member := tar.next()) is not None:
        fact = missing.pop(member.name, None)
        if fact is None or not member.isreg() or member.size != fact["size"]:
            raise PackageError("runner bundle: it holds a file that is not as its manifest says")
        target = folder / PurePosixPath(member.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as out:
            shutil.copyfileobj(_content(tar, member), out)
        if file_sha256(target) != fact["sha256"]:
            raise PackageError("runner bundle: a file's hash is not the one of its manifest", "fetch the bundle again")
        if member.name in bundle.executables:
            target.chmod(target.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP)
    if missing:
        raise PackageError(f"runner bundle: {len(missing)} files of its manifest are missing")
    return bundle


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(member)
    if content is None:
        raise PackageError("runner bundle: a member has no content")
    return content
