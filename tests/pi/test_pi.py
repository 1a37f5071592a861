"""A whole experiment on an arm64 Linux of its own, over SSH: `make test-pi`. Its times mean nothing and are not read.

HARNESS_TEST_PI=1 boots one with 4 KiB pages; HARNESS_TEST_PI=4096,16384 also one with those of a Raspberry Pi 5."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.devices.facts import read_facts
from harness.devices.spec import open_transport
from harness.errors import TimedOut
from harness.interfaces import Transport
from harness.types import DeviceSpec
from tests.conftest import CONFIG, Harness
from tests.standins.pi.board import SYSTEMS, Board, why_no_board

WANTED = os.environ.get("HARNESS_TEST_PI", "")

pytestmark = [
    pytest.mark.skipif(not WANTED, reason="boots a virtual board, minutes: make test-pi"),
    pytest.mark.timeout(3600),
]


@pytest.fixture(scope="module", params=list(SYSTEMS))
def board(request: pytest.FixtureRequest) -> Iterator[Board]:
    if str(request.param) not in ("4096" if WANTED == "1" else WANTED).split(","):
        pytest.skip(f"not asked for: HARNESS_TEST_PI={request.param}")
    if (missing := why_no_board()) is not None:
        pytest.fail(f"no virtual board here: {missing}")
    with Board(request.param) as device:
        yield device


@pytest.fixture
def link(board: Board, monkeypatch: pytest.MonkeyPatch) -> Iterator[Transport]:
    monkeypatch.setenv("HARNESS_SSH_CONFIG", str(board.config))
    transport = open_transport(DeviceSpec(name="board", uri=board.uri))
    yield transport
    transport.close()


def test_files_and_exit_codes_cross(link: Transport, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(os.urandom(4 << 20))
    link.push(tmp_path / "here", "/home/pi/there")
    link.pull("/home/pi/there", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "here").read_bytes()
    done = link.run(["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


def test_who_is_not_root_ends_commands_there_too(link: Transport) -> None:
    with pytest.raises(TimedOut):
        link.run(["sleep", "7353"], timeout_s=2)
    assert link.run(["pgrep", "-f", "sleep 7353"]).stdout == b""


def test_the_board_says_what_it_is(board: Board, link: Transport) -> None:
    facts = read_facts(link, DeviceSpec(name="board", uri=board.uri))  # `devices` waits 4 s, too few for an emulator
    assert facts.abi == "aarch64" and facts.cores == 2
    assert facts.page_size == board.page_size


def test_a_whole_experiment_is_measured_there(board: Board, harness: Harness, project: Path, tmp_path: Path) -> None:
    only = CONFIG.replace("[executorch, torchscript_lite]", "[executorch]").replace("name: small", "name: board")
    (project / "board.yaml").write_text(only)
    done = harness(
        "run", str(project / "board.yaml"), "--device", board.uri, "--json", cwd=tmp_path, timeout_s=1800,
        HARNESS_SSH_CONFIG=str(board.config),
    )  # fmt: skip
    assert done.code in (0, 1), done.stderr
    results = done.json["results"]
    assert {(one["variant"], one["status"]) for one in results} == {("fp32", "ok"), ("int8", "ok")}, results
    for one in results:
        assert one["context"] == "shell-bundle"
        assert one["metrics"]["latency_ms"]["source"] == "runner"
        assert one["metrics"]["accuracy"]["source"] == "device"
