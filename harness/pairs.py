"""Base and head in the same blocks: a package that holds both, measured as one session.

What drifts on a device falls on both alike, an OS update too: only this design tells a change of 2 % from a day that
was different. The base's variants carry BASE_SUFFIX; `analyze/digest.split` takes them apart again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness import foreign, pipeline, records
from harness.analyze.digest import Digest, split
from harness.errors import UsageError
from harness.experiment import Measure
from harness.package import Files
from harness.screen import Screen
from harness.settings import Settings
from harness.store import Store
from harness.types import BASE_SUFFIX, Build, Cell, CheckSet, DeviceSpec, Kind, Package, Session, TensorFile

#: the fewest pairs of an A/B; a fixed amount, for a comparison must not end when it looks good
PAIRS = 10
Key = tuple[str, int, str, str, str]  # variant, seed, exporter, backend, input
Unbuilt = tuple[str, str, str, str, str]  # variant, exporter, input, status, reason: as in Digest


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """`package`: head's builds, and beside each the base's where both can be measured. `same`: head builds whose base
    is the very same file, which is not measured twice. `apart`: why a build has no partner (of either side).

    `unbuilt`: what the base planned and has no file of. `kind` of the session: `confirm` is looked at by its own
    comparison alone. `repeats`: asked for, in place of the experiment's and of PAIRS."""

    package: Package
    same: frozenset[Key] = frozenset()
    apart: Mapping[Key, str] = field(default_factory=dict)
    unbuilt: tuple[Unbuilt, ...] = ()
    kind: Kind = "paired"
    repeats: int | None = None

    @property
    def paired(self) -> frozenset[Key]:
        """Head builds that have their base beside them."""
        return frozenset(key(plain) for plain in base_of(self.package).builds)


def merged(head: Package, base: Package, files: Files, only: Sequence[Key] | None = None) -> Pairs:
    """`files`: where the artifacts of both must be. `only`: pairs of these builds alone (for a confirmation).

    The experiment, the plan, the inputs and the empty model are head's. Of head, every build stays in the package
    whose file is there, with a partner or not: its figures are wanted anyway; with `only`, what is paired alone.
    Raises nothing for what cannot be paired: `apart` says why."""
    asked = None if only is None else frozenset(only)
    ours, theirs = _built(head, asked), _built(base, asked)
    same, apart = set[Key](), dict[Key, str]()
    builds: list[Build] = []
    for build in head.builds:
        name = key(build)
        if asked is not None and name not in asked:
            continue
        if name not in ours:  # planned, and failed or skipped: the row stays
            builds += [build] if asked is None else []
            continue
        partner, lost = theirs.get(name), _lost(head, build, files, "its")
        reason = lost or _apart(head, base, build, partner, files)
        if partner is None or reason is not None:
            apart[name] = reason or "only head has it"
        elif _alike(build, partner):
            same.add(name)
        else:
            builds += [build, replace(partner, variant=partner.variant + BASE_SUFFIX)]
            continue
        builds += [build] if asked is None and lost is None else []
    for name in theirs.keys() - ours.keys():
        apart[name] = _elsewhere(head, theirs[name], "head's") or "only the base has it"
    for name in (asked or frozenset()) - ours.keys() - theirs.keys():
        apart[name] = "neither side has a file of it"
    package = replace(head, builds=tuple(builds))
    if asked is not None:  # of the empty model nothing is compared
        package = replace(package, nulls={}, null_input=None)
    return Pairs(package=package, same=frozenset(same), apart=apart, unbuilt=_unbuilt(base) if asked is None else ())


def base_of(package: Package) -> Package:
    """The base's part of a merged package, with its own names."""
    theirs = (build for build in package.builds if build.variant.endswith(BASE_SUFFIX))
    named = tuple(replace(build, variant=build.variant.removesuffix(BASE_SUFFIX)) for build in theirs)
    return replace(package, builds=named)


def key(build: Build) -> Key:
    return build.variant, build.seed, build.exporter, build.backend, build.input


def key_of(cell: Cell) -> Key:
    return cell.variant, cell.seed, cell.exporter, cell.backend, cell.input


def _built(package: Package, asked: frozenset[Key] | None) -> dict[Key, Build]:
    found = {key(build): build for build in package.builds if build.status == "ok" and build.artifact is not None}
    return {name: build for name, build in found.items() if asked is None or name in asked}


def _unbuilt(base: Package) -> tuple[Unbuilt, ...]:
    missing = (build for build in base.builds if build.status != "ok" or build.artifact is None)
    return tuple((b.variant, b.exporter, b.input, b.status, b.reason or "not built") for b in missing)


def _apart(head: Package, base: Package, build: Build, partner: Build | None, files: Files) -> str | None:
    """Why the build cannot be measured beside its base."""
    if partner is None:
        return _elsewhere(base, build, "the base's") or "only head has it"
    ours, theirs = head.checks[build.input], base.checks[build.input]
    if ours.inputs != theirs.inputs:
        return f"the inputs of case {build.input} are not the base's"
    if ours.structure != theirs.structure or len(build.expected) != len(partner.expected):
        return "the outputs have another structure than the base's"
    return _lost(base, partner, files, "the base's")


