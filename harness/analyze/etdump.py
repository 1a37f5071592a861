"""Reading an ETDump, ExecuTorch's trace, without ExecuTorch: bytes in, events out. Pure.

It is a size-prefixed flatbuffer (schema: executorch/devtools/etdump/etdump_schema_flatcc.fbs, release 1.5; the format:
https://flatbuffers.dev/internals/). A device wrote it, so nothing in it is trusted: every offset is checked against
the buffer before it is followed, and what a small file could make large is counted and bounded."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from harness.errors import RunnerError

#: of all blocks together; a model of a thousand operators makes some 40,000 in 20 executions
MAX_EVENTS = 500_000
MAX_NAME = 200
LONGEST_NS = 86_400 * 10**9
_IDENTIFIER = b"ED00"


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One timed thing. `instruction`: the number of the program's instruction, None for what is not of one.

    `inside`: a delegate told it, of what goes on inside its call. Times are ns of a clock that starts anywhere."""

    name: str
    instruction: int | None
    inside: bool
    start_ns: int
    end_ns: int

    @property
    def duration_ns(self) -> int:
        return self.end_ns - self.start_ns


def read(data: bytes) -> list[list[Event]]:
    """The events of each block of the file (one execution of the method is one block), as they were written.

    Raises RunnerError where it is no ETDump or a damaged one."""
    buffer = _Buffer(data)
    if data[8:12] != _IDENTIFIER:
        raise _damaged(f"it does not begin with {_IDENTIFIER.decode()}")
    if buffer.u32(0) != len(data) - 4:
        raise _damaged(f"it has {len(data)} bytes and promises {buffer.u32(0) + 4}")
    root = _Table(buffer, buffer.follow(4))
    blocks: list[list[Event]] = []
    left = MAX_EVENTS
    for run in root.tables(_Dump.RUN_DATA):
        if len(blocks) >= MAX_EVENTS:  # of empty ones too
            raise _damaged("too many blocks")
        block: list[Event] = []
        for wrapped in run.tables(_Run.EVENTS):
            left -= 1
            if left < 0:
                raise _damaged(f"more than {MAX_EVENTS} events")
            if (profiled := wrapped.table(_Wrapper.PROFILE)) is not None:  # the others are allocations and tensors
                block.append(_event(profiled))
        blocks.append(block)
    return blocks


class _Dump:
    RUN_DATA = 1


class _Run:
    EVENTS = 3


class _Wrapper:
    PROFILE = 0


class _Profile:
    """Places of the fields of `ProfileEvent` in its table."""

    NAME = 0
    INSTRUCTION = 2
    DELEGATE_INT = 3
    DELEGATE_STR = 4
    START = 6
    END = 7


def _event(table: _Table) -> Event:
    number, text = table.i32(_Profile.DELEGATE_INT, -1), table.text(_Profile.DELEGATE_STR)
    instruction = table.i32(_Profile.INSTRUCTION, -1)
    start, end = table.u64(_Profile.START), table.u64(_Profile.END)
    name = text or table.text(_Profile.NAME) or (f"node {number}" if number >= 0 else "")
    if not name:
        raise _damaged("an event has no name")
    if not start <= end <= start + LONGEST_NS:
        raise _damaged(f"the event {name!r} goes from {start} to {end}")
    return Event(
        name=name,
        instruction=instruction if instruction >= 0 else None,
        inside=text is not None or number >= 0,
        start_ns=start,
        end_ns=end,
    )


class _Buffer:
    """Bytes with a bound: Python would take a negative place for one from the end."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def _at(self, form: struct.Struct, place: int) -> int:
        if not 0 <= place <= len(self.data) - form.size:
            raise _damaged("an offset leads out of it")
        value: int = form.unpack_from(self.data, place)[0]
        return value

    def u16(self, place: int) -> int:
        return self._at(_U16, place)

    def u32(self, place: int) -> int:
        return self._at(_U32, place)

    def i32(self, place: int) -> int:
        return self._at(_I32, place)

    def u64(self, place: int) -> int:
        return self._at(_U64, place)

    def follow(self, place: int) -> int:
        """Where the offset that stands at `place` leads; always forwards."""
        return place + self.u32(place)


class _Table:
    """Fields by their number; one that is absent has its default."""

    def __init__(self, buffer: _Buffer, place: int) -> None:
        self._buffer, self._place = buffer, place
        self._vtable = place - buffer.i32(place)
        self._fields = (buffer.u16(self._vtable) - 4) // 2

    def _field(self, number: int) -> int | None:
        if number >= self._fields:
            return None
        offset = self._buffer.u16(self._vtable + 4 + 2 * number)
        return self._place + offset if offset else None

    def i32(self, number: int, default: int) -> int:
        place = self._field(number)
        return default if place is None else self._buffer.i32(place)

    def u64(self, number: int) -> int:
        place = self._field(number)
        return 0 if place is None else self._buffer.u64(place)

    def text(self, number: int) -> str | None:
        """At most MAX_NAME characters, the unprintable ones replaced; None where the field is absent."""
        place = self._field(number)
        if place is None:
            return None
        start = self._buffer.follow(place)
        size = self._buffer.u32(start)
        if size > len(self._buffer.data) - start - 4:
            raise _damaged("a text leads out of it")
        raw = self._buffer.data[start + 4 : start + 4 + min(size, 4 * MAX_NAME)]
        said = raw.decode("utf-8", "replace")[:MAX_NAME]
        return said if said.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in said)

    def table(self, number: int) -> _Table | None:
        place = self._field(number)
        return None if place is None else _Table(self._buffer, self._buffer.follow(place))

    def tables(self, number: int) -> Iterator[_Table]:
        """The members of a list of tables."""
        place = self._field(number)
        if place is None:
            return
        start = self._buffer.follow(place)
        for index in range(self._buffer.u32(start)):
            yield _Table(self._buffer, self._buffer.follow(start + 4 + 4 * index))


_U16, _U32, _I32, _U64 = (struct.Struct(form) for form in ("<H", "<I", "<i", "<Q"))


def _damaged(why: str) -> RunnerError:
    return RunnerError(f"the profile is no ETDump that can be read: {why}")
