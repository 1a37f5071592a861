"""A package: manifest.json and the content-addressed files it names. All that measuring needs, without torch."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from harness.errors import PackageError, UsageError
from harness.types import Package

MANIFEST = "manifest.json"
SCHEMA = 1
_ADAPTER = TypeAdapter(Package)


class Files:
    """The host's content-addressed files: `files(sha256, suffix)` is a path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, sha256: str, suffix: str) -> Path:
        path = self.folder / f"{sha256}{suffix}"
        if os.sep in suffix or not sha256.isalnum() or not path.is_file():
            raise PackageError(f"{path}: the file is missing", "build the experiment again: harness run CONFIG")
        return path


def named(package: Package) -> Iterator[tuple[str, str]]:
    """Every file that the package names: (sha256, suffix)."""
    for build in package.builds:
        if build.artifact is not None:
            yield build.artifact.sha256, build.artifact.suffix
        yield from ((file.sha256, ".bin") for file in build.expected)
    for artifact in package.nulls.values():
        yield artifact.sha256, artifact.suffix
    for check in package.checks.values():
        yield from ((file.sha256, ".bin") for file in check.inputs)
        if check.targets is not None:
            yield check.targets.sha256, ".bin"
    if package.null_input is not None:
        yield package.null_input.sha256, ".bin"


def write(package: Package, files: Files, out: Path) -> None:
    """Copies the package into the folder `out`, the manifest last: a folder with a manifest is whole."""
    if (out / MANIFEST).exists():
        (out / MANIFEST).unlink()
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists and is not a package", "name an empty or a new folder with -o")
    try:
        target = out / "files"
        target.mkdir(parents=True, exist_ok=True)
        for sha256, suffix in sorted(set(named(package))):
            shutil.copyfile(files(sha256, suffix), target / f"{sha256}{suffix}")
        partial = out / f".{MANIFEST}"
        partial.write_bytes(_ADAPTER.dump_json(package, indent=1))
        partial.replace(out / MANIFEST)
    except OSError as error:
        raise PackageError(f"{out}: cannot write the package: {error.strerror or error}") from error


def read(folder: Path) -> tuple[Package, Files]:
    """Raises PackageError where the manifest is not understood or a file is not what it says (hash checked)."""
    try:
        package = _ADAPTER.validate_json((folder / MANIFEST).read_bytes())
    except OSError as error:
        raise UsageError(
            f"{folder} is not a package: no {MANIFEST}", "harness build CONFIG -o DIR makes one"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PackageError(f"{folder / MANIFEST}: {where}: {first['msg']}", "build the package again") from error
    if package.schema != SCHEMA:
        raise PackageError(
            f"{folder}: package schema {package.schema}, this harness reads {SCHEMA}", "use the harness that built it"
        )
    files = Files(folder / "files")
    for sha256, suffix in sorted(set(named(package))):
        with files(sha256, suffix).open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != sha256:
                raise PackageError(
                    f"{folder}: the file {sha256[:12]}…{suffix} is damaged", "copy or build the package again"
                )
    return package, files


def keep(package: Package, files: Files, folder: Path) -> Files:
    """The package's files among the host's own, so that `pick -o` finds them when the package is gone."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for sha256, suffix in sorted(set(named(package))):
            target = folder / f"{sha256}{suffix}"
            if not target.exists():
                partial = target.with_name(f".{target.name}.{os.getpid()}")
                shutil.copyfile(files(sha256, suffix), partial)
                partial.replace(target)
    except OSError as error:
        hint = "name a writable place with HARNESS_ARTIFACTS"
        raise PackageError(f"{folder}: {error.strerror or error}", hint) from error
    return Files(folder)
