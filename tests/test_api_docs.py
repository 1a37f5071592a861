"""The examples of docs/python-api.md: each is run, in their order, and prints what the page says that it prints."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.api_kit import ROOT, python
from tests.conftest import MODEL

PAGE = (ROOT / "docs" / "python-api.md").read_text()
EXPERIMENT = """
name: small
model: {factory: "small_model:net", example_inputs: {shape: [1, 16]}}
variants: [{name: fp32}, {name: fp16, steps: [{quantize_pt2e: {scheme: fp16}}]}]
export: [executorch]
measure: {repeats: 3, min_seconds: 0.05, memory: false}
pick: {minimize: size_bytes}
"""
#: runs each block as a notebook's cell would be run, and tells how each ended
RUN = """
import contextlib, io, json, sys, traceback
names = {"__name__": "__main__"}
for code in json.load(open("blocks.json")):
    out, error = io.StringIO(), None
    with contextlib.redirect_stdout(out):
        try:
            exec(compile(code, "example", "exec"), names)
        except BaseException:
            error = traceback.format_exc()
    print(json.dumps([out.getvalue(), error]), flush=True)
"""


@dataclass(frozen=True)
class Block:
    line: int
    code: str
    shown: str | None


def blocks() -> list[Block]:
    """Every python block, with the text block that follows it at once."""
    found = re.finditer(r"^```python\n(.*?)^```\n(?:```text\n(.*?)^```\n)?", PAGE, re.DOTALL | re.MULTILINE)
    return [Block(PAGE[: match.start()].count("\n") + 1, match[1], match[2]) for match in found]


BLOCKS = blocks()


@pytest.fixture(scope="module")
def ended(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[str, str | None]]:
    """What each block printed, and its traceback if it failed."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "experiment.yaml").write_text(EXPERIMENT)
    (folder / "small_model.py").write_text(MODEL)
    (folder / "devices.yaml").write_text('pi5: {uri: "sim://pi5-fan?seed=1"}\n')
    (folder / "blocks.json").write_text(json.dumps([MAKE, *(block.code for block in BLOCKS)]))
    done = python("-c", RUN, folder=folder, timeout_s=500, HARNESS_CACHE=str(cache))
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) == len(BLOCKS) + 1 and told[0][1] is None, done.stdout + done.stderr
    return {block.line: (out, error) for block, (out, error) in zip(BLOCKS, told[1:], strict=True)}


MAKE = """
import numpy as np, torch
from pathlib import Path
from harness.experiment import Measure
from harness.live import exported
from harness.package import Files
from small_model import Net
x = torch.linspace(-1, 1, 16).reshape(1, 16)
model = Net().eval()
made = exported(model, x, measure=Measure(), device="pi5", files=Files(Path("made"))).builds[0].artifact
Path("model.pte").write_bytes((Path("made") / made.file_name).read_bytes())
np.savez("golden.npz", x=x.numpy(), y=model(x).detach().numpy())
"""


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"line {block.line}")
def test_an_example_runs_and_prints_what_the_page_says(
    block: Block, ended: dict[int, tuple[str, str | None]]
) -> None:
    """The numbers may be others."""
    out, error = ended[block.line]
    assert error is None, error
    if block.shown is None:
        assert out == ""
        return
    said, printed = block.shown.rstrip().splitlines(), [line.rstrip() for line in out.rstrip().splitlines()]
    pattern = "\n".join(map(like, said))
    assert re.fullmatch(pattern, "\n".join(printed)), f"{out}\nis not as\n{block.shown}"


def like(line: str) -> str:
    """A pattern for the line with other numbers (not within names: fp16 stays), other widths, anything for …"""
    parts = re.split(r"((?<![A-Za-z\d])\d[\d.,]*(?:e[+-]?\d+)?|…|\s+)", line)
    return "".join(r"[\d.,e+-]+" if part[:1].isdigit() else _OTHER.get(part[:1], re.escape(part)) for part in parts)


_OTHER = {" ": " +", "…": ".*"}


def test_there_are_examples_of_every_name() -> None:
    code = "".join(block.code for block in BLOCKS)
    for name in ("run", "results", "runs", "latest", "compare", "ondevice", "Undecided", "HarnessError"):
        assert f"harness.{name}" in code, name
