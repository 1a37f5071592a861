"""What `run` does, without telling anybody: the command and the Python API share it."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import config, labels, pipeline
from harness import package as packages
from harness.commands import beside, profiling
from harness.commands.common import artifacts_folder, page, page_name, store_url
from harness.devices import catalog
from harness.devices.spec import resolve_all
from harness.errors import UsageError
from harness.experiment import Experiment
from harness.metrics import nearest
from harness.package import Files
from harness.screen import Screen
from harness.settings import Settings
from harness.store import Store
from harness.types import DeviceSpec, Package, Session


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The options of `run`. `source`: an experiment file, or a package's folder."""

    source: Path
    devices: Sequence[str] = ()
    devices_file: Path | None = None
    variants: Sequence[str] = ()
    label: str | None = None
    fresh: bool = False
    quick: bool = False
    max_minutes: float | None = None
    store: str | None = None
    identify: bool = False
    profile: bool = False


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is to be measured, where and how. `text`: an experiment's YAML; `files`: a package's."""

    plan: Experiment | Package
    text: str
    files: Files | None
    devices: Sequence[DeviceSpec]
    settings: Settings


def work_of(asked: Asked) -> Work:
    """Looks at all that is given and does nothing yet. Raises UsageError, ConfigError, PackageError."""
    label = checked_label(asked.label, asked.source)
    packaged = asked.source.is_dir()
    plan, text, files = _package(asked) if packaged else _experiment(asked)
    folder = Path(plan.folder) if isinstance(plan, Experiment) else Path.cwd()
    names = plan.devices if isinstance(plan, Experiment) else list(asked.devices) or plan.experiment["devices"]
    specs = resolve_all(names, catalog.load(asked.devices_file, folder))
    given = settings(
        asked.store, folder, label=label, fresh=asked.fresh, quick=asked.quick, max_minutes=asked.max_minutes,
        identify=asked.identify, carried=packaged,
    )  # fmt: skip
    return Work(plan=plan, text=text, files=files, devices=specs, settings=given)


def _package(asked: Asked) -> tuple[Package, str, Files]:
    package, files = packages.read(asked.source)
    package = narrow_package(package, asked.variants)
    return profiling.asked_of_package(package) if asked.profile else package, "", files


def _experiment(asked: Asked) -> tuple[Experiment, str, None]:
    experiment, text = config.load(asked.source)
    experiment = pipeline.narrowed(experiment, asked.devices, asked.variants)
    return profiling.asked_of(experiment) if asked.profile else experiment, text, None


def measured(work: Work, screen: Screen) -> Session:
    """Builds what is to be built and measures it. Every run is in the store as soon as it is made."""
    if isinstance(work.plan, Experiment):
        return pipeline.run(work.plan, work.text, work.devices, work.settings, screen)
    assert work.files is not None
    kept = packages.keep(work.plan, work.files, work.settings.files)
    return pipeline.run_package(work.plan, kept, work.devices, work.settings, screen)


def paged(
    store: Store, session: Session, settings: Settings, where: Path | None = None
) -> tuple[dict[str, Any], str | None]:
    """Writes the session's page (default reports/NAME.html); its document, and why nothing is picked."""
    where = where or Path("reports") / f"{page_name(session)}.html"
    more = beside.of_session(store, session, settings.identify)
    return page(store, session, settings.files, where, settings.identify, **more)


def traced(store: Store, session: Session, document: Mapping[str, Any]) -> list[Path]:
    """Writes the trace of each profiled result to reports/NAME-profile/; none where the plan asks for none."""
    if not session.plan.get("profile"):
        return []
    return profiling.write_traces(store, session, document, Path("reports") / f"{page_name(session)}-profile")


def settings(store: str | None, folder: Path, **more: Any) -> Settings:
    url = store_url(store)
    return Settings(store_url=url, files=artifacts_folder(url), folder=folder, **more)


def checked_label(given: str | None, source: Path) -> str | None:
    """The label; `auto` is what git describe says. Raises UsageError."""
    if given != "auto":
        return None if given is None else labels.checked(given)
    folder = source if source.is_dir() else source.resolve().parent
    done = subprocess.run(
        ["git", "-C", str(folder), "describe", "--always", "--dirty"], capture_output=True, text=True, timeout=30
    )
    if done.returncode != 0:
        raise UsageError(f"--label auto: {done.stderr.strip()[:200]}", "give a label, or run inside a git repository")
    return done.stdout.strip()


def narrow_package(package: Package, variants: Sequence[str]) -> Package:
    """The package with these variants only (all where none is named). Raises UsageError for an unknown one."""
    known = {build.variant for build in package.builds}
    for name in variants:
        if name not in known:
            raise UsageError(f"the package has no variant {name!r}", nearest(name, known))
    if not variants:
        return package
    return dataclasses.replace(package, builds=tuple(b for b in package.builds if b.variant in variants))
