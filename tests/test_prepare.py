"""What is set on a device is read back, and put back: at the end, after an interrupt, and after any death.

The phone here is a folder of FAKE Android commands, first on PATH, that keep their state in files; the boards are
folders with the files of /sys. Neither says anything about a real device but what it is asked."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from harness.devices.depot import Depot
from harness.devices.local import Local
from harness.devices.prepare import prepared, restore, wanted
from harness.devices.spec import ANDROID, SETTINGS
from harness.errors import DeviceError, TimedOut
from harness.interfaces import Completed
from harness.paths import device_scripts_dir
from harness.types import DeviceFacts, DeviceSpec
from tests.test_device_scripts import SHELLS, Device
from tests.test_lease import with_tools

FAKE = r"""#!/bin/sh
# FAKE: answers as Android's `settings`, `cmd`, `dumpsys` and `input` do, as far as the harness asks them.
keep() { echo "$2" > "$FAKE_ANDROID/.$1.$$" && mv "$FAKE_ANDROID/.$1.$$" "$FAKE_ANDROID/$1"; }
echo "${0##*/} $*" >> "$FAKE_ANDROID/.log"
[ ! -e "$FAKE_ANDROID/.slow" ] || sleep 0.02
[ ! -e "$FAKE_ANDROID/.hangs.${0##*/}" ] || sleep 60
case "${0##*/} $*" in
"settings get "*) cat "$FAKE_ANDROID/$2.$3" 2>/dev/null || echo null ;;
"settings put "*) [ -e "$FAKE_ANDROID/.stuck.$3" ] || keep "$2.$3" "$4" ;;
"settings delete "*) rm -f "$FAKE_ANDROID/$2.$3"; echo Deleted 1 rows ;;
"cmd connectivity airplane-mode enable") keep global.airplane_mode_on 1 ;;
"cmd connectivity airplane-mode disable") keep global.airplane_mode_on 0 ;;
"cmd power set-fixed-performance-mode-enabled "*)
    [ -e "$FAKE_ANDROID/performance" ] || { echo "Failed to set FIXED_PERFORMANCE mode"; exit 255; }
    keep performance "$3" ;;
"dumpsys power") echo "  mWakefulness=$(cat "$FAKE_ANDROID/wakefulness")"; echo "  mWakefulnessChanging=false" ;;
"dumpsys deviceidle enabled") cat "$FAKE_ANDROID/doze" ;;
"dumpsys deviceidle disable") keep doze 0; echo Deep idle mode disabled ;;
"dumpsys deviceidle enable") keep doze 1; echo Deep idle mode enabled ;;
"input keyevent 223") keep wakefulness Asleep ;;
"input keyevent 224") keep wakefulness Awake ;;
*) echo "Unknown command" >&2; exit 255 ;;
esac
"""
ORIGINAL = {
    "system.screen_brightness": "200",
    "system.screen_brightness_mode": "1",
    "global.airplane_mode_on": "0",
    "global.low_power": "1",
    "doze": "1",
    "wakefulness": "Asleep",
    "performance": "false",
}  # and stay_on_while_plugged_in, which nobody ever set
PREPARED = {
    "system.screen_brightness": "10",
    "system.screen_brightness_mode": "0",
    "global.airplane_mode_on": "1",
    "global.low_power": "0",
    "global.stay_on_while_plugged_in": "7",
    "doze": "0",
    "wakefulness": "Awake",
    "performance": "true",
}
SET = {
    "screen": "on",
    "brightness": "10",
    "brightness_mode": "manual",
    "airplane": "on",
    "performance_mode": "on",
    "stay_awake": "7",
    "battery_saver": "off",
    "doze": "off",
}
PHONE_FACTS = DeviceFacts(
    device_id="00000000", abi="aarch64", cores=8, os="google/shiba/shiba:15/AP3A.241005.015/12366759:user/release-keys"
)
BOARD_FACTS = DeviceFacts(device_id="00000000", abi="aarch64", cores=4, os="Debian GNU/Linux 12")


class Phone:
    """The fake one: its state, and its spec with every Android setting on `auto`."""

    def __init__(self, folder: Path) -> None:
        self.state, bin = folder / "state", folder / "bin"
        for path in (self.state, bin):
            path.mkdir(parents=True)
        self.bin = bin
        (bin / "settings").write_text(FAKE)
        (bin / "settings").chmod(0o755)
        for name in ("cmd", "dumpsys", "input"):
            (bin / name).symlink_to("settings")
        for name, value in ORIGINAL.items():
            (self.state / name).write_text(value + "\n")

    def read(self) -> dict[str, str]:
        return {p.name: p.read_text().strip() for p in self.state.iterdir() if not p.name.startswith(".")}

    def calls(self) -> str:
        log = self.state / ".log"
        return log.read_text() if log.exists() else ""

    def spec(self, uri: str = "adb+usb://SERIAL1", **prepare: str) -> DeviceSpec:
        return DeviceSpec(name="pixel", uri=uri, prepare=prepare or dict.fromkeys(ANDROID, "auto"))


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Phone:
    made = Phone(tmp_path / "fake phone")
    monkeypatch.setenv("FAKE_ANDROID", str(made.state))
    monkeypatch.setenv("PATH", f"{made.bin}:{os.environ['PATH']}")
    return made


@pytest.fixture
def depot(tmp_path: Path) -> Depot:
    return Depot(Local(DeviceSpec(name="local", uri="local")), str(tmp_path / "work dir"), "pixel")


def journal(depot: Depot) -> list[str]:
    folder = Path(depot.workdir) / "journal"
    return sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []


def policies(root: Path, **governors: str) -> Path:
    """A sysroot with these cpufreq policies, like a board's."""
    for name, governor in governors.items():
        folder = root / "sys/devices/system/cpu/cpufreq" / name
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(governor + "\n")
        (folder / "scaling_available_governors").write_text("performance powersave schedutil\n")
        (folder / "scaling_min_freq").write_text("600000\n")
        (folder / "scaling_max_freq").write_text("1800000\n")
    return root


