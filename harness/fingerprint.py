"""Content hashes: what makes two builds the same build. Nothing here depends on paths, order or time."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import platform
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_MODULE = re.compile(r"[A-Za-z_][\w]*(\.[A-Za-z_][\w]*)*(:[A-Za-z_]\w*)?")
TOOLS = ("torch", "executorch", "torchao", "torch-pruning", "numpy", "ondevice-harness")
_INSTALLED = {"site-packages", "dist-packages"}
#: what is no user's wherever it is installed; a user's own module of such a name shadows it
_BY_VERSION = sys.stdlib_module_names | {name.replace("-", "_") for name in TOOLS}


def of_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_json(value: Any) -> str:
    """Hash of JSON values; key order does not count. Raises TypeError for anything else."""
    return of_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode())


def of_tensors(tensors: Iterable[torch.Tensor]) -> str:
    """Hash over dtype, shape and values, in the order given."""
    import torch

    digest = hashlib.sha256()
    for tensor in tensors:
        flat = tensor.detach().cpu().contiguous()
        if flat.is_quantized or flat.layout != torch.strided:
            flat = flat.dequantize() if flat.is_quantized else flat.to_dense()
        digest.update(f"{flat.dtype}{tuple(flat.shape)}".encode())
        digest.update(flat.reshape(-1).view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return digest.hexdigest()


def of_model(model: torch.nn.Module) -> str:
    """Hash of the parameters and buffers with their names (non-persistent buffers too: they change outputs)."""
    named = sorted([*model.named_parameters(), *model.named_buffers()], key=lambda pair: pair[0])
    return of_bytes(("\n".join(name for name, _ in named) + of_tensors(t for _, t in named)).encode())


def of_package(*folders: Path) -> str:
    """Hash of the Python files of these folders or files: our own source is part of what we build."""
    files = [f for folder in folders for f in (sorted(folder.rglob("*.py")) if folder.is_dir() else [folder])]
    return of_json([[f.name, of_file(f)] for f in files])


def version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def toolchain() -> dict[str, str]:
    """Names and versions of what builds; missing ones are left out."""
    found = {name: version(name) for name in TOOLS}
    python = ".".join(map(str, sys.version_info[:2]))
    return {"python": python, "machine": platform.machine()} | {k: v for k, v in found.items() if v}


def of_source(modules: Iterable[str], roots: Sequence[Path]) -> str:
    """Hash of these modules' files and of all that they import, by name and content.

    Read from the files, not from what happens to be imported already: a worker that ran other steps before
    must find the same hash. Text constants that name a module count as imports (import_module, "module:callable").
    What is installed (site-packages), and the tools, count by their distribution's version; a package installed
    in place (`pip install -e`) is still being written and counts by content."""
    seen: dict[str, str] = {}
    outside: set[str] = set()
    todo = list(modules)
    while todo:
        name = todo.pop()
        if name in seen or name in outside:
            continue
        top = name.partition(".")[0]
        path = resolve(name, roots) if top in _BY_VERSION else locate(name, roots)
        if path is None or top == "harness" or _INSTALLED.intersection(path.parts):
            outside.add(name)
            continue
        seen[name] = of_file(path)
        todo += [n for n in _imports(path, name, seen[name]) if n not in seen]
    tops = {n.partition(".")[0] for n in outside} - set(sys.stdlib_module_names)
    return of_json([sorted(seen.items()), sorted(_versions(tops).items())])


def resolve(module: str, roots: Sequence[Path]) -> Path | None:
    """The file of `module` below the first root that has it, as the import system would find it there."""
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", module):
        return None
    for root in roots:
        path = _file_of(root.joinpath(*module.split(".")))
        if path is not None and not _INSTALLED.intersection(path.parts):
            return path
    return None


def locate(module: str, roots: Sequence[Path]) -> Path | None:
    """The file of `module` below a root, else wherever the import system finds it. Imports nothing, not even the
    packages that it lies in."""
    if (path := resolve(module, roots)) is not None:
        return path
    top, *below = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, AttributeError, ValueError):  # a text that is no name, or a module without a spec
        return None
    if spec is None:
        return None
    if not below:
        return Path(spec.origin) if spec.origin and Path(spec.origin).is_file() else None
    found = (_file_of(Path(folder, *below)) for folder in spec.submodule_search_locations or ())
    return next((path for path in found if path is not None), None)


def _file_of(base: Path) -> Path | None:
    return next((p for p in (base / "__init__.py", base.with_name(base.name + ".py")) if p.is_file()), None)


@functools.lru_cache(maxsize=4096)
def _imports(path: Path, module: str, sha256: str) -> frozenset[str]:
    """What `module` imports; `sha256` of its file says when it has to be read again."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return frozenset()  # importing it will say so, with the line
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".") if package else []
            above = parts[: len(parts) - (node.level - 1)] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {base, *(f"{base}.{alias.name}".strip(".") for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _MODULE.fullmatch(node.value):
            found.add(node.value.partition(":")[0])
    parents = {name.rpartition(".")[0] for name in found | {module}}
    return frozenset((found | parents) - {""})


@functools.cache
def _providers() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()  # reads every installed package's list of files: a second


def _versions(tops: Iterable[str]) -> Mapping[str, str]:
    """Top-level module name -> versions of the distributions that provide it (text constants fall out here)."""
    wanted = set(tops)
    providers = _providers() if wanted else {}
    return {
        top: ",".join(sorted(f"{d}=={importlib.metadata.version(d)}" for d in set(providers[top])))
        for top in wanted & set(providers)
        if top != "harness"
    }
