"""`sensitivity`: layer by layer, what int8, pruning and a lower rank cost at the model's output."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import config, pipeline
from harness.commands.common import artifacts_folder, emit, store_url
from harness.errors import UsageError
from harness.metrics import nearest
from harness.report import units
from harness.report.hostile import one_line
from harness.screen import Screen
from harness.settings import Settings

if TYPE_CHECKING:
    from rich.table import Table

TREATMENTS = {"int8": "int8", "prune": "pruned", "low_rank": "low rank"}


def sensitivity(source: Path, variant: str | None, store: str | None, json_out: bool) -> int:
    experiment, _ = config.load(source)
    planned = {v.name: v for v in reversed(experiment.planned_variants)}  # a variant's first seed
    chosen = planned.get(variant or experiment.reference)
    if chosen is None:
        raise UsageError(f"the experiment has no variant {variant!r}", nearest(str(variant), planned))
    settings = Settings(store_url=store_url(store), files=artifacts_folder(store_url(store)))
    with Screen() as screen:
        layers = pipeline.sensitivity(experiment, chosen, settings, screen)
    if json_out:
        emit({"schema": 1, "experiment": experiment.name, "variant": chosen.name, "layers": layers})
        return 0
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    console.print(_table(layers))
    said = "SQNR of the output with that layer alone in int8, half pruned or of half rank: less is more sensitive."
    if _scored(layers):
        said += " Drops are of the validation split, in points."
    console.print(Text(said, style="dim"), soft_wrap=True)
    return 0


def _scored(layers: Sequence[Mapping[str, Any]]) -> bool:
    return any(effect["drop"] is not None for layer in layers for effect in layer["effects"].values())


def _table(layers: Sequence[Mapping[str, Any]]) -> Table:
    """The layers in the order of what int8 costs, the most sensitive first."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    table.add_column("layer", no_wrap=True)
    scored = _scored(layers)
    numeric = ["weights", "MACs"]
    for head in TREATMENTS.values():
        numeric += [f"{head} dB", *(["drop"] if scored else [])]
    for head in numeric:
        table.add_column(head, justify="right")
    for layer in sorted(layers, key=lambda la: la["effects"].get("int8", {"sqnr_db": math.inf})["sqnr_db"]):
        cells = [one_line(layer["name"], 40), units.human("1", layer["parameters"]), units.human("1", layer["macs"])]
        for name in TREATMENTS:
            effect = layer["effects"].get(name)
            cells.append(units.ABSENT if effect is None else f"{effect['sqnr_db']:.1f}")
            if scored:
                drop = None if effect is None else effect["drop"]
                cells.append(units.ABSENT if drop is None else f"{100 * drop:.1f}")
        table.add_row(*(Text(cell) for cell in cells))
    return table
