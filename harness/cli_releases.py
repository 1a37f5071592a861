"""The command line of releases: compare, gate, baseline, history. `cli.py` puts them beside the others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from harness.cli_options import (
    AnyExperimentOption,
    DebugOption,
    DevicesOption,
    IdentifyOption,
    JsonOption,
    StoreOption,
    VariantOption,
    known_experiments,
    known_labels,
)

Format = Literal["text", "markdown", "json"]

FormatOption = Annotated[Format, typer.Option("--format", help="How the answer is written; --json is --format json.")]
FailOnOption = Annotated[
    Literal["worse", "inconclusive"],
    typer.Option("--fail-on", help="inconclusive: exit 1 too where a difference could not be ruled out."),
]
AllowMissingOption = Annotated[
    int, typer.Option("--allow-missing", min=0, help="So many may be missing or incomparable without exit 3.")
]
AcrossOption = Annotated[
    str | None,
    typer.Option("--across", metavar="FACTORS", help="Compare though these differ: os, runner, … (by commas)."),
]
ConfirmOption = Annotated[
    bool, typer.Option("--confirm", help="Measure again, paired, what is worse, before it counts.")
]
AllOption = Annotated[bool, typer.Option("--all", help="List everything, not only what changed.")]
OfDeviceOption = Annotated[
    list[str] | None, typer.Option("--device", help="Only this device (again for more); of files: where to measure.")
]
OnDeviceOption = Annotated[list[str] | None, typer.Option("--device", help="Only this device (again for more).")]
OfExperimentOption = Annotated[
    str | None,
    typer.Option(
        "--experiment", help="The experiment; default that of the newest session.", autocompletion=known_experiments
    ),
]


def register(app: typer.Typer) -> None:
    """Puts the commands beside those of `cli.py`."""
    app.command(epilog="Example: harness compare v1.4 v1.5 --format markdown")(compare)
    app.command(epilog="Example: harness gate experiment.yaml --label auto --confirm")(gate)
    app.command(epilog="Example: harness history --metric latency_ms --device local")(history)
    baseline = typer.Typer(no_args_is_help=True, help="The label that an experiment's releases are compared with.")
    baseline.command("set", epilog="Example: harness baseline set v1.4")(baseline_set)
    baseline.command("show", epilog="Example: harness baseline show --json")(baseline_show)
    app.add_typer(baseline, name="baseline", epilog="Example: harness baseline set v1.4")


def compare(
    base: Annotated[
        str,
        typer.Argument(metavar="BASE", help="A label, run:ID, or a file.", autocompletion=known_labels),
    ],
    head: Annotated[
        str, typer.Argument(metavar="HEAD", help="What is compared with it.", autocompletion=known_labels)
    ],
    device: OfDeviceOption = None,
    experiment: OfExperimentOption = None,
    confirm: ConfirmOption = False,
    across: AcrossOption = None,
    format_: FormatOption = "text",
    fail_on: FailOnOption = "worse",
    allow_missing: AllowMissingOption = 0,
    every: AllOption = False,
    input_: Annotated[
        list[str] | None, typer.Option("--input", metavar="SHAPE[:DTYPE]", help="Of files: one input (again for more).")
    ] = None,
    inputs: Annotated[
        Path | None, typer.Option("--inputs", metavar="X.npz", help="Of files: the inputs' values, in order.")
    ] = None,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Of files.")] = 1,
    repeats: Annotated[
        int | None, typer.Option("--repeats", min=1, max=1000, help="Pairs of a measurement; default 10.")
    ] = None,
    devices: DevicesOption = None,
    store: StoreOption = None,
    identify: IdentifyOption = False,
    json_out: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Two releases, sessions or files: what got worse, what better, and what cannot be told."""
    from harness.commands.comparing import Asked, Measured
    from harness.commands.comparing import compare as work

    asked = Asked(
        across=across, fail_on=fail_on, allow_missing=allow_missing, confirm=confirm, every=every,
        format="json" if json_out else format_, store=store, identify=identify, devices=tuple(device or ()),
        devices_file=devices, repeats=repeats,
    )  # fmt: skip
    given = Measured(inputs=tuple(input_ or ()), arrays=inputs, threads=threads)
    raise typer.Exit(work(base, head, experiment, given, asked))


def gate(
    source: Annotated[
        Path | None,
        typer.Argument(metavar="[CONFIG|DIR]", help="Measured beside the baseline; else the newest label is judged."),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            "--label", help="Of what is measured (auto: git describe), or which stored label to judge.",
            autocompletion=known_labels,
        ),
    ] = None,
    device: Annotated[
        list[str] | None, typer.Option("--device", help="A device (again for more); replaces the experiment's list.")
    ] = None,
    variant: VariantOption = None,
    experiment: OfExperimentOption = None,
    confirm: ConfirmOption = False,
    across: AcrossOption = None,
    format_: FormatOption = "text",
    fail_on: FailOnOption = "worse",
    allow_missing: AllowMissingOption = 0,
    every: AllOption = False,
    repeats: Annotated[
        int | None, typer.Option("--repeats", min=1, max=1000, help="Pairs; default 10, or the experiment's if more.")
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option("--max-minutes", min=0.0, help="Stop measuring after this; run again to go on.")
    ] = None,
    devices: DevicesOption = None,
    store: StoreOption = None,
    identify: IdentifyOption = False,
    json_out: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """The one command for CI: the baseline beside what is new, the budgets, and the history."""
    from harness.commands.comparing import Asked
    from harness.commands.gating import gate as work

    asked = Asked(
        across=across, fail_on=fail_on, allow_missing=allow_missing, confirm=confirm, every=every,
        format="json" if json_out else format_, store=store, identify=identify, devices=tuple(device or ()),
        devices_file=devices, repeats=repeats,
    )  # fmt: skip
    raise typer.Exit(work(source, label, tuple(variant or ()), experiment, max_minutes, asked))


def history(
    metric: Annotated[
        list[str] | None, typer.Option("--metric", help="Only this metric (again for more).")
    ] = None,
    device: OnDeviceOption = None,
    variant: VariantOption = None,
    experiment: OfExperimentOption = None,
    confirm: ConfirmOption = False,
    every: AllOption = False,
    format_: FormatOption = "text",
    devices: DevicesOption = None,
    store: StoreOption = None,
    identify: IdentifyOption = False,
    json_out: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Each metric over the releases: since when it is worse or better, and where OS or runner changed."""
    from harness.commands.tracking import history as work

    how = "json" if json_out else format_
    chosen = (metric or [], device or [], variant or [])
    raise typer.Exit(work(*chosen, experiment, confirm, every, how, devices, store, identify))


def baseline_set(
    label: Annotated[str, typer.Argument(metavar="LABEL", help="A stored label.", autocompletion=known_labels)],
    experiment: OfExperimentOption = None,
    store: StoreOption = None,
    identify: IdentifyOption = False,
    json_out: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Compare this experiment's releases with this label from now on."""
    from harness.commands.tracking import set_baseline as work

    raise typer.Exit(work(label, experiment, store, json_out))


def baseline_show(
    experiment: AnyExperimentOption = None,
    store: StoreOption = None,
    identify: IdentifyOption = False,
    json_out: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Which label each experiment's releases are compared with."""
    from harness.commands.tracking import show_baseline as work

    raise typer.Exit(work(experiment, store, json_out))
