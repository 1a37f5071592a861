"""What a label may be: printable, of bounded length, and no name of a session."""

from __future__ import annotations

from harness.errors import UsageError


def checked(label: str) -> str:
    """The label itself. Raises UsageError for what none can be."""
    if not label or len(label) > 300 or not label.isprintable():
        raise UsageError("a label is 1 to 300 printable characters")
    if label.startswith("run:"):
        raise UsageError(f"label {label!r}: run: names a session by its id", "give the release another name")
    return label
