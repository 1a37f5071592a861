"""devices.yaml and device addresses: what is understood, and what is refused before anything is asked of anybody."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness import registry
from harness.devices import catalog
from harness.devices.spec import SETTINGS, Catalog, checked_workdir, resolve, resolve_all, workdir
from harness.errors import ConfigError, UsageError
from harness.types import DeviceSpec

ROOT = Path(__file__).resolve().parent.parent


def read(text: str, folder: Path = Path("/where")) -> Catalog:
    return catalog.parse(text, "devices.yaml", folder)


@pytest.mark.parametrize(
    "uri",
    [
        "local",
        "ssh://board",
        "ssh://pi@10.0.0.2:2222",
        "ssh://pi@[fd00::1]:22",
        "adb://",
        "adb://R58M123ABC",
        "adb://10.0.0.3:5555",
        "adb://[fe80::1%wlan0]:5555",
        "adb://adb-3A03-xYz._adb-tls-connect._tcp",
        "adb://emulator-5554?server=10.0.0.9:5037",
        "adb+tcp://phone.lan:5555",
        "adb+usb://R58M123ABC",
    ],
)
def test_an_address_keeps_its_case_and_form(uri: str) -> None:
    assert resolve(uri).uri == uri


def test_a_missing_port_is_filled_in_and_the_name_stays_what_was_written() -> None:
    spec = resolve("adb+tcp://10.0.0.3")
    assert (spec.name, spec.uri) == ("adb+tcp://10.0.0.3", "adb+tcp://10.0.0.3:5555")


@pytest.mark.parametrize(
    "name",
    [
        *("", "-rf", "$(reboot)", "nope", "ssh", "local://x", "local://", "a b", "local\n", "no://such", "tag:x"),
        *("ssh://", "ssh://-oProxyCommand=reboot", "ssh://-o@host", "ssh://a b", "ssh://$(reboot)", "ssh://h;reboot"),
        *("ssh://host:0", "ssh://host:70000", "ssh://host:22:22", "ssh://host/path", "ssh://host\n", "ssh://u:pw@h"),
        *("adb://-s", "adb://$(reboot)", "adb://a\nhost:kill", "adb://a b", "adb://a;b", "adb://a?x=1"),
        *("adb://a?server=h", "adb://a?server=-h:1", "adb://a?server=h:1&x=2", "adb://a/b", "adb://ä"),
        *("adb+tcp://", "adb+tcp://-h:5555", "adb+tcp://h:99999", "adb+usb://", "adb+usb://x?server=h:1"),
        "ssh://" + "a" * 400,
    ],
)
def test_what_is_not_a_device_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        resolve(name)


def test_a_third_partys_transport_has_its_own_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.TRANSPORTS, "farm", "nowhere:Nothing")
    assert resolve("farm://pixel?seed=1").uri == "farm://pixel?seed=1"
    for bad in ("farm://", "farm://$(reboot)", "farm://-x", "farm://a\nb"):
        with pytest.raises(UsageError):
            resolve(bad)


PHONES = """\
pixel8: {uri: "adb://ABC", tags: [ci, phones]}
pi5:
  uri: ssh://pi@board
  tags: [ci]
"""


def test_names_and_tags_stand_for_devices_in_the_files_order() -> None:
    known = read(PHONES)
    assert [s.name for s in resolve_all(["local", "tag:ci"], known)] == ["local", "pixel8", "pi5"]
    assert [s.uri for s in resolve_all(["pi5", "tag:phones"], known)] == ["ssh://pi@board", "adb://ABC"]
    # named and tagged is one device; written twice stays twice, for the caller to refuse
    assert [s.name for s in resolve_all(["tag:ci", "pi5"], known)] == ["pixel8", "pi5"]
    assert [s.name for s in resolve_all(["pi5", "pi5"], known)] == ["pi5", "pi5"]


def test_an_unknown_name_or_tag_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match="not in devices") as name:
        resolve("pixel9", read(PHONES))
    assert name.value.hint == "did you mean 'pixel8'?"
    with pytest.raises(UsageError, match="no device has the tag 'phone'") as tag:
        resolve_all(["tag:phone"], read(PHONES))
    assert tag.value.hint == "did you mean 'phones'?"
    with pytest.raises(UsageError, match="several"):
        resolve("tag:ci", read(PHONES))


def test_every_key_of_an_entry_arrives() -> None:
    spec = read(
        """\
a:
  uri: adb://X
  tags: [t]
  runner: {path: bin/mine, env: {A_B: "1"}}
  root: true
  cpus: [big, "0xf"]
  workdir: /data/local/tmp/mine
  sysroot: /fake
  prepare: {airplane: leave, brightness: 20, doze: off}
  energy: {meter: odpm}
  thermal: {battery_c: 35, wait_minutes: 1.5}