def _elsewhere(package: Package, build: Build, whose: str) -> str | None:
    """What became of a build that the package has no file of. One that failed may not know its backend."""
    planned = (other for other in package.builds if key(other)[:3] == key(build)[:3] and other.input == build.input)
    other = next(planned, None)
    if other is None:
        return None
    if other.status != "ok" or other.artifact is None:
        return f"{whose} is {other.status}: {other.reason or 'not built'}"
    return f"{whose} is of another backend: {other.backend or 'none'}"


def _lost(package: Package, build: Build, files: Files, whose: str) -> str | None:
    """The file of this build that is gone or damaged, in words; what a case is checked on is head's, for both."""
    artifact = build.artifact
    if artifact is not None and not files.whole(artifact.sha256, artifact.suffix):
        return f"{whose} file {artifact.sha256[:12]}…{artifact.suffix} is not in the artifacts folder any more"
    lost = (file for file in (*build.expected, *_of_case(package.checks[build.input])) if not _there(files, file))
    if (file := next(lost, None)) is not None:
        return f"{whose} check data {file.sha256[:12]}….bin is not in the artifacts folder any more"
    return None


def _of_case(check: CheckSet) -> Iterable[TensorFile]:
    return (*check.inputs, *([check.targets] if check.targets is not None else []))


def _there(files: Files, file: TensorFile) -> bool:
    return files.whole(file.sha256, ".bin")


def _alike(build: Build, partner: Build) -> bool:
    """The very same file, that is to give the very same answers."""
    assert build.artifact is not None and partner.artifact is not None
    return build.artifact.sha256 == partner.artifact.sha256 and build.expected == partner.expected


def of_files(
    base: Path,
    head: Path,
    device: DeviceSpec,
    given: Sequence[str],
    arrays: Path | None,
    threads: int,
    repeats: int | None,
    settings: Settings,
    screen: Screen,
) -> tuple[Pairs, Files]:
    """Two finished files, given the same inputs. Nothing tells what their outputs should be, so none is checked.

    Raises UsageError for a file or an input that cannot be used, and for two files that cannot take one input."""
    if base.suffix != head.suffix:
        raise UsageError(f"{base.name} and {head.name} are for two runtimes", "compare two .pte, or two .ptl")

    def package_of(file: Path) -> tuple[Package, Files]:
        return foreign.package_of(file, device, given, arrays, None, threads, repeats or PAIRS, settings, screen)

    (ours, files), (theirs, _) = package_of(head), package_of(base)
    mine, other = ours.builds[0], theirs.builds[0]
    shapes = [[list(t.spec.shape) for t in package.checks[mine.input].inputs] for package in (theirs, ours)]
    if theirs.checks[other.input].inputs != ours.checks[mine.input].inputs:
        raise UsageError(
            f"{base.name} takes inputs of {shapes[0]}, {head.name} of {shapes[1]}",
            "name inputs that both can take with --input or --inputs",
        )
    if other.backend != mine.backend:
        screen.say(f"{base.name} is for {other.backend}, {head.name} for {mine.backend}")
    named = replace(other, variant=mine.variant, backend=mine.backend)
    pairs = merged(ours, replace(theirs, builds=(named,)), files)
    return replace(pairs, kind="confirm", repeats=repeats), files


def measure(
    pairs: Pairs,
    files: Files,
    devices: Sequence[DeviceSpec],
    settings: Settings,
    screen: Screen,
    label: str | None = None,
    repeats: int | None = None,
) -> Session:
    """One session of a fixed amount: `repeats`, else the plan's or PAIRS, whichever is more; no adaptive amount.

    `label`: else the settings'. Raises as `pipeline.run_package` does. Interrupted, the same call goes on."""
    plan = Measure.model_validate(pairs.package.experiment["measure"])
    amount = repeats or pairs.repeats or max(PAIRS, plan.repeats)
    plan = plan.model_copy(update={
        "repeats": amount, "target_ci": None, "budget_minutes": None,
        "cold_loads": max(plan.cold_loads, amount) if plan.cold_loads else 0,
    })  # fmt: skip
    experiment = dict(pairs.package.experiment) | {"measure": plan.model_dump(mode="json")}
    package = replace(pairs.package, experiment=experiment)
    label = settings.label if label is None else label
    asked = replace(settings, kind=pairs.kind, quick=False, label=label)
    return pipeline.run_package(package, files, devices, asked, screen)


def digests(store: Store, session: Session, pairs: Pairs) -> tuple[Digest, Digest]:
    """(base, head) of the session. What is `same` stands on both sides, in the very same blocks; what is `apart` on
    its own side alone, which is head's, for no base is measured by itself."""
    base, head = split(records.digest_of(store, session.id))
    shared = tuple(cell for cell in head.cells if key_of(cell.cell) in pairs.same)
    return replace(base, cells=(*base.cells, *shared), unbuilt=pairs.unbuilt), head
