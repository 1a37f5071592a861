"""A link that is lost and comes back, over a transport that fails as it is told to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from harness import clock as clocks
from harness.devices import link as links
from harness.errors import DeviceError, Gone, Refused, TransportError
from harness.interfaces import Completed
from harness.types import DeviceSpec

SPEC = DeviceSpec(name="d", uri="ssh://d")


class Flaky:
    """Fake: a transport whose next calls fail with the errors in `failures`."""

    failures: ClassVar[list[Exception]] = []
    opened: ClassVar[int] = 0

    def __init__(self, spec: DeviceSpec) -> None:
        Flaky.opened += 1

    def run(self, argv: Sequence[str], timeout_s: float = 30.0, stdin: bytes = b"") -> Completed:
        if Flaky.failures:
            raise Flaky.failures.pop(0)
        return Completed(returncode=0, stdout=b"here", stderr=b"")

    def push(self, local: Path, remote: str) -> None:
        self.run([])

    def pull(self, remote: str, local: Path) -> None:
        self.run([])

    def close(self) -> None:
        raise Gone("it is gone already")


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> links.Link:
    monkeypatch.setattr(links, "open_transport", Flaky)
    monkeypatch.setattr(clocks.Wall, "sleep", lambda self, seconds: None)
    Flaky.failures, Flaky.opened = [], 0
    return links.Link(SPEC)


def test_one_connection_serves_until_it_fails(link: links.Link) -> None:
    for _ in range(3):
        assert link.run(["true"]).stdout == b"here"
    assert Flaky.opened == 1


def test_a_lost_link_is_opened_again_and_the_question_asked_again(link: links.Link) -> None:
    link.patience_s = 60
    Flaky.failures = [Gone("cut"), Refused("not yet"), Refused("not yet")]
    assert link.run(["true"]).stdout == b"here"
    assert Flaky.opened == 4


def test_before_the_device_was_reached_once_a_failure_is_told_at_once(link: links.Link) -> None:
    Flaky.failures = [Refused("nobody listens there")]
    with pytest.raises(Refused):
        link.run(["true"])


def test_patience_ends(link: links.Link, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 100_000, 50))
    monkeypatch.setattr(clocks.Wall, "now", lambda self: float(next(clock)))
    link.patience_s = 180
    Flaky.failures = [Gone("cut")] * 100
    with pytest.raises(TransportError):
        link.run(["true"])
    assert 90 < len(Flaky.failures) < 100


def test_what_is_no_failure_of_the_link_is_never_tried_again(link: links.Link) -> None:
    link.patience_s = 60
    Flaky.failures = [DeviceError("no such file"), DeviceError("second")]
    with pytest.raises(DeviceError, match="no such file"):
        link.pull("/x", Path("x"))
    assert len(Flaky.failures) == 1


def test_who_waits_for_a_link_may_give_up(link: links.Link) -> None:
    def give_up(reason: str) -> None:
        assert "cut" in reason
        raise KeyboardInterrupt

    link.patience_s, link.waiting = 60, give_up
    Flaky.failures = [Gone("cut")] * 10
    with pytest.raises(KeyboardInterrupt):
        link.run(["true"])
