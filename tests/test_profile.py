"""The profile: the runner's trace, its reading against ExecuTorch's own reader, the summary, the trace file."""

from __future__ import annotations

import hashlib
import json
import math
import random
import shutil
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.analyze import etdump, operators
from harness.cli import main
from harness.commands import profiling
from harness.errors import RunnerError
from harness.measure import etdump as fetching
from harness.measure.runner import Lines
from harness.report import chrome_trace
from harness.types import Cell, Run
from tests.runner_kit import VALIDATOR, Models, binary, few, models, run  # noqa: F401 (fixtures)
from tests.runner_kit import Run as Runner

#: name, instruction, told by a delegate, start and end in ns
Told = tuple[str, int, bool, int, int]
#: one execution: a cumsum (two kernels, one in the other), a move, and two delegate calls that tell of their inside
BLOCK: list[Told] = [
    ("native_call_add.out", 0, False, 120, 140),
    ("native_call_cumsum.out", 0, False, 110, 190),
    ("OPERATOR_CALL", 0, False, 100, 200),
    ("MOVE_CALL", 1, False, 200, 210),
    ("Conv #1", 2, True, 215, 275),
    ("DELEGATE_CALL", 2, False, 210, 310),
    ("Conv #1", 3, True, 312, 342),
    ("Conv #2", 3, True, 342, 362),
    ("DELEGATE_CALL", 3, False, 310, 380),
    ("native_call_cumsum.out", 4, False, 381, 382),
    ("OPERATOR_CALL", 4, False, 380, 390),
    ("Method::execute", -1, False, 90, 400),
]


def written(blocks: Sequence[Sequence[Told]]) -> bytes:
    """An ETDump by ExecuTorch's own writer, with the length that the device puts before it."""
    from executorch.devtools.etdump import schema_flatcc as fb
    from executorch.devtools.etdump.serialize import serialize_to_etdump_flatcc

    def event(name: str, instruction: int, inside: bool, start: int, end: int) -> Any:
        profiled = fb.ProfileEvent(
            name=None if inside else name, chain_index=0, instruction_id=instruction, start_time=start, end_time=end,
            delegate_debug_id_int=-1, delegate_debug_id_str=name if inside else None, delegate_debug_metadata=None,
        )  # fmt: skip
        return fb.Event(profile_event=profiled, allocation_event=None, debug_event=None)

    runs = [
        fb.RunData(name="Execute", bundled_input_index=-1, allocators=[], events=[event(*told) for told in block])
        for block in blocks
    ]
    content = serialize_to_etdump_flatcc(fb.ETDumpFlatCC(version=0, run_data=runs))
    return struct.pack("<I", len(content)) + content


def later(block: Sequence[Told], ns: int) -> list[Told]:
    return [(name, instruction, inside, start + ns, end + ns) for name, instruction, inside, start, end in block]


def profiled(content: bytes, traced: Sequence[int] = (2000, 4000, 3000), untraced: Sequence[int] = (1000,)) -> Run:
    cell = Cell(
        variant="v", seed=0, exporter="executorch", backend="", input="default", device_id="d", threads=1, cpus="any"
    )
    arrays = {
        "etdump": np.frombuffer(content, np.uint8),
        "traced_ns": np.asarray(traced, np.uint64),
        "untraced_ns": np.asarray(untraced, np.uint64),
    }
    return Run(
        id="r", session="s", cell=cell, purpose="profile", repeat=0, attempt=1, counts=True, status="ok", arrays=arrays
    )


@dataclass(frozen=True)
class Traced:
    line: dict[str, Any]
    lines: list[dict[str, Any]]
    content: bytes

    @property
    def run(self) -> Run:
        return profiled(self.content, self.line["traced_ns"], self.line["untraced_ns"])


