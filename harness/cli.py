"""The command line: arguments in, exit code out. Every command's work is in `harness/commands/`."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from harness import cli_exchange, cli_releases
from harness.cli_options import (
    DebugOption,
    DeviceOption,
    DevicesOption,
    ExperimentOption,
    IdentifyOption,
    JsonOption,
    LabelOption,
    StoreOption,
    VariantOption,
)
from harness.errors import HarnessError

app = typer.Typer(
    name="harness",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: importing rich would be a third of the start-up time
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Which compressed variant of a PyTorch model to ship: build them, measure them on the real device, choose.",
)
runners_app = typer.Typer(no_args_is_help=True, help="The native runners: build, carry to another host, list.")
app.add_typer(runners_app, name="runners")

@app.callback()
def _callback(
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    if version:
        from harness import __version__

        print(__version__)
        raise typer.Exit


@app.command(epilog="Example: harness init my_models:net my_models:data")
def init(
    model: Annotated[str | None, typer.Argument(help="module:callable that returns the model.")] = None,
    data: Annotated[str | None, typer.Argument(help="module:callable that returns the data.")] = None,
    out: Annotated[Path, typer.Option("-o", help="The file to write.")] = Path("experiment.yaml"),
    store: StoreOption = None,
    identify: IdentifyOption = False,
    json_out: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a commented experiment with six usual variants."""
    from harness.commands.init import init as work

    raise typer.Exit(work(model, data, out, json_out))


