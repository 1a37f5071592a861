"""`session_record`: all that a store holds of a session beside its runs, as one JSON text in its first row.

    {"schema": 1, "harness": "0.1.0", "samples": true, "identified": false, "runs": 75,
     "session": {…columns of the table `sessions`…}, "devices": [{…of `session_devices`, but for session_id…}],
     "imported": null or {"file": …, "sha256": …, "imported_utc": …}}"""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from harness import __version__, labels
from harness import package as packages
from harness.errors import UsageError
from harness.exchange import strict
from harness.exchange.row import SCHEMA, loads
from harness.exchange.wrong import MOST_RECORD, MOST_RUNS, MOST_TEXT
from harness.experiment import Measure
from harness.store.exact import JSON_NAMES, NAMES, NULLABLE, Head
from harness.types import BASE_SUFFIX, Build, DeviceFacts, DeviceSpec, Kind, Package

HEX32 = "[0-9a-f]{32}"
MOST_DEVICES = 1000
_KEYS = ("schema", "harness", "samples", "identified", "runs", "session", "devices", "imported")
#: what reports can show of a plan: entries of `threads` and of `cpus`, and cells in all
MOST_CHOICES = 64
MOST_CELLS = 100_000
_UTC = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}\+00:00")  # store.rows.utc_now
_AHEAD = datetime.timedelta(days=1)  # clocks are wrong by minutes, not by days
_PACKAGE = TypeAdapter(Package)
_SPEC, _FACTS = TypeAdapter(DeviceSpec), TypeAdapter(DeviceFacts)


def record_of(head: Head, *, runs: int, samples: bool, identified: bool) -> dict[str, Any]:
    """`runs`: how many rows are the session's: a file that lost some must not pass for the whole. `samples`,
    `identified`: whether the file has them, and whether nothing in it was made discreet."""
    where = f"session {head.session['id']}"
    note = head.imported and {k: v for k, v in head.imported.items() if k != "session_id"}
    return {
        "schema": SCHEMA,
        "harness": __version__,
        "samples": samples,
        "identified": identified,
        "runs": runs,
        "session": _nested("sessions", head.session, where),
        "devices": [_device(row, where) for row in head.devices],
        "imported": note,
    }


