"""The Python API as a user calls it: what it gives, what it refuses, and that it leaves the caller's process alone."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import harness
from harness import errors
from harness.clock import stopping
from harness.sim import world as worlds
from tests.api_kit import lab, python
from tests.conftest import MODEL
from tests.release_kit import SAME

Given = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lab(tmp_path_factory.mktemp("api"))


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The lab as working folder."""
    for name in ("HARNESS_STORE", "HARNESS_ARTIFACTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(folder)
    worlds._worlds.clear()
    yield folder


@pytest.fixture(scope="module")
def outcome(folder: Path) -> harness.Outcome:
    """Two labels and a quick session are in the store `api.db`; the second label's outcome."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        worlds._worlds.clear()
        harness.run("package", store="sqlite:///api.db", label="1.3", quiet=True)
        found = harness.run(Path("package"), devices="pi", store="sqlite:///api.db", label="1.4", quiet=True)
        harness.run("package", store="sqlite:///api.db", quick=True, quiet=True, variants="fp32")
    finally:
        os.chdir(before)
    return found


# -- what comes out --------------------------------------------------------------------------------------------------


def test_a_run_gives_results_the_pick_and_the_page(outcome: harness.Outcome, folder: Path) -> None:
    assert [result.variant for result in outcome] == ["fp32", "int8"]
    assert outcome["int8"].latency_ms < 7 and outcome["fp32"].latency_ms > 7
    assert outcome.pick is not None and outcome.pick["variant"] == "int8"
    assert outcome.page == folder / "reports" / "demo-simulated.html" and "SIMULATED" in outcome.page.read_text()
    assert outcome.simulated and repr(outcome) == "<simulated demo, label 1.4, 2 ok, pick int8>"
    assert repr(pickle.loads(pickle.dumps(outcome))) == repr(outcome)


def test_the_page_goes_where_it_is_asked_for(here: Path) -> None:
    found = harness.run("package", store="sqlite:///page.db", page="made/here.html", quiet=True)
    assert found.page == here / "made" / "here.html" and found.page.is_file()


def test_the_table_is_escaped_and_says_that_it_is_simulated(outcome: harness.Outcome) -> None:
    html = outcome._repr_html_()
    assert html.index("SIMULATED DEVICE") < html.index("int8") and "Ship `int8`" in html
    first = outcome.document["results"][0] | {
        "variant": "<script>", "status": "failed", "reason": "<img src=x>\x1b[0m", "metrics": {}
    }  # fmt: skip
    evil = harness.Outcome(document=dict(outcome.document) | {"results": [first] * 60}, page=None)._repr_html_()
    assert "<script>" not in evil and "&lt;script&gt;" in evil and "<img" not in evil and "\x1b" not in evil
    assert "and 10 more; frame() has all" in evil


def test_show_prints_the_table(outcome: harness.Outcome, capsys: pytest.CaptureFixture[str]) -> None:
    outcome.show()
    assert "SIMULATED DEVICE" in (shown := capsys.readouterr().out) and "Ship `int8`" in shown


def test_several_results_of_a_variant_must_be_told_apart(outcome: harness.Outcome) -> None:
    twice = [*outcome.document["results"], outcome.document["results"][1] | {"device": "pi2"}]
    both = harness.Outcome(document=dict(outcome.document) | {"results": twice}, page=None)
    with pytest.raises(errors.UsageError, match="int8 has 2 results, which differ in device"):
        both["int8"]
    assert both["fp32"].status == "ok"


def test_the_newest_session_is_concluded_anew(outcome: harness.Outcome, here: Path) -> None:
    found = harness.latest("demo", "1.4", store="sqlite:///api.db")
    assert found.page is None and found.document == dict(outcome.document) | {"report": None}
    assert harness.latest(store="sqlite:///api.db").pick is None  # the quick one


def test_two_labels_are_compared(outcome: harness.Outcome, here: Path) -> None:
    found = harness.compare("1.3", "1.4", store="sqlite:///api.db")
    assert (found["base"], found["head"], found["verdict"]) == ("1.3", "1.4", "inconclusive")
    few = harness.compare("1.3", "1.4", store="sqlite:///api.db", devices="pi", across="os", experiment="demo")
    assert {row["metric"] for row in few["comparisons"]} == {row["metric"] for row in found["comparisons"]}


# -- frames ----------------------------------------------------------------------------------------------------------


def test_a_results_frame_has_numbers_intervals_units_and_reasons(outcome: harness.Outcome, here: Path) -> None:
    frame = harness.results("demo", store="sqlite:///api.db")
    assert list(frame.columns[:5]) == ["experiment", "label", "session", "date", "variant"]
    row = frame.set_index("variant").loc["int8"]
    value = outcome["int8"].latency_ms
    assert (row["latency_ms"], (row["latency_ms.low"], row["latency_ms.high"])) == (value.value, value.ci95)
    assert row["latency_ms.p90"] == value.p90.value and row["latency_ms.p90.low"] < row["latency_ms.p90"]
    assert frame["energy_j"].isna().all() and set(frame["energy_j.absent"]) == {"energy: off"}
    assert frame["latency_ms.absent"].isna().all() and "fewer than" in row["latency_ms.p99.absent"]
    units = frame.attrs["units"]
    assert (units["latency_ms.p90.high"], units["size_bytes"], units["energy_j"]) == ("ms", "bytes", "J")
    kinds = {name: str(frame[name].dtype) for name in ("date", "seed", "threads", "simulated", "latency_ms", "label")}
    assert kinds.pop("date").endswith(", UTC]")
    assert kinds == {
        "seed": "Int64", "threads": "Int64", "simulated": "bool", "latency_ms": "float64", "label": "string",
    }  # fmt: skip
    assert frame["simulated"].all() and (frame["artifact_sha256"].str.len() == 64).all()
    assert outcome.frame()["latency_ms"].tolist() == frame["latency_ms"].tolist()


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        ({}, ["1.4", "1.4"]),
        ({"label": "1.3"}, ["1.3", "1.3"]),
        ({"every": True}, ["1.4", "1.4", "1.3", "1.3"]),
        ({"quick": True}, [None]),
        ({"every": True, "quick": True}, [None, "1.4", "1.4", "1.3", "1.3"]),
        ({"every": True, "label": "1.3", "experiment": "demo"}, ["1.3", "1.3"]),
    ],
)
def test_which_sessions_are_in_a_frame(outcome: harness.Outcome, here: Path, given: Given, labels: list[Any]) -> None:
    found = harness.results(**given, store="sqlite:///api.db")["label"]
    assert [None if label is not label or str(label) == "<NA>" else label for label in found] == labels


def test_a_row_without_numbers_has_the_reasons(outcome: harness.Outcome) -> None:
    lost = {
        "variant": "lost", "status": "failed", "reason": "no", "device": None, "device_id": None, "threads": None,
        "cpus": None, "context": None, "caveats": ["a", "b"], "artifact": {"absent": "no"}, "metrics": {},
    }  # fmt: skip
    document = dict(outcome.document) | {"results": [*outcome.document["results"], outcome["int8"].document | lost]}
    row = harness.Outcome(document=document, page=None).frame().iloc[2]
    assert row["latency_ms.absent"] == "not measured" and row["latency_ms"] != row["latency_ms"]
    assert (row["reason"], row["caveats"]) == ("no", "a, b") and str(row["threads"]) == "<NA>"


def test_a_runs_frame_is_what_export_runs_writes(outcome: harness.Outcome, here: Path) -> None:
    frame = harness.runs("demo", "1.4", store="sqlite:///api.db")
    counted = frame.query("purpose == 'latency' and counts and variant == 'int8'")
    assert len(counted) == 3 and counted["latency_p50_ms"].between(4, 6).all()
    assert frame.attrs["units"]["latency_p50_ms"] == "ms" and frame.attrs["units"]["start_boottime_ns"] == "ns"
    assert not {"latency_ns", "session_record", "content_sha256"} & set(frame.columns)
    assert str(frame["started_utc"].dtype).endswith(", UTC]") and str(frame["attempt"].dtype) == "Int64"
    assert len(harness.runs(store="sqlite:///api.db")) > 2 * len(frame)


# -- what is refused ---------------------------------------------------------------------------------------------------

STORE = {"store": "sqlite:///api.db"}


@pytest.mark.parametrize(
    ("call", "given", "kind", "says"),
    [
        (harness.run, {"source": "nope.yaml"}, errors.UsageError, "nope.yaml: no such file"),
        (harness.run, {"source": None}, errors.UsageError, "source: None is not a path"),
        (harness.run, {"source": 5}, errors.UsageError, "source: 5 is not a path"),
        (harness.run, {"source": "bad.yaml"}, errors.ConfigError, "bad.yaml:1"),
        (harness.run, {"source": "."}, errors.UsageError, "not a package"),
        (harness.run, {"source": "package", "devices": "nope"}, errors.UsageError, "'nope' is not a device"),
        (harness.run, {"source": "package", "devices": 5}, errors.UsageError, "devices: 5 is not a list of names"),
        (harness.run, {"source": "package", "devices": ["pi", 1]}, errors.UsageError, "devices: "),
        (harness.run, {"source": "package", "variants": ["int9"]}, errors.UsageError, "did you mean 'int8'"),
        (harness.run, {"source": "package", "label": ""}, errors.UsageError, "label: ''"),
        (harness.run, {"source": "package", "label": "run:1"}, errors.UsageError, "run: names a session"),
        (harness.run, {"source": "package", "store": "x.db"}, errors.UsageError, "is not a URL"),
        (harness.run, {"source": "package", "store": Path("x.db")}, errors.UsageError, "sqlite:///x.db"),
        (harness.run, {"source": "package", "devices_file": "no.yaml"}, errors.ConfigError, "no.yaml"),
        (harness.run, {"source": "package", "max_minutes": "5"}, errors.UsageError, "max_minutes: '5'"),
        (harness.run, {"source": "package", "max_minutes": -1}, errors.UsageError, "max_minutes: -1"),
        (harness.run, {"source": "package", "page": "."}, errors.UsageError, "page: . is a folder"),
        (harness.run, {"source": "package", "quick": "no"}, errors.UsageError, "quick: 'no'"),
        (harness.run, {"source": "package", "devices": ["pi", "local"]}, errors.UsageError, "is simulated and local"),
        (harness.ondevice, {"what": "no.pte"}, errors.UsageError, "no.pte: No such file"),
        (harness.ondevice, {"what": 5}, errors.UsageError, "a file or a model is measured"),
        (harness.ondevice, {"what": "m.txt"}, errors.UsageError, "neither .pte nor .ptl"),
        (harness.ondevice, {"what": "m.pte", "device": ["pi"]}, errors.UsageError, "device: "),
        (harness.ondevice, {"what": "m.pte", "device": "tag:ci"}, errors.UsageError, "one is needed here"),
        (harness.ondevice, {"what": "m.pte", "confidence": 95}, errors.UsageError, "not between 0.5 and 1"),
        (harness.ondevice, {"what": "m.pte", "repeats": 0}, errors.UsageError, "repeats"),
        (harness.latest, {"experiment": "nope", **STORE}, errors.UsageError, "it has: demo"),
        (harness.latest, {"experiment": 5, **STORE}, errors.UsageError, "experiment: 5 is not a name"),
        (harness.latest, {"store": "sqlite:///no.db"}, errors.UsageError, "no store at no.db"),
        (harness.results, {"label": "nope", **STORE}, errors.UsageError, "it has: demo"),
        (harness.results, {"label": "nope", "every": True, **STORE}, errors.UsageError, "it has: demo"),
        (harness.results, {"store": "sqlite:///bad.yaml"}, errors.StoreError, "bad.yaml"),
        (harness.runs, {"experiment": "nope", **STORE}, errors.UsageError, "it has: demo"),
        (harness.compare, {"base": "1.3", "head": "1.5", **STORE}, errors.UsageError, "did you mean"),
        (harness.compare, {"base": "1.3", "head": 5, **STORE}, errors.UsageError, "head: 5 is not a name"),
        (harness.compare, {"base": "1.3", "head": "1.4", "across": "x", **STORE}, errors.UsageError, "no factor"),
    ],
)
def test_every_mistake_is_one_of_our_errors(
    outcome: harness.Outcome, here: Path, call: Callable[..., Any], given: Given, kind: type[Exception], says: str
) -> None:
    (here / "bad.yaml").write_text("name: [")
    with pytest.raises(harness.HarnessError) as raised:
        call(**given)
    assert isinstance(raised.value, kind) and says in str(raised.value), raised.value


def test_what_the_system_refuses_is_one_of_our_errors_too(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    def refused(asked: Any) -> None:
        raise PermissionError(13, "Permission denied", "/somewhere")

    monkeypatch.setattr("harness.commands.measuring.work_of", refused)
    with pytest.raises(harness.HarnessError, match="/somewhere: Permission denied"):
        harness.run("package")


# -- the caller's process ----------------------------------------------------------------------------------------------


def state() -> tuple[Any, ...]:
    handlers = tuple(signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM))
    streams = tuple((os.fstat(fd).st_dev, os.fstat(fd).st_ino) for fd in (0, 1, 2))
    return handlers, streams, sys.stdout, sys.stderr, list(sys.path), os.getcwd(), stopping.is_set()


@pytest.mark.parametrize("failing", [False, True])
def test_a_run_puts_back_what_it_changed_and_prints_nothing(
    here: Path, failing: bool, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state()
    from harness.commands import measuring

    true = measuring.measured

    def careless(work: Any, screen: Any) -> Any:
        sys.path.insert(0, "/careless")
        os.chdir("/")
        print("printed"), os.system("echo by a process")
        os.chdir(here)
        if failing:
            os.chdir("/")
            raise errors.DeviceError("it is gone")
        return true(work, screen)

    monkeypatch.setattr(measuring, "measured", careless)
    if failing:
        with pytest.raises(errors.DeviceError):
            harness.run("package", store="sqlite:///state.db", fresh=True)
    else:
        harness.run("package", store="sqlite:///state.db", fresh=True)
    assert state() == before
    print("stdout again")
    out, err = capfd.readouterr()
    assert out == "stdout again\n" and "printed" in err and "by a process" in err
    assert failing or "18/18" in err  # its progress


def test_quiet_shows_nothing(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    harness.run("package", store="sqlite:///quiet.db", quiet=True)
    assert capfd.readouterr() == ("", "")


def test_a_run_works_from_threads_at_once_in_an_event_loop_and_after_an_interrupt(here: Path) -> None:
    before = state()[:-1]
    stopping.set()  # as a Ctrl-C leaves it that came while the devices were being reached

    def run(number: int) -> str:
        return repr(harness.run("package", store=f"sqlite:///thread{number}.db", quiet=True, page=f"{number}.html"))

    with ThreadPoolExecutor(2) as pool:
        assert len(set(pool.map(run, range(2)))) == 1

    async def main() -> str:
        return run(2)

    assert "2 ok" in asyncio.run(main())
    assert threading.current_thread() is threading.main_thread() and state()[:-1] == before


def test_continuing_and_beginning_anew(here: Path) -> None:
    first = harness.run("package", store="sqlite:///again.db", max_minutes=0, quiet=True)
    second = harness.run("package", store="sqlite:///again.db", quiet=True)
    third = harness.run("package", store="sqlite:///again.db", quiet=True)
    assert first.document["session"] == second.document["session"] != third.document["session"]
    assert [result.status for result in second] == ["ok", "ok"] != [result.status for result in first]


# -- importing and typing ----------------------------------------------------------------------------------------------


def test_importing_is_cheap_and_offers_the_names(tmp_path: Path) -> None:
    program = """
import sys, harness
heavy = {"pandas", "numpy", "torch", "sqlalchemy", "pydantic", "typer", "rich", "IPython", "scipy"} & set(sys.modules)
assert not heavy, heavy
assert {"run", "results", "Outcome", "HarnessError", "__version__"} <= set(dir(harness)), dir(harness)
from harness import *
assert all(name in globals() for name in harness.__all__)
assert run is harness.run and issubclass(Undecided, HarnessError)
assert "pandas" not in sys.modules and "torch" not in sys.modules and "sqlalchemy" not in sys.modules
try:
    harness.rum
except AttributeError as error:
    assert "rum" in str(error)
else:
    raise AssertionError
"""
    done = python("-c", program, folder=tmp_path)
    assert done.returncode == 0, done.stderr


USER = """
import harness
from harness import HarnessError, Outcome, Result, Value


def main() -> float:
    outcome: Outcome = harness.run("x.yaml", devices=["local"], quick=True)
    result: Result = outcome["int8"]
    value: Value = result.latency_ms.p95
    fast: bool = bool(value < 40)
    reveal_type(harness.results("x", every=True))
    reveal_type(harness.ondevice("x.pte", inputs=None))
    reveal_type(outcome.pick)
    try:
        harness.compare("1.3", "1.4", across="os")
    except HarnessError as error:
        print(error.what, error.hint, fast)
    return value.value + sum(one.size_bytes.value for one in outcome)


harness.run(5)
harness.latest(store=1)
"""


#: others' types take a minute to read and are not what is asked about
MYPY = """
[mypy]
strict = true
[mypy-torch.*,numpy.*,scipy.*,sqlalchemy.*,alembic.*,plotly.*,rich.*,pydantic.*,asyncssh.*,typer.*,IPython.*]
follow_imports = skip
"""


def test_a_users_file_is_type_checked(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "user.py").write_text(USER)
    (tmp_path / "mypy.ini").write_text(MYPY)
    done = python("-m", "mypy", "--cache-dir", os.devnull, "user.py", folder=tmp_path)
    errors_in = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert len(errors_in) == 2, done.stdout + done.stderr
    assert 'Argument 1 to "run" has incompatible type "int"' in errors_in[0]
    assert '"store" to "latest"' in errors_in[1]
    for kind in ("DataFrame", "harness.answers.Result", "Mapping[str, Any] | None"):
        assert f"{kind}" in done.stdout, done.stdout


# -- scripts -----------------------------------------------------------------------------------------------------------

SMALL = """
name: small
model: {factory: "small_model:net", example_inputs: {shape: [1, 16]}}
variants: [{name: fp32}]
export: [executorch]
measure: {repeats: 1, min_seconds: 0.05, memory: false}
"""
SCRIPT = """
import sys
import harness

print("begun", __name__)
outcome = harness.run("small.yaml", devices="sim://pi5-fan?seed=1", quick=True, quiet=True)
print(outcome)
assert sys.modules["__main__"].__dict__ is globals()
"""


@pytest.mark.parametrize("how", ["script", "-c", "module"])
def test_a_plain_script_that_builds_runs_once(how: str, cache: Path, tmp_path: Path) -> None:
    for name, text in (("small.yaml", SMALL), ("small_model.py", f"{MODEL}\nprint('chatter')"), ("script.py", SCRIPT)):
        (tmp_path / name).write_text(text)
    words = {"script": ["script.py"], "-c": ["-c", SCRIPT], "module": ["-m", "script"]}[how]
    done = python(*words, folder=tmp_path, timeout_s=300, HARNESS_CACHE=str(cache))
    assert done.stdout.splitlines() == ["begun __main__", "<simulated small, 1 ok>"] and done.returncode == 0, done
    assert done.stderr == ""


def test_simulated_latencies_are_the_packages_own(outcome: harness.Outcome) -> None:
    for name, latency_ms in SAME.items():
        assert outcome[name].latency_ms.value == pytest.approx(latency_ms, rel=0.1)


def test_an_expected_failure_is_a_few_lines_and_no_variable_in_it_is_a_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As tools show it that print the variables of each frame."""
    import traceback

    monkeypatch.setenv("HARNESS_STORE", "postgresql://ci:hunter2@127.0.0.1:9/team")
    with pytest.raises(errors.StoreError) as refused:
        harness.results()
    told = "".join(traceback.TracebackException.from_exception(refused.value, capture_locals=True).format())
    assert "127.0.0.1" in told and "hunter2" not in told
    assert told.count('File "') <= 2
