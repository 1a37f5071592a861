"""The Python API: what `import harness` offers. Everything here is also a command; errors are harness.errors'.

`harness/__init__.py` imports this file when the first of its names is used, so that `import harness` stays cheap.
Relative paths are of the working folder, where the store is too (`.harness/harness.db`), as for the commands.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import arguments as given
from harness.answers import CONFIDENCE, Result
from harness.guest import guest, own_errors
from harness.outcome import Outcome

if TYPE_CHECKING:
    import numpy as np
    import pandas
    import torch

    from harness.store import Store

__all__ = ["Outcome", "compare", "latest", "ondevice", "results", "run", "runs"]

@own_errors
def run(
    source: str | Path,
    *,
    devices: str | Sequence[str] = (),
    variants: str | Sequence[str] = (),
    label: str | None = None,
    store: str | None = None,
    devices_file: str | Path | None = None,
    fresh: bool = False,
    quick: bool = False,
    max_minutes: float | None = None,
    profile: bool = False,
    page: str | Path | None = None,
    identify: bool = False,
    quiet: bool = False,
) -> Outcome:
    """`harness run`: builds every variant of an experiment file (or takes a package's folder), measures, writes the
    page (`page`, default reports/NAME.html). Every run is stored at once; called again, it goes on where it was ended.

    `devices`, `variants`: names, in place of the experiment's; one may be given as it is. `label`: the release's name,
    "auto" what git describe says. `store`: a URL. `fresh`: begins a new session even where one is unfinished. `quick`:
    one repeat, decides nothing. `max_minutes`: of measuring. `profile`: traces each operator's time to a file.
    `identify`: with addresses and paths. Progress goes to stderr, in a notebook below the cell; `quiet` shows none.

    Results that failed are in the outcome with their reasons. Raises UsageError for arguments that cannot be used,
    ConfigError for the file, UserCodeError for the model or the data, DeviceError where no device can be used,
    ToolchainError, PackageError, StoreError.

    Example: `harness.run("experiment.yaml", devices="adb://SERIAL", label="1.4").pick`."""
    asked = given.asked_run(
        source, devices=devices, variants=variants, label=label, store=store, devices_file=devices_file, fresh=fresh,
        quick=quick, max_minutes=max_minutes, profile=profile, identify=identify,
    )  # fmt: skip
    where = given.page(page)
    from harness import notebook
    from harness.commands.measuring import measured, paged, traced, work_of
    from harness.executors import Executors, build_processes
    from harness.store import Store

    with guest():
        work = work_of(asked)
        if quiet:
            silent = Executors(builds=functools.partial(build_processes, silent=True))
            work = dataclasses.replace(work, settings=dataclasses.replace(work.settings, executors=silent))
        with notebook.screen(quiet) as screen:
            session = measured(work, screen)
            opened = Store.open(work.settings.store_url)
            try:
                document, _ = paged(opened, session, work.settings, where)
                for path in traced(opened, session, document):
                    screen.say(f"trace: {path}")
            finally:
                opened.close()
        outcome = Outcome(document=document, page=Path(document["report"]).absolute())
        if notebook.in_notebook() and not quiet:
            outcome.show()
    return outcome


@own_errors
def ondevice(
    what: str | Path | torch.nn.Module,
    *,
    device: str = "local",
    inputs: Sequence[Any] | np.ndarray[Any, Any] | torch.Tensor | None = None,
    expect: Any = None,
    backend: str = "xnnpack",
    threads: int = 1,
    repeats: int = 5,
    min_sqnr_db: float | None = None,
    confidence: float = CONFIDENCE,
    store: str | None = None,
    devices_file: str | Path | None = None,
    identify: bool = False,
    quiet: bool = True,
) -> Result:
    """One finished file (.pte, .ptl), or a module that is exported for it, measured on one device.

    `inputs`: tensors or arrays of one call, with the batch dimension; a model and a .ptl need them, a .pte describes
    its own. `expect`: what the device must give on them; a model's default is what the model itself gives, a file's is
    nothing. `min_sqnr_db`: the output check's floor in dB, where that of the precision does not fit. `backend`
    ("xnnpack", "portable") is of a model. `repeats`: processes, one after another. `confidence`: how sure `<` and `>`
    on the result's values must be, 0.5 to 1.

    Raises NotMeasured where the result is not `ok` (a fast wrong answer is no result), UsageError for arguments that
    cannot be used, UserCodeError for a model that cannot be run or exported, DeviceError, ToolchainError, StoreError.

    Example: `harness.ondevice(Net(), inputs=(torch.randn(1, 16),), device="pi5").latency_ms.p95 < 40`."""
    given.text("device", device)
    given.confidence(confidence)
    from harness import notebook
    from harness.commands.measuring import settings
    from harness.devices import catalog
    from harness.devices.spec import resolve
    from harness.single import measured, packaged, usable

    with guest():
        here = Path.cwd()
        spec = resolve(device, catalog.load(given.path("devices_file", devices_file), here))
        own = settings(given.url(store), here, identify=identify, kind="measure", fresh=True)
        with notebook.screen(quiet) as screen:
            package, files = packaged(
                what, spec, own, screen, inputs=inputs, expect=expect, backend=backend, threads=threads,
                repeats=repeats, min_sqnr_db=min_sqnr_db,
            )  # fmt: skip
            return usable(measured(package, files, spec, own, screen, confidence))


@own_errors
def latest(
    experiment: str | None = None, label: str | None = None, *, store: str | None = None, identify: bool = False
) -> Outcome:
    """The newest stored session (of this experiment, of this label), concluded anew from its raw runs; `page` is None.

    Raises UsageError where there is none, with what there is; StoreError.

    Example: `harness.latest("mnist-cnn", "1.4")["int8"].latency_ms`."""
    with _opened(store, experiment, label) as opened:
        identity = opened.latest(experiment, label)
        return Outcome(document=_document(opened, identity, identify), page=None)


@own_errors
def results(
    experiment: str | None = None,
    label: str | None = None,
    *,
    store: str | None = None,
    every: bool = False,
    quick: bool = False,
    identify: bool = False,
) -> pandas.DataFrame:
    """Stored results, one row each, of the newest session that fits; `every`: of all that fit, the newest first.

    Columns: experiment, label, session, date; variant, seed, exporter, backend, input, device, device_id, threads,
    cpus, context; status, reason, caveats, simulated, artifact_sha256; then of each metric, and of each statistic of
    it (`latency_ms`, `latency_ms.p90`, …): the number in the unit that `frame.attrs["units"]` names, `.low` and `.high`
    of its 95 % interval, and `.absent`, the reason where the number is NaN. Only rows of status `ok` are to be ranked.

    `quick`: quick sessions too, which are left out otherwise. Raises UsageError where nothing fits; StoreError.

    Example: `harness.results("mnist-cnn").query("status == 'ok'").set_index("variant")["latency_ms"]`."""
    from harness.frames import results_frame

    with _opened(store, experiment, label) as opened:
        if every:
            found = _fitting(opened, experiment, label, quick)
        else:
            found = [opened.latest(experiment, label, None if quick else False)]
        return results_frame([_document(opened, identity, identify) for identity in found])


@own_errors
def runs(
    experiment: str | None = None, label: str | None = None, *, store: str | None = None, identify: bool = False
) -> pandas.DataFrame:
    """Stored runs of every session that fits, one row per process that was started: what `harness export-runs
    --no-samples` writes. Units are in `frame.attrs["units"]`; `measurements`, `summary`, `conditions` and `provenance`
    are JSON.

    Raises UsageError where nothing fits; StoreError.

    Example: `harness.runs("mnist-cnn").query("purpose == 'latency' and counts")["latency_p50_ms"]`."""
    from harness.commands import exporting
    from harness.frames import runs_frame
    from harness.store import exact

    with _opened(store, experiment, label) as opened:
        wanted = [listed["id"] for listed in exporting.sessions_of(opened, experiment, label)]
        with exact.reading(opened) as reader:
            return runs_frame(exporting.rows_of(opened, reader, wanted, False, identify))


@own_errors
def compare(
    base: str,
    head: str,
    *,
    experiment: str | None = None,
    store: str | None = None,
    across: str | Sequence[str] = (),
    devices: str | Sequence[str] = (),
    identify: bool = False,
) -> Mapping[str, Any]:
    """Two labels, or sessions as run:ID, as `harness compare --json` has it: `verdict` is `better`, `worse`, `same`,
    `inconclusive` or `incomparable`, `comparisons` has each metric of each result with its intervals.

    `across`: conditions that may differ ("os", "runner", "runtime", …). `devices`: only these.
    Raises UsageError for a label that is not there; StoreError.

    Example: `harness.compare("1.3", "1.4")["verdict"]`."""
    given.text("base", base)
    given.text("head", head)
    from harness.commands import comparing

    asked = comparing.Asked(
        across=",".join(given.names("across", across)), devices=given.names("devices", devices),
        store=given.url(store), identify=identify,
    )  # fmt: skip
    return comparing.of_stored(base, head, given.text("experiment", experiment, none=True), asked)[0]


@contextmanager
def _opened(store: str | None, experiment: str | None, label: str | None) -> Iterator[Store]:
    from harness.commands.common import store_url
    from harness.store import Store

    for name, value in (("experiment", experiment), ("label", label)):
        given.text(name, value, none=True)
    opened = Store.open(store_url(given.url(store)))
    try:
        yield opened
    finally:
        opened.close()


def _document(store: Store, identity: str, identify: bool) -> dict[str, Any]:
    from harness.commands.common import artifacts_folder, concluded
    from harness.records import head_of

    session = head_of(store.session(identity))
    return concluded(session, store.scored(identity), artifacts_folder(store.url), None, identify)


def _fitting(store: Store, experiment: str | None, label: str | None, quick: bool) -> list[str]:
    """Sessions of an experiment; where one is named also of a single file that was measured under its name."""
    kinds = ("experiment", "paired", "measure") if experiment is not None else ("experiment", "paired")
    found = [
        listed["id"]
        for listed in store.list_sessions()
        if listed["kind"] in kinds
        and (experiment is None or listed["experiment"] == experiment)
        and (label is None or listed["label"] == label)
        and (quick or not listed["quick"])
    ]
    return found or [store.latest(experiment, label, None if quick else False)]
