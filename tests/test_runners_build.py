"""Finding, building, packing and adding runner bundles. The null runner stands for all: it needs no SDK."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.devices import bundle as bundles
from harness.devices import runners, sdk
from harness.devices.bundle import Bundle
from harness.errors import PackageError, ToolchainError, UsageError
from harness.paths import device_scripts_dir

TARGET = runners.host_target()


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A null runner, built once into a cache of its own."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(cache))
        return runners.ensure("null", TARGET)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def built_cache(bundle: Bundle) -> str:
    return str(bundle.path.parents[2])


def test_a_built_bundle_runs_and_its_manifest_has_the_hash_of_every_file(built: Bundle) -> None:
    said = subprocess.run([str(built.binary), "--version"], capture_output=True, text=True, timeout=20, check=True)
    assert said.stdout == f"null {built.version}\n"
    for name, fact in built.files.items():
        content = (built.path / name).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (fact["sha256"], fact["size"])
    parts = {name.partition("/")[0] for name in built.files}
    assert parts == {built.entry, "glibc"} and built.loader.startswith("glibc/ld-linux")
    assert re.fullmatch("[0-9a-f]{64}", built.sha256)


def test_the_binary_looks_for_libraries_only_beside_itself(built: Bundle) -> None:
    text = subprocess.run(["readelf", "-d", str(built.binary)], capture_output=True, text=True, check=True).stdout
    assert re.findall(r"\((RPATH|RUNPATH)\).*\[(.*)\]", text) == [("RPATH", "$ORIGIN/lib")]


def test_a_built_bundle_is_found_again_even_without_a_compiler(built: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", built_cache(built))
    assert runners.ensure("null", TARGET, pytest.fail) == built
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert runners.find("null", TARGET) == built
    assert built in runners.listing()


def test_another_source_or_compiler_is_another_bundle(
    built: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", built_cache(built))
    changed = tmp_path / "device_scripts"
    shutil.copytree(device_scripts_dir() / "runner", changed / "runner")
    with (changed / "runner" / "loop.h").open("a") as file:
        file.write("// changed\n")
    with monkeypatch.context() as patch:
        patch.setattr(runners, "device_scripts_dir", lambda: changed)
        assert runners.find("null", TARGET) is None
    monkeypatch.setenv("CXX", "g++ -g0")
    assert runners.find("null", TARGET) is None


def test_two_processes_that_need_one_runner_compile_it_once(tmp_path: Path) -> None:
    log, wrapper = tmp_path / "log", tmp_path / "cxx"
    wrapper.write_text(f'#!/bin/sh\ncase "$*" in *main.cpp*) echo once >> {log} ;; esac\nexec g++ "$@" -O0\n')
    wrapper.chmod(0o755)
    code = "from harness.devices import runners as r; print(r.ensure('null', r.host_target()).path)"
    env = {**os.environ, "HARNESS_CACHE": str(tmp_path / "cache"), "CXX": str(wrapper)}
    start = [sys.executable, "-c", code]
    root = str(Path(runners.__file__).parents[2])
    both = [subprocess.Popen(start, env=env, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = {process.communicate(timeout=120)[0] for process in both}
    assert all(process.returncode == 0 for process in both)
    assert len(said) == 1
    assert log.read_text() == "once\n"
    assert not list((tmp_path / "cache" / "runners" / "built").glob(".tmp-*"))


def test_no_compiler_is_one_message_that_names_the_package(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(cache))
    monkeypatch.delenv("CXX", raising=False)
    for runtime in runners.RUNTIMES:
        with pytest.raises(ToolchainError, match="no C\\+\\+ compiler") as caught:
            runners.ensure(runtime, TARGET)
        assert "apt install g++" in str(caught.value.hint)
    assert not cache.exists(), "something was fetched before the compiler was looked for"


def test_a_compiler_that_fails_gives_its_first_complaint_and_leaves_nothing(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = tmp_path / "device_scripts"
    shutil.copytree(device_scripts_dir() / "runner", scripts / "runner")
    for source in (scripts / "runner").glob("*.cpp"):
        source.write_text("#error not today\n")
    monkeypatch.setattr(runners, "device_scripts_dir", lambda: scripts)
    with pytest.raises(ToolchainError, match="not today"):
        runners.ensure("null", TARGET)
    assert runners.find("null", TARGET) is None
    assert not list((cache / "runners" / "built").glob(".tmp-*"))


def test_an_sdk_that_cannot_be_fetched_names_what_pip_said_and_a_remedy(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "empty"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(ToolchainError, match=r"executorch==.* could not be fetched: .*No matching") as caught:
        runners.ensure("executorch", TARGET)
    assert "pip download" in str(caught.value.hint)
    assert not [path for path in (cache / "sdk").iterdir() if path.is_dir()]


def test_a_wheel_whose_paths_lead_outside_is_refused(cache: Path, tmp_path: Path) -> None:
    import zipfile

    wheel = tmp_path / "x.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("executorch/include/../../../evil.h", "x")
    with pytest.raises(ToolchainError, match="outside"):
        sdk._unpack(sdk.EXECUTORCH, wheel, tmp_path / "out" / "deep")
    assert not list(tmp_path.rglob("evil.h"))


def test_nothing_is_built_on_another_system_than_linux(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ToolchainError, match=f"linux-{TARGET.partition('-')[2]} cannot be built on darwin") as caught:
        runners.ensure("null", f"android-{TARGET.partition('-')[2]}")
    assert "runners add" in str(caught.value.hint)


def test_an_unknown_runtime_is_told_with_the_nearest(cache: Path) -> None:
    with pytest.raises(UsageError) as unknown:
        runners.find("exekutorch", TARGET)
    assert "executorch" in str(unknown.value.hint)


# -- bundles made elsewhere ------------------------------------------------------------------------------------------


def test_a_packed_bundle_can_be_added_elsewhere_and_goes_first(built: Bundle, cache: Path, tmp_path: Path) -> None:
    file, again = tmp_path / "null.tar.xz", tmp_path / "again.tar.xz"
    runners.pack(built, file)
    runners.pack(built, again)
    assert file.read_bytes() == again.read_bytes()
    added = runners.add(file)
    assert (added.sha256, added.files, added.entry) == (built.sha256, built.files, built.entry)
    assert added.path.is_relative_to(cache)
    assert runners.find("null", TARGET) == added == runners.ensure("null", TARGET, pytest.fail)
    assert runners.add(file) == added
    subprocess.run([str(added.binary), "--version"], capture_output=True, timeout=20, check=True)


def member(
    name: str, content: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    return info, content


def archive(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:xz") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return path


def manifest(change: Callable[[dict[str, Any]], None] = lambda raw: None) -> tuple[tarfile.TarInfo, bytes]:
    """Of a bundle whose two files are the program `run` and the loader `glibc/ld.so`, both with the content b"x"."""
    facts = {name: {"sha256": hashlib.sha256(b"x").hexdigest(), "size": 1} for name in ("run", "glibc/ld.so")}
    raw: dict[str, Any] = {
        "schema": bundles.SCHEMA,
        "runtime": "null",
        "version": "1",
        "target": TARGET,
        "entry": "run",
        "loader": "glibc/ld.so",
        "files": facts,
    }
    change(raw)
    return member("manifest.json", json.dumps(raw).encode())


def renamed(name: str) -> Callable[[dict[str, Any]], None]:
    def change(raw: dict[str, Any]) -> None:
        raw["files"][name] = raw["files"]["run"]

    return change


def sized(size: object) -> Callable[[dict[str, Any]], None]:
    return lambda raw: raw["files"]["run"].update(size=size)


def changed(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda raw: raw.update(values)


LOADER = member("glibc/ld.so")
HOSTILE = {
    "empty": (),
    "no manifest": (member("run"),),
    "manifest not first": (member("run"), manifest(), LOADER),
    "a file is missing": (manifest(), LOADER),
    "a file too many": (manifest(), member("run"), LOADER, member("lib/more.so")),
    "a file twice": (manifest(), member("run"), LOADER, member("run")),
    "another content": (manifest(), member("run", b"y"), LOADER),
    "another size": (manifest(), member("run", b"xx"), LOADER),
    "a symbolic link": (manifest(), member("run", kind=tarfile.SYMTYPE, link="/etc/passwd"), LOADER),
    "a hard link": (manifest(), member("run", kind=tarfile.LNKTYPE, link="manifest.json"), LOADER),
    "a device": (manifest(), member("run", kind=tarfile.CHRTYPE), LOADER),
    "an absolute path": (manifest(renamed("/tmp/evil")), member("run"), LOADER, member("/tmp/evil")),
    "a path that climbs": (manifest(renamed("../evil")), member("run"), LOADER, member("../evil")),
    "a path of dots": (manifest(renamed("lib/../../evil")), member("run"), LOADER, member("lib/../../evil")),
    "a second manifest": (manifest(renamed("manifest.json")), member("run"), LOADER, member("manifest.json")),
    "an entry outside": (manifest(changed(entry="../../bin/sh")), member("run"), LOADER),
    "an entry not listed": (manifest(changed(entry="other")), member("run"), LOADER),
    "an older schema": (manifest(changed(schema=1)), member("run"), LOADER),
    "a later schema": (manifest(changed(schema=bundles.SCHEMA + 1)), member("run"), LOADER),
    "no loader": (manifest(changed(loader=None)), member("run"), LOADER),
    "a loader not listed": (manifest(changed(loader="glibc/other")), member("run"), LOADER),
    "a loader outside": (manifest(changed(loader="../../lib/ld.so")), member("run"), LOADER),
    "a loader in no folder": (manifest(changed(loader="run")), member("run"), LOADER),
    "a runtime with a path": (manifest(changed(runtime="../null")), member("run"), LOADER),
    "a target with a path": (manifest(changed(target="linux-x86_64/../..")), member("run"), LOADER),
    "files that are no table": (manifest(changed(files=["run"])), member("run"), LOADER),
    "a size that is no number": (manifest(sized(True)), member("run"), LOADER),
    "a bundle of petabytes": (manifest(sized(1 << 50)), member("run"), LOADER),
    "a manifest that is no JSON": (member("manifest.json", b"{"), member("run")),
    "a manifest nested too deep": (member("manifest.json", b"[" * 100_000), member("run")),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(cache: Path, tmp_path: Path, what: str) -> None:
    file = archive(tmp_path / "bundle.tar.xz", *HOSTILE[what])
    with pytest.raises(PackageError):
        runners.add(file)
    assert not list((cache / "runners" / "added").iterdir())
    assert not list(tmp_path.rglob("evil")) and not Path("/tmp/evil").exists()
    assert runners.listing() == []


def test_the_archive_that_the_hostile_ones_are_made_of_is_accepted(cache: Path, tmp_path: Path) -> None:
    added = runners.add(archive(tmp_path / "good.tar.xz", manifest(), member("run"), LOADER))
    assert added.binary.read_bytes() == b"x"
    assert all(os.access(added.path / name, os.X_OK) for name in (added.entry, added.loader))
    assert added.command("/data/b", own_loader=False) == ["/data/b/run"]
    paths = "/data/b/lib:/data/b/glibc"
    assert added.command("/data/b", own_loader=True) == ["/data/b/glibc/ld.so", "--library-path", paths, "/data/b/run"]


@pytest.mark.parametrize("content", [b"", b"not an archive", b"\xfd7zXZ\x00\x00\x04" + b"\xff" * 64])
def test_a_file_that_is_no_archive_is_refused(cache: Path, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "bundle.tar.xz"
    file.write_bytes(content)
    with pytest.raises(PackageError):
        runners.add(file)
    with pytest.raises(UsageError):
        runners.add(tmp_path / "none.tar.xz")


def test_an_archive_cut_anywhere_is_refused(built: Bundle, cache: Path, tmp_path: Path) -> None:
    whole = tmp_path / "null.tar.xz"
    runners.pack(built, whole)
    content = whole.read_bytes()
    for part in (0.1, 0.5, 0.9, 0.99):
        whole.write_bytes(content[: int(len(content) * part)])
        with pytest.raises(PackageError):
            runners.add(whole)
    assert not list((cache / "runners" / "added").iterdir())


def test_a_damaged_manifest_is_an_error_when_used_and_left_out_of_the_listing(cache: Path, tmp_path: Path) -> None:
    added = runners.add(archive(tmp_path / "good.tar.xz", manifest(), member("run"), LOADER))
    (added.path / bundles.MANIFEST).write_text("{}")
    with pytest.raises(PackageError):
        runners.find("null", TARGET)
    assert runners.listing() == []


# -- the sources -----------------------------------------------------------------------------------------------------


def test_the_loop_sees_no_runtime() -> None:
    folder = device_scripts_dir() / "runner"
    ours = {"loop.h", "runtime.h", "clocks.h"}
    for name in ("loop.h", "loop.cpp", "calibrate.cpp", "runtime.h", "clocks.h"):
        text = (folder / name).read_text()
        assert set(re.findall(r'#include "(.*)"', text)) <= ours
        assert not re.search(r"#include <.*(/|torch|executorch).*>", text)
