"""The plugin for pytest as a project's tests see it; the examples of docs/pytest.md are among them."""

from __future__ import annotations

import fnmatch
import importlib.util
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import harness.pytest_session
import harness.pytest_words as words
from harness.answers import Result
from harness.metrics import METRICS
from harness.pytest_plugin import NO_DEVICE

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = (ROOT / "docs" / "pytest.md").read_text()
SIM = "sim://pi5-fan?seed=1"
QUICK = ("--ondevice-repeats", "3", "--ondevice-seconds", "0.05")

NET = '''
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(16, 64), torch.nn.ReLU(), torch.nn.Dropout(), torch.nn.Linear(64, 4)
        )

    def forward(self, x):
        return self.layers(x)
'''
MAKE = """
import numpy as np, torch
from pathlib import Path
from harness.experiment import Measure
from harness.live import exported
from harness.package import Files
from net import Net
x = torch.linspace(-1, 1, 16).reshape(1, 16)
made = exported(Net(), x, measure=Measure(), device="local", files=Files(Path("made"))).builds[0].artifact
Path("model.pte").write_bytes((Path("made") / made.file_name).read_bytes())
np.savez("golden.npz", x=x.numpy(), y=Net().eval()(x).detach().numpy())
"""
#: beside the documentation's own: what goes wrong, and how it is told
MORE = '''
import pytest
import torch

from harness.errors import NotMeasured, UsageError
from net import Net

X = torch.ones(1, 16)
asked = []


@pytest.fixture
def result(ondevice):
    return ondevice("model.pte")


def test_wrong_output(ondevice):
    ondevice(Net(), inputs=X, expect=torch.ones(1, 4))


def test_holds_and_must_not(result):
    assert not result.latency_ms < 40


def test_undecided_is_no_no(result):
    assert not result.latency_ms.p50 < 1.0001 * result.latency_ms.p50.value


def test_exact(result):
    assert 10_000_000 <= result.size_bytes


def test_absent(result):
    assert result.energy_j < 1


def test_refused(ondevice):
    with pytest.raises(UsageError, match="none are given"):
        ondevice(Net())
    with pytest.raises(NotMeasured):
        ondevice(Net(), inputs=X, expect=torch.ones(1, 4))


def test_two_things(ondevice, monkeypatch, tmp_path):
    first = ondevice("model.pte")
    assert ondevice("model.pte").document["runs"] == first.document["runs"]
    second = ondevice(Net(), inputs=X)
    monkeypatch.chdir(tmp_path)
    assert ondevice(Net(), inputs=X).document["runs"] == second.document["runs"] != first.document["runs"]
    assert ondevice(Net(), inputs=X, repeats=2).document["repeats"] == 2


def test_without_a_device_of_its_own(request):
    assert request.getfixturevalue("ondevice").device.startswith("sim://")
'''


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT, re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """One pytest process: its output, and each test's outcome and properties by JUnit's file."""

    code: int
    output: str
    outcomes: Mapping[str, str]
    properties: Mapping[str, Mapping[str, str]]


def run_pytest(folder: Path, environment: Mapping[str, str], *arguments: str) -> Ended:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--junitxml=junit.xml", "-ra", *arguments]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=300, env=dict(environment) | {"COLUMNS": "300"}
    )
    cases = ElementTree.parse(folder / "junit.xml").getroot().iter("testcase")
    outcomes, properties = {}, {}
    for case in cases:
        name = case.attrib["name"]
        tags = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        outcomes[name] = tags[0] if tags else "passed"
        properties[name] = {p.attrib["name"]: p.attrib["value"] for p in case.iter("property")}
    return Ended(code=done.returncode, output=done.stdout + done.stderr, outcomes=outcomes, properties=properties)


