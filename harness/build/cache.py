"""What builds keep for the next time in the user's cache folder: records by key, files by content, trained models."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness import fingerprint
from harness.interfaces import Compressed
from harness.locks import file_lock
from harness.paths import cache_dir
from harness.samples import write_atomically
from harness.types import Artifact, Precision, TensorFile, TensorSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """What is known of one key: the artifact (an export) or expected outputs and score (an evaluation)."""

    artifact: Artifact | None = None
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    precision: Precision = "fp32"
    calibrated: bool = True
    expected: tuple[TensorFile, ...] = ()
    host_score: float | None = None
    validation: Mapping[str, Any] | None = None

    @property
    def files(self) -> dict[str, str]:
        """File name -> sha256 of all that this record stands for."""
        names = {f"{tensor.sha256}.bin": tensor.sha256 for tensor in self.expected}
        return names | ({self.artifact.file_name: self.artifact.sha256} if self.artifact else {})


def _home() -> Path:
    home = cache_dir() / "builds"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    return home


@contextlib.contextmanager
def locked(key: str) -> Iterator[None]:
    """One process computes what this key stands for; the others wait and then find it."""
    with file_lock(_home() / "locks" / f"{key}.lock"):
        yield


def read(key: str, folder: Path) -> Record | None:
    """The record with all its files in `folder`, each checked by content; None where anything is missing or damaged."""
    try:
        raw = json.loads((_home() / f"{key}.json").read_bytes())
        record = _record(raw)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return record if all(_fetch(name, sha256, folder) for name, sha256 in record.files.items()) else None


def write(key: str, record: Record, folder: Path) -> None:
    """Keeps the record and copies of its files (hard links where the file system allows)."""
    for name in record.files:
        _place(folder / name, _home() / "files" / name)
    write_atomically(_home() / f"{key}.json", json.dumps(dataclasses.asdict(record), indent=1).encode())


def _record(raw: dict[str, Any]) -> Record:
    artifact = Artifact(**raw.pop("artifact")) if raw.get("artifact") else None
    raw.pop("artifact", None)
    expected = tuple(
        TensorFile(spec=TensorSpec(dtype=e["spec"]["dtype"], shape=tuple(e["spec"]["shape"])), sha256=e["sha256"],
                   samples=e["samples"])
        for e in raw.pop("expected")
    )
    return Record(**(raw | {"artifact": artifact, "expected": expected, "notes": tuple(raw["notes"])}))


def _fetch(name: str, sha256: str, folder: Path) -> bool:
    if Path(name).name != name:
        return False
    there, kept = folder / name, _home() / "files" / name
    if there.is_file() and fingerprint.of_file(there) == sha256:
        return True
    if not kept.is_file() or fingerprint.of_file(kept) != sha256:
        return False
    _place(kept, there)
    return True


def _place(source: Path, target: Path) -> None:
    """`target` becomes the same content, at once and whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".part-") as part:
        held = Path(part) / target.name
        try:
            os.link(source, held)
        except OSError:
            shutil.copyfile(source, held)
        os.replace(held, target)


def read_prefix(key: str) -> Compressed | None:
    """A model as some steps left it. Call only after the user's modules are importable."""
    import torch

    try:
        # weights_only=False: whole modules (pruned shapes are in no state dict), and only files that this user's
        # own builds wrote into a folder that nobody else may enter
        found = torch.load(_prefixes() / f"{key}.pt", weights_only=False)
    except Exception:  # absent, damaged, or of a class that has changed: computed again
        return None
    return found if isinstance(found, Compressed) else None


def write_prefix(key: str, model: Compressed) -> None:
    """Modules that cannot be pickled are just not kept."""
    import torch

    buffer = io.BytesIO()
    try:
        torch.save(model, buffer)
    except Exception:
        return
    write_atomically(_prefixes() / f"{key}.pt", buffer.getvalue())


def _prefixes() -> Path:
    folder = _home() / "prefixes"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.chmod(folder, 0o700)
    return folder
