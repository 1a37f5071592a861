"""Files to and from a phone, by adbd's sync protocol (version 1, which every Android has)."""

from __future__ import annotations

import os
import stat
import struct
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NoReturn

from harness.devices.adb_stream import Reader, Stream, printable
from harness.errors import DeviceError, Gone, NoSpace, TransportError

#: without any progress for so long a transfer has failed
STALL_S = 30.0
_CHUNK = 64 << 10  # adbd takes no more in one DATA
_TOGETHER = 4  # chunks in one send: each of those costs a round trip
_MAX_PATH_BYTES = 1024
_HEADER = struct.Struct("<4sI")


def push(stream: Stream, local: Path, remote: str, name: str) -> None:
    """The local file as `remote`, executable there if it is here.

    Raises NoSpace or DeviceError with the device's words as soon as it says so, TransportError for the link."""
    path = _path(remote, name)
    try:
        with local.open("rb") as file:
            status = os.fstat(file.fileno())
            mode = stat.S_IFREG | (0o755 if status.st_mode & 0o100 else 0o644)
            wanted = stream.send(_request(b"SEND", path + b",%d" % mode), _deadline())
            for data in _data(file):
                if stream.incoming or not wanted:
                    break  # nothing is said before the end but that it failed
                wanted = stream.send(data, _deadline())
            else:
                stream.send(_HEADER.pack(b"DONE", int(status.st_mtime) & 0xFFFFFFFF), _deadline())
    except OSError as error:
        raise DeviceError(f"{name}: cannot read {local}: {error.strerror or error}") from error
    reader = Reader(stream, name)
    kind, size = _HEADER.unpack(reader.exactly(_HEADER.size, _deadline()))
    if kind != b"OKAY":
        _failed(reader, kind, size, f"cannot write {remote}", name)


def pull(stream: Stream, remote: str, local: Path, name: str) -> None:
    """The device's file as `local`, which is replaced when all has arrived.

    Raises DeviceError where the device has no such file, TransportError for the link."""
    stream.send(_request(b"RECV", _path(remote, name)), _deadline())
    reader = Reader(stream, name)
    kind, size = _HEADER.unpack(reader.exactly(_HEADER.size, _deadline()))
    if kind not in (b"DATA", b"DONE"):
        _failed(reader, kind, size, f"cannot read {remote}", name)
    partial = local.with_name(f".pull-{uuid.uuid4().hex}")
    try:
        with partial.open("xb") as file:
            while kind == b"DATA" and size <= _CHUNK:
                file.write(reader.exactly(size, _deadline()))
                kind, size = _HEADER.unpack(reader.exactly(_HEADER.size, _deadline()))
        if kind != b"DONE":
            _failed(reader, kind, size, f"cannot read {remote}", name)
        os.replace(partial, local)
    except OSError as error:
        raise DeviceError(f"{name}: cannot write {local}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def _deadline() -> float:
    return time.monotonic() + STALL_S


def _path(remote: str, name: str) -> bytes:
    path = os.fsencode(remote)
    if len(path) > _MAX_PATH_BYTES - 8 or b"\0" in path:  # the mode is counted in
        raise DeviceError(f"{name}: {printable(remote, 60)}… is no path that adb can carry", "use a shorter workdir")
    return path


def _request(kind: bytes, data: bytes) -> bytes:
    return _HEADER.pack(kind, len(data)) + data


def _data(file: BinaryIO) -> Iterator[bytes]:
    while chunks := [chunk for _ in range(_TOGETHER) if (chunk := file.read(_CHUNK))]:
        yield b"".join(_request(b"DATA", chunk) for chunk in chunks)


def _failed(reader: Reader, kind: bytes, size: int, what: str, name: str) -> NoReturn:
    """Raises what the device said."""
    if kind != b"FAIL" or size > _CHUNK:
        raise TransportError(f"{name}: {what}: its answer is {kind!r}, which means nothing", "is this an adb daemon?")
    try:
        said = printable(reader.exactly(size, _deadline()))
    except Gone:
        said = "it failed, and the reason was lost"
    if any(words in said.lower() for words in ("no space left", "quota exceeded")):
        raise NoSpace(f"{name}: {what}: {said}", "free some space on the device")
    raise DeviceError(f"{name}: {what}: {said}")
