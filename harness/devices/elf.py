"""What an ELF file says of itself: which machine it is for, what starts it, what it wants beside it.

Only headers are read, and none of them is trusted: the file may be the user's, or damaged."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from harness.errors import PackageError, UsageError

#: e_machine -> what `uname -m` says there
MACHINES = {3: "i686", 40: "armv7l", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
_MAX_HEADERS, _MAX_TABLE_BYTES = 1024, 64 << 20  # libtorch has 13 program headers and 12 MB of names
_LOAD, _DYNAMIC, _INTERP = 1, 2, 3  # p_type
_NEEDED, _STRTAB, _STRSZ, _RPATH, _RUNPATH, _FLAGS_1 = 1, 5, 10, 15, 29, 0x6FFFFFFB  # d_tag
_PIE = 0x08000000  # in DT_FLAGS_1: a program, though its type is that of a library


@dataclass(frozen=True, kw_only=True)
class Elf:
    """`interpreter`: the loader that the kernel starts for it; None for a library or a static program.
    `alignment`: the smallest of its segments in memory; the kernel's pages must not be larger."""

    machine: str
    program: bool
    interpreter: str | None
    needed: tuple[str, ...]
    runpath: tuple[str, ...]
    alignment: int


@dataclass(frozen=True)
class _Segment:
    type: int
    offset: int
    address: int
    size: int
    alignment: int


def read(path: Path) -> Elf:
    """Raises PackageError where it cannot be read, is no ELF file, or a damaged one."""
    try:
        if not path.is_file():
            raise PackageError(f"{path}: no such file")  # opening a pipe would wait for its writer
        with path.open("rb") as file:
            return _read(file)
    except OSError as error:
        raise PackageError(f"{path}: {error.strerror or error}") from error
    except (ValueError, struct.error, UnicodeDecodeError) as error:
        raise PackageError(f"{path} is no ELF file, or a damaged one: {error}") from error


def _read(file: BinaryIO) -> Elf:
    head = _at(file, 0, 16)
    if head[:4] != b"\x7fELF" or head[4] not in (1, 2) or head[5] != 1:
        raise ValueError("it does not begin like one")
    wide = head[4] == 2
    kind, machine = struct.unpack("<HH", _at(file, 16, 4))
    segments = _segments(file, wide)
    dynamic = [pair for segment in segments if segment.type == _DYNAMIC for pair in _tags(file, segment, wide)]
    names = _names(file, segments, dict(dynamic))
    interpreter = next((_at(file, s.offset, min(s.size, 4096)) for s in segments if s.type == _INTERP), None)
    loads = [segment.alignment for segment in segments if segment.type == _LOAD]
    pie = any(tag == _FLAGS_1 and value & _PIE for tag, value in dynamic)
    return Elf(
        machine=MACHINES.get(machine, f"machine {machine}"),
        program=bool(loads) and (kind == 2 or (kind == 3 and (interpreter is not None or pie))),
        interpreter=None if interpreter is None else _text(interpreter, 0),
        needed=tuple(_text(names, value) for tag, value in dynamic if tag == _NEEDED),
        runpath=tuple(_text(names, value) for tag, value in dynamic if tag in (_RPATH, _RUNPATH)),
        alignment=min(loads, default=0),
    )


def _segments(file: BinaryIO, wide: bool) -> list[_Segment]:
    where, header, form = (32, "<Q14xHH", "<IIQQQQQQ") if wide else (28, "<I10xHH", "<IIIIIIII")
    start, size, count = struct.unpack(header, _at(file, where, struct.calcsize(header)))
    if count > _MAX_HEADERS or (count and size != struct.calcsize(form)):
        raise ValueError("its table of segments is not acceptable")
    fields = (0, 2, 3, 5, 7) if wide else (0, 1, 2, 4, 7)  # p_type, p_offset, p_vaddr, p_filesz, p_align
    return [_Segment(*(row[k] for k in fields)) for row in struct.iter_unpack(form, _at(file, start, size * count))]


def _tags(file: BinaryIO, segment: _Segment, wide: bool) -> list[tuple[int, int]]:
    form = "<QQ" if wide else "<II"
    size = segment.size - segment.size % struct.calcsize(form)
    found = []
    for tag, value in struct.iter_unpack(form, _at(file, segment.offset, size)):
        if tag == 0:
            break
        found.append((tag, value))
    return found


def _names(file: BinaryIO, segments: list[_Segment], dynamic: dict[int, int]) -> bytes:
    """The table that the dynamic section's names are offsets into; it is given as an address in memory."""
    address = dynamic.get(_STRTAB)
    if address is None:
        return b""
    for segment in segments:
        if segment.type == _LOAD and segment.address <= address < segment.address + segment.size:
            return _at(file, segment.offset + address - segment.address, dynamic.get(_STRSZ, 0))
    raise ValueError("its names are outside of it")


def _at(file: BinaryIO, offset: int, size: int) -> bytes:
    if size > _MAX_TABLE_BYTES or offset >= 1 << 62:
        raise ValueError("a table of it is too large")
    file.seek(offset)
    content = file.read(size)
    if len(content) != size:
        raise ValueError("it is cut off")
    return content


def _text(table: bytes, offset: int) -> str:
    end = table.find(b"\0", offset)
    if offset >= len(table) or end < 0:
        raise ValueError("a name of it is outside of its table")
    return table[offset:end].decode()


def check_own(path: Path, abi: str, android: bool | None = None) -> None:
    """Raises UsageError where the user's runner is no program that a device of this ABI can start. `android`: what the
    device is, where that is known; each system's loader is missing on the other."""
    try:
        elf = read(path)
    except PackageError as error:
        raise UsageError(f"runner {error.what}", "runner: {path: …} names a program on this computer") from error
    if elf.machine != abi:
        raise UsageError(f"runner {path} is for {elf.machine}, the device is {abi}", f"build it for {abi}")
    if not elf.program:
        raise UsageError(f"runner {path} is a library or an object file, no program", "name the linked program")
    if elf.interpreter is None or android is None:
        return  # static: nothing of the system is needed
    bionic = elf.interpreter.startswith(("/system/", "/apex/"))
    if bionic != android:
        which = "which Android does not have" if android else "which only Android has"
        hint = f"build it {'with the NDK' if android else 'for Linux'}, or static; see docs/own-runner.md"
        raise UsageError(f"runner {path} is started by {elf.interpreter}, {which}", hint)
