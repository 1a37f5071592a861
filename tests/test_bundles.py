"""What a bundle promises: it runs where nothing is installed, for every architecture, and computes the same there.

The foreign architecture runs by qemu's user mode. That says whether it loads and computes right, not how fast it is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import package as packages
from harness.devices import runners, sdk, toolchain
from harness.devices.bundle import Bundle
from harness.errors import ToolchainError, UsageError
from tests.runner_kit import Models

pytest_plugins = ["tests.runner_kit"]

ARCHES = ("x86_64", "aarch64")
HOST = toolchain.host_arch()
MODELS = ("fp32.pte", "int8.pte", "cnn.pte", "cnn.ptl", "int8-qnnpack.ptl", "int8-x86.ptl")
#: qemu's default CPU has SME, whose int8 kernels give wrong numbers there
QEMU = {"aarch64": ("qemu-aarch64-static", "cortex-a76"), "x86_64": ("qemu-x86_64-static", "max")}
#: what XNNPACK's look at the CPU needs besides the bundle
CPUINFO = "".join(
    f"processor\t: {cpu}\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x4\nCPU part\t: 0xd0b\n\n"
    for cpu in range(2)
)


def needs(*programs: str) -> None:
    """Skips where one is missing, but never in CI."""
    missing = [name for name in programs if shutil.which(name) is None]
    if missing and not os.environ.get("CI"):
        pytest.skip(f"{', '.join(missing)} missing: apt install g++-aarch64-linux-gnu qemu-user-static")


def ensured(runtime: str, arch: str) -> Bundle:
    if arch != HOST:
        needs(f"{arch}-linux-gnu-g++")
    return runners.ensure(runtime, f"linux-{arch}")


# -- what is in it -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("runtime", runners.RUNTIMES)
def test_every_library_that_a_file_of_a_bundle_needs_is_in_it_and_nothing_points_outside(
    runtime: str, arch: str
) -> None:
    bundle = ensured(runtime, arch)
    there = {Path(name).name for name in bundle.files}
    machine = {"x86_64": "X86-64", "aarch64": "AArch64"}[arch]
    for name in bundle.files:
        path = bundle.path / name
        assert path.is_file() and not path.is_symlink()
        argv = ["readelf", "-h", "-l", "-d", "-W", str(path)]
        text = subprocess.run(argv, capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]}).stdout
        assert re.search(rf"Machine:.*{machine}", text), name
        assert set(re.findall(r"\(NEEDED\).*\[(.+)\]", text)) <= there, name
        for paths in re.findall(r"\((?:RPATH|RUNPATH)\).*\[(.*)\]", text):
            assert all(part.split("/")[0] == "$ORIGIN" for part in paths.split(":")), (name, paths)
        if arch == "aarch64":  # whose kernels may have pages of 16 KiB
            aligned = [int(number, 16) for number in re.findall(r"^\s*LOAD .*(0x[0-9a-f]+)$", text, re.MULTILINE)]
            assert aligned and min(aligned) >= 16 << 10, name


@pytest.mark.parametrize("arch", ARCHES)
def test_the_program_the_loader_and_nothing_else_are_to_be_executed(arch: str, tmp_path: Path) -> None:
    bundle = ensured("null", arch)
    assert set(bundle.executables) == {bundle.entry, bundle.loader} <= set(bundle.files)
    assert all(os.access(bundle.path / name, os.X_OK) for name in bundle.executables)
    runners.pack(bundle, tmp_path / "null.tar.xz")
    listed = subprocess.run(
        ["tar", "-tvJf", str(tmp_path / "null.tar.xz")], capture_output=True, text=True, check=True
    ).stdout
    modes = {line.split()[-1]: line.split()[0] for line in listed.splitlines()}
    assert {name for name, mode in modes.items() if "x" in mode} == set(bundle.executables)


def test_an_android_device_is_served_by_the_linux_bundle() -> None:
    for arch in {HOST, "aarch64"}:
        bundle = ensured("null", arch)
        assert bundle == runners.ensure("null", f"android-{arch}") == runners.find("null", f"android-{arch}")
    for target in ("android-arm64", "linux-armv7l", "windows-x86_64", "linux", "linux-x86_64/.."):
        with pytest.raises(UsageError) as caught:
            runners.ensure("null", target)
        assert "android-aarch64" in str(caught.value.hint)


# -- it runs where nothing is --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A model's file and its inputs: what follows the index in the runner's --input, and the file."""

    runtime: str
    model: Path
    inputs: Sequence[tuple[str, Path]]


