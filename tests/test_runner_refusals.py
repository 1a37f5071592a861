"""The native runners: what they refuse, and what the harness survives of them."""

from __future__ import annotations

import fcntl
import io
import random
import shutil
import signal
import subprocess
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.devices import runners
from harness.measure import runner as reader
from tests.runner_kit import Models, Run

pytest_plugins = ["tests.runner_kit"]


# -- what it refuses -----------------------------------------------------------------------------------------------


def refusal(run: Run, runtime: str, file: Path, inputs: list[str]) -> tuple[int, str, str, str]:
    answer = run(runtime, "--purpose", "load", "--model", file, *inputs)
    error = answer.one("error")
    assert answer.one("end")["status"] == "error"
    return answer.returncode, error["stage"], error["class"], error["message"]


def without(file: Path, operator: str, instead: str) -> bytes:
    """The .ptl with an operator renamed in its bytecode."""
    out = io.BytesIO()
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as new:
        for info in old.infolist():
            data = old.read(info)
            new.writestr(info.filename, data.replace(operator.encode(), instead.encode()))
    return out.getvalue()


def test_a_damaged_or_foreign_file_is_refused_with_its_class(run: Run, models: Models, tmp_path: Path) -> None:
    pte, ptl = models.file("cnn.xnnpack.pte").read_bytes(), models.file("cnn.ptl").read_bytes()
    portable = models.file("cnn.portable.pte").read_bytes()
    cases = [
        ("executorch", b"", "truncated"),
        ("executorch", pte[:40], "truncated"),
        ("executorch", pte[: len(pte) // 2], "truncated"),
        ("executorch", pte[:-100], "truncated"),
        ("executorch", pte[:4] + b"TFL3" + pte[8:], "bad_magic"),
        ("executorch", ptl, "bad_magic"),
        ("executorch", pte[:4] + b"ET99" + pte[8:], "bad_version"),
        ("executorch", pte[:48] + b"\xff" * 200 + pte[248:], "corrupt"),
        ("executorch", pte.replace(b"XnnpackBackend", b"PhantomBackend"), "backend_missing"),
        ("executorch", portable.replace(b"aten::convolution", b"aten::c0nvolution"), "op_missing"),
        ("torchscript", b"PK\3\4", "truncated"),
        ("torchscript", ptl[: len(ptl) // 2], "truncated"),
        ("torchscript", pte, "bad_magic"),
        ("torchscript", without(models.file("cnn.ptl"), "aten::relu", "aten::rely"), "op_missing"),
    ]
    for number, (runtime, content, expected) in enumerate(cases):
        file = tmp_path / f"{number}.model"
        file.write_bytes(content)
        code, stage, kind, message = refusal(run, runtime, file, models.inputs["cnn"])
        assert (code, stage, kind) == (3, "load", expected), (number, message)
        assert message
        if kind == "backend_missing":
            assert "PhantomBackend" in message and "XnnpackBackend" in message
        if kind == "op_missing":
            assert "c0nvolution" in message or "rely" in message


def test_inputs_that_do_not_fit_are_refused_with_both_sides(run: Run, models: Models) -> None:
    file, given = models.file("cnn.xnnpack.pte"), models.folder / "cnn.0.bin"
    pairs = models.inputs["pair"]
    cases = [
        ("executorch", file, pairs, "expected 1 inputs, given 2"),
        ("executorch", file, ["--input", f"0:int32:1,1,8,8:{given}"], "expected float32 [1,1,8,8], given int32"),
        ("executorch", file, ["--input", f"0:float32:1,1,4,8:{given}"], "given float32 [1,1,4,8]"),
        ("executorch", file, ["--input", f"0:float32:1,1,16,8:{given}"], "expected a whole number of calls of 512"),
        ("torchscript", models.file("cnn.ptl"), pairs, "expected 1 inputs, given 2"),
    ]
    for runtime, model, inputs, words in cases:
        code, stage, kind, message = refusal(run, runtime, model, inputs)
        assert (code, stage, kind) == (3, "inputs", "input_mismatch"), message
        assert words in message


def test_without_inputs_a_file_only_says_what_it_takes(run: Run, models: Models) -> None:
    file = models.file("cnn.xnnpack.pte")
    answer = run("executorch", "--purpose", "load", "--model", file)
    assert answer.returncode == 0
    assert answer.one("load")["inputs"] == [{"dtype": "float32", "shape": [1, 1, 8, 8]}]
    error = run("executorch", "--purpose", "memory", "--model", file).one("error")
    assert (error["class"], error["message"]) == ("input_mismatch", "expected 1 inputs, given 0")


def test_an_input_that_only_the_interpreter_can_refuse_is_an_execution_error(run: Run, models: Models) -> None:
    given = models.folder / "pair.0.bin"
    answer = run(
        "torchscript", "--purpose", "check", "--model", models.file("cnn.ptl"), "--input", f"0:float32:2,3:{given}"
    )
    error = answer.one("error")
    assert (answer.returncode, error["stage"], error["class"]) == (4, "execute", "rejected")
    assert "\n" not in error["message"]


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--purpose", "latency"],
        ["--purpose", "profile", "--model", "m"],
        ["--purpose", "energy", "--seconds", "1"],
        ["--purpose", "idle", "--seconds"],
        ["--purpose", "idle", "--seconds", "0"],
        ["--purpose", "idle", "--seconds", "0.049"],
        ["--purpose", "idle", "--seconds", "86401"],
        ["--purpose", "idle", "--seconds", "inf"],
        ["--purpose", "idle", "--seconds", "1s"],
        ["--purpose", "sentinel", "--sysroot", ""],
        ["--purpose", "sentinel", "--sysroot", "sys"],
        ["--purpose", "sentinel", "--drop-cache"],
        ["--purpose", "load", "--model", "no such file"],
        ["--purpose", "load", "--model", "/"],
        ["--purpose", "load", "--model"],
        ["--nonsense", "1"],
        ["--threads", "0"],
        ["--threads", "2x"],
        ["--min-seconds", "nan"],
        ["--min-iterations", "-1"],
        ["--cpus", "0x0", "--purpose", "load", "--model", "m"],
        ["--cpus", "3", "--purpose", "load", "--model", "m"],
        ["--input", "0:float32:1"],
        ["--input", "0:float64:1:f"],
        ["--input", "0:float32:99999999999,99999999999:f"],
        ["--input", "1:float32:1:f", "--purpose", "load", "--model", "m"],
        ["--input", "0:float32:1:f", "--input", "0:float32:1:f"],
    ],
)
def test_a_wrong_command_line_is_a_usage_error(run: Run, flags: list[str]) -> None:
    answer = run("null", *flags)
    assert answer.returncode == 2
    assert answer.one("error")["stage"] == "usage"


@pytest.mark.parametrize(
    ("purpose", "flags", "words"),
    [
        ("energy", [], "--seconds is missing"),
        ("sustained", [], "--seconds is missing"),
        ("idle", [], "--seconds is missing"),
        ("profile", [], "--outputs is missing"),
        ("latency", ["--drop-cache"], "--drop-cache: only for --purpose load"),
        ("burn_in", [], "--purpose: one of latency memory"),
    ],
)
def test_what_a_purpose_lacks_is_said(run: Run, models: Models, purpose: str, flags: list[str], words: str) -> None:
    answer = run("null", "--purpose", purpose, "--model", models.file("nothing"), *flags)
    assert answer.returncode == 2
    assert words in answer.one("error")["message"]


def test_a_second_runner_finds_the_lock_busy(run: Run, models: Models, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    flags = ("--purpose", "load", "--model", models.file("nothing"), "--lock", lock)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        answer = run("null", *flags)
        assert (answer.returncode, answer.one("error")["class"]) == (4, "busy")
        assert not answer.all("start")
    assert run("null", *flags).returncode == 0


def test_messages_with_hostile_bytes_stay_json(run: Run) -> None:
    answer = run(
        "null",
        "--purpose",
        "load",
        "--model",
        b'\xff\xfe"\x01\\</script>\xe2\x80\xa8'.decode("utf-8", "surrogateescape"),
    )
    assert answer.returncode == 2
    assert answer.one("error")["message"].startswith('\ufffd\ufffd"\x01\\</script>')


def test_a_full_disk_is_an_error_and_not_a_result(run: Run, models: Models, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "0.bin").symlink_to("/dev/full")  # a link in our place is not followed either
    flags = ("--purpose", "accuracy", "--model", models.file("nothing"), *models.inputs["null"], "--outputs", out)
    answer = run("null", *flags)
    assert (answer.returncode, answer.one("error")["class"]) == (4, "io")


# -- what the harness survives -------------------------------------------------------------------------------------


def mutated(content: bytes, rng: random.Random) -> bytes:
    """A damaged copy: flipped bytes, a cut end, a zeroed range, or a piece copied over another."""
    out = bytearray(content)
    kind = rng.randrange(4)
    if kind == 0:
        for _ in range(rng.choice((1, 1, 4, 32))):
            out[rng.randrange(len(out))] = rng.randrange(256)
    elif kind == 1:
        del out[rng.randrange(len(out)) :]
    else:
        size = rng.randrange(1, 256)
        at, source = rng.randrange(len(out)), rng.randrange(len(out))
        piece = bytes(size) if kind == 2 else bytes(out[source : source + size])
        out[at : at + size] = piece[: len(out) - at]
    return bytes(out)


def outcome(argv: list[str], stdout: Path) -> tuple[str, str | None]:
    """Runs it as a device would, in limited memory; the harness's own reading of what became of it."""
    with stdout.open("wb") as out:
        limited = ["sh", "-c", 'ulimit -v 4000000; ulimit -t 20; ulimit -c 0; exec "$@"', "sh", *argv]
        code = subprocess.run(limited, stdout=out, stderr=subprocess.DEVNULL, timeout=60, check=False).returncode
    return reader.verdict(reader.read(stdout), f"exit {code if code >= 0 else 128 - code}")


def test_a_thousand_damaged_models_all_end_and_are_all_understood(
    binary: Callable[[str], Path], models: Models, tmp_path: Path
) -> None:
    plan = [
        ("executorch", "cnn.xnnpack.pte", 470),
        ("executorch", "cnn.portable.pte", 470),
        ("torchscript", "cnn.ptl", 60),
    ]
    jobs = []
    for runtime, file, count in plan:
        content = models.file(file).read_bytes()
        for seed in range(count):
            jobs.append((runtime, seed, mutated(content, random.Random(f"{file} {seed}"))))

    def work(job: tuple[int, tuple[str, int, bytes]]) -> tuple[str, str | None]:
        number, (runtime, _, content) = job
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "model").write_bytes(content)
        flags = ["--purpose", "check", "--model", str(folder / "model"), *models.inputs["cnn"]]
        try:
            return outcome([str(binary(runtime)), *flags, "--outputs", str(folder / "out")], folder / "result.jsonl")
        finally:
            shutil.rmtree(folder)

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(work, enumerate(jobs)))
    assert len(outcomes) == 1000
    assert {status for status, _ in outcomes} <= {"ok", "failed", "skipped", "invalid"}
    assert all(reason for status, reason in outcomes if status != "ok")
    refused = [reason for status, reason in outcomes if status == "failed"]
    assert len(refused) > 200, "the damage is hardly ever noticed"


def test_a_crash_is_a_death_by_signal_and_is_named(models: Models, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [
            str(runners.ensure("null", runners.host_target()).binary),
            *("--purpose", "latency", "--model", str(models.file("nothing")), "--null-sleep-us", "0,1000"),
            *("--min-seconds", "30"),
        ],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGSEGV)
    assert process.wait(20) == -signal.SIGSEGV
    process.stdout.close()
    assert reader.verdict(reader.Lines(lines=()), "exit 139") == ("failed", "the runner died by SIGSEGV")