def governor(root: Path, policy: str, leaf: str = "scaling_governor") -> str:
    return (root / "sys/devices/system/cpu/cpufreq" / policy / leaf).read_text().strip()


# -- a phone ----------------------------------------------------------------------------------------------------------


def test_a_phone_is_prepared_read_back_and_put_back(phone: Phone, depot: Depot) -> None:
    said: list[str] = []
    with prepared(depot, phone.spec(), PHONE_FACTS, said.append) as record:
        assert phone.read() == PREPARED
        assert record == {"set": SET, "not_set": {}}
    assert phone.read() == ORIGINAL  # what had no value has none again
    assert journal(depot) == []
    assert said == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_it_is_put_back_after_an_error_and_an_interrupt(phone: Phone, depot: Depot, error: type[BaseException]) -> None:
    with pytest.raises(error), prepared(depot, phone.spec(), PHONE_FACTS):
        raise error
    assert phone.read() == ORIGINAL


def test_each_way_is_one_call(phone: Phone, depot: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    depot.script("prepare.sh")
    calls: list[Sequence[str]] = []
    run = depot.transport.run

    def counted(argv: Sequence[str], *more: object) -> Completed:
        calls.append(argv)
        return run(argv, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(depot.transport, "run", counted)
    with prepared(depot, phone.spec(), PHONE_FACTS):
        pass
    assert len(calls) == 2


def test_only_what_is_named_is_touched_and_what_is_right_stays(phone: Phone, depot: Depot) -> None:
    (phone.state / "wakefulness").write_text("Awake\n")
    with prepared(depot, phone.spec(screen="auto", doze="leave", brightness="33"), PHONE_FACTS) as record:
        assert record["set"] == {"screen": "on", "brightness": "33", "brightness_mode": "manual"}
        assert "screen" not in journal(depot)
    assert "input" not in phone.calls()
    assert "deviceidle" not in phone.calls()
    assert phone.read() == ORIGINAL | {"wakefulness": "Awake"}


def test_the_brightness_is_put_back_before_it_is_automatic_again(phone: Phone, depot: Depot) -> None:
    with prepared(depot, phone.spec(brightness="auto"), PHONE_FACTS):
        (phone.state / ".log").unlink()
    puts = [line for line in phone.calls().splitlines() if " put " in line]
    assert puts == ["settings put system screen_brightness 200", "settings put system screen_brightness_mode 1"]


def test_what_a_device_lacks_or_refuses_is_recorded_and_no_error(phone: Phone, depot: Depot) -> None:
    (phone.state / "performance").unlink()
    (phone.state / "wakefulness").write_text("Sitting\n")
    (phone.state / ".stuck.low_power").touch()
    with prepared(depot, phone.spec(), PHONE_FACTS) as record:
        assert record["not_set"] == {
            "performance_mode": "it stayed as it was: this device does not offer it",
            "screen": "it cannot be read",
            "battery_saver": "it stayed 1",
        }
        assert record["set"] == {k: v for k, v in SET.items() if k not in record["not_set"]}
        assert not {"performance_mode", "screen", "battery_saver"} & set(journal(depot))
    assert journal(depot) == []


def test_what_the_user_changed_meanwhile_stays_theirs(phone: Phone, depot: Depot) -> None:
    said: list[str] = []
    with prepared(depot, phone.spec(), PHONE_FACTS, said.append):
        (phone.state / "system.screen_brightness").write_text("77\n")
    assert phone.read() == ORIGINAL | {"system.screen_brightness": "77"}
    assert said == ["pixel: brightness was changed meanwhile to 77, and stays so"]
    assert journal(depot) == []


def test_what_cannot_be_put_back_stays_in_the_journal_for_the_next_time(phone: Phone, depot: Depot) -> None:
    said: list[str] = []
    with prepared(depot, phone.spec(), PHONE_FACTS, said.append):
        (phone.state / ".stuck.low_power").touch()
    assert journal(depot) == ["battery_saver"]
    assert "battery_saver could not be put back" in said[0]
    with prepared(depot, phone.spec(battery_saver="on"), PHONE_FACTS) as record:
        pass  # nothing is lost by whoever comes between
    (phone.state / ".stuck.low_power").unlink()
    restore(depot)
    assert phone.read() == ORIGINAL
    assert journal(depot) == []
    assert "battery_saver" in record["not_set"]


def test_a_service_that_hangs_keeps_no_other_setting_from_being_put_back(phone: Phone, depot: Depot) -> None:
    with prepared(depot, phone.spec(), PHONE_FACTS):
        (phone.state / ".hangs.input").touch()
        (phone.state / ".hangs.cmd").touch()
    (phone.state / ".hangs.input").unlink()
    (phone.state / ".hangs.cmd").unlink()
    left = {"wakefulness": "Awake", "global.airplane_mode_on": "1", "performance": "true"}
    assert phone.read() == ORIGINAL | left
    restore(depot)
    assert phone.read() == ORIGINAL


def test_a_link_that_fails_at_the_end_does_not_hide_what_happened(
    phone: Phone, depot: Depot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*args: object, **more: object) -> Completed:
        raise TimedOut("cut")

    said: list[str] = []
    with pytest.raises(RuntimeError), prepared(depot, phone.spec(), PHONE_FACTS, said.append):
        monkeypatch.setattr(depot.transport, "run", cut)
        raise RuntimeError
    monkeypatch.undo()
    assert "not put back yet" in said[0]


@pytest.mark.parametrize(
    ("uri", "cable"),
    [
        ("adb+usb://SERIAL1", True),
        ("adb://R58M12ABCDE", True),
        ("adb://emulator-5554", True),
        ("adb://R58M12ABCDE?server=10.0.0.2:5037", True),
        ("adb://", False),
        ("adb://192.168.1.7:5555", False),
        ("adb://myphone:5555?server=10.0.0.2:5037", False),
        ("adb://[fe80::1%wlan0]:5555", False),
        ("adb://adb-R58M12ABCDE-xYz123._adb-tls-connect._tcp", False),
        ("adb://adb-R58M12ABCDE-xYz123", False),
        ("adb+tcp://192.168.1.7:5555", False),
        ("ssh://phone", False),
    ],
)
def test_airplane_mode_is_touched_over_a_cable_and_nothing_else(phone: Phone, uri: str, cable: bool) -> None:
    words, not_set = wanted(phone.spec(uri, airplane="auto"), PHONE_FACTS)
    assert words == (["airplane=1"] if cable else [])
    assert not_set == ({} if cable else {"airplane": "it could cut the link in use"})


def test_over_wifi_the_rest_is_set_and_airplane_mode_is_not_even_read(phone: Phone, depot: Depot) -> None:
    with prepared(depot, phone.spec("adb+tcp://10.0.0.2:5555"), PHONE_FACTS) as record:
        assert record["set"] == {k: v for k, v in SET.items() if k != "airplane"}
    assert "airplane" not in phone.calls()


@pytest.mark.parametrize("value", ["$(reboot)", "1; reboot", "", "-1", "on off", "\n0", "99999999"])
def test_a_value_that_cannot_be_never_reaches_the_device(phone: Phone, value: str) -> None:
    asked = {**dict.fromkeys(SETTINGS, value), "wifi": "off"}
    spec = DeviceSpec(name="x", uri="adb+usb://S", prepare=asked)
    words, not_set = wanted(spec, PHONE_FACTS)
    assert not words
    assert set(not_set) == {*SETTINGS, "wifi"}


def test_nothing_is_asked_of_a_device_where_nothing_may_be_set(depot: Depot) -> None:
    spec = DeviceSpec(name="local", uri="local", prepare={"screen": "auto", "governor": "leave"})
    with prepared(depot, spec, BOARD_FACTS) as record:
        assert record == {"set": {}, "not_set": {"screen": "only Android has it"}}
    assert not Path(depot.workdir).exists()


# -- a journal that others wrote --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("brightness", "200 10 direct"),
        ("brightness", "$(touch pwned) 10 direct /"),
        ("brightness", "200;reboot 10 direct /"),
        ("brightness", "200 10 magic /"),
        ("brightness", "-1 10 direct /"),
        ("airplane", "1 0 direct /"),  # would cut the link
        ("wifi", "1 0 direct /"),
        ("governor.policy0", "../x performance direct /"),
        ("governor.policy0/../../x", "x performance direct /"),
        ("governor.x", "schedutil performance direct /"),
        ("$(touch pwned)", "1 0 direct /"),
        ("-rf", "1 0 direct /"),
        ("a\nundone b c", "1 0 direct /"),
        ("screen", "x" * 3000),
    ],
)
def test_an_entry_that_makes_no_sense_is_removed_and_never_obeyed(
    phone: Phone, depot: Depot, name: str, text: str
) -> None:
    folder = Path(depot.workdir) / "journal"
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).symlink_to(text)
    before = phone.read()
    said: list[str] = []
    restore(depot, say=said.append)
    assert phone.read() == before
    assert not [call for call in phone.calls().splitlines() if " get " not in call]
    assert not Path("pwned").exists()
    if "/" not in name:
        assert journal(depot) == []
        assert len(said) == 1
        assert "made no sense" in said[0]
        assert said[0].isprintable()


