"""Options that several commands share, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def known_labels(incomplete: str) -> list[str]:
    """For the shell's completion: what is stored and begins so; nothing where there is no store."""
    from harness.commands.sides import stored_names

    return stored_names("label", incomplete)


def known_experiments(incomplete: str) -> list[str]:
    from harness.commands.sides import stored_names

    return stored_names("experiment", incomplete)


StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store", metavar="URL", help="Where results are kept; default HARNESS_STORE, else .harness/harness.db here."
    ),
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
IdentifyOption = Annotated[bool, typer.Option("--identify", help="Keep device addresses and paths in what is written.")]
DeviceOption = Annotated[
    list[str] | None, typer.Option("--device", help="A device (again for more); replaces the experiment's list.")
]
DevicesOption = Annotated[
    Path | None,
    typer.Option("--devices", metavar="FILE", help="Default: devices.yaml beside the experiment, else the user's."),
]
VariantOption = Annotated[list[str] | None, typer.Option("--variant", help="Only this variant (again for more).")]
ExperimentOption = Annotated[
    str | None,
    typer.Option(
        "--experiment", help="The experiment; default the newest session's.", autocompletion=known_experiments
    ),
]
AnyExperimentOption = Annotated[
    str | None,
    typer.Option("--experiment", help="Only this experiment's; default all.", autocompletion=known_experiments),
]
LabelOption = Annotated[
    str | None, typer.Option("--label", help="The label; default the newest session's.", autocompletion=known_labels)
]