@pytest.fixture(scope="session")
def traced(models: Models, tmp_path_factory: pytest.TempPathFactory, request: Any) -> dict[str, Traced]:  # noqa: F811
    """Backend -> what the runner made of the little CNN."""
    import subprocess

    found = {}
    program = request.getfixturevalue("binary")("executorch")
    for backend in ("xnnpack", "portable"):
        folder = tmp_path_factory.mktemp(backend) / "out"  # the runner makes it
        argv = [program, "--purpose", "profile", "--model", models.file(f"cnn.{backend}.pte"), *models.inputs["cnn"]]
        done = subprocess.run([*map(str, argv), "--outputs", str(folder)], capture_output=True, timeout=120)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        for line in lines:
            VALIDATOR.validate({key: few(value) for key, value in line.items()})
        (line,) = [line for line in lines if line["type"] == "profile"]
        found[backend] = Traced(line, lines, (folder / line["file"]).read_bytes())
    return found


BACKENDS = pytest.mark.parametrize("backend", ["xnnpack", "portable"])


@BACKENDS
def test_the_runner_tells_of_its_trace_and_of_what_tracing_costs(traced: dict[str, Traced], backend: str) -> None:
    line, content = traced[backend].line, traced[backend].content
    assert [told["type"] for told in traced[backend].lines] == ["start", "load", "first", "profile", "end"]
    assert (line["file"], line["bytes"], line["iterations"]) == ("profile.etdump", len(content), 20)
    assert line["sha256"] == hashlib.sha256(content).hexdigest()
    assert len(line["traced_ns"]) == len(line["untraced_ns"]) == 20
    assert min(*line["traced_ns"], *line["untraced_ns"]) > 0
    summary = operators.summary(traced[backend].run)
    assert summary["iterations"] == 20  # and no warm-up, nor loading, is among them
    for key in ("traced", "untraced"):
        assert summary[f"{key}_ms"] == pytest.approx(np.median(line[f"{key}_ns"]) / 1e6)


@BACKENDS
def test_events_are_read_as_executorch_reads_them(traced: dict[str, Traced], backend: str) -> None:
    from executorch.devtools.etdump.serialize import deserialize_from_etdump_flatcc

    theirs = deserialize_from_etdump_flatcc(traced[backend].content)
    expected = [
        [
            (p.delegate_debug_id_str or p.name, p.instruction_id, p.delegate_debug_id_str is not None,
             p.start_time, p.end_time)
            for p in (event.profile_event for event in block.events)
        ]
        for block in theirs.run_data
    ]  # fmt: skip
    read = [
        [(e.name, -1 if e.instruction is None else e.instruction, e.inside, e.start_ns, e.end_ns) for e in block]
        for block in etdump.read(traced[backend].content)
    ]
    assert read == expected
    assert len(read) == 20 and all(len(block) > 3 for block in read)


@BACKENDS
def test_times_are_those_of_executorchs_inspector(traced: dict[str, Traced], backend: str, tmp_path: Path) -> None:
    from executorch.devtools import Inspector

    path = tmp_path / "x.etdump"
    path.write_bytes(traced[backend].content)
    (block,) = Inspector(etdump_path=str(path)).event_blocks  # equal executions are one block, with raw times in ms
    times: Counter[tuple[str, int]] = Counter()
    for event in block.events:
        for index, value in enumerate(event.perf_data.raw):
            times[event.name, index] += round(value * 1e6)
    rows = operators.summary(traced[backend].run)["operators"]
    whole_ns = np.median([times["Method::execute", k] for k in range(20)])
    assert rows
    for row in rows:
        name = {"delegate call": "DELEGATE_CALL"}.get(row["kind"], row["name"])
        inspected = [times[name, k] or times[f"native_call_{name}", k] for k in range(20)]
        if row["kind"] == "operator":  # an OPERATOR_CALL holds its kernel, and is no shorter
            assert row["time_us"] >= np.median(inspected) / 1e3 > 0
        else:
            assert row["time_us"] == pytest.approx(np.median(inspected) / 1e3, abs=0.002)
        assert row["share"] == pytest.approx(row["time_us"] * 1e3 / whole_ns, abs=1e-4)


