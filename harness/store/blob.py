"""Named sample arrays <-> one zstd blob: an 8-byte header length, a JSON header, then the arrays' bytes."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.errors import StoreError

Arrays = Mapping[str, "np.ndarray[Any, Any]"]
_own = threading.local()
_DTYPES = ("<u4", "<u8", "<f8", "|u1")


def compact(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Nanoseconds as uint32 where they fit, else uint64."""
    small = values.size == 0 or int(values.max()) <= 0xFFFFFFFF
    return values.astype("<u4" if small else "<u8")


def encode(arrays: Arrays) -> bytes:
    import zstandard

    header, body = [], []
    for name, values in arrays.items():
        stored = compact(values) if values.dtype.kind in "iu" and values.dtype.itemsize > 1 else values
        header.append([name, stored.dtype.str, int(stored.size)])
        body.append(np.ascontiguousarray(stored).tobytes())
    text = json.dumps(header).encode()
    return zstandard.ZstdCompressor(level=3).compress(len(text).to_bytes(8, "little") + text + b"".join(body))


def decode(blob: bytes) -> dict[str, np.ndarray[Any, Any]]:
    """Raises StoreError where the blob is damaged."""
    import zstandard

    if not hasattr(_own, "decompressor"):  # to make one takes longer than to decompress a run with it
        _own.decompressor = zstandard.ZstdDecompressor()
    try:
        raw = _own.decompressor.decompress(blob)
        start = 8 + int.from_bytes(raw[:8], "little")
        out = {}
        for name, dtype, size in json.loads(raw[8:start]):
            if dtype not in _DTYPES:
                raise ValueError(f"dtype {dtype}")
            out[name] = np.frombuffer(raw, dtype, size, start)
            start += out[name].nbytes
        return out
    except (zstandard.ZstdError, ValueError, TypeError, KeyError) as error:
        raise StoreError(f"a run's samples are damaged: {error}", "restore the store from a copy") from error