@pytest.fixture(scope="module")
def surroundings(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith("PYTEST")}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, surroundings: dict[str, str]) -> Path:
    """The documentation's examples, the model that they measure, and MORE."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "net.py").write_text(NET)
    (folder / "test_more.py").write_text(MORE)
    for block in blocks("python"):
        name = block.partition("\n")[0].removeprefix("# ")
        (folder / name).write_text(block)
    subprocess.run([sys.executable, "-c", MAKE], cwd=folder, check=True, env=surroundings)
    return folder


@pytest.fixture(scope="module")
def simulated(project: Path, surroundings: dict[str, str]) -> Ended:
    return run_pytest(project, surroundings, "--ondevice", SIM, *QUICK)


@pytest.fixture(scope="module")
def shared(project: Path, surroundings: dict[str, str]) -> Ended:
    """Two files of tests that measure, by two workers where pytest-xdist is installed."""
    workers = ["-n", "2"] if importlib.util.find_spec("xdist") else []
    return run_pytest(project, surroundings, "test_speed.py", "test_golden.py", *workers, "--ondevice", SIM, *QUICK)


FAILING = {"test_is_impossibly_fast", "test_is_as_fast_as_its_own_median"}
FAILING |= {"test_wrong_output", "test_holds_and_must_not", "test_undecided_is_no_no", "test_exact", "test_absent"}


def test_the_examples_end_as_the_documentation_says(simulated: Ended) -> None:
    ended = {name.partition("[")[0]: outcome for name, outcome in simulated.outcomes.items()}
    assert len(ended) == 15
    assert {name for name, outcome in ended.items() if outcome == "failure"} == FAILING
    assert set(ended.values()) == {"failure", "passed"}
    assert simulated.code == 1


@pytest.mark.parametrize("block", blocks("text"), ids=lambda block: block.split()[1])
def test_what_the_documentation_shows_is_what_is_printed(block: str, simulated: Ended, shared: Ended) -> None:
    """The numbers may be others."""
    printed = (simulated.output + shared.output).splitlines()
    for line in block.splitlines():
        escaped = line.replace("[", "\0").replace("]", "[]]").replace("\0", "[[]").replace("?", "[?]")
        pattern = re.sub(r"[\d.,−e-]*\d", "*", escaped)
        assert fnmatch.filter(printed, f"*{pattern}*"), f"{line!r} is not printed"


@pytest.mark.parametrize(
    "says",
    [
        "harness.errors.NotMeasured: Net on sim://pi5-fan?seed=1: failed: wrong output: * dB, fp32 must reach 60 dB",
        "assert not latency_ms < 40",
        "harness.errors.NotMeasured: energy_j of model is absent: energy: off",
        "size_bytes of model on sim://pi5-fan?seed=1 is * bytes",
    ],
)
def test_a_failing_test_shows_one_message_and_none_of_our_frames(says: str, simulated: Ended) -> None:
    pattern = f"E *{says.replace('?', '[?]')}"
    assert fnmatch.filter(simulated.output.splitlines(), pattern), simulated.output
    assert f"{ROOT / 'harness'}" not in simulated.output
    assert "Captured log" not in simulated.output


def test_undecided_says_what_would_settle_it_under_not_as_well(simulated: Ended) -> None:
    assert len(re.findall(r"E +harness.errors.Undecided", simulated.output)) == 2
    assert len(re.findall(r"E +try: .*(settle|settles)", simulated.output)) == 2


def test_junit_has_numbers_with_units_and_never_takes_simulated_ones_for_measured(simulated: Ended) -> None:
    found = simulated.properties[f"test_two_things[{SIM}]"]
    assert found["ondevice.variant"] == "model" and found["ondevice2.variant"] == "Net"
    assert float(found["ondevice.simulated.latency_ms_low"]) <= float(found["ondevice.simulated.latency_ms"])
    assert float(found["ondevice3.simulated.size_bytes"]) > 1000
    assert "ondevice4.variant" not in found  # what was asked for twice is one thing
    numbers = {name.rpartition(".")[2] for name in found if name.startswith("ondevice2.simulated.")}
    assert {"latency_ms_p95", "peak_memory_bytes", "model_memory_bytes", "output_sqnr_db"} <= numbers
    assert not any(name.startswith("energy") for name in numbers)
    assert "ondevice.latency_ms" not in found
    assert simulated.properties[f"test_wrong_output[{SIM}]"]["ondevice.status"] == "failed"


def test_it_really_measures(project: Path, surroundings: dict[str, str]) -> None:
    done = run_pytest(
        project, surroundings, "test_speed.py", "--ondevice", "local", "--ondevice-repeats", "2",
        "--ondevice-seconds", "0.05", "--ondevice-store", f"sqlite:///{project}/local.db",
    )  # fmt: skip
    assert done.code == 0, done.output
    found = done.properties["test_is_fast_and_small[local]"]
    assert 0 < float(found["ondevice.latency_ms"]) < 40 and float(found["ondevice.peak_memory_bytes"]) > 1e6
    assert re.search(r"^test_speed.py::test_is.*  model xnnpack on local: p50 [\d.]+ [nµm]s \(", done.output, re.M)
    assert "simulated" not in done.output.lower()
    assert (project / "local.db").is_file()


def test_workers_of_xdist_wait_for_one_another_and_their_figures_are_shown(shared: Ended) -> None:
    assert shared.code == 0, shared.output
    assert len(re.findall(r"^test_\w+.py::.*  model xnnpack on .* \(simulated\): p50", shared.output, re.M)) == 2
    assert all("ondevice.simulated.latency_ms" in found for found in shared.properties.values())


# what needs no measuring


@pytest.fixture
def plain(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    for name in [name for name in os.environ if name.startswith("HARNESS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(pytester.path))
    pytester.makepyfile(
        test_it="""
        def test_it(ondevice):
            assert ondevice("m.pte").latency_ms < 40
        def test_other():
            pass
        """
    )
    return pytester


def test_without_a_device_the_tests_are_skipped_and_the_reason_names_the_option(plain: pytest.Pytester) -> None:
    done = plain.runpytest_inprocess("-rs")
    done.assert_outcomes(skipped=1, passed=1)
    done.stdout.fnmatch_lines([f"*1 skipped: {NO_DEVICE}", f"SKIPPED*{NO_DEVICE}"])


@pytest.mark.parametrize(
    ("arguments", "environment", "ini", "ids"),
    [
        (["--ondevice", "local"], None, "", ["local"]),
        (["--ondevice", "local", "--ondevice", "pi"], None, "", ["local", "pi"]),
        (["--ondevice", "tag:ci"], None, "", ["pi", "pi2"]),
        (["--ondevice=tag:ci", "--ondevice=pi2", "--ondevice=pi2"], None, "", ["pi", "pi2"]),
        ([], "pi pi2", "", ["pi", "pi2"]),
        ([], None, "ondevice =\n  pi\n  pi2", ["pi", "pi2"]),
        ([], "pi", "ondevice = pi2", ["pi"]),
        (["--ondevice", "pi"], "local", "ondevice = pi2", ["pi"]),
        (["--ondevice", ""], "local", "ondevice = pi2", []),
        ([], "", "ondevice = pi2", []),
        (["--ondevice", "ssh://someone@192.0.2.7:2222"], None, "", ["ssh://????????"]),
        (["--ondevice", SIM], None, "", [SIM.replace("?", "[?]")]),
    ],
)
def test_devices_come_from_the_command_line_the_environment_or_the_ini_file(
    arguments: list[str], environment: str | None, ini: str, ids: list[str], plain: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    plain.path.joinpath("devices.yaml").write_text(
        'pi: {uri: "ssh://one", tags: [ci]}\npi2: {uri: "ssh://two", tags: [ci]}\n'
    )
    plain.makeini(f"[pytest]\n{ini}\n")
    if environment is not None:
        monkeypatch.setenv("HARNESS_ONDEVICE", environment)
    done = plain.runpytest_inprocess("--collect-only", "-q", *arguments)
    found = [line for line in done.outlines if line.startswith("test_it.py::test_it")]
    assert len(found) == max(1, len(ids))
    for line, name in zip(found, ids, strict=False):
        assert fnmatch.fnmatch(line, f"test_it.py::test_it[[]{name}[]]"), found


def test_the_ini_options_of_the_documentation_are_taken(plain: pytest.Pytester) -> None:
    plain.makepyprojecttoml(blocks("toml")[0])
    done = plain.runpytest_inprocess("--collect-only", "-q", "-W", "error")
    done.stdout.fnmatch_lines(["test_it.py::test_it[[]local[]]"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--ondevice", "nowhere"], "--ondevice: 'nowhere' is not a device: no URI, *no devices.yaml*"),
        (["--ondevice", "tag:x"], "--ondevice: no device has the tag 'x'*"),
        (["--ondevice", "local", "--ondevice", SIM], "--ondevice: *is simulated and local is not*"),
        (["--ondevice", "local", "--ondevice-devices", "none.yaml"], "--ondevice: *none.yaml: No such file*"),
        (["--ondevice", "local", "--ondevice-store", "x"], "--ondevice: store 'x' is not a URL*"),
    ],
)
def test_a_wrong_device_is_one_message_before_anything_runs(
    arguments: list[str], says: str, plain: pytest.Pytester
) -> None:
    done = plain.runpytest_inprocess(*arguments)
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines([says])
    assert "Traceback" not in done.stdout.str() and "pytest_session" not in done.stdout.str()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--ondevice-repeats", "0"], ["--ondevice-repeats", "many"], ["--ondevice-seconds", "-1"],
        ["--ondevice-seconds", "nan"], ["--ondevice-confidence", "1"], ["--ondevice-confidence", "95"],
    ],
)  # fmt: skip
def test_impossible_numbers_are_usage_errors(arguments: list[str], plain: pytest.Pytester) -> None:
    done = plain.runpytest_inprocess(*arguments)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines([f"ERROR: {arguments[0]} '{arguments[1]}': * is needed"])


def test_a_device_that_is_not_reached_is_told_in_one_message(plain: pytest.Pytester) -> None:
    plain.path.joinpath("m.pte").write_bytes(b"none")
    done = plain.runpytest_inprocess("--ondevice", "ssh://someone@127.0.0.1:1", "-rf")
    done.assert_outcomes(failed=1, passed=1)
    done.stdout.fnmatch_lines([">*ondevice(*", "E*harness.errors.*127.0.0.1*"])
    assert len(done.outlines) < 40


def test_the_fixture_is_listed_with_an_example(plain: pytest.Pytester) -> None:
    done = plain.runpytest_inprocess("--fixtures")
    done.stdout.fnmatch_lines(["ondevice [[]session scope[]]*", "*Measures a file or a model*", "*latency_ms* < 40*"])


def test_a_fixture_of_the_projects_own_with_that_name_is_left_alone(plain: pytest.Pytester) -> None:
    plain.makeconftest(
        "import pytest\n@pytest.fixture\ndef ondevice(): return lambda file: type('R', (), {'latency_ms': 1})"
    )
    for arguments in ([], ["--ondevice", "local"], ["--ondevice", "nowhere"]):
        plain.runpytest_inprocess(*arguments).assert_outcomes(passed=2)


def test_a_fixture_of_the_projects_own_may_ask_for_ours(plain: pytest.Pytester) -> None:
    plain.makeconftest("import pytest\n@pytest.fixture\ndef ondevice(ondevice): return ondevice")
    done = plain.runpytest_inprocess("--collect-only", "-q", "--ondevice", "local")
    done.stdout.fnmatch_lines(["test_it.py::test_it[[]local[]]"])


def test_it_can_be_turned_off(plain: pytest.Pytester) -> None:
    done = plain.runpytest_inprocess("-p", "no:ondevice")
    done.assert_outcomes(errors=1, passed=1)
    done.stdout.fnmatch_lines(["*fixture 'ondevice' not found*"])


def test_a_project_that_does_not_use_it_imports_nothing_heavy(tmp_path: Path, surroundings: dict[str, str]) -> None:
    (tmp_path / "test_plain.py").write_text("def test_plain(): pass\n")
    (tmp_path / "conftest.py").write_text(
        "import sys\ndef pytest_unconfigure():\n    print('loaded:', *sorted(sys.modules), file=sys.stderr)\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=surroundings, timeout=60)
    loaded = set(done.stderr.partition("loaded:")[2].split())
    assert done.returncode == 0 and "harness.pytest_plugin" in loaded, done.stderr
    assert not {"torch", "numpy", "pandas", "sqlalchemy", "pydantic", "scipy", "rich", "typer", "ruamel"} & loaded
    assert {name for name in loaded if name.startswith("harness")} == {"harness", "harness.pytest_plugin"}


# words


def made(simulated: bool = False, **changes: Any) -> Result:
    document = {
        "variant": "int8", "backend": "xnnpack", "device": "pi", "threads": 2, "status": "ok", "reason": None,
        "device_id": "sim://x" if simulated else "3f9a01c2", "caveats": ["noisy"], "repeats": 5,
        "metrics": {
            "latency_ms": {"value": 52.34, "unit": "ms", "ci95": [51.0, 53.8], "p95": 60.0,
                           "ci95_of": {"p95": [55.0, 66.0]}},
            "peak_memory_bytes": {"absent": "the runner did not say"},
            "size_bytes": {"value": 1_234_567, "unit": "bytes", "ci95": [1_234_567, 1_234_567]},
        },
    }  # fmt: skip
    return Result(document=document | changes)


def test_a_summary_line_says_what_is_absent_and_what_is_simulated() -> None:
    assert words.line(made()) == (
        "int8 xnnpack on pi: p50 52.3 ms (51.0 to 53.8), peak memory absent (the runner did not say), size 1.23 MB, "
        "output not checked, caveats: noisy"
    )
    assert words.line(made(simulated=True)).startswith("int8 xnnpack on pi (simulated): ")
    failed = made(status="failed", reason="wrong output: 3 dB")
    assert words.line(failed) == "int8 xnnpack on pi: failed: wrong output: 3 dB"


def test_a_comparison_says_value_interval_probability_caveats_and_simulated() -> None:
    told = words.comparison("<", made().latency_ms.p95, 60)
    assert told == [
        "latency_ms.p95 < 60",
        "latency_ms.p95 of int8 on pi is 60 ms (95 % interval 55 to 66)",
        "P(it holds) is 0.5, by 5 repeats; 0.95 is asked for",
        "caveats: noisy",
    ]
    told = words.comparison(">", 5, made(simulated=True).size_bytes)
    assert told is not None and told[:2] == ["5 > size_bytes", "size_bytes of int8 on pi is 1,234,567 bytes"]
    assert told[-1] == words.SIMULATED
    assert words.comparison("==", made().latency_ms, 40) is None


def test_properties_leave_out_what_is_absent_and_number_what_follows() -> None:
    found = dict(words.properties(made(), 1))
    assert found["ondevice.latency_ms_p95_high"] == 66.0 and found["ondevice.caveats"] == "noisy"
    assert not any("peak_memory" in name for name in found)
    assert "ondevice.size_bytes_low" not in found  # exact
    assert all(name.partition(".")[2] in {"variant", "device", "status", "caveats"} or
               any(name.partition(".")[2].startswith(metric) for metric in METRICS) for name in found)
    assert dict(words.properties(made(simulated=True), 2))["ondevice2.simulated.latency_ms"] == 52.34


def test_the_places_of_a_store_do_not_follow_the_working_folder(tmp_path: Path) -> None:
    anchored = harness.pytest_session._anchored
    assert anchored("sqlite:///a/b.db", tmp_path) == f"sqlite:///{tmp_path}/a/b.db"
    assert anchored("postgresql+psycopg://u@h/d", tmp_path) == "postgresql+psycopg://u@h/d"
