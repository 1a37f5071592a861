"""Our folder on a device, through the real local transport: nothing half-way, nothing outside, no runner left."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from pathlib import Path

import pytest

from harness.devices.depot import Depot
from harness.devices.local import Local
from harness.errors import DeviceError, TransportError
from harness.paths import device_scripts_dir
from harness.types import DeviceSpec

SPEC = DeviceSpec(name="local", uri="local")


@pytest.fixture
def depot(tmp_path: Path) -> Depot:
    return Depot(Local(SPEC), str(tmp_path / "work dir"), "local")  # a space: every word must stay one word


def content(tmp_path: Path, data: bytes) -> tuple[Path, str]:
    path = tmp_path / "file"
    path.write_bytes(data)
    return path, hashlib.sha256(data).hexdigest()


def wait_for(depot: Depot, run: str) -> str:
    for _ in range(500):
        if (state := depot.poll(run)) not in ("waiting", "running"):
            return state
        time.sleep(0.02)
    raise AssertionError("the process did not end")


def alive(marker: str) -> bool:
    return subprocess.run(["pgrep", "-f", marker], capture_output=True).returncode == 0


def test_a_file_is_pushed_once(depot: Depot, tmp_path: Path) -> None:
    path, digest = content(tmp_path, b"x" * 1000)
    remote = depot.put(path, digest, ".pte")
    assert Path(remote).read_bytes() == b"x" * 1000
    pushed = depot.pushed_bytes
    assert pushed > 1000  # the scripts too
    depot.put(path, digest, ".pte")
    assert depot.pushed_bytes == pushed
    again = Depot(Local(SPEC), depot.workdir, "local")
    again.put(path, digest, ".pte")
    assert again.pushed_bytes == 0


def test_a_file_that_went_bad_on_the_device_is_replaced(depot: Depot, tmp_path: Path) -> None:
    path, digest = content(tmp_path, b"right")
    remote = Path(depot.put(path, digest))
    remote.write_bytes(b"wrong")
    depot.put(path, digest)
    assert remote.read_bytes() == b"right"


def test_a_push_that_arrives_damaged_leaves_nothing_behind(depot: Depot, tmp_path: Path) -> None:
    path, _ = content(tmp_path, b"data")
    with pytest.raises(DeviceError, match="damaged"):
        depot.put(path, "0" * 64)
    assert {p.suffix for p in (tmp_path / "work dir" / "store").iterdir()} == {".sh"}  # our own scripts only


@pytest.mark.parametrize("name", ["../x", "-rf", "$(reboot)", "a b", "", "x/../../y"])
def test_a_name_that_is_not_an_id_never_reaches_the_device(depot: Depot, tmp_path: Path, name: str) -> None:
    path, _ = content(tmp_path, b"data")
    with pytest.raises(DeviceError):
        depot.put(path, name)
    with pytest.raises(DeviceError):
        depot.run_dir(name)


def test_nothing_outside_our_folder_is_removed(depot: Depot, tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("keep")
    for path in (str(tmp_path / "theirs"), f"{depot.workdir}/../theirs", depot.workdir):
        with pytest.raises(DeviceError, match="not in our folder"):
            depot.remove(path)
    assert (tmp_path / "theirs").exists()


def test_a_detached_process_leaves_its_output_and_exit_code(depot: Depot) -> None:
    folder = depot.start("r1", ["sh", "-c", "echo out; echo err >&2; exit 7"], b"{}")
    assert wait_for(depot, "r1") == "exit 7"
    assert Path(folder, "result.jsonl").read_text() == "out\n"
    assert Path(folder, "stderr").read_text() == "err\n"


def test_a_process_that_dies_by_a_signal_says_which(depot: Depot) -> None:
    depot.start("r1", ["sh", "-c", "kill -SEGV $$"], b"{}")
    assert wait_for(depot, "r1") == "exit 139"


def test_words_with_spaces_and_quotes_arrive_as_they_are(depot: Depot) -> None:
    words = ["a b", "$(touch pwned)", "'", '"', "*", "-n", "", "é\n"]
    folder = depot.start("r1", ["python3", "-c", "import sys; print(sys.argv[1:])", *words], b"{}")
    assert wait_for(depot, "r1") == "exit 0"
    assert Path(folder, "result.jsonl").read_text() == f"{words}\n"


def test_end_kills_the_whole_group(depot: Depot) -> None:
    depot.start("r1", ["sh", "-c", "sleep 4711 & sleep 4711; true"], b"{}")
    for _ in range(100):
        if depot.poll("r1") == "running":
            break
        time.sleep(0.02)
    assert alive("sleep 4711")
    assert depot.end("r1") == "lost"
    assert not alive("sleep 4711")


def test_a_start_that_comes_after_the_end_starts_nothing(depot: Depot) -> None:
    """A host dies between asking for a start and its happening; another host cleans up; then it would happen."""
    folder = depot.run_dir("r1")
    os.makedirs(folder)
    assert depot.end("r1") == "waiting"  # it had not begun, and now never will
    script = str(device_scripts_dir() / "runs.sh")
    subprocess.run(["sh", script, "start", folder, "60", "touch", f"{folder}/started"], check=True, input=b"{}")
    time.sleep(0.3)
    assert not Path(folder, "started").exists()


def test_a_pid_that_now_belongs_to_another_process_is_never_killed(depot: Depot) -> None:
    bystander = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        folder = Path(depot.run_dir("r1"))
        (folder / "claim").mkdir(parents=True)
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        (folder / "pid").write_text(f"{bystander.pid} 1 {boot}\n")  # the right pid, another start time
        assert depot.end("r1") == "lost"
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_command_that_does_not_end_is_ended_and_named() -> None:
    with pytest.raises(TransportError, match="did not end within"):
        Local(SPEC).run(["sleep", "60"], timeout_s=0.2)


def test_a_command_reports_its_exit_code_and_both_streams() -> None:
    done = Local(SPEC).run(["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


def test_a_process_that_nobody_could_end_does_not_begin(depot: Depot) -> None:
    """On a full disk the pid cannot be written; a folder in its place is the same to the script."""
    folder = Path(depot.run_dir("r1"))
    (folder / "pid.tmp").mkdir(parents=True)
    depot.start("r1", ["touch", f"{folder}/begun"], b"{}")
    time.sleep(0.5)
    assert not (folder / "begun").exists()


def test_one_bad_leftover_does_not_keep_the_device_from_being_used(depot: Depot) -> None:
    from harness.devices.bench import clear

    depot.start("r1", ["true"], b"not even json")
    depot.start("r2", ["true"], b"{}")
    for run in ("r1", "r2"):
        wait_for(depot, run)
    with pytest.raises(RuntimeError):
        clear(depot, lambda depot, run: (_ for _ in ()).throw(RuntimeError(run)))
    clear(depot, lambda depot, run: None)
    assert depot.leftovers() == []


def test_who_waits_for_a_lock_may_give_up(tmp_path: Path) -> None:
    from harness.locks import file_lock

    def give_up() -> None:
        raise TimeoutError

    with file_lock(tmp_path / "lock"), pytest.raises(TimeoutError), file_lock(tmp_path / "lock", give_up):
        raise AssertionError("two held it")
    with file_lock(tmp_path / "lock", give_up):
        pass


def test_over_a_slow_link_a_bundle_goes_packed_and_arrives_right(
    depot: Depot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.devices import depot as module

    bundle = tmp_path / "bundle"
    (bundle / "lib").mkdir(parents=True)
    content = {"run": b"#!/bin/sh\n", "lib/a.so": b"a" * 1_200_000, "lib/b.so": b"b" * 1_300_000, "lib/c.so": b"c" * 9}
    for name, data in content.items():
        (bundle / name).write_bytes(data)
    files = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    files |= {"lib/d.so": files["lib/b.so"]}
    (bundle / "lib/d.so").write_bytes(content["lib/b.so"])
    monkeypatch.setattr(module, "SLOW_BYTES_PER_S", 1 << 60)
    folder = Path(depot.put_bundle(bundle, "0" * 64, files))
    assert depot.pushed_bytes < 1_400_000  # two thirds of it went packed, and these files are nothing but repetition
    for name, digest in files.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert not list(Path(depot.workdir).rglob(".tmp-*"))
    pushed = depot.pushed_bytes
    depot.put_bundle(bundle, "0" * 64, files)
    assert depot.pushed_bytes == pushed


def test_a_device_without_room_says_so_before_anything_is_pushed(
    depot: Depot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.devices import depot as module
    from harness.errors import NoSpace

    path, digest = content(tmp_path, b"data")
    depot.script("store.sh")
    pushed = depot.pushed_bytes
    monkeypatch.setattr(module, "MARGIN_BYTES", 1 << 60)
    with pytest.raises(NoSpace, match="free in"):
        depot.put(path, digest)
    assert depot.pushed_bytes == pushed
