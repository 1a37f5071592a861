"""Reading ELF files: what readelf says of them, and that a user's own runner is told apart from what cannot run."""

from __future__ import annotations

import os
import random
import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from harness.devices import elf, runners
from harness.devices.toolchain import host_arch
from harness.errors import PackageError, UsageError

HOST = host_arch()
Built = Callable[..., Path]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """`built(flag, …)`: a small program of this computer, compiled once for the same flags."""
    folder = tmp_path_factory.mktemp("elf")
    source = folder / "main.cpp"
    source.write_text("int main() { return 0; }\n")

    def build(*flags: str) -> Path:
        out = folder / ("program" + "".join(re.sub(r"\W", "_", flag) for flag in flags))
        if not out.exists():
            subprocess.run(["g++", str(source), "-o", str(out), *flags], check=True)
        return out

    return build


def refusal(path: Path, abi: str = HOST, android: bool | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        runners.check_own(path, abi, android)
    assert caught.value.hint
    return caught.value.what


def test_it_reads_what_readelf_reads(built: Built) -> None:
    bundle = runners.ensure("executorch", runners.host_target())
    kinds = ((), ("-static",), ("-static-pie",), ("-no-pie",), ("-shared", "-fPIC"), ("-c",))
    for path in (*(bundle.path / name for name in bundle.files), *(built(*flags) for flags in kinds)):
        argv = ["readelf", "-l", "-d", "-W", str(path)]
        said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        found = elf.read(path)
        assert found.machine == HOST
        assert found.needed == tuple(re.findall(r"\(NEEDED\).*\[(.+)\]", said))
        assert found.runpath == tuple(re.findall(r"\((?:RPATH|RUNPATH)\).*\[(.*)\]", said))
        loader = re.search(r"program interpreter: (.+)\]", said)
        assert found.interpreter == (loader[1] if loader else None)
        loads = [int(number, 16) for number in re.findall(r"^\s*LOAD .*(0x[0-9a-f]+)$", said, re.MULTILINE)]
        assert found.alignment == min(loads, default=0)


def test_a_program_is_told_from_a_library_and_an_object_file(built: Built) -> None:
    for flags in ((), ("-no-pie",), ("-static",), ("-static-pie",)):
        assert elf.read(built(*flags)).program
        runners.check_own(built(*flags), HOST)
    assert "is a library" in refusal(built("-shared", "-fPIC"))
    assert "is a library" in refusal(built("-c"))


def test_the_machine_must_be_the_devices(built: Built, tmp_path: Path) -> None:
    assert re.search(rf"is for {HOST}, the device is armv7l$", refusal(built(), "armv7l"))
    for number, name in ((183, "aarch64"), (62, "x86_64"), (40, "armv7l"), (999, "machine 999")):
        other = tmp_path / "other"
        content = bytearray(built("-static").read_bytes())
        struct.pack_into("<H", content, 18, number)
        other.write_bytes(content)
        assert elf.read(other).machine == name
        assert f"is for {name}," in refusal(other, "riscv64")


def test_a_program_of_32_bits_is_read_too(tmp_path: Path) -> None:
    """Two segments, as a static program for 32-bit ARM has them at the least."""
    head = b"\x7fELF\x01\x01\x01" + bytes(9) + struct.pack("<HHIIIIIHHHHHH", 2, 40, 1, 0, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    (tmp_path / "arm").write_bytes(head + struct.pack("<IIIIIIII", 1, 0, 0, 0, 84, 84, 5, 0x10000))
    assert elf.read(tmp_path / "arm").alignment == 0x10000
    runners.check_own(tmp_path / "arm", "armv7l")
    assert "is for armv7l, the device is aarch64" in refusal(tmp_path / "arm", "aarch64")


def test_each_systems_loader_is_missing_on_the_other(built: Built) -> None:
    bionic = built("-Wl,--dynamic-linker=/system/bin/linker64")
    runners.check_own(bionic, HOST, android=True)
    runners.check_own(built(), HOST, android=False)
    for android in (True, False):
        runners.check_own(built("-static"), HOST, android=android)
    assert "which Android does not have" in refusal(built(), HOST, android=True)
    assert "which only Android has" in refusal(bionic, HOST, android=False)


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"#!/bin/sh\n", b"MZ" + bytes(99), b"\x7fELF\2\2" + bytes(99)])
def test_what_is_no_elf_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert "is no ELF file" in refusal(tmp_path / "file")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "none", tmp_path, tmp_path / "pipe"):
        assert "no such file" in refusal(path)


def test_a_damaged_file_is_refused_or_read_and_never_more(built: Built, tmp_path: Path) -> None:
    chance = random.Random(0)
    whole = built().read_bytes()
    file = tmp_path / "damaged"
    for _ in range(2000):
        content = bytearray(whole[: chance.choice((len(whole), chance.randrange(len(whole))))])
        for _ in range(chance.randrange(1, 9)):
            if content:
                content[chance.randrange(min(len(content), chance.choice((0x400, len(whole)))))] = chance.randrange(256)
        file.write_bytes(content)
        with suppress(PackageError):
            elf.read(file)
    shutil.copyfile(built(), file)
    assert elf.read(file) == elf.read(built())
