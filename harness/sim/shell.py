"""What the simulated device's shell answers: the few commands that the harness sends, on the world's files."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence

from harness.interfaces import Completed
from harness.sim import scripts
from harness.sim.world import File, World


def run(world: World, argv: Sequence[str], stdin: bytes) -> Completed:
    """Never raises for what it is asked: a word that it does not know is `not found`, as in any shell."""
    words = list(argv)
    if words and words[0] == "env":
        words = words[1:]
        while words and "=" in words[0]:
            words = words[1:]
    if not words:
        return said(b"", 2)
    if words[-1] == "--version":
        return said(b"executorch simulated\n")
    command = COMMANDS.get(words[0])
    return said(b"", 127, f"{words[0]}: not found") if command is None else command(world, words[1:], stdin)


def said(out: bytes, code: int = 0, err: str = "") -> Completed:
    return Completed(returncode=code, stdout=out, stderr=err.encode())


def shell(world: World, words: list[str], stdin: bytes) -> Completed:
    if words[:1] == ["-s"]:
        return scripts.standing_in_input(world, words[1:], stdin)
    file = world.files.get(words[0]) if words else None
    name = None if file is None else file.script
    if name is None:
        return said(b"", 127, "no such script")
    return scripts.run(world, name, words[1:], stdin)


def cat(world: World, words: list[str], stdin: bytes) -> Completed:
    path = words[0] if words else ""
    if path.endswith("/proc/sys/kernel/random/boot_id"):
        return said(world.boot_id.encode() + b"\n")
    found = read(world, path)
    return said(b"", 1, f"{path}: No such file or directory") if found is None else said(found.read())


def read(world: World, path: str) -> File | None:
    """The file at `path`: pushed, or of a process's folder."""
    if (file := world.files.get(path)) is not None:
        return file
    for folder, process in world.processes.items():
        if path.startswith(f"{folder}/"):
            name = path.removeprefix(f"{folder}/")
            if name == "result.jsonl":
                return File(data=process.stdout(world.t))
            if name == "stderr":
                return File(data=process.stderr)
            return process.files.get(name)
    return None


def ls(world: World, words: list[str], stdin: bytes) -> Completed:
    parent = words[-1].rstrip("/")
    names = [folder for folder in world.processes if posixpath.dirname(folder) == parent]
    return said("".join(f"{posixpath.basename(name)}\n" for name in names).encode())


def rm(world: World, words: list[str], stdin: bytes) -> Completed:
    for path in words:
        if not path.startswith("-"):
            world.remove(path)
    return said(b"")


def mv(world: World, words: list[str], stdin: bytes) -> Completed:
    source, target = words[-2:]
    if source not in world.files:
        return said(b"", 1, f"{source}: No such file or directory")
    world.files[target] = world.files.pop(source)
    return said(b"")


def sha256sum(world: World, words: list[str], stdin: bytes) -> Completed:
    return said(scripts.hashes(world, words))


COMMANDS: Mapping[str, Callable[[World, list[str], bytes], Completed]] = {
    "sh": shell,
    "cat": cat,
    "ls": ls,
    "rm": rm,
    "mv": mv,
    "mkdir": lambda world, words, stdin: said(b""),
    "sha256sum": sha256sum,
    "echo": lambda world, words, stdin: said(f"{' '.join(words)}\n".encode()),
}