@pytest.fixture(scope="module")
def cases(models: Models, package: Path) -> dict[str, Case]:
    """A quantized and a plain model as `harness build` makes them, and a convolution for either runtime."""
    found = {}
    image = [("float32:1,1,8,8", models.folder / "cnn.0.bin")]
    found["cnn.pte"] = Case("executorch", models.file("cnn.xnnpack.pte"), image)
    found["cnn.ptl"] = Case("torchscript", models.file("cnn.ptl"), image)
    for engine in ("qnnpack", "x86"):  # no libtorch for aarch64 has the latter: it is passed over there
        made = torch_int8(engine, models.folder / f"int8-{engine}.ptl", models.folder / "cnn.0.bin")
        found[made.name] = Case("torchscript", made, image)
    content, files = packages.read(package)
    for build in content.builds:
        if build.artifact is not None and build.artifact.suffix == ".pte":
            inputs = [
                (f"{file.spec.dtype}:{','.join(map(str, file.spec.shape))}", files(file.sha256, ".bin"))
                for file in content.checks[build.input].inputs
            ]
            model = files(build.artifact.sha256, build.artifact.suffix)
            found[f"{build.variant}.pte"] = Case(build.artifact.runtime, model, inputs)
    assert set(MODELS) <= set(found)
    return found


def torch_int8(engine: str, out: Path, images: Path) -> Path:
    """A convolution and a linear layer in torch's own int8, calibrated on what it will be given."""
    import torch

    from harness import registry
    from harness.interfaces import Compressed, Workbench

    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8 * 36, 10)).eval()
    given = torch.from_numpy(np.fromfile(images, "<f4").reshape(-1, 1, 1, 8, 8))
    technique, exporter = (registry.load(*one) for one in (("technique", "quantize_eager"),
                                                            ("exporter", "torchscript_lite")))
    work = Workbench(seed=0, teacher=model, example_inputs=(given[0],),
                     calibration=lambda size: [((image,), torch.zeros(1)) for image in given])
    start = Compressed(module=model, form="eager", example_inputs=(given[0],))
    made = technique().apply(start, technique.Params(engine=engine), work)
    exporter().export(made, exporter.Params(), out)
    return out


def flags(case: Case, folder: str) -> list[str]:
    out = ["--purpose", "accuracy", "--model", f"{folder}/model", "--outputs", f"{folder}/out"]
    for index, (form, _) in enumerate(case.inputs):
        out += ["--input", f"{index}:{form}:{folder}/{index}.bin"]
    return out


def laid_out(case: Case, folder: Path) -> None:
    (folder / "out").mkdir(parents=True)
    shutil.copyfile(case.model, folder / "model")
    for index, (_, file) in enumerate(case.inputs):
        shutil.copyfile(file, folder / f"{index}.bin")