def _device(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    told = {k: v for k, v in row.items() if k != "session_id" and not (k == "facts" and v is None)}
    return _nested("session_devices", told, where)


def _nested(table: str, row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A row's columns, the JSON ones as values. A device's NULL `facts` are left out: null is JSON's null there."""
    jsons = JSON_NAMES[table]
    return {k: loads(v, f"{where}: {k}") if k in jsons and v is not None else v for k, v in row.items()}


@dataclass(frozen=True, kw_only=True)
class Known:
    """A session of the file: its rows, and what its runs may say."""

    head: Head
    identified: bool
    runs: int
    package: Package
    device_ids: frozenset[str]
    builds: frozenset[tuple[Any, ...]]
    runtimes: frozenset[str]
    files: frozenset[str]

    @property
    def id(self) -> str:
        return str(self.head.session["id"])


def read(text: str) -> Known:
    """A session_record from elsewhere. Raises ValueError, saying what is wrong."""
    record = strict.parsed(text, MOST_RECORD)
    _keys(record, _KEYS, "the record")
    if record["schema"] != SCHEMA:
        raise ValueError(f"schema {record['schema']!r:.20}, this harness reads {SCHEMA}: written by a newer harness?")
    if record["samples"] is not True:
        raise ValueError("a file without samples (--no-samples), without which its runs are not whole")
    if type(record["runs"]) is not int or not 0 < record["runs"] <= MOST_RUNS:
        raise ValueError(f"runs: {record['runs']!r:.20} is no number of rows")
    if type(record["identified"]) is not bool or not isinstance(record["devices"], list):
        raise ValueError("no record of ours")
    session, package = _session(record["session"])
    if len(record["devices"]) > MOST_DEVICES:
        raise ValueError(f"more than {MOST_DEVICES} devices")
    devices = [_read_device(row, session["id"], place) for place, row in enumerate(record["devices"])]
    if len({row["name"] for row in devices}) != len(devices):
        raise ValueError("two devices of one name")
    _cells(record, len(package.builds))
    _imported(record["imported"])
    facts = [row.get("facts") for row in record["devices"]]
    artifacts = [build.artifact for build in package.builds if build.artifact is not None]
    artifacts += package.nulls.values()
    return Known(
        head=Head(session=session, devices=tuple(devices)),
        identified=record["identified"],
        runs=record["runs"],
        package=package,
        device_ids=frozenset(one["device_id"] for one in facts if one is not None),
        builds=frozenset((b.variant, b.seed, b.exporter, b.backend, b.input) for b in package.builds),
        runtimes=frozenset(one.runtime for one in artifacts),
        files=frozenset(one.sha256 for one in artifacts),
    )


def _keys(found: Any, wanted: tuple[str, ...] | frozenset[str], what: str, absent: tuple[str, ...] = ()) -> None:
    if not isinstance(found, dict):
        raise ValueError(f"{what} is no object")
    if missing := [key for key in wanted if key not in found and key not in absent]:
        raise ValueError(f"{what} lacks {', '.join(missing)}")
    if unknown := [key for key in found if key not in wanted]:
        raise ValueError(f"{what} has {', '.join(map(repr, unknown))[:80]}, which this harness does not know")


def _texts(row: Mapping[str, Any], table: str, most: int = MOST_TEXT) -> None:
    for name, value in row.items():
        if name in JSON_NAMES[table] or name in ("quick", "position"):
            continue
        if value is None and name in NULLABLE[table]:
            continue
        if type(value) is not str or not strict.sound(value) or (len(value) > most and name != "package"):
            raise ValueError(f"{name} is no text that can be kept")


def utc(text: Any) -> bool:
    """Whether it is a moment as the harness writes it, and has come: one of the future would be the latest for ever."""
    if type(text) is not str or not _UTC.fullmatch(text):
        return False
    try:
        return datetime.datetime.fromisoformat(text) <= datetime.datetime.now(datetime.UTC) + _AHEAD
    except ValueError:
        return False


def _session(row: Any) -> tuple[dict[str, Any], Package]:
    """The columns of the table, JSON as text."""
    _keys(row, NAMES["sessions"], "session")
    _texts(row, "sessions")
    if not re.fullmatch(HEX32, row["id"]) or not re.fullmatch("[0-9a-f]{64}", row["plan_key"]):
        raise ValueError("session: its id or plan_key is none")
    if row["kind"] not in get_args(Kind):
        raise ValueError(f"session: kind {row['kind'][:40]!r} is not one of {', '.join(get_args(Kind))}")
    if type(row["quick"]) is not bool:
        raise ValueError("session: quick is neither true nor false")
    if not utc(row["created_utc"]) or not (row["finished_utc"] is None or utc(row["finished_utc"])):
        raise ValueError("session: created_utc or finished_utc is no moment in UTC up to now")
    if row["label"] is not None:
        try:
            labels.checked(row["label"])
        except UsageError as error:
            raise ValueError(f"session: {error.what}") from error
    _plan(row["plan"])
    package = _read_package(row["package"], row["kind"])
    if package.experiment.get("name") != row["experiment"]:
        raise ValueError(f"session: its package is of {str(package.experiment.get('name'))[:80]!r}")
    return row | {"plan": strict.canonical(row["plan"])}, package


def _plan(plan: Any) -> None:
    if not isinstance(plan, dict) or type(plan.get("seed", 0)) is not int or plan.get("seed", 0) < 0:
        raise ValueError("session: plan is none")
    for name in ("threads", "cpus"):
        if isinstance(plan.get(name), list) and len(plan[name]) > MOST_CHOICES:
            raise ValueError(f"session: plan: {len(plan[name])} {name}, at most {MOST_CHOICES} are taken")
    try:
        Measure.model_validate({k: v for k, v in plan.items() if k != "seed"})
    except ValidationError as error:
        raise ValueError(f"session: plan: {_first(error)}") from error


def _cells(record: Mapping[str, Any], builds: int) -> None:
    """A device's own `cpus` take the place of the plan's."""
    plan = record["session"]["plan"]
    common = len(plan.get("cpus", [""]))
    choices = sum(len(row["spec"]["cpus"]) or common for row in record["devices"])
    cells = builds * len(plan.get("threads", [1])) * max(choices, common)
    if cells > MOST_CELLS:
        raise ValueError(f"session: its plan is of {cells} cells, at most {MOST_CELLS} are taken")


def _imported(note: Any) -> None:
    if note is None:
        return
    _keys(note, ("file", "sha256", "imported_utc"), "imported")
    if type(note["file"]) is not str or not strict.sound(note["file"]) or len(note["file"]) > MOST_TEXT:
        raise ValueError("imported: its file is no text that can be kept")
    if type(note["sha256"]) is not str or not re.fullmatch("[0-9a-f]{64}", note["sha256"]):
        raise ValueError("imported: its sha256 is none")
    if not utc(note["imported_utc"]):
        raise ValueError("imported: imported_utc is no moment in UTC up to now")


def _read_package(text: str, kind: str) -> Package:
    strict.parsed(text, MOST_RECORD)
    try:
        package = _PACKAGE.validate_json(text)
    except ValidationError as error:
        raise ValueError(f"session: package: {_first(error)}") from error
    if package.schema != packages.SCHEMA:
        raise ValueError(f"session: package of schema {package.schema}, this harness reads {packages.SCHEMA}")
    beside = kind in ("paired", "confirm")  # there the baseline's variants have names of their own
    own = tuple(dataclasses.replace(b, variant=_plain(b) if beside else b.variant) for b in package.builds)
    plain = dataclasses.replace(package, builds=own)
    if wrong := next(packages.impossible(plain, packages.MEASURED_MAY_LACK), None):
        raise ValueError(f"session: package: {wrong}")
    return package


def _plain(build: Build) -> str:
    return build.variant.removesuffix(BASE_SUFFIX)


def _read_device(row: Any, session: str, place: int) -> dict[str, Any]:
    """The columns of the table, JSON as text; `facts` None where they are left out."""
    wanted = tuple(name for name in NAMES["session_devices"] if name != "session_id")
    _keys(row, wanted, f"device {place}", absent=("facts",))
    _texts(row, "session_devices", most=1000)
    if type(row["position"]) is not int or row["position"] != place:
        raise ValueError(f"device {place}: it is not at its place")
    try:
        spec = _SPEC.validate_python(row["spec"])
        facts = None if row.get("facts") is None else _FACTS.validate_python(row["facts"])
    except ValidationError as error:
        raise ValueError(f"device {place}: {_first(error)}") from error
    if spec.name != row["name"] or not spec.uri.isprintable():
        raise ValueError(f"device {place}: its spec is of another device")
    if len(spec.cpus) > MOST_CHOICES:
        raise ValueError(f"device {place}: {len(spec.cpus)} cpus, at most {MOST_CHOICES} are taken")
    if _SPEC.dump_python(spec, mode="json") != row["spec"]:
        raise ValueError(f"device {place}: its spec has other keys, or values of other types, than a spec of ours")
    if facts is not None:
        if _FACTS.dump_python(facts, mode="json") != row["facts"]:
            raise ValueError(f"device {place}: its facts have other keys, or values of other types, than facts of ours")
        if not facts.device_id.isprintable() or not 0 < len(facts.device_id) <= 300:
            raise ValueError(f"device {place}: its device_id is none")
    runners = row["runners"]
    if not isinstance(runners, dict) or not all(type(v) is str and len(v) <= 200 for v in runners.values()):
        raise ValueError(f"device {place}: runners are none")
    jsons = {name: strict.canonical(row[name]) for name in JSON_NAMES["session_devices"] if name in row}
    return {"facts": None, **row, **jsons, "session_id": session}


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])[:100]}: {first['msg'][:200]}"
