"""`init`: a commented experiment to start from."""

from __future__ import annotations

import re
from pathlib import Path

from harness.commands.common import emit
from harness.errors import UsageError
from harness.experiment import FACTORY

TEMPLATE = """\
# One experiment: what to build, where to measure it, what to choose by.   harness run {file}
name: {name}

model:
  factory: "{model}"          # module:callable that returns the model; this folder is searched first
  weights: null               # a state dict (.pt, .safetensors) relative to this file, if the callable does not load it
  example_inputs: {{shape: {shape}}}
{data}
variants:
  - {{name: fp32}}              # the reference
  - {{name: int8, steps: [{{quantize_pt2e: {{scheme: static}}}}]}}
  - {{name: int8-dynamic, steps: [{{quantize_pt2e: {{scheme: dynamic}}}}]}}
  - {{name: lowrank, steps: [{{low_rank: {{}}}}]}}
{trained}
export: [executorch, torchscript_lite]   # .pte (XNNPACK) and .ptl; a pair that cannot exist is a skipped row
devices: [local]                         # this computer

measure:
  threads: [1]
  repeats: 5                  # fresh processes, in random blocks over the variants
  min_seconds: 2
  accuracy_samples: 500       # or all

objectives: [latency_ms, peak_memory_bytes, size_bytes{accuracy}]
pick: {{minimize: latency_ms{where}}}
# budgets: {{latency_ms.p95: 40}}         # what `harness gate` holds the pick to, in the metric's unit
"""

TRAINED = """\
  - {name: slim50, steps: [{prune_channels: {ratio: 0.5}}, {finetune: {epochs: 2}}]}
  - {name: slim50-int8, steps: [{prune_channels: {ratio: 0.5}}, {finetune: {epochs: 2}}, {quantize_pt2e: {}}]}
"""

UNTRAINED = """\
  - {name: lowrank-int8, steps: [{low_rank: {}}, {quantize_pt2e: {}}]}
  - {name: slim25, steps: [{prune_channels: {ratio: 0.25}}]}   # add data and {finetune: {}} behind it for its accuracy
"""


def init(model: str | None, data: str | None, out: Path, json_out: bool) -> int:
    for given in (model, data):
        if given is not None and not re.fullmatch(FACTORY, given):
            raise UsageError(f"{given!r} is not module:callable", "for example my_models:net")
    demo = model is None
    if demo:
        model, data = "harness.models:mnist_cnn", "harness.models:mnist_5k"
    has_data = data is not None
    text = TEMPLATE.format(
        file=out,
        name="mnist-cnn" if demo else re.sub(r"[^A-Za-z0-9-]", "-", str(model).partition(":")[2]).strip("-") or "model",
        model=model,
        shape="[1, 1, 28, 28]" if demo else "[1, 3, 224, 224]   # of one call, batch included: make it your model's",
        data=f'\ndata: {{factory: "{data}", metric: accuracy}}   # mapping of train, calibration, validation, test\n'
        if has_data
        else '\n# data: {factory: "module:callable", metric: accuracy}   # without data: latency only, no accuracy\n',
        trained=TRAINED if has_data else UNTRAINED,
        accuracy=", accuracy" if has_data else "",
        where=', where: ["accuracy_drop <= 0.01"]' if has_data else "",
    )
    text = (
        text.replace("make it your model's}", "make it your model's").replace("# of one call", "}   # of one call", 1)
        if not demo
        else text
    )
    try:
        with out.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError as error:
        raise UsageError(f"{out} exists", "name another with -o, or remove it") from error
    except OSError as error:
        raise UsageError(f"{out}: {error.strerror}", "name a writable place with -o") from error
    if json_out:
        emit({"schema": 1, "file": str(out)})
    else:
        print(f"{out} is written; next: harness run {out}")
    return 0
