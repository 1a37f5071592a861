"""Artifact files at a shared place: two computers with one store, and what happens when the place fails."""

from __future__ import annotations

import hashlib
import json
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from harness import shared_files
from harness.commands.common import artifacts_folder
from harness.errors import PackageError, ToolchainError, UsageError
from harness.package import Files
from harness.shared_files import Place, place_of
from tests.release_kit import DEVICES, SAME, Lab, enter

CONTENT = b"an artifact"
SHA = hashlib.sha256(CONTENT).hexdigest()
NAME = f"{SHA}.bin"


@pytest.fixture(params=["file", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A shared place, and this computer's folder before it."""
    url = f"file://{tmp_path}/shared" if request.param == "file" else f"memory://{tmp_path.name}/harness"
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HARNESS_ARTIFACTS", url)
    shared_files._open.cache_clear()
    found = place_of(artifacts_folder("postgresql://db/x"))
    assert found is not None and found.url == url
    yield found
    fsspec.filesystem("memory").store.clear()


def other(place: Place, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """Another computer's files, before the same place."""
    monkeypatch.setenv("HARNESS_CACHE", str(folder))
    return Files(artifacts_folder("postgresql://db/x"))


def kept(place: Place) -> Files:
    place.folder.mkdir(parents=True)
    files = Files(place.folder)
    assert files.put(CONTENT, ".bin") == SHA
    return files


def overwrite(place: Place, content: bytes) -> None:
    system, root = fsspec.core.url_to_fs(place.url)
    system.makedirs(root, exist_ok=True)
    system.pipe_file(f"{root}/{NAME}", content)


def test_a_file_that_was_sent_is_found_on_another_computer(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(place)
    assert place.send([NAME]) == 1
    assert place.send([NAME]) == 0
    there = other(place, tmp_path / "second", monkeypatch)
    assert there(SHA, ".bin").read_bytes() == CONTENT
    assert there.folder != place.folder and [path.name for path in there.folder.iterdir()] == [NAME]


def test_what_is_nowhere_is_missing(place: Place) -> None:
    files = Files(place.folder)
    assert not files.whole(SHA, ".bin")
    with pytest.raises(PackageError, match="missing"):
        files(SHA, ".bin")


@pytest.mark.parametrize("content", [b"an artefact", b"", b"an artifact and more"])
def test_what_is_damaged_there_is_refused_and_not_kept(place: Place, content: bytes) -> None:
    overwrite(place, content)
    with pytest.raises(PackageError, match="damaged there"):
        Files(place.folder)(SHA, ".bin")
    assert list(place.folder.iterdir()) == []


def test_what_was_cut_off_while_it_was_sent_is_sent_again(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(place)
    overwrite(place, CONTENT[:4])
    assert place.send([NAME]) == 1
    assert other(place, tmp_path / "second", monkeypatch).whole(SHA, ".bin")


def test_what_could_not_be_sent_is_sent_by_the_next_call(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(place)
    said: list[str] = []

    def broken(url: str) -> None:
        raise ConnectionError("ftp://ann:s3cret@host is away")

    with monkeypatch.context() as away:
        away.setattr(shared_files, "_open", broken)
        shared_files.share(place.folder, [NAME], said.append)
    assert len(said) == 1 and "on this computer only" in said[0] and "is away" in said[0] and "s3cret" not in said[0]
    shared_files.share(place.folder, [], said.append)
    assert said[1].startswith("1 artifact files sent to ")
    shared_files.share(place.folder, [NAME], said.append)
    assert len(said) == 2


def test_what_another_could_not_send_meanwhile_is_sent_too(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    files = kept(place)
    second = f"{files.put(b'another', '.bin')}.bin"
    own, said = shared_files._open, list[str]()

    def broken(url: str) -> None:
        raise ConnectionError("is away")

    def meanwhile(url: str) -> object:
        with monkeypatch.context() as away:
            away.setattr(shared_files, "_open", broken)
            shared_files.share(place.folder, [second], said.append)
        return own(url)

    with monkeypatch.context() as busy:
        busy.setattr(shared_files, "_open", meanwhile)
        assert place.send([NAME]) == 1
    assert len(said) == 1 and place._unsent() == {second}
    assert place.send([]) == 1 and place._unsent() == set()


def test_many_at_once_lose_no_name(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(16)

    def broken(url: str) -> None:
        together.wait(timeout=30)
        raise ConnectionError("is away")

    monkeypatch.setattr(shared_files, "_open", broken)
    names = [f"{number:064x}.bin" for number in range(16)]
    said: list[str] = []
    threads = [threading.Thread(target=shared_files.share, args=(place.folder, [n], said.append)) for n in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert place._unsent() == set(names) and len(said) == 16


def test_neither_message_nor_trace_tells_what_gives_access() -> None:
    url = "ftp://ann:hunter2%40x@host/y?token=hunter3"
    with pytest.raises(PackageError) as told, shared_files._explained(url, "read"):
        raise ConnectionError("ftp://ann:hunter2%40x@host/y?token=hunter3: 'hunter2@x' is refused, hunter3 too")
    trace = "".join(traceback.format_exception(told.value))
    assert "is refused" in str(told.value)
    assert "hunter" not in "\n".join(line for line in trace.splitlines() if "raise ConnectionError" not in line)


def test_a_place_that_cannot_be_read_is_not_a_missing_file(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(url: str) -> None:
        raise PermissionError("access denied")

    monkeypatch.setattr(shared_files, "_open", broken)
    for ask in (Files(place.folder), Files(place.folder).whole):
        with pytest.raises(PackageError, match="cannot be read: access denied"):
            ask(SHA, ".bin")


def test_no_other_folder_asks_the_place(place: Place, tmp_path: Path) -> None:
    assert place_of(tmp_path) is None and Files(tmp_path).shared is None


@pytest.mark.parametrize(
    ("url", "error", "says"),
    [
        ("nonsense://ann:s3cret@x", UsageError, "nothing opens nonsense"),
        ("s3://bucket/harness?key=s3cret", ToolchainError, "s3fs"),
        ("gs://bucket", ToolchainError, r"pip install \"ondevice-harness\[shared\]\" gcsfs"),
    ],
)
def test_a_place_that_nothing_opens_is_one_message(
    url: str, error: type[Exception], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("s3fs", "gcsfs"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    monkeypatch.setenv("HARNESS_ARTIFACTS", url)
    with pytest.raises(error, match=says) as told:
        artifacts_folder("postgresql://db/x")
    assert "s3cret" not in str(told.value)


def test_without_fsspec_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    monkeypatch.setenv("HARNESS_ARTIFACTS", "file:///x")
    with pytest.raises(ToolchainError, match=r"ondevice-harness\[shared\]"):
        artifacts_folder("postgresql://db/x")


# -- two computers ---------------------------------------------------------------------------------------------------


def move(lab: Lab, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the lab works on another computer: same store and shared place, its own cache and folder."""
    folder.mkdir()
    (folder / "devices.yaml").write_text(DEVICES)
    monkeypatch.setenv("HARNESS_CACHE", str(folder / "cache"))
    monkeypatch.chdir(folder)


def test_two_computers_share_a_store_and_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tmp_path / "first"
    first.mkdir()
    enter(first, monkeypatch)
    shared = tmp_path / "shared"
    monkeypatch.setenv("HARNESS_ARTIFACTS", f"file://{shared}")
    lab = Lab(first)
    lab.release("v1", SAME, pick={"minimize": "latency_ms", "where": []})
    assert f"artifact files sent to file://{shared}" in lab.stderr
    assert lab("baseline", "set", "v1") == 0
    assert not (first / "artifacts").exists()

    second = tmp_path / "second"
    move(lab, second, monkeypatch)
    for original in first.glob("package*"):
        original.rename(tmp_path / f"gone-{original.name}")  # only the shared place has the files now
    assert lab("pick", "-o", "out") == 0, lab.stderr
    shipped = json.loads((second / "out" / "manifest.json").read_text())
    assert (second / "out" / shipped["file"]).is_file()
    assert lab("report") == 0 and (second / "reports" / "demo-simulated.html").is_file()

    package = lab.package("v2", SAME, build="v2")
    code, said = lab.json("gate", str(first / package), "--label", "v2")
    assert code == 0, lab.stderr
    measured = {row["metric"]: row["outcome"] for row in said["comparisons"]}  # old files beside new ones
    assert said["passed"] and measured["latency_ms"] == "same" and "missing" not in measured.values(), said
    sent = {path.name for path in shared.iterdir()}
    for artifact in (first / package / "files").iterdir():
        assert artifact.name in sent


def test_a_measurement_is_kept_though_its_files_could_not_be_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(tmp_path, monkeypatch)
    place = tmp_path / "shared"
    place.write_text("a file, where the place should be")
    monkeypatch.setenv("HARNESS_ARTIFACTS", f"file://{place}")
    lab = Lab(tmp_path)
    lab.release("v1", SAME)  # succeeds
    assert "on this computer only" in lab.stderr
    assert lab("pick", "--minimize", "latency_ms", "-o", "out") == 0, lab.stderr
    place.unlink()
    lab.release("v2", SAME)
    named = {path.name for version in ("v1", "v2") for path in (tmp_path / f"package-{version}" / "files").iterdir()}
    assert {path.name for path in place.iterdir()} == named
