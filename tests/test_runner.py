"""The native runners, run for real on real files: what they write and what they compute."""

from __future__ import annotations

import hashlib
import itertools
import os
from pathlib import Path

import numpy as np
import pytest

from harness.devices import runners
from tests.runner_kit import BRIEF, Models, Run

pytest_plugins = ["tests.runner_kit"]


# -- what a run writes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("runtime", "file"), [("executorch", "cnn.xnnpack.pte"), ("torchscript", "cnn.ptl")])
def test_a_latency_run_writes_its_blocks_and_what_was_around_them(
    run: Run, models: Models, runtime: str, file: str
) -> None:
    flags = ("--purpose", "latency", "--run", 'a"b\\\n', "--model", models.file(file), *models.inputs["cnn"], *BRIEF)
    answer = run(runtime, *flags)
    assert answer.returncode == 0
    kinds = [line["type"] for line in answer.lines]
    around = [kind for kind in kinds if kind != "block"]
    assert around[:4] == ["start", "load", "first", "sentinel"]
    assert around[4:] == ["clocks", "clocks", "placement", "sentinel", "end"]
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
    assert answer.one("first")["ns"] >= 300_000 and answer.one("first")["input_ns"] >= 2_000_000


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
    cores = len(os.sched_getaffinity(0))
    for runtime, file in (("executorch", "cnn.xnnpack.pte"), ("torchscript", "cnn.ptl")):
        for threads in {1, min(2, cores)}:
            flags = ("--purpose", "load", "--model", models.file(file), *models.inputs["cnn"], "--threads", threads)
            start = run(runtime, *flags).one("start")
            assert (start["threads_requested"], start["threads"]) == (threads, threads)
    answer = run("null", "--purpose", "load", "--model", models.file("nothing"), "--threads", cores + 1)
    assert (answer.returncode, answer.one("error")["class"]) == (2, "threads")


def test_the_mask_is_set_before_the_threads_exist(run: Run, models: Models) -> None:
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
