"""The native runners, run for real on real files: what they write, what they refuse, what they survive."""

from __future__ import annotations

import fcntl
import hashlib
import io
import itertools
import json
import random
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from harness.devices import runners
from harness.measure import runner as reader

SCHEMA = json.loads((Path(__file__).parent / "schema" / "runner_line.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
BRIEF = ("--min-seconds", "0.05", "--min-iterations", "10", "--max-warmup-seconds", "2")


def few(value: Any) -> Any:
    """A block's thousands of numbers checked here and shortened: the validator is slow."""
    if isinstance(value, list) and len(value) > 8:
        assert len(value) <= 4096 and all(type(item) is int and item >= 0 for item in value)
        return value[:8]
    return value


@dataclass(frozen=True)
class Answer:
    returncode: int
    lines: list[dict[str, Any]]

    def one(self, kind: str) -> dict[str, Any]:
        (line,) = [line for line in self.lines if line["type"] == kind]
        return line

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["type"] == kind]


@dataclass(frozen=True)
class Models:
    """Files of tiny models, and what eager says to the input files. `inputs[name]`: --input arguments."""

    folder: Path
    inputs: dict[str, list[str]]
    expected: dict[str, list[np.ndarray[Any, Any]]]

    def file(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")

    class Cnn(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = torch.nn.Conv2d(1, 4, 3), torch.nn.Conv2d(4, 8, 3), torch.nn.Linear(8 * 16, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.c(torch.relu(self.b(torch.relu(self.a(x)))).flatten(1))

    class Pair(torch.nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"sum": x + y, "product": x * y, "difference": x - y}

    class Nest(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[Any, ...]:
            return (x * 2.0, [x.permute(1, 0) - 1.0, x + 3.0]), x.permute(1, 0)

    class Turned(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x * 2.0).to(memory_format=torch.channels_last)

    class Tokens(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(16, 4)

        def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.table(ids).mean(1), ids + 1

    generator = torch.Generator().manual_seed(1)
    images = [torch.randn(1, 1, 8, 8, generator=generator) for _ in range(3)]
    pairs = [(torch.randn(2, 3, generator=generator), torch.randn(2, 3, generator=generator)) for _ in range(3)]
    tokens = [torch.randint(0, 16, (1, 5), generator=generator) for _ in range(3)]
    calls: dict[str, tuple[torch.nn.Module, list[tuple[torch.Tensor, ...]]]] = {
        "cnn": (Cnn().eval(), [(image,) for image in images]),
        "pair": (Pair(), list(pairs)),
        "nest": (Nest(), [(pair[0],) for pair in pairs]),
        "turned": (Turned(), [(torch.randn(1, 2, 3, 4, generator=generator),) for _ in range(3)]),
        "tokens": (Tokens().eval(), [(ids,) for ids in tokens]),
    }
    inputs: dict[str, list[str]] = {}
    expected: dict[str, list[np.ndarray[Any, Any]]] = {}
    for name, (model, samples) in calls.items():
        inputs[name], leaves = [], []
        for k, example in enumerate(samples[0]):
            file = folder / f"{name}.{k}.bin"
            file.write_bytes(b"".join(sample[k].contiguous().numpy().tobytes() for sample in samples))
            dtype, shape = str(example.dtype).removeprefix("torch."), ",".join(map(str, example.shape))
            inputs[name] += ["--input", f"{k}:{dtype}:{shape}:{file}"]
        with torch.no_grad():
            for sample in samples:
                leaves.append([leaf.contiguous().numpy() for leaf in torch.utils._pytree.tree_leaves(model(*sample))])
            expected[name] = [np.stack(leaf) for leaf in zip(*leaves, strict=True)]
            traced = torch.jit.trace(model, samples[0], strict=False)
        traced._save_for_lite_interpreter(str(folder / f"{name}.ptl"))
        program = torch.export.export(model, samples[0])
        for backend, partitioner in {"xnnpack": [XnnpackPartitioner()], "portable": []}.items():
            lowered = to_edge_transform_and_lower(program, partitioner=partitioner).to_executorch()
            (folder / f"{name}.{backend}.pte").write_bytes(lowered.buffer)
    (folder / "nothing").write_bytes(b"x" * 64)
    inputs["null"] = inputs["cnn"]
    return Models(folder, inputs, expected)


@pytest.fixture(scope="session")
def binary() -> Callable[[str], Path]:
    return lambda runtime: runners.ensure(runtime, runners.host_target()).binary


@pytest.fixture
def run(binary: Callable[[str], Path]) -> Callable[..., Answer]:
    def call(runtime: str, *flags: object, check_lines: bool = True) -> Answer:
        argv = [str(binary(runtime)), *map(str, flags)]
        done = subprocess.run(argv, capture_output=True, timeout=120, check=False)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        if check_lines:
            for number, line in enumerate(lines):
                VALIDATOR.validate({key: few(value) for key, value in line.items()})
                assert line["seq"] == number
            assert lines[-1]["type"] == "end"
        return Answer(done.returncode, lines)

    return call


Run = Callable[..., Answer]


# -- what a run writes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("runtime", "file"), [("executorch", "cnn.xnnpack.pte"), ("torchscript", "cnn.ptl")])
def test_a_latency_run_writes_start_load_first_blocks_and_end(
    run: Run, models: Models, runtime: str, file: str
) -> None:
    flags = ("--purpose", "latency", "--run", 'a"b\\\n', "--model", models.file(file), *models.inputs["cnn"], *BRIEF)
    answer = run(runtime, *flags)
    assert answer.returncode == 0
    kinds = [line["type"] for line in answer.lines]
    assert kinds[:3] == ["start", "load", "first"]
    assert kinds[-1] == "end" and set(kinds[3:-1]) == {"block"}
    start, end = answer.one("start"), answer.one("end")
    assert (start["runtime"], start["run"], start["clock"]) == (runtime, 'a"b\\\n', "CLOCK_MONOTONIC_RAW")
    assert start["version"] == runners.RUNTIMES[runtime].version
    steady = [line for line in answer.all("block") if line["phase"] == "steady"]
    assert end["samples"] == sum(len(block["samples_ns"]) for block in steady) >= 10
    assert end["blocks"] == len(answer.all("block"))
    for block in answer.all("block"):
        assert len(block["samples_ns"]) == len(block["input_ns"])
        inside = sum(block["samples_ns"]) + sum(block["input_ns"])
        assert inside <= (block["end_ns"] - block["start_ns"]) * 1.01 + 1e5  # two clocks, of which one is slewed


def test_a_pte_describes_its_inputs_outputs_and_arenas(run: Run, models: Models) -> None:
    load = run("executorch", "--purpose", "load", "--model", models.file("cnn.xnnpack.pte"), *models.inputs["cnn"]).one(
        "load"
    )
    assert load["inputs"] == [{"dtype": "float32", "shape": [1, 1, 8, 8]}]
    assert load["outputs"] == [{"dtype": "float32", "shape": [1, 10]}]
    assert load["arenas_bytes"] > 0
    assert load["file_bytes"] == models.file("cnn.xnnpack.pte").stat().st_size


def test_long_phases_are_cut_into_blocks_of_4096_that_join_without_a_gap(run: Run, models: Models) -> None:
    answer = run("null", "--purpose", "latency", "--model", models.file("nothing"), *BRIEF, "--min-iterations", 100000)
    steady = [line for line in answer.all("block") if line["phase"] == "steady"]
    assert len(steady) > 20
    assert {len(block["samples_ns"]) for block in steady[:-1]} == {4096}
    for before, after in itertools.pairwise(steady):
        assert before["end_ns"] == after["start_ns"]
        assert before["end_boottime_ns"] == after["start_boottime_ns"]


def test_setting_inputs_is_timed_apart_from_executing(run: Run, models: Models) -> None:
    flags = ("--purpose", "latency", "--model", models.file("nothing"), "--null-sleep-us", "2000,300", *BRIEF)
    answer = run("null", *flags)
    block = next(line for line in answer.all("block") if line["phase"] == "steady")
    assert min(block["input_ns"]) >= 2_000_000
    assert min(block["samples_ns"]) >= 300_000
    assert np.median(block["samples_ns"]) < 2_000_000
    assert answer.one("first")["ns"] < answer.one("first")["input_ns"]


def test_the_steady_phase_has_both_the_iterations_and_the_seconds_asked_for(run: Run, models: Models) -> None:
    base = ("--purpose", "latency", "--model", models.file("nothing"), "--null-sleep-us", "0,1000")
    many = run("null", *base, "--min-seconds", "0", "--min-iterations", "300")
    long = run("null", *base, "--min-seconds", "0.4", "--min-iterations", "1")
    assert many.one("end")["samples"] == 300
    steady = [line for line in long.all("block") if line["phase"] == "steady"]
    assert steady[-1]["end_ns"] - steady[0]["start_ns"] >= 0.4e9


def test_a_model_that_is_not_steady_at_the_cap_says_so_and_keeps_its_samples(run: Run, models: Models) -> None:
    flags = ("--purpose", "latency", "--model", models.file("nothing"), "--null-sleep-us", "0,1000")
    answer = run("null", *flags, "--max-warmup-seconds", "0.2", "--min-seconds", "0.1", "--min-iterations", "10")
    assert answer.returncode == 0
    assert answer.one("end")["status"] == "not_steady"
    assert {line["phase"] for line in answer.all("block")} == {"warmup", "steady"}


def test_memory_is_read_at_every_phase_and_the_peak_is_above_all_of_them(run: Run, models: Models) -> None:
    flags = ("--purpose", "memory", "--model", models.file("cnn.xnnpack.pte"), *models.inputs["cnn"])
    answer = run("executorch", *flags)
    lines = answer.all("memory")
    assert [line["phase"] for line in lines] == ["start", "program", "method", "first", "steady", "peak"]
    peak = lines[-1]["peak_bytes"]
    assert all(peak >= line["vm_rss"] + line.get("vm_swap", 0) and peak >= line["vm_hwm"] for line in lines)
    assert all("peak_bytes" not in line for line in lines[:-1])


def test_threads_are_set_and_read_back(run: Run, models: Models) -> None:
    import os

    cores = len(os.sched_getaffinity(0))
    for runtime, file in (("executorch", "cnn.xnnpack.pte"), ("torchscript", "cnn.ptl")):
        for threads in {1, min(2, cores)}:
            flags = ("--purpose", "load", "--model", models.file(file), *models.inputs["cnn"], "--threads", threads)
            start = run(runtime, *flags).one("start")
            assert (start["threads_requested"], start["threads"]) == (threads, threads)
    answer = run("null", "--purpose", "load", "--model", models.file("nothing"), "--threads", cores + 1)
    assert (answer.returncode, answer.one("error")["class"]) == (2, "threads")


def test_the_mask_is_set_before_the_threads_exist(run: Run, models: Models) -> None:
    import os

    cpu = max(os.sched_getaffinity(0))
    flags = ("--purpose", "load", "--model", models.file("cnn.xnnpack.pte"), *models.inputs["cnn"])
    assert run("executorch", *flags, "--cpus", hex(1 << cpu)).one("start")["cpu_mask"] == hex(1 << cpu)
    answer = run("executorch", *flags, "--cpus", "0x8" + "0" * 200)
    assert (answer.returncode, answer.one("error")["class"]) == (4, "affinity")


# -- what it computes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cnn", "pair", "nest", "turned", "tokens"])
@pytest.mark.parametrize("kind", ["xnnpack.pte", "portable.pte", "ptl"])
def test_outputs_equal_eager_for_every_sample_and_leaf(
    run: Run, models: Models, tmp_path: Path, name: str, kind: str
) -> None:
    out = tmp_path / "out"
    runtime = "torchscript" if kind == "ptl" else "executorch"
    flags = ("--purpose", "accuracy", "--model", models.file(f"{name}.{kind}"), *models.inputs[name], "--outputs", out)
    answer = run(runtime, *flags)
    lines = answer.all("output")
    assert [line["index"] for line in lines] == list(range(len(models.expected[name])))
    assert answer.one("end")["samples"] == 3
    for line, expected in zip(lines, models.expected[name], strict=True):
        raw = (out / f"{line['index']}.bin").read_bytes()
        assert line["sha256"] == hashlib.sha256(raw).hexdigest()
        assert (line["samples"], tuple(line["shape"])) == (3, expected.shape[1:])
        given = np.frombuffer(raw, line["dtype"]).reshape(expected.shape)
        np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-6)


def test_a_dynamic_dimension_takes_what_fits_its_bound_and_refuses_more(run: Run, tmp_path: Path) -> None:
    import torch
    from executorch.exir import to_edge_transform_and_lower

    x = torch.arange(8.0).reshape(2, 4)
    shapes = ({0: torch.export.Dim("batch", min=1, max=8)},)
    program = torch.export.export(torch.nn.ReLU(), (x,), dynamic_shapes=shapes)
    (tmp_path / "m.pte").write_bytes(to_edge_transform_and_lower(program).to_executorch().buffer)
    data = np.arange(-64, 64, dtype=np.float32)
    (tmp_path / "x.bin").write_bytes(data.tobytes())
    base = ("--purpose", "check", "--model", tmp_path / "m.pte", "--outputs", tmp_path / "out", "--input")
    for batch in (1, 4, 8):
        line = run("executorch", *base, f"0:float32:{batch},4:{tmp_path / 'x.bin'}").one("output")
        assert (line["shape"], line["samples"]) == ([batch, 4], 32 // batch)
        assert np.array_equal(np.fromfile(tmp_path / "out" / "0.bin", np.float32), np.maximum(data, 0))
    for shape in ("16,4", "16,1", "4"):
        answer = run("executorch", *base, f"0:float32:{shape}:{tmp_path / 'x.bin'}")
        assert (answer.returncode, answer.one("error")["class"]) == (3, "input_mismatch")


def test_inputs_are_set_again_before_every_inference(run: Run, models: Models, tmp_path: Path) -> None:
    """An undelegated plan reuses the input's memory: were inputs set once, the second equal sample would differ."""
    raw = (models.folder / "cnn.0.bin").read_bytes()
    one = raw[: len(raw) // 3]
    (tmp_path / "same.bin").write_bytes(one * 4)
    flags = ("--model", models.file("cnn.portable.pte"), "--input", f"0:float32:1,1,8,8:{tmp_path / 'same.bin'}")
    run("executorch", "--purpose", "check", *flags, "--outputs", tmp_path / "out")
    results = np.fromfile(tmp_path / "out" / "0.bin", np.float32).reshape(4, 10)
    assert (results == results[0]).all()
    np.testing.assert_allclose(results[0], models.expected["cnn"][0][0, 0], rtol=1e-5, atol=1e-6)


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
        ("executorch", file, [], "expected 1 inputs, given 0"),
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
    import signal

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
