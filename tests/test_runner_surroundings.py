"""What a runner tells of what is around a measurement: the calibration kernel, clocks, zones, placement, the page
cache, the model's share of memory; and the purposes that last: idle, energy, sustained."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.analyze import energy
from harness.measure import footprint, intervals
from harness.measure import runner as reader
from harness.types import Artifact, Cell, PlannedRun, Purpose, TensorFile, TensorSpec
from tests.runner_kit import BRIEF, Answer, Models, Run

pytest_plugins = ["tests.runner_kit"]

FILES = {"executorch": "cnn.xnnpack.pte", "torchscript": "cnn.ptl", "null": "nothing"}
RUNTIMES = pytest.mark.parametrize("runtime", FILES)


def given(models: Models, runtime: str, purpose: str) -> tuple[object, ...]:
    return ("--purpose", purpose, "--model", models.file(FILES[runtime]), *models.inputs["cnn"])


def said(answer: Answer) -> reader.Lines:
    return reader.Lines(lines=tuple(answer.lines))


def written(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def policy(root: Path, number: int, **files: str | bytes) -> Path:
    """One policy's files, by their names; `states` is stats/time_in_state."""
    folder = f"sys/devices/system/cpu/cpufreq/policy{number}"
    names = {"states": "stats/time_in_state"}
    return written(root, {f"{folder}/{names.get(name, name)}": content for name, content in files.items()})


# -- the calibration kernel ----------------------------------------------------------------------------------------


@RUNTIMES
def test_the_calibration_kernel_alone_takes_no_model(run: Run, runtime: str) -> None:
    answer = run(runtime, "--purpose", "sentinel", "--model", "no such file", "--cpus", "0x1")
    assert [line["type"] for line in answer.lines] == ["start", "sentinel", "sentinel", "end"]
    before, after = answer.all("sentinel")
    assert (before["when"], after["when"]) == ("before", "after")
    for line in (before, after):
        assert 3 <= len(line["samples_ns"]) <= 20
        assert min(line["samples_ns"]) > 100_000, "the compiler has left the work out"
    assert 0.1 < min(before["samples_ns"]) / min(after["samples_ns"]) < 10


def test_the_calibration_kernel_is_the_same_code_in_every_runner(binary: Callable[[str], Path]) -> None:
    if not shutil.which("objdump"):
        pytest.skip("objdump is not here")
    found = set()
    for runtime in FILES:
        argv = ["objdump", "-d", "--disassemble=runner_sentinel_product", str(binary(runtime))]
        text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        code = [match[1] for match in re.finditer(r"^ +[0-9a-f]+:\t([0-9a-f ]+?) *(?:\t|$)", text, re.M)]
        assert len(code) > 30
        found.add(hashlib.sha256("\n".join(code).encode()).hexdigest())
    assert len(found) == 1


@RUNTIMES
def test_what_is_around_a_latency_run_is_beside_its_timed_part(
    run: Run, models: Models, tmp_path: Path, runtime: str
) -> None:
    root = policy(tmp_path, 0, scaling_cur_freq="1000\n")
    answer = run(runtime, *given(models, runtime, "latency"), *BRIEF, "--sysroot", f"{root}/", "--cpus", "0x1")
    for kind in ("sentinel", "clocks"):
        assert [line["when"] for line in answer.all(kind)] == ["before", "after"]
    assert all(line["policies"] == [{"policy": "policy0", "cur_khz": 1000}] for line in answer.all("clocks"))
    placement, end = answer.one("placement"), answer.one("end")
    assert placement["cpus_allowed"] == "0x1"
    assert placement["cpu_counts"] == {"0": end["samples"]}
    assert placement["cgroup"] == Path("/proc/self/cgroup").read_text().splitlines()[0][:200]
    # nothing is written between the first warm-up iteration and the last steady one
    blocks = answer.all("block")
    timed = range(blocks[0]["start_boottime_ns"], blocks[-1]["end_boottime_ns"])
    assert not [line["type"] for line in answer.lines if line["t_ns"] in timed]
    assert answer.all("sentinel")[0]["t_ns"] <= timed.start
    assert end["major_faults"] >= 0


