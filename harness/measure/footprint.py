"""The `memory` lines of a memory run: its peak, and whether its figures can all be true at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.errors import RunnerError
from harness.measure.runner import Lines

MOST_BYTES = 1 << 50
COUNTERS = (
    "vm_rss", "vm_hwm", "vm_swap", "rss_anon", "rss_file", "pss", "private_clean", "private_dirty", "model_mapped",
    "peak_bytes",
)  # fmt: skip
#: pages by which two ways of counting may differ: a file's segments are mapped apart and share pages at their edges,
#: and the kernel adds up its counters of a process per thread, a little late
SLACK_PAGES = 64
PAGE_BYTES = 4096


def peak_bytes(lines: Lines) -> int | None:
    """The peak of the process; None where the runner could not read it.

    Raises RunnerError for what cannot be: no size at all, or a checkpoint above the peak."""
    checkpoints = lines.all("memory")
    for line in checkpoints:
        for key in COUNTERS:
            if key in line and not _size(line[key]):
                raise RunnerError(f"memory: {key} at {line.get('phase')!r} is no size in bytes"[:200])
    peak: int | None = max((line["peak_bytes"] for line in checkpoints if "peak_bytes" in line), default=None)
    if peak is None:
        return None
    for line in checkpoints:
        held = max(line.get("vm_hwm", 0), line.get("vm_rss", 0) + line.get("vm_swap", 0))
        if held > peak:
            raise RunnerError(
                f"memory: {held} bytes at {str(line.get('phase'))[:40]!r} are more than the peak of {peak} bytes"
            )
    return peak


def suspect(lines: Lines) -> bool:
    """Whether figures contradict each other, though each could be true.

    The file's mapping is within what is resident of files, and no larger than the file; a locked file is resident as a
    whole; weights that were read to the heap are within the peak. Call it behind `peak_bytes`."""
    start, load = lines.one("start") or {}, lines.one("load") or {}
    checkpoints = lines.all("memory")
    page, file_bytes = start.get("page_size"), load.get("file_bytes")
    slack = SLACK_PAGES * (page if isinstance(page, int) and PAGE_BYTES <= page <= 1 << 20 else PAGE_BYTES)
    if any(line["model_mapped"] > line["rss_file"] + slack for line in checkpoints if _has_both(line)):
        return True
    if not isinstance(file_bytes, int):
        return False
    mapped = max((line.get("model_mapped", 0) for line in checkpoints), default=0)
    if mapped > file_bytes + slack:
        return True
    resident = [line["rss_file"] for line in checkpoints if line.get("phase") == "method" and "rss_file" in line]
    if start.get("locked") == "mlock" and any(value + slack < file_bytes for value in resident):
        return True
    peak = max((line["peak_bytes"] for line in checkpoints if "peak_bytes" in line), default=None)
    return start.get("loader") == "file" and peak is not None and peak < file_bytes


def _has_both(line: Mapping[str, Any]) -> bool:
    return "model_mapped" in line and "rss_file" in line


def _size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_BYTES
