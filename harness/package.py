"""A package: manifest.json and the content-addressed files it names. All that measuring needs, without torch."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from harness.errors import PackageError, UsageError
from harness.experiment import NAME, Experiment
from harness.shared_files import place_of, shown
from harness.types import DTYPES, Artifact, CheckSet, Package, TensorFile

MANIFEST = "manifest.json"
SCHEMA = 1
SHA256 = "[0-9a-f]{64}"
SUFFIX = r"\.[a-z0-9]{1,8}"
_ADAPTER = TypeAdapter(Package)


class Files:
    """The host's content-addressed files: `files(sha256, suffix)` is a path.

    Where the folder stands before a shared place, what is not in it is fetched from there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shared = place_of(folder)

    def __call__(self, sha256: str, suffix: str) -> Path:
        """Raises PackageError where the file is neither here nor at the shared place."""
        path = self.folder / f"{sha256}{suffix}"
        if not re.fullmatch(SHA256, sha256) or not re.fullmatch(SUFFIX, suffix):
            raise PackageError(f"{path}: the file is missing", "build the experiment again: harness run CONFIG")
        if not path.is_file() and not (self.shared is not None and self.shared.fetch(path.name)):
            where = path if self.shared is None else f"{path.name}: not at {shown(self.shared.url)}"
            raise PackageError(f"{where}: the file is missing", "build the experiment again: harness run CONFIG")
        return path

    def whole(self, sha256: str, suffix: str) -> bool:
        """Whether the file is here, or at the shared place and now here, and is what its name says."""
        return self._whole_here(sha256, suffix) or (
            self.shared is not None and self.shared.fetch(f"{sha256}{suffix}")
        )

    def _whole_here(self, sha256: str, suffix: str) -> bool:
        path = self.folder / f"{sha256}{suffix}"
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == sha256

    def put(self, content: bytes, suffix: str) -> str:
        """Keeps the content under its hash, which is returned."""
        sha256 = hashlib.sha256(content).hexdigest()
        if not self._whole_here(sha256, suffix):
            partial = self._partial(sha256, suffix)
            partial.write_bytes(content)
            partial.replace(self.folder / f"{sha256}{suffix}")
        return sha256

    def take(self, other: Files, sha256: str, suffix: str) -> None:
        """Keeps a file that another place has."""
        if not self._whole_here(sha256, suffix):
            partial = self._partial(sha256, suffix)
            shutil.copyfile(other(sha256, suffix), partial)
            partial.replace(self.folder / f"{sha256}{suffix}")

    def _partial(self, sha256: str, suffix: str) -> Path:
        """Where a file is written before it takes its name: what bears the name may be linked from elsewhere."""
        return self.folder / f".{sha256}{suffix}.{os.getpid()}"


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
    if wrong := next(impossible(package), None):
        raise PackageError(f"{folder / MANIFEST}: {wrong}", "build the package again")
    files = Files(folder / "files")
    for sha256, suffix in sorted(set(named(package))):
        files(sha256, suffix)
        if not files.whole(sha256, suffix):
            raise PackageError(
                f"{folder}: the file {sha256[:12]}…{suffix} is damaged", "copy or build the package again"
            )
    return package, files


#: a package narrowed by --variant may lack its reference; one that was made of a file, the rest as well
MAY_LACK = ("reference",)
MEASURED_MAY_LACK = ("reference", "model", "variants", "export")


def impossible(package: Package, may_lack: Sequence[str] = MAY_LACK) -> Iterator[str]:
    """What no package of ours says. Its names and suffixes become paths, and a package may come from anywhere."""
    yield from _wrong_experiment(package, may_lack)
    for case, check in package.checks.items():
        yield from _wrong_check(case, check)
    for build in package.builds:
        words = {"variant": build.variant, "exporter": build.exporter, "input": build.input}
        yield from (
            f"builds: {key} {word[:80]!r} is not a name" for key, word in words.items() if not re.fullmatch(NAME, word)
        )
        yield from (wrong for file in build.expected for wrong in _wrong_tensor(file))
        if build.artifact is not None:
            yield from _wrong_artifact(build.artifact)
            if build.input not in package.checks:
                yield f"checks: no input case {build.input!r}"
    for artifact in package.nulls.values():
        yield from _wrong_artifact(artifact)
    if package.null_input is not None:
        yield from _wrong_tensor(package.null_input)


def _wrong_experiment(package: Package, may_lack: Sequence[str]) -> Iterator[str]:
    try:
        Experiment.model_validate_json(json.dumps(package.experiment))
    except ValidationError as error:
        for wrong in error.errors():
            where = (wrong.get("ctx") or {}).get("path", wrong["loc"])
            lacks = len(where) == 1 and where[0] in may_lack and (where[0] == "reference" or wrong["type"] == "missing")
            if not lacks:
                yield f"experiment: {'.'.join(str(part) for part in where)}: {wrong['msg']}"


def _wrong_check(case: str, check: CheckSet) -> Iterator[str]:
    if not re.fullmatch(NAME, case) or check.input != case:
        yield f"checks: input {case[:80]!r} is not a name, or not its own"
    for file in (*check.inputs, *([check.targets] if check.targets is not None else [])):
        yield from _wrong_tensor(file)


def _wrong_artifact(artifact: Artifact) -> Iterator[str]:
    if not re.fullmatch(SHA256, artifact.sha256):
        yield f"sha256 {artifact.sha256[:80]!r} is not one"
    if not re.fullmatch(SUFFIX, artifact.suffix):
        yield f"suffix {artifact.suffix[:80]!r} is not one"
    if not re.fullmatch(NAME, artifact.runtime):
        yield f"runtime {artifact.runtime[:80]!r} is not a name"


def _wrong_tensor(file: TensorFile) -> Iterator[str]:
    if not re.fullmatch(SHA256, file.sha256):
        yield f"sha256 {file.sha256[:80]!r} is not one"
    if file.spec.dtype not in DTYPES:
        yield f"dtype {file.spec.dtype[:80]!r} is not one of {', '.join(DTYPES)}"
    if file.samples < 0 or any(n < 0 for n in file.spec.shape):
        yield f"shape {list(file.spec.shape)} of {file.samples} samples is impossible"


def keep(package: Package, files: Files, folder: Path) -> Files:
    """The package's files among the host's own, so that `pick -o` finds them when the package is gone."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        kept = Files(folder)
        for sha256, suffix in sorted(set(named(package))):
            kept.take(files, sha256, suffix)
    except OSError as error:
        hint = "name a writable place with HARNESS_ARTIFACTS"
        raise PackageError(f"{folder}: {error.strerror or error}", hint) from error
    return kept