def test_nothing_outside_our_folder_is_removed(phone: Phone, depot: Depot, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "file").write_text("keep")
    (theirs / "screen").symlink_to("file")
    Path(depot.workdir).mkdir()
    (Path(depot.workdir) / "journal").symlink_to(theirs)
    restore(depot)
    with prepared(depot, phone.spec(), PHONE_FACTS):
        assert sorted(p.name for p in theirs.iterdir()) == ["file", "screen"]
    assert phone.read() == ORIGINAL


def test_a_device_that_cannot_keep_a_journal_is_not_changed(phone: Phone, depot: Depot) -> None:
    Path(depot.workdir).mkdir()
    (Path(depot.workdir) / "journal").write_text("in the way")
    with pytest.raises(DeviceError, match="begin failed"), prepared(depot, phone.spec(), PHONE_FACTS):
        raise AssertionError
    assert phone.read() == ORIGINAL


# -- boards -----------------------------------------------------------------------------------------------------------


def board(sysroot: Path, root: bool = False) -> DeviceSpec:
    return DeviceSpec(name="pi", uri="ssh://pi", sysroot=str(sysroot), root=root, prepare={"governor": "auto"})


def test_every_policy_gets_the_governor_and_its_own_back(depot: Depot, tmp_path: Path) -> None:
    root = policies(tmp_path / "a root", policy0="schedutil", policy4="powersave", policy6="performance")
    with prepared(depot, board(root), BOARD_FACTS) as record:
        assert record["set"] == dict.fromkeys([f"governor.policy{n}" for n in (0, 4, 6)], "performance")
        assert {governor(root, p) for p in ("policy0", "policy4", "policy6")} == {"performance"}
    assert [governor(root, p) for p in ("policy0", "policy4", "policy6")] == ["schedutil", "powersave", "performance"]
    assert journal(depot) == []