def linked(source: str, target: str) -> None:
    """torch's libraries are hundreds of megabytes."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


class Empty:
    """A folder with the bundle and no system, entered by chroot where that is allowed."""

    def __init__(self, folder: Path, bundle: Bundle) -> None:
        self.folder, self.bundle = folder, bundle
        self.arch = bundle.target.partition("-")[2]
        shutil.copytree(bundle.path, folder / "bundle", copy_function=linked)
        self.inside = "" if os.geteuid() == 0 else str(folder)
        for name, text in {
            "proc/cpuinfo": CPUINFO,
            "sys/devices/system/cpu/possible": "0-1\n",
            "sys/devices/system/cpu/present": "0-1\n",
        }.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)

    def prefix(self) -> list[str]:
        """argv that enters the folder, and emulates where that is needed."""
        argv = ["chroot", str(self.folder)] if os.geteuid() == 0 else []
        if self.arch == HOST:
            return argv
        program, cpu = QEMU[self.arch]
        needs(program)
        shutil.copy2(str(shutil.which(program)), self.folder / "qemu")
        return [*argv, f"{self.inside}/qemu", "-cpu", cpu, *([] if argv else ["-L", "none"])]

    def run(self, *words: str, own_loader: bool = True) -> subprocess.CompletedProcess[bytes]:
        argv = [*self.prefix(), *self.bundle.command(f"{self.inside}/bundle", own_loader), *words]
        clean = {"PATH": os.environ["PATH"]}
        return subprocess.run(argv, capture_output=True, timeout=300, check=False, env=clean)


def outputs(folder: Path, stdout: bytes) -> list[np.ndarray[Any, Any]]:
    lines = [json.loads(line) for line in stdout.splitlines()]
    assert lines and lines[-1]["type"] == "end" and lines[-1]["status"] == "ok", lines[-2:]
    found = [line for line in lines if line["type"] == "output"]
    return [np.fromfile(folder / "out" / f"{line['index']}.bin", line["dtype"]) for line in found]


def sqnr_db(given: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> float:
    noise = float(np.square(given.astype(np.float64) - wanted).sum())
    return float("inf") if noise == 0 else 10 * float(np.log10(np.square(wanted.astype(np.float64)).sum() / noise))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("arch", ARCHES)
def test_by_its_own_loader_in_an_empty_root_a_bundle_computes_what_the_hosts_does(
    cases: dict[str, Case], arch: str, name: str, tmp_path: Path
) -> None:
    case = cases[name]
    laid_out(case, tmp_path / "host")
    argv = [*ensured(case.runtime, HOST).command(str(ensured(case.runtime, HOST).path), own_loader=False)]
    here = subprocess.run([*argv, *flags(case, str(tmp_path / "host"))], capture_output=True, timeout=300, check=True)
    wanted = outputs(tmp_path / "host", here.stdout)

    empty = Empty(tmp_path / "root", ensured(case.runtime, arch))
    laid_out(case, tmp_path / "root" / "work")
    there = empty.run(*flags(case, f"{empty.inside}/work"))
    assert there.returncode == 0, there.stderr.decode()[-2000:] + there.stdout.decode()[-500:]
    given = outputs(tmp_path / "root" / "work", there.stdout)

    assert len(given) == len(wanted) > 0
    for a, b in zip(given, wanted, strict=True):
        assert a.shape == b.shape and np.abs(b).max() > 0
        if arch == HOST:
            assert np.array_equal(a, b)
        elif name.startswith("int8"):  # other kernels round in another order: a step of quantization here and there
            assert sqnr_db(a, b) >= 30
        else:
            assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()


@pytest.mark.parametrize("arch", ARCHES)
def test_the_empty_root_has_no_c_library_of_its_own(arch: str, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may enter an empty root; run as root")
    empty = Empty(tmp_path / "root", ensured("null", arch))
    assert empty.run("--version").stdout == b"null 1\n"
    assert empty.run("--version", own_loader=False).returncode != 0


# -- what building takes -------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with nothing in it."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


FOREIGN = next(arch for arch in ARCHES if arch != HOST)


def test_no_cross_compiler_is_one_message_with_the_package_and_nothing_is_fetched(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(f"HARNESS_CXX_{FOREIGN.upper()}", raising=False)
    monkeypatch.setattr(toolchain.shutil, "which", lambda name: None if "linux-gnu" in name else "/usr/bin/g++")
    for runtime in runners.RUNTIMES:
        with pytest.raises(ToolchainError, match=f"no C\\+\\+ compiler for {FOREIGN}") as caught:
            runners.ensure(runtime, f"android-{FOREIGN}")
        assert f"apt install g++-{FOREIGN.replace('_', '-')}-linux-gnu" in str(caught.value.hint)
        assert "runners add" in str(caught.value.hint)
    assert not elsewhere.exists()


def test_each_architecture_has_a_variable_for_its_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "g++ -g0")
    monkeypatch.setenv(f"HARNESS_CXX_{FOREIGN.upper()}", "g++ -g1")
    assert toolchain.compiler(HOST) == ["g++", "-g0"]
    assert toolchain.compiler(FOREIGN) == ["g++", "-g1"]


def shim(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_without_apt_the_missing_zlib_has_a_remedy_and_leaves_no_half(
    elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim(tmp_path / "bin", "apt-get", "echo E: no network >&2; exit 100")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(ToolchainError, match="no network") as caught:
        toolchain.closure(["libz.so.1"], [], "aarch64")
    assert "runners add" in str(caught.value.hint)
    assert [path.name for path in (elsewhere / "sdk").iterdir()] == ["zlib1g-arm64.lock"]


def small_sdk(monkeypatch: pytest.MonkeyPatch, root: Path, needed: str) -> list[str]:
    """The SDK is a folder whose one library needs `needed`; the list is of what was forgotten."""
    (root / "include").mkdir(parents=True)
    (root / "lib").mkdir()
    source = root / "empty.cpp"
    source.write_text("")
    build = ["g++", "-shared", "-o"]
    subprocess.run([*build, root / needed, source, f"-Wl,-soname,{needed}"], check=True)
    argv = [*build, root / "lib" / "libone.so", source, "-Wl,--no-as-needed", root / needed]
    subprocess.run(argv, check=True)
    forgotten: list[str] = []
    monkeypatch.setattr(sdk, "fetch", lambda sdk, arch, say: root)
    monkeypatch.setattr(sdk, "forget", lambda sdk, arch: forgotten.append(arch))
    return forgotten


@pytest.mark.parametrize(("needed", "forgets"), [("libcudart.so.12", True), ("libz.so.1", False)])
def test_an_sdk_is_forgotten_where_it_is_the_wrong_one_not_where_something_else_is_missing(
    elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needed: str, forgets: bool
) -> None:
    forgotten = small_sdk(monkeypatch, tmp_path / "sdk", needed)
    shim(tmp_path / "bin", "apt-get", "echo E: no network >&2; exit 100")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    recipe = runners.Recipe(
        sdk=sdk.Sdk(package="one", version="1", include="include", libraries=("lib",)),
        version="1",
        flags=(),
        registers=("libone.so",),
    )
    (tmp_path / "main.cpp").write_text("int main() {}")
    quiet: Callable[[str], None] = lambda text: None  # noqa: E731 - a name would say no more
    with pytest.raises(ToolchainError, match=needed if forgets else "no network"):
        runners.compile_program(recipe, [tmp_path / "main.cpp"], tmp_path / "main", quiet)
    assert forgotten == ([HOST] if forgets else [])