@contextmanager
def moving(root: Path) -> Iterator[None]:
    """A policy whose clock in kHz is the ms since boot."""
    policy(root, 0)
    folder = root / "sys/devices/system/cpu/cpufreq/policy0"
    folder.mkdir(parents=True)
    stop = threading.Event()

    def live() -> None:
        while not stop.wait(0.005):
            (folder / "next").write_text(f"{time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000}\n")
            (folder / "next").rename(folder / "scaling_cur_freq")

    thread = threading.Thread(target=live, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_clocks_are_read_just_before_and_just_behind_the_steady_phase(
    run: Run, models: Models, tmp_path: Path
) -> None:
    with moving(tmp_path):
        time.sleep(0.05)
        flags = (*given(models, "null", "latency"), "--null-sleep-us", "0,1000", "--sysroot", tmp_path)
        answer = run("null", *flags, "--min-seconds", "1", "--max-warmup-seconds", "2")
    warm, steady = ([b for b in answer.all("block") if b["phase"] == phase] for phase in ("warmup", "steady"))
    before, after = (line["policies"][0]["cur_khz"] * 1_000_000 for line in answer.all("clocks"))
    assert warm[0]["start_boottime_ns"] < before < steady[0]["start_boottime_ns"]
    assert steady[0]["start_boottime_ns"] < after < answer.all("block")[0]["t_ns"]


# -- clocks and zones ----------------------------------------------------------------------------------------------


def told(run: Run, models: Models, root: Path) -> dict[str, Any]:
    """The first interval's line and the clocks before, of a short sustained run."""
    answer = run("null", *given(models, "null", "sustained"), "--seconds", "0.05", "--sysroot", root)
    (interval,) = answer.all("interval")
    return {"policies": answer.all("clocks")[0]["policies"], **interval}


def test_policies_are_read_in_order_with_all_they_tell(run: Run, models: Models, tmp_path: Path) -> None:
    for number, cpus in ((10, "10\n"), (4, "4 5 6\n"), (0, "0 1 2 3\n")):
        policy(
            tmp_path, number, related_cpus=cpus, scaling_cur_freq=f"{1000 + number}\n", scaling_min_freq="500\n",
            scaling_max_freq="2000\n", cpuinfo_max_freq="2400\n", states="500 12\n2000 9007199254740991\n",
        )  # fmt: skip
    found = told(run, models, tmp_path)
    assert [p["policy"] for p in found["policies"]] == ["policy0", "policy4", "policy10"]
    assert found["policies"][1] == {
        "policy": "policy4", "cpus": [4, 5, 6], "cur_khz": 1004, "min_khz": 500, "max_khz": 2000,
        "hardware_max_khz": 2400, "time_in_state": [[500, 12], [2000, 9007199254740991]],
    }  # fmt: skip
    assert found["clocks_khz"] == {"policy0": 1000, "policy4": 1004, "policy10": 1010}


def test_a_device_without_cpufreq_and_zones_tells_none(run: Run, models: Models, tmp_path: Path) -> None:
    found = told(run, models, tmp_path)
    assert (found["policies"], found["clocks_khz"], found["zones_mc"]) == ([], {}, {})


HOSTILE = [b"", b"\n", b"\xff\xfe\x00\x01", b"1000 \x00", b"-5", b"0", b"nan", b"1e9", b"0x10", b"1,2", b'"', b"9" * 40,
           b"100000001", b"1 2 x", b"7" + b" " * 5_000_000]  # fmt: skip


@pytest.mark.parametrize("content", HOSTILE, ids=lambda content: repr(content[:12]))
def test_a_hostile_file_is_as_if_it_were_not_there(run: Run, models: Models, tmp_path: Path, content: bytes) -> None:
    cpus = content + b"\n5000" if content in (b"0", b"", b"\n") else content  # "0", "" and a line break are fine there
    policy(
        tmp_path, 0, related_cpus=cpus, scaling_cur_freq=content, scaling_min_freq=content, scaling_max_freq="7\n",
        cpuinfo_max_freq=content, states=b"500 1\n" + content + (b" 1" if content.strip() else b"x 1"),
    )  # fmt: skip
    found = told(run, models, tmp_path)
    assert found["policies"] == [{"policy": "policy0", "max_khz": 7}]
    assert found["clocks_khz"] == {}


@pytest.mark.parametrize("states", ["500", "500 1\n700", "500 1 700 2 3", "500 1\n700 x", "500 -1", "0 1", "500 1.5"])
def test_half_a_table_of_states_is_none(run: Run, models: Models, tmp_path: Path, states: str) -> None:
    policy(tmp_path, 0, scaling_max_freq="7\n", states=states)
    assert told(run, models, tmp_path)["policies"] == [{"policy": "policy0", "max_khz": 7}]


def test_what_is_no_file_is_not_waited_for(run: Run, models: Models, tmp_path: Path) -> None:
    policy(tmp_path, 0, scaling_max_freq="7\n")
    folder = tmp_path / "sys/devices/system/cpu/cpufreq/policy0"
    os.mkfifo(folder / "scaling_cur_freq")
    (folder / "scaling_min_freq").mkdir()
    (folder / "cpuinfo_max_freq").symlink_to("cpuinfo_max_freq")
    (folder / "related_cpus").symlink_to("/dev/zero")
    for name in ("policy", "policyx", "policy-1", "policy1 2", "policy99999"):
        (folder.parent / name).mkdir()
    assert told(run, models, tmp_path)["policies"] == [{"policy": "policy0", "max_khz": 7}]


def test_more_policies_and_states_than_any_device_has_are_bounded(run: Run, models: Models, tmp_path: Path) -> None:
    for number in range(80):
        policy(tmp_path, number, scaling_cur_freq="5\n", states="5 1\n" * (512 if number else 513))
    found = told(run, models, tmp_path)
    assert len(found["policies"]) == len(found["clocks_khz"]) == 64
    assert "time_in_state" not in found["policies"][0]
    assert len(found["policies"][1]["time_in_state"]) == 512


def test_zones_are_named_by_their_type_where_that_is_a_name(run: Run, models: Models, tmp_path: Path) -> None:
    zones: dict[int, tuple[str | bytes, str | bytes]] = {
        0: ("cpu-thermal\n", "41000\n"), 1: ("cpu-thermal\n", "42000\n"), 2: (b"\x1b[2J\xff\n", "-5000\n"),
        3: ("battery\n", "no\n"), 4: ('a"b\\\n', "1\n"), 5: ("x" * 200, "2\n"),
        6: ("y" * 5000, "3"), 7: ("hot", "99999999"),
    }  # fmt: skip
    for number, (kind, temp) in zones.items():
        folder = f"sys/class/thermal/thermal_zone{number}"
        written(tmp_path, {f"{folder}/type": kind, f"{folder}/temp": temp})
    written(tmp_path, {"sys/class/thermal/thermal_zone8/temp": "4\n"})
    assert told(run, models, tmp_path)["zones_mc"] == {
        "cpu-thermal": 41000, "cpu-thermal@thermal_zone1": 42000, "thermal_zone2": -5000, 'a"b\\': 1, "x" * 40: 2,
        "thermal_zone6": 3, "thermal_zone8": 4,
    }  # fmt: skip


# -- this process --------------------------------------------------------------------------------------------------


def test_the_time_to_main_is_since_the_process_began_whatever_its_name(
    binary: Callable[[str], Path], models: Models, tmp_path: Path
) -> None:
    program = tmp_path / "a) b (c 1 2"
    shutil.copy(binary("null"), program)
    began = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    argv = [str(program), "--purpose", "load", "--model", str(models.file("nothing"))]
    out = subprocess.run(argv, capture_output=True, check=True).stdout
    start = json.loads(out.splitlines()[0])
    assert 0 <= start["exec_to_main_ns"] <= start["t_ns"] - began + 10_000_000
    assert start["locked"] == "none"


@pytest.mark.parametrize(("runtime", "file"), [("executorch", "cnn.portable.pte"), ("torchscript", "cnn.ptl")])
def test_the_share_of_the_models_file_in_memory_is_told_once_it_is_loaded(
    run: Run, models: Models, tmp_path: Path, runtime: str, file: str
) -> None:
    model = tmp_path / "link.model"
    model.symlink_to(models.file(file))  # by whatever name: a mapping is known by its inode
    answer = run(runtime, "--purpose", "memory", "--model", model, *models.inputs["cnn"])
    mapped = {line["phase"]: line["model_mapped"] for line in answer.all("memory") if "model_mapped" in line}
    assert list(mapped) == ["method", "first", "steady"]
    size = models.file(file).stat().st_size
    pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    if answer.one("start")["loader"] == "mmap":
        assert 0 < mapped["steady"] <= pages + 2 * mmap.PAGESIZE  # a page may be in two mappings
    else:
        assert mapped["steady"] == 0
    assert footprint.peak_bytes(said(answer)) and not footprint.suspect(said(answer))
    assert answer.one("end")["minor_faults"] > 0 and answer.one("end")["major_faults"] >= 0


# -- the page cache ------------------------------------------------------------------------------------------------


def filesystem(path: Path) -> str:
    return subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("runtime", ["executorch", "torchscript"])
def test_a_load_from_a_dropped_cache_is_proven_one(run: Run, models: Models, tmp_path: Path, runtime: str) -> None:
    model = tmp_path / "model"
    model.write_bytes(models.file(FILES[runtime]).read_bytes())
    answer = run(runtime, "--purpose", "load", "--model", model, *models.inputs["cnn"], "--drop-cache")
    cache, kinds = answer.one("cache"), [line["type"] for line in answer.lines]
    assert kinds == ["start", "cache", "load", "first", "end"]
    if filesystem(tmp_path) in ("tmpfs", "ramfs", "overlayfs") and not cache["dropped"]:
        assert cache["why"]
        pytest.skip(f"{filesystem(tmp_path)} drops no pages")
    pages = -(-model.stat().st_size // mmap.PAGESIZE)
    assert cache["pages"] == cache["resident_pages_before"] == pages  # it was just written
    assert (cache["dropped"], cache["resident_pages_after"], cache.get("why")) == (True, 0, None)
    assert {"major_faults", "minor_faults"} <= answer.one("end").keys()


def test_without_being_asked_nothing_is_dropped(run: Run, models: Models) -> None:
    assert not run("null", *given(models, "null", "load")).all("cache")


def test_pages_that_somebody_holds_are_not_called_dropped(run: Run, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.write_bytes(b"x" * 10 * mmap.PAGESIZE)
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as held:
        assert sum(held[at] for at in range(0, len(held), mmap.PAGESIZE))
        cache = run("null", "--purpose", "load", "--model", model, "--drop-cache").one("cache")
    assert cache["dropped"] is False and cache["resident_pages_after"] > 0
    assert "still in memory" in cache["why"]


def test_a_file_in_memory_alone_is_not_called_dropped(run: Run) -> None:
    if filesystem(Path("/dev/shm")) != "tmpfs":
        pytest.skip("/dev/shm is no tmpfs here")
    model = Path(f"/dev/shm/harness-test-{os.getpid()}")
    model.write_bytes(b"x" * 5000)
    try:
        cache = run("null", "--purpose", "load", "--model", model, "--drop-cache").one("cache")
    finally:
        model.unlink()
    assert (cache["dropped"], cache["resident_pages_after"]) == (False, 2)
    assert cache["why"].startswith("2 of 2 pages")


def test_an_empty_file_has_nothing_to_drop(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    cache = run("null", "--purpose", "load", "--model", tmp_path / "empty", "--drop-cache").one("cache")
    assert (cache["dropped"], cache["why"]) == (False, "the file is empty")


# -- what lasts ----------------------------------------------------------------------------------------------------


def test_an_idle_window_is_as_long_as_asked_and_takes_no_model(run: Run) -> None:
    answer = run("null", "--purpose", "idle", "--seconds", "0.3")
    assert [line["type"] for line in answer.lines] == ["start", "window", "end"]
    window = energy.window_of({"window": answer.all("window")})
    assert window.inferences == 0 and window.seconds >= 0.3
    assert answer.lines[0]["t_ns"] <= answer.one("window")["start_boottime_ns"]
    assert answer.one("window")["end_boottime_ns"] <= answer.one("window")["t_ns"]


@RUNTIMES
def test_an_energy_window_holds_its_inferences_and_nothing_else(run: Run, models: Models, runtime: str) -> None:
    flags = ("--null-sleep-us", "0,500") if runtime == "null" else ()
    answer = run(runtime, *given(models, runtime, "energy"), "--seconds", "0.2", "--max-warmup-seconds", "2", *flags)
    window = answer.one("window")
    assert energy.window_of({"window": [window]}).seconds >= 0.2
    steady = [line for line in answer.all("block") if line["phase"] == "steady"]
    kept = sum(len(block["samples_ns"]) for block in steady)
    assert window["inferences"] == answer.one("end")["samples"] >= kept >= 10
    assert window["inferences"] == kept or kept == 1 << 20
    assert window["start_boottime_ns"] <= steady[0]["start_boottime_ns"]
    assert steady[-1]["end_boottime_ns"] <= window["end_boottime_ns"]
    inside = range(window["start_boottime_ns"], window["end_boottime_ns"])
    assert not [line["type"] for line in answer.lines if line["t_ns"] in inside]
    assert {line["phase"] for line in answer.all("block")} == {"warmup", "steady"}
    assert sum(answer.one("placement")["cpu_counts"].values()) == window["inferences"]


def test_a_slow_models_energy_window_has_ten_inferences(run: Run, models: Models) -> None:
    flags = (*given(models, "null", "energy"), "--null-sleep-us", "0,20000", "--max-warmup-seconds", "0.1")
    answer = run("null", *flags, "--seconds", "0.05")
    assert answer.one("window")["inferences"] == 10
    assert answer.one("end")["status"] == "not_steady"


@RUNTIMES
def test_a_sustained_run_tells_of_each_second(run: Run, models: Models, runtime: str, tmp_path: Path) -> None:
    written(tmp_path, {"sys/class/thermal/thermal_zone0/temp": "41000\n"})
    policy(tmp_path, 0, scaling_cur_freq="1500\n")
    answer = run(runtime, *given(models, runtime, "sustained"), "--seconds", "2.3", "--sysroot", tmp_path)
    lines = answer.all("interval")
    kinds = [line["type"] for line in answer.lines if line["type"] != "interval"]
    assert kinds == ["start", "load", "first", "sentinel", "clocks", "clocks", "placement", "sentinel", "end"]
    assert [line["index"] for line in lines] == [0, 1, 2]
    lengths = [line["end_boottime_ns"] - line["start_boottime_ns"] for line in lines]
    assert min(lengths[:2]) >= 0.99e9 and sum(lengths) >= 2.1e9
    for line in lines:
        assert line["end_boottime_ns"] <= line["t_ns"]
        assert len(line["samples_ns"]) == min(64, line["iterations"])
        assert line["sum_ns"] <= line["end_boottime_ns"] - line["start_boottime_ns"] + 1e6
        assert (line["zones_mc"], line["clocks_khz"]) == ({"thermal_zone0": 41000}, {"policy0": 1500})
    total = sum(line["iterations"] for line in lines)
    assert total == answer.one("end")["samples"] == sum(answer.one("placement")["cpu_counts"].values())
    arrays = intervals.arrays(said(answer))  # which checks minima, maxima and sums
    assert arrays["sustained_c"].tolist() == [41.0] * 3 and arrays["sustained_khz"].tolist() == [1500] * 3


def test_an_inference_longer_than_an_interval_is_an_interval(run: Run, models: Models) -> None:
    flags = (*given(models, "null", "sustained"), "--null-sleep-us", "0,1100000", "--seconds", "1.5")
    lines = run("null", *flags).all("interval")
    assert [(line["iterations"], len(line["samples_ns"])) for line in lines] == [(1, 1), (1, 1)]
    assert all(line["min_ns"] == line["max_ns"] == line["sum_ns"] >= 1_100_000_000 for line in lines)


def test_a_run_that_is_lost_leaves_the_seconds_before(binary: Callable[[str], Path], models: Models) -> None:
    argv = [binary("null"), *given(models, "null", "sustained"), "--seconds", "3600"]
    process = subprocess.Popen([str(word) for word in argv], stdout=subprocess.PIPE)
    assert process.stdout is not None
    kinds: list[str] = []
    while kinds[-1:] != ["interval"]:
        kinds.append(json.loads(process.stdout.readline())["type"])
    process.kill()
    assert process.wait(20) == -signal.SIGKILL
    process.stdout.close()
    assert kinds == ["start", "load", "first", "sentinel", "clocks", "interval"]


# -- the host's side -----------------------------------------------------------------------------------------------

PURPOSES: dict[Purpose, str] = {
    "check": "output", "accuracy": "output", "memory": "memory", "load": "cache", "sentinel": "sentinel",
    "burn_in": "block", "latency": "block", "idle": "window", "energy": "window", "sustained": "interval",
}  # fmt: skip


@pytest.mark.parametrize("purpose", PURPOSES)
def test_the_hosts_command_line_is_understood_for_every_purpose(
    run: Run, models: Models, tmp_path: Path, purpose: Purpose
) -> None:
    spec = TensorSpec(dtype="float32", shape=(1, 1, 8, 8))
    cell = Cell(variant="v", seed=0, exporter="e", backend="", input="d", device_id="d", threads=1, cpus="any")
    planned = PlannedRun(
        cell=cell, purpose=purpose, repeat=0, block=0, position=0, min_seconds=0.05, min_iterations=10,
        artifact=Artifact(sha256="0", suffix="", size_bytes=1, compressed_bytes=1, runtime="null", toolchain={}),
        inputs=(TensorFile(spec=spec, sha256="0", samples=3),),
    )  # fmt: skip
    inputs, lock = [str(models.folder / "cnn.0.bin")], str(tmp_path / "lock")
    argv = reader.argv([], "r", planned, str(models.file("nothing")), inputs, str(tmp_path), lock, str(tmp_path))
    answer = run("null", *argv, "--null-sleep-us", "0,200")
    assert answer.returncode == 0 and answer.all(PURPOSES[purpose])
    status, reason = reader.verdict(said(answer), "exit 0")
    assert status == "ok" or "not_steady" in (reason or "")


def test_a_profile_line_is_of_the_agreed_form(run: Run, models: Models, tmp_path: Path) -> None:
    answer = run("executorch", *given(models, "executorch", "profile"), "--outputs", tmp_path)
    assert answer.one("profile")["file"] == "profile.etdump" and (tmp_path / "profile.etdump").is_file()
    answer = run("torchscript", *given(models, "torchscript", "profile"), "--outputs", tmp_path)
    assert (answer.one("error")["class"], answer.one("error")["stage"]) == ("profile", "usage")
    assert reader.verdict(said(answer), "exit 2") == ("skipped", "torchscript has no profile")