"""
    ).devices["a"]
    assert spec.runner.path == "/where/bin/mine"  # relative to the file
    assert (spec.runner.env, spec.root, spec.cpus) == ({"A_B": "1"}, True, ("big", "0xf"))
    assert (spec.workdir, spec.sysroot, spec.energy) == ("/data/local/tmp/mine", "/fake", {"meter": "odpm"})
    assert spec.thermal == {"battery_c": 35, "wait_minutes": 1.5}
    assert set(spec.prepare) == set(SETTINGS) - {"airplane"}
    assert (spec.prepare["brightness"], spec.prepare["doze"], spec.prepare["screen"]) == ("20", "off", "auto")


def test_what_is_set_where_the_user_says_nothing() -> None:
    android = set(SETTINGS) - {"governor"}
    for uri in ("adb://X", "adb+tcp://h:1", "adb+usb://X"):
        assert dict(resolve(uri).prepare) == dict.fromkeys(android, "auto")
    assert dict(resolve("ssh://h").prepare) == {"governor": "auto"}
    assert dict(resolve("local").prepare) == {}
    assert dict(read("a: {uri: adb://X, prepare: none}").devices["a"].prepare) == {}
    assert dict(read("local: {prepare: {governor: auto}}").devices["local"].prepare) == {"governor": "auto"}


def test_local_may_have_settings_and_stays_this_computer() -> None:
    known = read("local: {tags: [ci]}")
    assert resolve("local", known).tags == ("ci",)
    with pytest.raises(ConfigError, match="always the computer"):
        read("local: {uri: adb://X}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a:\n  uri: adb://X\n  tag: [x]", "devices.yaml:3: a.tag: unknown key"),
        ("a: {tags: [x]}", "devices.yaml:1: a.uri: this key is needed"),
        ("a: {uri: adb://X}\na: {uri: adb://Y}", "devices.yaml:2: a: the key is given twice"),
        ("a:\n  uri: ssh://-oProxyCommand=x", "devices.yaml:2: a.uri: 'ssh://-oProxyCommand=x': this is no address"),
        ("-rf: {uri: local}", "devices.yaml:1: -rf: a device's name"),
        ("$(reboot): {uri: local}", "a device's name"),
        ('"a\\nb": {uri: local}', "a device's name"),
        ("a: adb://X", "devices.yaml:1: a: a device is a mapping"),
        ("- a", "devices.yaml:1: devices.yaml maps names to devices"),
        ("a: {uri: local, prepare: all}", "a.prepare: none, or a mapping"),
        ("a: {uri: local, prepare: {scren: auto}}", "a.prepare.scren"),
        ("a: {uri: local, prepare: {screen: $(reboot)}}", "a.prepare.screen"),
        ("a: {uri: local, prepare: {screen: true}}", "a.prepare.screen"),
        ("a: {uri: local, cpus: [fast]}", "a.cpus: any, big or a mask"),
        ("a: {uri: local, root: 1}", "a.root"),
        ("a: {uri: local, workdir: /data}", "a.workdir: '/data' is not ours alone"),
        ("a: {uri: local, sysroot: ../x}", "a.sysroot"),
        ("a: {uri: local, runner: {env: {-x: y}}}", "a.runner.env"),
        ('a: {uri: local, runner: {command: ["x\\n"]}}', "a.runner.command"),
        ("a: {uri: local, tags: [a b]}", "a.tags"),
        ("a: {uri: local, thermal: {battery_c: hot}}", "a.thermal.battery_c"),
        ("a: !!python/object:os.system {}", "tag"),
    ],
)
def test_a_wrong_entry_is_refused_with_file_line_and_key(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(text)
    assert said in str(error.value)


def test_an_empty_file_names_no_device() -> None:
    assert read("# none yet\n").devices == {}


def test_the_nearest_file_is_taken_and_a_named_one_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, beside = tmp_path / "config", tmp_path / "project"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    beside.mkdir()
    assert catalog.load(None, beside).devices == {}
    (home / "harness").mkdir(parents=True)
    (home / "harness" / "devices.yaml").write_text("mine: {uri: local}")
    assert list(catalog.load(None, beside).devices) == ["mine"]
    (beside / "devices.yaml").write_text("project: {uri: local}")
    assert list(catalog.load(None, beside).devices) == ["project"]
    (tmp_path / "other.yaml").write_text("other: {uri: local}")
    assert list(catalog.load(tmp_path / "other.yaml", beside).devices) == ["other"]
    with pytest.raises(ConfigError, match="No such file"):
        catalog.load(tmp_path / "none.yaml", beside)


@pytest.mark.parametrize(
    "path",
    [
        *("/", "//", "/data", "/home/ann", "/home/ann/", "/Users/ann", "/tmp", "relative/x", "~/x", ""),
        *("/a/../b", "/a/./b"),
        *("/data/local/tmp", "/data/local/tmp/", "/var/lib", "/etc/x", "/sys/x", "/usr/share", "/a/b\nc", "/a//b"),
    ],
)
def test_a_workdir_where_deleting_could_hurt_is_refused(path: str) -> None:
    with pytest.raises(UsageError):
        checked_workdir(path)
    with pytest.raises(UsageError):
        workdir(DeviceSpec(name="d", uri="local", workdir=path))


def test_each_device_has_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    assert workdir(resolve("local")) == str(tmp_path / "cache" / "device")
    assert os.stat(tmp_path / "cache" / "device").st_mode & 0o777 == 0o700
    assert workdir(resolve("adb+usb://X")) == "/data/local/tmp/harness"
    assert workdir(resolve("ssh://h")) == "~/.cache/harness-device"
    assert workdir(DeviceSpec(name="d", uri="ssh://h", workdir="/home/pi/x/")) == "/home/pi/x"


def test_the_examples_can_be_read_and_name_each_others_devices() -> None:
    from harness import config

    known = catalog.load(ROOT / "configs" / "devices.example.yaml", ROOT)
    for name in ("phones", "pis"):
        experiment, _ = config.load(ROOT / "configs" / f"{name}.yaml")
        assert resolve_all(experiment.devices, known)


def test_every_key_of_devices_yaml_is_described() -> None:
    page, example = (ROOT / "docs" / "devices.md").read_text(), (ROOT / "configs" / "devices.example.yaml").read_text()
    for key in catalog.Entry.model_fields:
        assert f"`{key}`" in page, key
        assert f"{key}:" in example, key
    for setting in SETTINGS:
        assert f"`{setting}`" in page and setting in example, setting
