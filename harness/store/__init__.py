"""5. Remember: every session and every run, append-only, raw."""

from harness.store.store import Store

__all__ = ["Store"]
