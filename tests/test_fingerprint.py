"""What counts as the user's source, wherever it lies."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness import fingerprint


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package on sys.path as `pip install -e` leaves it: below no root, imported by nobody yet."""
    home = tmp_path / "src" / "usersrc"
    home.mkdir(parents=True)
    (home / "__init__.py").write_text("")
    (home / "zoo.py").write_text("from .blocks import block\n")
    (home / "blocks.py").write_text("block = 1\n")
    monkeypatch.syspath_prepend(str(home.parent))
    return home


def test_a_package_installed_in_place_counts_by_all_that_it_imports(package: Path, tmp_path: Path) -> None:
    roots = [tmp_path / "yaml"]
    before = fingerprint.of_source(["usersrc.zoo"], roots)
    assert fingerprint.of_source(["usersrc.zoo"], roots) == before
    (package / "blocks.py").write_text("block = 2\n")
    assert fingerprint.of_source(["usersrc.zoo"], roots) != before
    assert "usersrc" not in sys.modules


def test_what_a_module_beside_the_yaml_imports_from_elsewhere_counts_too(package: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import usersrc.blocks\n")
    before = fingerprint.of_source(["mine"], [tmp_path])
    (package / "blocks.py").write_text("block = 2\n")
    assert fingerprint.of_source(["mine"], [tmp_path]) != before


def test_an_installed_package_counts_by_its_version_and_is_not_read(
        package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "site-packages" / "userlib"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("a = 1\n")
    monkeypatch.syspath_prepend(str(installed.parent))
    (package / "zoo.py").write_text("import userlib, json, numpy\n")
    before = fingerprint.of_source(["usersrc.zoo"], [])
    (installed / "__init__.py").write_text("a = 2\n")
    assert fingerprint.of_source(["usersrc.zoo"], []) == before


def test_a_users_module_that_shadows_the_standard_library_counts(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import code\n")
    before = fingerprint.of_source(["mine"], [tmp_path])
    (tmp_path / "code.py").write_text("a = 1\n")
    assert fingerprint.of_source(["mine"], [tmp_path]) != before