def test_without_such_a_governor_the_lowest_clock_is_raised(depot: Depot, tmp_path: Path) -> None:
    root = policies(tmp_path / "root", policy0="schedutil")
    (root / "sys/devices/system/cpu/cpufreq/policy0/scaling_available_governors").write_text("schedutil\n")
    with prepared(depot, board(root), BOARD_FACTS) as record:
        assert record["set"] == {"clock.policy0": "1800000"}
        assert governor(root, "policy0", "scaling_min_freq") == "1800000"
    assert governor(root, "policy0", "scaling_min_freq") == "600000"
    assert governor(root, "policy0") == "schedutil"


def test_a_governor_that_does_not_stick_is_not_set(depot: Depot, tmp_path: Path) -> None:
    root = policies(tmp_path / "root", policy0="schedutil", policy4="schedutil")
    file = root / "sys/devices/system/cpu/cpufreq/policy4/scaling_governor"
    file.unlink()
    file.symlink_to("/proc/self/comm")  # takes what is written, and reads as whoever reads it
    with prepared(depot, board(root), BOARD_FACTS) as record:
        assert record["set"] == {"governor.policy0": "performance"}
        assert record["not_set"]["governor.policy4"].startswith("it stayed ")


def test_a_board_without_cpufreq_says_so(depot: Depot, tmp_path: Path) -> None:
    with prepared(depot, board(tmp_path / "empty"), BOARD_FACTS) as record:
        assert record == {"set": {}, "not_set": {"governor": "this device shows no cpufreq"}}


