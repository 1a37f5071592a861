"""The command line of other tools: export-runs, import-runs, store copy, export-mlflow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli_options import (
    AnyExperimentOption,
    DebugOption,
    ExperimentOption,
    IdentifyOption,
    JsonOption,
    LabelOption,
    StoreOption,
    known_labels,
)

AnyLabelOption = Annotated[
    str | None, typer.Option("--label", help="Only this label's; default all.", autocompletion=known_labels)
]


def register(app: typer.Typer) -> None:
    """Puts the commands beside those of `cli.py`."""
    app.command("export-runs", epilog="Example: harness export-runs --format parquet -o runs.parquet")(export_runs)
    app.command("import-runs", epilog="Example: harness import-runs runs.parquet --store sqlite:///all.db")(import_runs)
    app.command("export-mlflow", epilog="Example: harness export-mlflow --to http://mlflow.example:5000")(export_mlflow)
    store = typer.Typer(no_args_is_help=True, help="The stores themselves.")
    store.command(
        "copy",
        epilog="Example: harness store copy sqlite:///.harness/harness.db postgresql+psycopg://db.example/harness",
    )(store_copy)
    app.add_typer(store, name="store")


def export_runs(
    out: Annotated[Path, typer.Option("-o", metavar="FILE", help="The file to write.")],
    format_: Annotated[
        str | None,
        typer.Option(
            "--format", help="csv, parquet or json; default by the file's name.",
            autocompletion=lambda: ["csv", "json", "parquet"],
        ),
    ] = None,
    samples: Annotated[
        bool, typer.Option("--samples/--no-samples", help="With the raw samples; an import needs them.")
    ] = True,
    experiment: AnyExperimentOption = None,
    label: AnyLabelOption = None,
    store: StoreOption = None,
    identify: IdentifyOption = False,
    json_out: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Every run as a table row, for other tools and for `import-runs`."""
    from harness.commands.exporting import export_runs as work

    raise typer.Exit(work(out, format_, samples, experiment, label, store, identify, json_out))


def import_runs(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What export-runs wrote, here or elsewhere.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the file, say what is new, and write nothing.")
    ] = False,
    store: StoreOption = None,
    json_out: JsonOption = False,
    identify: IdentifyOption = False,
    debug: DebugOption = False,
) -> None:
    """Take runs out of a file into the store. All of it is checked first; what is there is never overwritten."""
    from harness.commands.importing import import_runs as work

    raise typer.Exit(work(file, dry_run, store, json_out))


def export_mlflow(
    to: Annotated[
        str | None, typer.Option("--to", metavar="URI", help="The tracking server; default MLFLOW_TRACKING_URI.")
    ] = None,
    experiment: ExperimentOption = None,
    label: LabelOption = None,
    files: Annotated[bool, typer.Option("--files/--no-files", help="With the exported model files.")] = True,
    page: Annotated[bool, typer.Option("--page/--no-page", help="With the report's page.")] = True,
    store: StoreOption = None,
    identify: IdentifyOption = False,
    json_out: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """The latest session as MLflow runs, one per result: metrics, parameters, the file, the page."""
    from harness.commands.mlflow import export_mlflow as work

    raise typer.Exit(work(to, experiment, label, files, page, store, identify, json_out))


def store_copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="The URL of a store.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="The URL of another; made where it is not there.")],
    store: StoreOption = None,
    identify: IdentifyOption = False,
    json_out: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Copy every session into another store, unchanged. Run it again to go on, or to bring what is new."""
    from harness.commands.copying import store_copy as work

    raise typer.Exit(work(source, target, json_out))