@app.command(epilog="Example: harness run configs/demo.yaml --device local --label auto")
def run(
    source: Annotated[
        Path, typer.Argument(metavar="CONFIG|DIR", help="An experiment file, or a package that build -o made.")
    ],
    device: DeviceOption = None,
    devices: DevicesOption = None,
    variant: VariantOption = None,
    label: Annotated[str | None, typer.Option("--label", help="A release's name; auto: git describe.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin a new session even where one is unfinished.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="One repeat, no energy; never in pick, gate or history.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    max_minutes: Annotated[
        float | None, typer.Option("--max-minutes", min=0.0, help="Stop measuring after this; run again to go on.")
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Trace each operator's time too, in a run of its own, to a file.")
    ] = False,
    store: StoreOption = None,
    identify: IdentifyOption = False,
    json_out: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Build every variant, measure it on the devices, and say which to ship."""
    from harness.commands.running import run as work

    raise typer.Exit(
        work(
            *(source, device or [], devices, variant or [], label, fresh, quick, dry_run, max_minutes),
            *(store, identify, json_out, profile),
        )
    )


@app.command(epilog="Example: harness build configs/demo.yaml -o package/ && harness run package/")
def build(
    source: Annotated[Path, typer.Argument(metavar="CONFIG", help="An experiment file.")],
    out: Annotated[
        Path | None, typer.Option("-o", metavar="DIR", help="Write a package that measures without torch.")
    ] = None,
    variant: VariantOption = None,
    store: StoreOption = None,
    identify: IdentifyOption = False,
    json_out: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Compress and export every variant."""
    from harness.commands.running import build as work

    raise typer.Exit(work(source, out, variant or [], store, json_out))


@app.command(epilog="Example: harness sensitivity configs/demo.yaml --variant slim50")
def sensitivity(
    source: Annotated[Path, typer.Argument(metavar="CONFIG", help="An experiment file.")],
    variant: Annotated[
        str | None, typer.Option("--variant", help="Of this variant's model; default the reference's.")
    ] = None,
    store: StoreOption = None,
    identify: IdentifyOption = False,
    json_out: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Layer by layer: what int8, pruning and a lower rank would cost. Reads calibration and validation data."""
    from harness.commands.sensitivity import sensitivity as work

    raise typer.Exit(work(source, variant, store, json_out))


@app.command(epilog="Example: harness measure model.ptl --input 1,3,224,224:float32 --threads 2")
def measure(
    file: Annotated[Path, typer.Argument(help="A .pte or .ptl file made anywhere.")],
    device: DeviceOption = None,
    devices: DevicesOption = None,
    input_: Annotated[
        list[str] | None, typer.Option("--input", metavar="SHAPE[:DTYPE]", help="One input (again for more).")
    ] = None,
    inputs: Annotated[
        Path | None, typer.Option("--inputs", metavar="X.npz", help="The inputs' values, in order.")
    ] = None,
    expect: Annotated[
        Path | None, typer.Option("--expect", metavar="Y.npz", help="The outputs that are right.")
    ] = None,
    threads: Annotated[int, typer.Option("--threads", min=1)] = 1,
    repeats: Annotated[int, typer.Option("--repeats", min=1, max=1000)] = 5,
    profile: Annotated[
        bool, typer.Option("--profile", help="Trace each operator's time too, in a run of its own, to a file.")
    ] = False,
    store: StoreOption = None,
    identify: IdentifyOption = False,
    json_out: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure one finished file."""
    from harness.commands.running import measure as work

    raise typer.Exit(
        work(
            *(file, device or [], devices, input_ or [], inputs, expect, threads, repeats),
            *(store, identify, json_out, profile),
        )
    )


@app.command(epilog="Example: harness devices --json")
def devices(
    device: Annotated[list[str] | None, typer.Option("--device", help="Look at this device too.")] = None,
    devices: DevicesOption = None,
    store: StoreOption = None,
    identify: IdentifyOption = False,
    json_out: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """What is in reach, in which state, and what to do where something is not ready."""
    from harness.commands.looking import devices as work

    raise typer.Exit(work(device or [], devices, json_out))


@app.command(epilog="Example: harness doctor")
def doctor(
    devices: DevicesOption = None,
    store: StoreOption = None,
    identify: IdentifyOption = False,
    json_out: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Check toolchain, libraries, store and devices, with a remedy for each gap."""
    from harness.commands.looking import doctor as work

    raise typer.Exit(work(store, devices, json_out))


@app.command(epilog="Example: harness report --experiment mnist-cnn -o page.html")
def report(
    experiment: ExperimentOption = None,
    label: LabelOption = None,
    out: Annotated[Path | None, typer.Option("-o", metavar="FILE", help="Default reports/NAME.html.")] = None,
    store: StoreOption = None,
    identify: IdentifyOption = False,
    json_out: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write one self-contained offline HTML page of the latest session."""
    from harness.commands.reporting import report as work

    raise typer.Exit(work(experiment, label, out, store, identify, json_out))


@app.command(epilog='Example: harness pick --minimize size_bytes --where "accuracy_drop <= 0.01" -o ship/')
def pick(
    minimize: Annotated[
        str | None, typer.Option("--minimize", metavar="METRIC", help="Replaces the experiment's.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="CONSTRAINT", help="Replaces the experiment's (again for more)."),
    ] = None,
    device: Annotated[list[str] | None, typer.Option("--device", help="Only results of this device.")] = None,
    experiment: ExperimentOption = None,
    label: LabelOption = None,
    out: Annotated[
        Path | None, typer.Option("-o", metavar="DIR", help="Copy artifact, manifest and model card there.")
    ] = None,
    measure_more: Annotated[
        bool, typer.Option("--measure-more", help="Where it is not sure, measure what would settle it.")
    ] = False,
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0.0, help="For --measure-more; default 10.")
    ] = None,
    store: StoreOption = None,
    identify: IdentifyOption = False,
    json_out: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """The variant to ship, the runner-up, how sure, and which constraint binds."""
    from harness.commands.reporting import pick as work

    asked = (minimize, where, device or [], experiment, label, out, store, identify, json_out)
    raise typer.Exit(work(*asked, measure_more=measure_more, minutes=minutes))


@app.command(epilog="Example: harness runs --json")
def runs(
    store: StoreOption = None,
    identify: IdentifyOption = False,
    json_out: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """List the stored sessions, newest first."""
    from harness.commands.reporting import runs as work

    raise typer.Exit(work(store, json_out))


cli_releases.register(app)
cli_exchange.register(app)


@runners_app.command("build", epilog="Example: harness runners build -o executorch.tar.xz --runtime executorch")
def runners_build(
    runtime: Annotated[
        list[str] | None, typer.Option("--runtime", help="executorch, torchscript or null; default all.")
    ] = None,
    target: Annotated[str | None, typer.Option("--target", help="Default this computer.")] = None,
    out: Annotated[
        Path | None, typer.Option("-o", metavar="FILE", help="Pack the bundle (one runtime) to carry it.")
    ] = None,
    store: StoreOption = None,
    identify: IdentifyOption = False,
    json_out: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Build the runners, as far as they are not built yet."""
    from harness.commands.looking import runners_build as work

    raise typer.Exit(work(runtime or [], target, out, json_out))


@runners_app.command("add", epilog="Example: harness runners add executorch.tar.xz")
def runners_add(
    file: Annotated[Path, typer.Argument(help="What runners build -o made.")],
    store: StoreOption = None,
    identify: IdentifyOption = False,
    json_out: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Use a bundle that was built on another host."""
    from harness.commands.looking import runners_add as work

    raise typer.Exit(work(file, json_out))


@runners_app.command("list", epilog="Example: harness runners list")
def runners_list(
    store: StoreOption = None,
    identify: IdentifyOption = False,
    json_out: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """List the bundles that are there."""
    from harness.commands.looking import runners_list as work

    raise typer.Exit(work(json_out))


INTERRUPTED = 130
GO_ON = "harness: interrupted; what was measured is stored, run again to go on"
#: what typer raises for wrong arguments; its click may be its own copy, so the class is found by name
_BadArguments: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def main(arguments: list[str] | None = None) -> None:
    """The console script. Expected failures are one message and their exit code; never a traceback."""
    arguments = sys.argv[1:] if arguments is None else arguments
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(_guarded(arguments))


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _guarded(arguments: list[str]) -> int:
    try:
        code = int(app(arguments, prog_name="harness", standalone_mode=False) or 0)
        if code == INTERRUPTED:  # typer makes this of a KeyboardInterrupt
            print(GO_ON, file=sys.stderr)
        return code
    except _BadArguments as error:
        error.show()
        return 2
    except HarnessError as error:
        from harness.commands.common import explain

        if "--debug" in arguments:
            traceback.print_exc()
        explain(error)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        print(GO_ON, file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader went away; nothing more can be said
        return 141  # as a shell calls it; never 0, for the answer was not told
    except OSError as error:
        if "--debug" in arguments:
            traceback.print_exc()
        place = f"{error.filename}: " if error.filename else ""
        print(f"error: {place}{error.strerror or error}", file=sys.stderr)
        return 3


if __name__ == "__main__":
    main()