def test_a_journal_of_another_sysroot_is_kept_for_who_knows_it(depot: Depot, tmp_path: Path) -> None:
    root = policies(tmp_path / "root", policy0="performance")
    other = policies(tmp_path / "other", policy0="performance")
    (Path(depot.workdir) / "journal").mkdir(parents=True)
    (Path(depot.workdir) / "journal" / "governor.policy0").symlink_to(f"schedutil performance direct {root}/")
    said: list[str] = []
    restore(depot, str(other), said.append)
    assert "another time" not in said[0]
    assert governor(other, "policy0") == "performance"
    restore(depot, str(root), said.append)
    assert governor(root, "policy0") == "schedutil"
    assert journal(depot) == []


FAKE_SU = """#!/bin/sh
# FAKE: may write what its caller may not
chmod u+w "$GOVERNOR"
case ${0##*/} in
su) [ "$1" = -c ] && sh -c "$2" ;;
sudo) [ "$1" = -n ] && shift && "$@" ;;
esac
code=$?
chmod u-w "$GOVERNOR"
exit $code
"""


class Nobody(Local):
    """This computer, as a login without any rights."""

    def run(self, argv: Sequence[str], timeout_s: float = 30.0, stdin: bytes = b"") -> Completed:
        drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
        return super().run([*drop, *argv], timeout_s, stdin)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Where another user may go: pytest's own folders are private."""
    folder = Path(tempfile.mkdtemp(prefix="harness-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("has", ["su", "sudo", "neither"])
def test_what_the_login_may_not_write_goes_by_su_or_sudo_or_not_at_all(
    has: str, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, bin = policies(open_folder / "a root", policy0="schedutil"), open_folder / "bin"
    file = root / "sys/devices/system/cpu/cpufreq/policy0/scaling_governor"
    bin.mkdir()
    for name in ("su", "sudo"):
        (bin / name).write_text(FAKE_SU if name == has else "#!/bin/sh\nexit 1\n")
        (bin / name).chmod(0o755)
    (open_folder / "work").mkdir()
    file.chmod(0o444)
    if os.geteuid() == 0:
        for path in (file, open_folder / "work"):
            os.chown(path, 65534, 65534)
    monkeypatch.setenv("PATH", f"{bin}:{os.environ['PATH']}")
    monkeypatch.setenv("GOVERNOR", str(file))
    spec = board(root, root=has == "su")
    depot = Depot(Nobody(spec), str(open_folder / "work"), "pi")
    # pushed by this process's own user, as `Local` does, before the other runs it
    with prepared(depot, spec, BOARD_FACTS) as record:
        if has == "neither":
            assert record == {"set": {}, "not_set": {"governor.policy0": "this login may not set it"}}
        else:
            assert record == {"set": {"governor.policy0": "performance"}, "not_set": {}}
            assert governor(root, "policy0") == "performance"
    assert governor(root, "policy0") == "schedutil"


# -- death at any moment ----------------------------------------------------------------------------------------------

HOST = """
import sys
from harness.devices.depot import Depot
from harness.devices.local import Local
from harness.devices.prepare import prepared
from harness.types import DeviceFacts, DeviceSpec
work, root, fingerprint = sys.argv[1:4]
prepare = dict.fromkeys(sys.argv[4:], "auto")
spec = DeviceSpec(name="pixel", uri="adb+usb://S", sysroot=root, prepare=prepare)
facts = DeviceFacts(device_id="00000000", abi="aarch64", cores=8, os=fingerprint)
depot = Depot(Local(spec), work, "pixel")
depot.script("prepare.sh")
print("ready", flush=True)
while True:
    with prepared(depot, spec, facts):
        print("prepared", flush=True)
"""


def everything_of(phone: Phone) -> list[psutil.Process]:
    """Whatever runs with this phone's state: the device's side of a host that died."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get("FAKE_ANDROID") == str(phone.state):
                found.append(process)
    return found


def test_a_host_killed_at_any_moment_leaves_nothing_that_restore_does_not_put_back(
    phone: Phone, depot: Depot, tmp_path: Path
) -> None:
    root = policies(tmp_path / "a root", policy0="schedutil", policy4="powersave")
    (phone.state / ".slow").touch()
    chance = random.Random(0)
    seen = set()
    assert PHONE_FACTS.os is not None
    for turn in range(24):
        host = subprocess.Popen(
            [sys.executable, "-c", HOST, depot.workdir, str(root), PHONE_FACTS.os, *SETTINGS], stdout=subprocess.PIPE
        )
        assert host.stdout is not None
        assert host.stdout.readline() == b"ready\n"
        time.sleep(chance.random() * 1.5)
        host.kill()
        host.communicate()
        time.sleep(0.2)  # sooner nobody can be there: what it asked for last has begun, or never will
        if turn % 2:  # and the device lost its power, too: nothing goes on there
            while left := everything_of(phone):
                for process in left:
                    with suppress(psutil.Error):
                        process.kill()
                psutil.wait_procs(left)
        now = phone.read()
        seen.add("before" if now == ORIGINAL and not journal(depot) else "written" if now == ORIGINAL else "changed")
        said: list[str] = []
        restore(depot, str(root), said.append)
        assert not said
        assert phone.read() == ORIGINAL
        assert (governor(root, "policy0"), governor(root, "policy4")) == ("schedutil", "powersave")
        assert journal(depot) == []
        assert not everything_of(phone)
    assert "changed" in seen  # else nothing was proven


# -- the script itself, under every shell -----------------------------------------------------------------------------


@pytest.fixture(params=SHELLS)
def device(request: pytest.FixtureRequest, tmp_path: Path) -> Device:
    if shutil.which(request.param) is None:
        pytest.skip(f"apt-get install {request.param}")
    return with_tools(Device(request.param, tmp_path / "a device"), request.param)


def test_every_shell_sets_and_puts_back(device: Device, phone: Phone, tmp_path: Path) -> None:
    root = policies(tmp_path / "a root", policy0="schedutil", policy4="powersave")

    def ask(*words: str) -> list[str]:
        done = subprocess.run(
            [str(device.bin / "sh"), str(device_scripts_dir() / "prepare.sh"), *words],
            capture_output=True, timeout=60, text=True,
            env={"PATH": f"{phone.bin}:{device.bin}:/usr/bin:/bin", "FAKE_ANDROID": str(phone.state)},
        )  # fmt: skip
        assert not done.stderr, done.stderr
        return sorted(done.stdout.splitlines())

    words, _ = wanted(phone.spec(**dict.fromkeys(SETTINGS, "auto")), PHONE_FACTS)
    work = str(tmp_path / "a 'work' dir")
    assert ask("undo", work, str(root)) == []
    first = ask("begin", work, str(root), "no", *words)
    assert first == sorted(
        [f"set {word.replace('=', ' ')}" for word in words if not word.startswith("governor")]
        + ["set governor.policy0 performance", "set governor.policy4 performance"]
    )
    assert ask("begin", work, str(root), "no", *words) == first  # asked twice
    assert phone.read() == PREPARED
    assert len(ask("undo", work, str(root))) == len(first)
    assert ask("undo", work, str(root)) == []
    assert phone.read() == ORIGINAL
    assert (governor(root, "policy0"), governor(root, "policy4")) == ("schedutil", "powersave")
    assert list(Path(work, "journal").iterdir()) == []
