"""`import-runs`: runs out of a file into the store. Checked first; what is in the store is never overwritten."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.commands.common import emit, store_url
from harness.errors import StoreError
from harness.exchange.intake import take
from harness.exchange.session import Known
from harness.screen import Screen
from harness.store import Store, exact
from harness.store.copy import ELSEWHERE, Copied, copy
from harness.store.engine import shown, sqlite_path


def import_runs(file: Path, dry_run: bool, store: str | None, json_out: bool) -> int:
    """Raises UsageError for a file that is none of ours, StoreError where the store holds another run of that id."""
    url = store_url(store)
    path = sqlite_path(url)  # a malformed URL is said before the work
    with Screen() as screen, _nowhere() as read:
        sessions = take(file, read, _reading(screen, file))
        if dry_run and path is not None and not path.exists():
            with _nowhere() as empty:
                copied = copy(read, empty, dry_run=True)
        else:
            copied = _into(url, read, sessions, screen, dry_run)
    told = {name: {table: getattr(copied, name)[table] for table in ("sessions", "runs")} for name in ("new", "there")}
    if json_out:
        emit({"schema": 1, "file": str(file), "dry_run": dry_run} | told)
    else:
        new, there = told["new"], told["there"]
        print(
            f"{shown(url)}: {new['sessions']} sessions and {new['runs']} runs of {file.name} "
            f"{'would be' if dry_run else 'are'} new, {there['sessions']} sessions and {there['runs']} runs were there"
        )
    return 0


@contextmanager
def _nowhere() -> Iterator[Store]:
    """An empty store, gone behind the block."""
    with tempfile.TemporaryDirectory(prefix="harness-import-") as folder:
        store = Store.open(f"sqlite:///{folder}/import.db", create=True)
        try:
            yield store
        finally:
            store.close()


def _reading(screen: Screen, file: Path) -> Callable[[int], None]:
    def tell(runs: int) -> None:
        if runs % 1000 == 0:
            screen.show("read", "reading", f"{runs} runs of {file.name}", 0, 1)

    return tell


def _into(url: str, read: Store, sessions: Sequence[Known], screen: Screen, dry_run: bool) -> Copied:
    target = Store.open(url, create=not dry_run)
    try:
        exact.align(read, target)
        return copy(read, target, dry_run=dry_run)
    except StoreError as error:
        if error.hint != ELSEWHERE:
            raise
        discreet = not all(known.identified for known in sessions)
        told = "; the file was exported without --identify, and so without addresses and paths" if discreet else ""
        raise StoreError(f"{error.what}{told}", "import it into another store: --store URL") from error
    finally:
        target.close()
