"""What is in reach, and what to do where something is not: made-up devices that answer, hang, refuse and lie.

Nothing here is a measurement; `fake://` exists in these tests only."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest

import harness.devices
from harness import registry
from harness.commands import looking
from harness.devices import catalog, discover, quarantine
from harness.devices.discover import Found
from harness.devices.spec import Catalog, resolve
from harness.errors import DeviceError, Gone, Offline, Refused, TimedOut, Unauthorized, UsageError
from harness.interfaces import Completed
from harness.types import DeviceSpec

SCHEMA = json.loads((Path(__file__).parent / "schema" / "devices.schema.json").read_text())
FACTS = "abi=aarch64\nserial={}\nmodel=Fake Phone\nos_release=Fake OS\ncores=8\nhome=/home/fake\nthermal_zones=1\n"


class Fake:
    """A device that does what its address says."""

    held = threading.Event()  # what hangs does so until the test is over

    def __init__(self, spec: DeviceSpec) -> None:
        self.what = spec.uri.removeprefix("fake://")
        errors: dict[str, Exception] = {
            "unauthorized": Unauthorized("fake: nobody accepted the key", "accept it"),
            "refused": Refused("fake: nobody listens there"),
            "offline": Offline("fake: it does not answer"),
            "gone": Gone("fake: the connection ended"),
            "broken": RuntimeError("a library fell over\x1b[31m\nbadly"),
        }
        if self.what in errors:
            raise errors[self.what]

    def run(self, argv: Sequence[str], timeout_s: float = 30.0, stdin: bytes = b"") -> Completed:
        if self.what == "hang":
            self.held.wait()
        more = {
            "empty": "battery_percent=12\ncharging=no\n",
            "full": "battery_percent=80\ncharging=no\nenergy=readable battery BAT0\nenergy=unreadable rapl package-0\n",
            "hot": "throttled=0x50005\n",
            "mute": None,
        }.get(self.what, "")
        serial = self.what.partition("-")[0]  # twin-a and twin-b are one unit
        text = "" if more is None else FACTS.format(serial) + more
        return Completed(returncode=0, stdout=text.encode(), stderr=b"")

    def push(self, local: Path, remote: str) -> None: ...

    def pull(self, remote: str, local: Path) -> None: ...

    def close(self) -> None: ...


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setitem(registry.TRANSPORTS, "fake", "tests.test_discover:Fake")
    monkeypatch.setattr(quarantine, "PAUSE_S", 0.0)
    monkeypatch.setattr(discover, "holder", lambda transport, folder: None, raising=False)
    monkeypatch.setattr(Fake, "held", threading.Event())
    servers(monkeypatch)
    yield
    Fake.held.set()


def servers(
    monkeypatch: pytest.MonkeyPatch,
    devices: Sequence[tuple[str, str]] = (),
    mdns: Sequence[tuple[str, str, str]] = (),
    usb: Sequence[str] = (),
) -> None:
    """The phones that a made-up adb server, the network and USB show."""
    server = SimpleNamespace(server_devices=lambda: list(devices), mdns_services=lambda: list(mdns))
    monkeypatch.setattr(harness.devices, "adb_server", server, raising=False)
    monkeypatch.setattr(harness.devices, "adb_direct", SimpleNamespace(usb_serials=lambda: list(usb)), raising=False)


def found(*names: str, known: Catalog | None = None, timeout_s: float = 30.0) -> dict[str, Found]:
    return {one.name: one for one in discover.discover(known or Catalog(), timeout_s, names)}


def test_this_computer_is_always_there() -> None:
    here = found()["local"]
    assert (here.state, here.reason) == ("ready", None)
    assert here.facts is not None


@pytest.mark.parametrize(
    ("what", "state", "reason", "hint"),
    [
        ("ok", "ready", None, None),
        ("full", "ready", None, None),
        ("empty", "ready", "the battery is at 12 %", "charge it"),
        ("hot", "ready", "throttled now (0x50005)", "cool it"),
        ("unauthorized", "unauthorized", "nobody accepted the key", "accept it"),
        ("refused", "unreachable", "nobody listens", None),
        ("offline", "offline", "does not answer", None),
        ("gone", "offline", "the connection ended", None),
        ("broken", "unreachable", "RuntimeError: a library fell over[31mbadly", None),
        ("mute", "unreachable", "does not say what it is", "uname"),
    ],
)
def test_a_device_has_a_state_a_reason_and_a_remedy(
    what: str, state: str, reason: str | None, hint: str | None
) -> None:
    one = found(f"fake://{what}")[f"fake://{what}"]
    assert one.state == state
    assert (one.reason is None) == (reason is None) and (reason or "") in (one.reason or "")
    assert (one.hint is None) == (hint is None) and (hint or "") in (one.hint or "")


@pytest.mark.parametrize("scheme", ["adb", "ssh"])
@pytest.mark.parametrize("error", [Unauthorized, Offline, Gone, TimedOut, Refused, DeviceError])
def test_every_failure_of_a_phone_or_a_board_has_a_remedy(scheme: str, error: type[DeviceError]) -> None:
    assert discover.failed(resolve(f"{scheme}://x"), error("it failed")).hint


def test_what_hangs_keeps_neither_the_others_nor_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness.devices.adb_server, "server_devices", lambda: Fake.held.wait())  # type: ignore[attr-defined]
    notes: list[str] = []
    seen = {one.name: one for one in discover.discover(Catalog(), 2.0, ["fake://hang", "fake://ok"], notes.append)}
    assert [one.state for one in seen.values()] == ["ready", "offline", "ready"]
    assert "no answer within 2 s" in str(seen["fake://hang"].reason)
    assert any("(phones): no answer" in note for note in notes)


def test_who_holds_a_device_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(discover, "holder", lambda transport, folder: asked.append(folder) or "ann, since 10:00")
    one = found("fake://ok")["fake://ok"]
    assert (one.state, one.reason) == ("busy", "it is held by ann, since 10:00")
    assert "/home/fake/.cache/harness-device" in asked


def test_the_same_unit_is_told_at_each_of_its_addresses() -> None:
    seen = found("fake://twin-a", "fake://twin-b", "fake://other")
    assert seen["fake://twin-a"].reason is None
    assert seen["fake://twin-b"].reason == "the same unit as fake://twin-a"
    assert seen["fake://other"].reason is None


def test_devices_of_the_catalog_are_told_by_name_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    known = catalog.parse("a: {uri: fake://ok, tags: [t]}\nlocal: {tags: [t]}", "devices.yaml", Path())
    assert list(found("tag:t", "a", known=known)) == ["local", "a"]
    with pytest.raises(UsageError):
        found("tag:none", known=known)


MDNS = [
    ("adb-FFF-x", "_adb-tls-connect._tcp", "10.0.0.7:4711"),
    ("adb-AAA-x", "_adb-tls-connect._tcp", "10.0.0.8:4711"),  # connected already
    ("adb-FFF-x", "_adb-tls-pairing._tcp", "10.0.0.7:4712"),
]


def test_phones_that_are_not_usable_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    states = {"adb-AAA-x._adb-tls-connect._tcp": "unauthorized", "BBB": "offline", "DD": "recovery", "E;": "device"}
    states["CCC"] = "no permissions (user is not in the group); see the documentation"
    servers(monkeypatch, devices=list(states.items()), mdns=MDNS)
    notes: list[str] = []
    seen = {one.name: one for one in discover.discover(Catalog(), 30, (), notes.append)}
    told = {name: (one.state, one.hint) for name, one in seen.items()}
    lapsed = told["adb://adb-AAA-x._adb-tls-connect._tcp"]
    assert lapsed[0] == "unauthorized" and "accept" in str(lapsed[1])
    assert told["adb://BBB"][0] == "offline" and "unlock" in str(told["adb://BBB"][1])
    assert told["adb://CCC"][0] == "unreachable" and "udev" in str(told["adb://CCC"][1])
    assert told["adb://DD"][0] == "unreachable" and "boot it" in str(told["adb://DD"][1])
    wireless = told["adb://adb-FFF-x._adb-tls-connect._tcp"]
    assert wireless[0] == "unreachable" and "adb pair" in str(wireless[1])
    assert len(seen) == 6 and any("E;" in note for note in notes)


def test_a_phone_that_the_server_holds_is_not_opened_by_usb_too(monkeypatch: pytest.MonkeyPatch) -> None:
    servers(monkeypatch, devices=[("AAA", "device")], usb=["AAA", "BBB"])
    monkeypatch.setitem(registry.TRANSPORTS, "adb", "tests.test_discover:Fake")
    monkeypatch.setitem(registry.TRANSPORTS, "adb+usb", "tests.test_discover:Fake")
    assert list(found()) == ["local", "adb://AAA", "adb+usb://BBB"]


def test_a_host_without_adb_has_its_other_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> Any:
        raise Refused("no adb server at 127.0.0.1:5037", "start it with: adb start-server")

    monkeypatch.setattr(harness.devices.adb_server, "server_devices", absent)  # type: ignore[attr-defined]
    notes: list[str] = []
    assert [one.name for one in discover.discover(Catalog(), 30, (), notes.append)] == ["local"]
    assert "adb start-server" in notes[0]


def test_devices_answers_in_its_schema_whatever_the_state(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kinds = ("ok", "full", "empty", "unauthorized", "refused", "offline", "broken", "mute", "twin-a", "twin-b")
    (tmp_path / "devices.yaml").write_text("\n".join(f"{kind}: {{uri: fake://{kind}, root: true}}" for kind in kinds))
    assert looking.devices([], None, json_out=True) == 0
    said = json.loads(capsys.readouterr().out)
    jsonschema.validate(said, SCHEMA)
    assert [entry["name"] for entry in said] == ["local", *kinds]
    full = said[2]
    assert full["uri"] == "fake://full" and full["transport"] == "fake"
    why = "this login may not read package-0"
    rapl = {"source": "rapl", "usable": False, "reason": why}
    assert full["energy"] == [rapl, {"source": "battery", "usable": True, "reason": None}]
    assert looking.devices([], None, json_out=False) == 0
    text = capsys.readouterr().out
    assert "\n\nfull: ready\n  at       fake://full\n" in text
    assert f"  energy   rapl: {why}\n  energy   battery: usable\n" in text
    assert "\x1b" not in text


def test_doctor_minds_this_computer_and_tells_of_the_others(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "devices.yaml").write_text("phone: {uri: fake://offline}\nboard: {uri: fake://ok}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(discover, "holder", lambda transport, folder: "ann")  # a device in use is in order
    looking.doctor(f"sqlite:///{tmp_path}/x.db", None, json_out=True)
    checks = {check["what"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["device local"]["state"] == "ok"
    assert checks["device phone"]["state"] == "missing" and not checks["device phone"]["needed"]
    assert "runners for aarch64" in checks


PHONE = DeviceSpec(name="phone", uri="fake://x")


def test_three_failures_in_a_row_put_a_device_in_quarantine() -> None:
    for _ in range(2):
        quarantine.failed(PHONE)
    assert quarantine.why(PHONE) is None
    quarantine.succeeded(PHONE)  # not in a row
    for _ in range(3):
        assert quarantine.why(PHONE) is None
        quarantine.failed(PHONE)
    assert "after 3 failures in a row since 20" in str(quarantine.why(PHONE))
    assert quarantine.why(DeviceSpec(name="phone", uri="fake://y")) is None  # by address, not by name


def test_a_device_leaves_quarantine_by_answering_twice_in_a_row() -> None:
    for _ in range(3):
        quarantine.failed(PHONE)
    answers = iter([None, Gone("no"), None, None])
    asked = 0

    def probe() -> None:
        nonlocal asked
        asked += 1
        if (error := next(answers)) is not None:
            raise error

    with pytest.raises(DeviceError, match=r"in quarantine after 3 failures .* and still: no"):
        quarantine.admit(PHONE, probe)
    assert quarantine.why(PHONE) is not None
    quarantine.admit(PHONE, probe)
    assert (asked, quarantine.why(PHONE)) == (4, None)
    quarantine.admit(PHONE, probe)  # and is asked no more
    assert asked == 4


def test_failures_are_counted_over_all_processes_and_never_hide_the_failure_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadPoolExecutor(8) as crew:
        list(crew.map(lambda _: quarantine.failed(PHONE), range(40)))
    assert "after 40 failures" in str(quarantine.why(PHONE))
    file = tmp_path / "cache" / "quarantine.json"
    assert "fake" not in file.read_text()  # no address
    for damaged in ("", "[]", '{"x": 1}', "\x00"):
        file.write_text(damaged)
        assert quarantine.why(PHONE) is None
        quarantine.failed(PHONE)
    (tmp_path / "not a folder").write_text("")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "not a folder" / "cache"))
    quarantine.failed(PHONE)


def test_a_device_in_quarantine_is_shown_as_such() -> None:
    for uri in ("fake://ok", "fake://offline"):
        for _ in range(3):
            quarantine.failed(DeviceSpec(name="d", uri=uri))
    seen = found("fake://ok", "fake://offline")
    assert "in quarantine after 3 failures" in str(seen["fake://ok"].reason)
    assert str(seen["fake://offline"].reason).startswith("fake: it does not answer; in quarantine")