def test_a_delegated_model_shows_what_goes_on_inside_its_call(traced: dict[str, Traced]) -> None:
    found = operators.summary(traced["xnnpack"].run)
    kinds = Counter(row["kind"] for row in found["operators"])
    inside = [row["name"] for row in found["operators"] if row["kind"] == "inside delegate"]
    assert kinds["delegate call"] == 1 and kinds["operator"] == 0
    assert any("Convolution" in name or "IGEMM" in name for name in inside) and len(inside) >= 3
    assert 0 < found["coverage"] <= 1


def test_an_undelegated_model_shows_its_operators(traced: dict[str, Traced]) -> None:
    found = operators.summary(traced["portable"].run)
    calls = {row["name"]: (row["kind"], row["calls"]) for row in found["operators"]}
    assert calls["convolution.out"] == ("operator", 2) and calls["relu.out"] == ("operator", 2)
    assert {kind for kind, _ in calls.values()} == {"operator"}
    assert 0 < found["coverage"] <= 1


@pytest.mark.parametrize("runtime", ["torchscript", "null"])
def test_a_runtime_that_cannot_trace_says_so(run: Runner, models: Models, tmp_path: Path, runtime: str) -> None:  # noqa: F811
    model = models.file("cnn.ptl" if runtime == "torchscript" else "nothing")
    given = ("--purpose", "profile", "--model", model, *models.inputs["cnn"], "--outputs", tmp_path)
    answer = run(runtime, *given)
    assert answer.returncode == 2
    error = answer.one("error")
    assert error["class"] == "profile" and "has no profile" in error["message"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("purpose", ["latency", "memory", "check", "load"])
def test_no_other_purpose_traces(run: Runner, models: Models, tmp_path: Path, purpose: str) -> None:  # noqa: F811
    brief = ("--min-seconds", "0.01", "--max-warmup-seconds", "0.6")
    given = ("--purpose", purpose, "--model", models.file("cnn.xnnpack.pte"), *models.inputs["cnn"], *brief)
    answer = run("executorch", *given, "--outputs", tmp_path)
    assert answer.returncode == 0 and not answer.all("profile")
    assert not [path for path in tmp_path.iterdir() if "etdump" in path.name]


def test_a_folder_that_cannot_be_written_is_told(run: Runner, models: Models, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "file").write_text("")
    given = ("--purpose", "profile", "--model", models.file("cnn.xnnpack.pte"), *models.inputs["cnn"])
    answer = run("executorch", *given, "--outputs", tmp_path / "file")
    assert (answer.returncode, answer.one("error")["class"], answer.one("error")["stage"]) == (4, "io", "outputs")


# -- the summary ---------------------------------------------------------------------------------------------------


def test_time_is_told_by_operator_by_call_and_inside_the_call() -> None:
    run_ = profiled(written([BLOCK, later(BLOCK, 1000), later(BLOCK, 2000)]))
    found = operators.summary(run_)
    rows = {(row["kind"], row["name"]): (row["time_us"], row["calls"]) for row in found["operators"]}
    assert rows == {
        ("operator", "cumsum.out"): (0.11, 2),  # the outer kernel's name, and the time of the call around it
        ("operator", "MOVE_CALL"): (0.01, 1),
        ("delegate call", "delegate call 1"): (0.1, 1),
        ("delegate call", "delegate call 2"): (0.07, 1),
        ("inside delegate", "Conv #1, call 1"): (0.06, 1),
        ("inside delegate", "Conv #1, call 2"): (0.03, 1),
        ("inside delegate", "Conv #2, call 2"): (0.02, 1),
    }
    assert [row["time_us"] for row in found["operators"]] == sorted((t for t, _ in rows.values()), reverse=True)
    assert found["operators"][0]["share"] == pytest.approx(110 / 310)
    assert found["coverage"] == pytest.approx((110 + 10 + 100 + 70) / 310)  # what is inside a call is not added again
    assert (found["traced_ms"], found["untraced_ms"], found["iterations"]) == (0.003, 0.001, 3)


def test_the_only_delegate_call_needs_no_number() -> None:
    found = operators.summary(profiled(written([[*BLOCK[4:6], BLOCK[-1]]]), traced=[1]))
    assert {row["name"] for row in found["operators"]} == {"delegate call 1", "Conv #1"}


def test_times_are_medians_and_an_operator_that_did_not_run_took_no_time() -> None:
    slow = [(name, i, inside, 10 * start, 10 * end) for name, i, inside, start, end in BLOCK]
    without = [told for told in BLOCK if told[0] != "MOVE_CALL"]
    found = operators.summary(profiled(written([BLOCK, slow, without])))
    rows = {row["name"]: row for row in found["operators"]}
    assert rows["cumsum.out"]["time_us"] == pytest.approx(0.11)
    assert rows["MOVE_CALL"]["time_us"] == pytest.approx(0.01) and rows["MOVE_CALL"]["calls"] == 1
    only = operators.summary(profiled(written([without, without, BLOCK])))
    assert {row["name"]: row["calls"] for row in only["operators"]}["MOVE_CALL"] == 0


def test_a_block_that_is_no_execution_does_not_count() -> None:
    loading: list[Told] = [("Program::load_method", -1, False, 0, 50)]
    assert operators.summary(profiled(written([loading, BLOCK, BLOCK, BLOCK])))["iterations"] == 3


@pytest.mark.parametrize("blocks", [[], [[]], [BLOCK, BLOCK]], ids=["none", "empty", "one too few"])
def test_not_as_many_executions_as_were_told_is_refused(blocks: list[list[Told]]) -> None:
    with pytest.raises(RunnerError, match="executions"):
        operators.summary(profiled(written(blocks)))


def test_a_long_tail_of_operators_is_cut_and_counted() -> None:
    block: list[Told] = [(f"node {n}", 0, True, n, 2 * n) for n in range(operators.MOST_OPERATORS + 7)]
    found = operators.summary(profiled(written([[*block, BLOCK[-1]]]), traced=(1,)))
    assert (len(found["operators"]), found["left_out"]) == (operators.MOST_OPERATORS, 7)
    assert found["operators"][-1]["name"] == "node 7"  # the shortest were left out


# -- damaged files -------------------------------------------------------------------------------------------------


def harmless(content: bytes, told: int) -> None:
    """Read, or refused: nothing else. What is read can be stored as JSON."""
    try:
        found = operators.summary(profiled(content, traced=[1] * told))
        json.dumps(found, allow_nan=False)
        assert all(row["time_us"] >= 0 and row["name"].isprintable() for row in found["operators"])
        assert math.isfinite(found["coverage"])
    except RunnerError:
        pass


def test_a_file_that_is_cut_off_is_refused(traced: dict[str, Traced]) -> None:
    content = traced["xnnpack"].content
    for size in [*range(64), *range(64, len(content), 997), len(content) - 1]:
        with pytest.raises(RunnerError):
            etdump.read(content[:size])
        harmless(struct.pack("<I", max(0, size - 4)) + content[4:size], 20)  # its length put right


@pytest.mark.parametrize("seed", range(8))
def test_damaged_files_are_read_or_refused(seed: int) -> None:
    chance = random.Random(seed)
    good = written([BLOCK, later(BLOCK, 1000), later(BLOCK, 2000)])
    for _ in range(250):
        content = bytearray(good)
        for _ in range(chance.choice((1, 1, 2, 8, 40))):
            at = chance.randrange(4, len(content))
            content[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        harmless(bytes(content), 3)


def test_random_bytes_are_refused() -> None:
    chance = random.Random(0)
    for _ in range(300):
        body = b"".join((struct.pack("<I", chance.randrange(40)), b"ED00", chance.randbytes(chance.randrange(400))))
        content = struct.pack("<I", len(body)) + body
        harmless(content, 1)
        with pytest.raises(RunnerError):
            etdump.read(chance.randbytes(chance.randrange(400)))


def table(*fields: bytes) -> bytes:
    """A vtable and its table: fields of 4 bytes each, an empty one absent. The table begins at `4 + 2 * len`."""
    offsets, body = [], b""
    for value in fields:
        offsets.append(4 + len(body) if value else 0)
        body += value
    vtable = struct.pack(f"<HH{len(fields)}H", 4 + 2 * len(fields), 4 + len(body), *offsets)
    return vtable + struct.pack("<i", len(vtable)) + body


def multiplied(runs: int, events: int) -> bytes:
    """A small file whose lists name the same block, and the same event, again and again."""
    content = bytearray(b"\0" * 12)  # length, root, identifier

    def put(part: bytes) -> int:
        content.extend(part)
        return len(content) - len(part)

    def vector(count: int) -> int:
        return put(struct.pack("<I", count) + b"\0" * 4 * count)

    dump = put(table(b"", b"\1" * 4)) + 8
    run_list = vector(runs)
    block = put(table(b"", b"", b"", b"\1" * 4)) + 12
    event_list = vector(events)
    event = put(table(b"\1" * 4)) + 6
    profile = put(table(b"\1" * 4)) + 6
    name = put(struct.pack("<I", 4) + b"name")

    def point(at: int, to: int) -> None:
        struct.pack_into("<I", content, at, to - at)

    point(4, dump), point(dump + 4, run_list), point(block + 4, event_list)
    point(event + 4, profile), point(profile + 4, name)
    for index in range(runs):
        point(run_list + 4 + 4 * index, block)
    for index in range(events):
        point(event_list + 4 + 4 * index, event)
    struct.pack_into("<I", content, 0, len(content) - 4)
    content[8:12] = b"ED00"
    return bytes(content)


def test_a_small_file_does_not_become_a_large_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [len(block) for block in etdump.read(multiplied(3, 5))] == [5, 5, 5]
    monkeypatch.setattr(etdump, "MAX_EVENTS", 100)
    with pytest.raises(RunnerError, match="more than 100 events"):
        etdump.read(multiplied(51, 2))
    with pytest.raises(RunnerError, match="too many blocks"):
        etdump.read(multiplied(101, 0))


@pytest.mark.parametrize(
    ("told", "says"),
    [(("a", 0, False, 5, 4), "goes from"), (("a", 0, False, 0, etdump.LONGEST_NS + 1), "goes from")],
    ids=["ends before it starts", "longer than a day"],
)
def test_impossible_times_are_refused(told: Told, says: str) -> None:
    with pytest.raises(RunnerError, match=says):
        etdump.read(written([[told]]))


def test_names_are_bounded_and_printable() -> None:
    ((event, other),) = etdump.read(written([[("x" * 5000, 0, False, 0, 1), ("a\x1b[2J\u202eb", 0, True, 0, 1)]]))
    assert event.name == "x" * etdump.MAX_NAME
    assert other.name == "a\ufffd[2J\ufffdb"


# -- fetching ------------------------------------------------------------------------------------------------------


class Folder:
    """A depot whose device is a folder here."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.pulled = folder, 0

    def run_dir(self, _: str) -> str:
        return str(self.folder)

    @property
    def transport(self) -> Folder:
        return self

    def pull(self, remote: str, local: Path) -> None:
        self.pulled += 1
        shutil.copyfile(remote, local)


@pytest.fixture
def device(tmp_path: Path) -> Folder:
    (tmp_path / "device" / "out").mkdir(parents=True)
    (tmp_path / "device" / "out" / "profile.etdump").write_bytes(b"trace")
    (tmp_path / "scratch").mkdir()
    return Folder(tmp_path / "device")


def line(**more: Any) -> dict[str, Any]:
    sha = hashlib.sha256(b"trace").hexdigest()
    good = {"type": "profile", "file": "profile.etdump", "bytes": 5, "sha256": sha, "iterations": 2}
    return good | {"traced_ns": [3, 4], "untraced_ns": [1, 2]} | more


def test_a_profile_is_fetched_whole(device: Folder, tmp_path: Path) -> None:
    told = Lines(lines=(line(file="../../../etc/passwd"),))  # its name is ours, never the device's
    arrays = fetching.collect(device, "r", told, tmp_path / "scratch")
    assert arrays["etdump"].dtype == np.uint8 and arrays["etdump"].tobytes() == b"trace"
    assert arrays["traced_ns"].tolist() == [3, 4] and arrays["untraced_ns"].tolist() == [1, 2]
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == ["profile.etdump"]


@pytest.mark.parametrize(
    ("more", "pulls"),
    [
        ({"bytes": 6}, 1),
        ({"sha256": "0" * 64}, 1),
        ({"sha256": None}, 1),
        ({"bytes": fetching.MAX_BYTES + 1}, 0),
        ({"bytes": 0}, 0),
        ({"bytes": True}, 0),
        ({"bytes": "5"}, 0),
        ({"traced_ns": []}, 0),
        ({"traced_ns": [1] * (fetching.MAX_ITERATIONS + 1)}, 0),
        ({"traced_ns": [1.5]}, 0),
        ({"untraced_ns": [-1]}, 0),
        ({"untraced_ns": [1 << 70]}, 0),
        ({"untraced_ns": None}, 0),
        ({"type": "output"}, 0),
    ],
    ids=str,
)
def test_a_profile_that_is_not_as_told_is_refused(
    device: Folder, tmp_path: Path, more: dict[str, Any], pulls: int
) -> None:
    with pytest.raises(RunnerError, match="profile"):
        fetching.collect(device, "r", Lines(lines=(line(**more),)), tmp_path / "scratch")
    assert device.pulled == pulls


# -- the trace file ------------------------------------------------------------------------------------------------


def slices(text: str) -> list[dict[str, Any]]:
    document = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert set(document) == {"displayTimeUnit", "otherData", "traceEvents"}
    assert {event["ph"] for event in document["traceEvents"]} == {"M", "X"}
    return [event for event in document["traceEvents"] if event["ph"] == "X"]


def nested(found: list[dict[str, Any]]) -> bool:
    """Each slice lies within the one that it begins in, as a viewer needs it of one track."""
    ends: list[int] = []
    for event in sorted(found, key=lambda e: (e["ts"], -e["dur"])):
        start, end = round(event["ts"] * 1000), round((event["ts"] + event["dur"]) * 1000)
        while ends and ends[-1] <= start:
            ends.pop()
        if ends and end > ends[-1]:
            return False
        ends.append(end)
    return True


@BACKENDS
def test_the_trace_is_one_that_a_viewer_can_nest(traced: dict[str, Traced], backend: str) -> None:
    blocks = operators.executions(traced[backend].run)
    found = slices(chrome_trace.trace(blocks, {"title": "cnn"}))
    for event in found:
        assert set(event) == {"ph", "name", "cat", "ts", "dur", "pid", "tid", "args"}
        assert isinstance(event["ts"], float) and event["dur"] >= 0
    tracks = {event["tid"] for event in found}
    assert all(nested([event for event in found if event["tid"] == track]) for track in tracks)
    assert len(tracks) == (2 if backend == "xnnpack" else 1)
    wholes = [event for event in found if event["cat"] == "execution"]
    assert len(wholes) == 20 and wholes[0]["ts"] == 0.0
    rows = operators.summary(traced[backend].run)["operators"]
    assert {row["name"] for row in rows} == {event["name"] for event in found} - {"Method::execute"}


def test_what_is_not_nested_is_noticed() -> None:
    assert nested([{"ts": 0.0, "dur": 5.0}, {"ts": 1.0, "dur": 2.0}, {"ts": 3.0, "dur": 2.0}, {"ts": 5.0, "dur": 1.0}])
    assert not nested([{"ts": 0.0, "dur": 5.0}, {"ts": 3.0, "dur": 3.0}])


def test_a_long_trace_keeps_whole_executions(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = etdump.read(written([later(BLOCK, 1000 * k) for k in range(5)]))
    monkeypatch.setattr(chrome_trace, "MOST_SLICES", 30)
    text = chrome_trace.trace(blocks, {})
    assert json.loads(text)["otherData"]["executions"] == "3 of 5"
    assert {event["args"]["execution"] for event in slices(text)} == {0, 1, 2}
    monkeypatch.setattr(chrome_trace, "MOST_SLICES", 1)
    assert {event["args"]["execution"] for event in slices(chrome_trace.trace(blocks, {}))} == {0}


def test_texts_from_outside_do_no_harm_in_a_trace() -> None:
    text = chrome_trace.trace(etdump.read(written([BLOCK])), {"title": "a\x1b\u202e" + "b" * 9000, "x\n": "\ud800"})
    assert text.isascii() and len(text) < 10_000
    said = json.loads(text)["otherData"]
    assert all(part.isprintable() for pair in said.items() for part in pair) and said["title"].startswith("a\\x1b")


def result(**more: Any) -> dict[str, Any]:
    base = {"variant": "fp32", "seed": 0, "exporter": "executorch", "device": "local", "input": "default"}
    return base | {"threads": 1, "cpus": "any"} | more


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([result()], ["fp32-executorch-local"]),
        ([result(device="adb+tcp://3f9a01c2")], ["fp32-executorch-adb-tcp-3f9a01c2"]),
        ([result(device="../../../etc/x")], ["fp32-executorch-..-..-..-etc-x"]),
        ([result(variant="..", exporter=".", device="/")], ["profile"]),
        ([result(device="a b"), result(device="a/b")], ["fp32-executorch-a-b", "fp32-executorch-a-b-2"]),
        ([result(), result(threads=2)], ["fp32-executorch-local-threads1", "fp32-executorch-local-threads2"]),
        ([result(seed=1), result(seed=2)], ["fp32-executorch-local-seed1", "fp32-executorch-local-seed2"]),
    ],
)
def test_file_names_tell_results_apart_and_stay_in_their_folder(
    tmp_path: Path, results: list[dict[str, Any]], expected: list[str]
) -> None:
    paths = list(profiling._names(tmp_path, results))
    assert [path.name for path in paths] == [f"{name}.json" for name in expected]
    assert all(path.parent == tmp_path and path.resolve().parent == tmp_path.resolve() for path in paths)


# -- the commands --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["xnnpack.pte", "ptl"])
def test_measure_with_a_profile(
    models: Models,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    suffix: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"cnn.{suffix}").write_bytes(models.file(f"cnn.{suffix}").read_bytes())
    with pytest.raises(SystemExit) as ended:
        given = ("--input", "1,1,8,8", "--repeats", "1", "--store", f"sqlite:///{tmp_path}/x.db")
        main(["measure", f"cnn.{suffix}", *given, "--profile", "--json"])
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert (ended.value.code, document["status"]) == (0, "ok")  # no profile is no reason to fail
    files = list((tmp_path / "reports").rglob("*.json"))
    if suffix == "ptl":
        assert document["operators"] == {"absent": "torchscript has no profile"} and not files
        return
    assert document["operators"][0]["kind"] == "delegate call"
    assert document["profile"].keys() == {"traced_ms", "untraced_ms", "coverage"}
    assert [path.name for path in files] == ["cnn.xnnpack-executorch-local.json"] and files[0].name in captured.err
    assert len(slices(files[0].read_text())) >= 20 * 4
