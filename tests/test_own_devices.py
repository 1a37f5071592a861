"""What a stored session would run on a device, where the session may come from anybody."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.devices import catalog
from harness.devices.spec import resolve
from harness.errors import UsageError
from harness.own_devices import refuse_foreign
from harness.settings import Settings
from harness.types import RunnerSpec

OWN = """
pi: {uri: "ssh://pi@pi5", runner: {command: [/opt/runner]}}
plain: {uri: "ssh://pi@pi4"}
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    (tmp_path / "devices.yaml").write_text(OWN)
    return Settings(store_url="sqlite:///x.db", files=tmp_path, folder=tmp_path)


def test_the_users_own_entry_and_one_that_starts_nothing_are_taken(settings: Settings) -> None:
    own = catalog.load(None, settings.folder)
    refuse_foreign([resolve("pi", own), resolve("plain", own), resolve("local"), resolve("ssh://other")], settings)


@pytest.mark.parametrize(
    "changed",
    [
        {"runner": RunnerSpec(command=("sh", "-c", "touch x"))},
        {"runner": RunnerSpec(command=("/opt/runner",), env={"LD_PRELOAD": "x"})},
        {"uri": "local"},
        {"name": "unknown"},
        {"energy": {"meter": "sh"}},
    ],
)
def test_programs_that_the_users_devices_yaml_does_not_name_are_not_started(
    settings: Settings, changed: dict[str, object]
) -> None:
    stored = replace(resolve("pi", catalog.load(None, settings.folder)), **changed)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="that your devices"):
        refuse_foreign([stored], settings)


def test_a_file_that_was_named_is_looked_into_instead(settings: Settings, tmp_path: Path) -> None:
    stored = resolve("pi", catalog.load(None, settings.folder))
    other = tmp_path / "other.yaml"
    other.write_text(OWN.replace("/opt/runner", "/opt/other"))
    with pytest.raises(UsageError):
        refuse_foreign([stored], replace(settings, devices_file=other))
