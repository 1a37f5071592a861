"""A command on the phone, by adbd's shell protocol version 2: exit code, two streams out, one in."""

from __future__ import annotations

import struct

from harness.devices.adb_stream import Reader, Stream
from harness.errors import DeviceError, TransportError
from harness.interfaces import Completed

#: an answer beyond this is no answer to anything that we ask
MAX_OUTPUT_BYTES = 256 << 20
_CHUNK = 64 << 10
_HEADER = struct.Struct("<BI")
_STDIN, _STDOUT, _STDERR, _EXIT, _CLOSE_STDIN = range(5)


def run(stream: Stream, stdin: bytes, deadline: float, name: str) -> Completed:
    """Feeds stdin, gathers both outputs until the exit code comes.

    Raises TimedOut at the deadline, Gone where the stream ends without a code, DeviceError for too much output."""
    answer = _Answer(stream, name)
    for packet in _packets(stdin):
        wanted = stream.send(packet, deadline)
        while stream.incoming and answer.code is None:
            answer.take_one(deadline)
        if not wanted or answer.code is not None:
            break  # it ended without reading all its input
    while answer.code is None:
        answer.take_one(deadline)
    out = answer.outputs
    return Completed(returncode=answer.code, stdout=bytes(out[_STDOUT]), stderr=bytes(out[_STDERR]))


def _packets(stdin: bytes) -> list[bytes]:
    chunks = [stdin[at : at + _CHUNK] for at in range(0, len(stdin), _CHUNK)]
    return [_HEADER.pack(_STDIN, len(chunk)) + chunk for chunk in chunks] + [_HEADER.pack(_CLOSE_STDIN, 0)]


class _Answer:
    def __init__(self, stream: Stream, name: str) -> None:
        self._reader, self._name = Reader(stream, name), name
        self.outputs = {_STDOUT: bytearray(), _STDERR: bytearray()}
        self.code: int | None = None

    def take_one(self, deadline: float) -> None:
        kind, size = _HEADER.unpack(self._reader.exactly(_HEADER.size, deadline))
        if size > MAX_OUTPUT_BYTES or kind > _CLOSE_STDIN or (kind == _EXIT and size != 1):
            raise TransportError(f"{self._name}: its shell answers in no known way", "is this an adb daemon?")
        data = self._reader.exactly(size, deadline)
        if kind == _EXIT:
            self.code = data[0]
        elif kind in self.outputs:
            self.outputs[kind] += data
            if sum(map(len, self.outputs.values())) > MAX_OUTPUT_BYTES:
                raise DeviceError(f"{self._name}: a command put out more than {MAX_OUTPUT_BYTES >> 20} MiB")
