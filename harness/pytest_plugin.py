"""pytest's plugin: the fixture `ondevice` measures a file or a model on the device that `--ondevice` names.

Every pytest of a machine that has the harness installed reads this file: it imports pytest and nothing heavy. What
measures (pytest_session.py) and what tells of it (pytest_words.py) are imported when a test first asks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness.answers import Result
    from harness.pytest_session import Asking

NO_DEVICE = "no device to measure on: give --ondevice DEVICE, for example --ondevice local"
ENVIRONMENT = "HARNESS_ONDEVICE"
MAX_REPEATS = 1000


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line, the environment and the ini file ask for; `folder` is where relative places begin."""

    devices: tuple[str, ...]
    devices_file: Path | None
    store: str | None
    repeats: int
    seconds: float
    confidence: float
    folder: Path
    quiet: bool


@dataclass(kw_only=True)
class _State:
    """Of one pytest session. `item`: the test that runs now; what is measured is told as its own."""

    options: Options
    item: Any = None
    asking: Asking | None = None
    fresh: list[Result] | None = None


_STATE = pytest.StashKey[_State]()


class OnDevice:
    """The fixture's value: call it with what is to be measured on `device`, as the user named it."""

    def __init__(self, config: pytest.Config, device: str) -> None:
        self._config, self.device = config, device

    def __call__(
        self,
        what: Any,
        *,
        inputs: Any = None,
        expect: Any = None,
        backend: str = "xnnpack",
        threads: int = 1,
        repeats: int | None = None,
        min_sqnr_db: float | None = None,
    ) -> Result:
        """The result of one file (.pte, .ptl) or of a torch.nn.Module, which is exported for `backend`.

        `inputs`: the tensors or arrays of one call; a model needs them, a .pte describes its own. `expect`: what the
        device must give on them; a model's default is what the model itself gives. `repeats`: processes that are
        started one after another. `min_sqnr_db`: the output check's floor, where precision's own does not fit.

        Raises harness.HarnessError: UsageError, UserCodeError, DeviceError, NotMeasured where the output is wrong."""
        __tracebackhide__ = True
        from harness.errors import HarnessError

        try:
            return _asking(self._config).ask(
                self.device, what, inputs=inputs, expect=expect, backend=backend, threads=threads, repeats=repeats,
                min_sqnr_db=min_sqnr_db, measured=lambda result: _record(self._config, result),
            )  # fmt: skip
        except HarnessError as error:  # its message says what failed; where in the harness helps no test's author
            raise error.with_traceback(None) from None

    def __repr__(self) -> str:
        return f"<ondevice {self.device}>"


@pytest.fixture(scope="session")
def ondevice(request: pytest.FixtureRequest) -> OnDevice:
    """Measures a file or a model on the device that --ondevice names, and is skipped where none is given:
    `assert ondevice("model.pte").latency_ms.p95 < 40`, or `ondevice(Net(), inputs=(torch.randn(1, 16),))`.

    A bound is judged on the figure's interval: between yes and no the test fails, and says what would settle it.
    """
    devices = request.config.stash[_STATE].options.devices
    if not devices:
        pytest.skip(NO_DEVICE)
    device = getattr(request, "param", None)
    if device is None:  # asked for by name, at run time
        names = _asking(request.config).names
        if len(names) > 1:
            pytest.fail(f"{len(names)} devices are given: name ondevice among the test's arguments", pytrace=False)
        device = names[0]
    return OnDevice(request.config, device)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("harness", "measuring on devices (harness)")
    group.addoption(
        "--ondevice", action="append", metavar="DEVICE",
        help="a device for the fixture ondevice: local, ssh://…, adb://…, a name or tag:NAME of devices.yaml; again "
        "for more; empty for none",
    )  # fmt: skip
    group.addoption("--ondevice-devices", metavar="FILE", help="devices.yaml, where it is not in the root folder")
    group.addoption("--ondevice-store", metavar="URL", help="where the runs are kept (default as the harness has it)")
    group.addoption("--ondevice-repeats", metavar="N", help="processes for each figure (default 5)")
    group.addoption("--ondevice-seconds", metavar="S", help="steady seconds in each of them (default 2)")
    group.addoption("--ondevice-confidence", metavar="P", help="how sure a bound must be judged (default 0.95)")
    parser.addini("ondevice", "devices for the fixture ondevice, one a line", type="linelist", default=[])
    for name in ("devices", "store", "repeats", "seconds", "confidence"):
        parser.addini(f"ondevice_{name}", f"as --ondevice-{name}", default="")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_STATE] = _State(options=_options(config))


def _options(config: pytest.Config) -> Options:
    """The command line wins over the environment, and that over the ini file. Raises pytest.UsageError."""
    here, root = config.invocation_params.dir, config.inipath.parent if config.inipath else config.rootpath
    given = config.getoption("--ondevice")
    if given is None and (said := os.environ.get(ENVIRONMENT)) is not None:
        given = said.split()
    file, file_ini = config.getoption("--ondevice-devices"), config.getini("ondevice_devices")
    return Options(
        devices=tuple(name for name in (config.getini("ondevice") if given is None else given) if name),
        devices_file=here / file if file else root / file_ini if file_ini else None,
        store=config.getoption("--ondevice-store") or config.getini("ondevice_store") or None,
        repeats=_number(config, "repeats", int, 5, lambda n: 1 <= n <= MAX_REPEATS, f"1 to {MAX_REPEATS}"),
        seconds=_number(config, "seconds", float, 2.0, lambda s: 0 < s <= 600, "more than 0, at most 600"),
        confidence=_number(config, "confidence", float, 0.95, lambda p: 0.5 < p < 1, "between 0.5 and 1"),
        folder=config.rootpath,
        quiet=config.getoption("capture") != "no",
    )


def _number(
    config: pytest.Config, name: str, kind: type[Any], default: Any, possible: Callable[[Any], bool], bounds: str
) -> Any:
    text = config.getoption(f"--ondevice-{name}") or config.getini(f"ondevice_{name}")
    if not text:
        return default
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not possible(value):
        raise pytest.UsageError(f"--ondevice-{name} {text!r}: {kind.__name__} {bounds} is needed")
    return value


def _asking(config: pytest.Config) -> Asking:
    """What measures, made once. Raises HarnessError for a device that is none, a devices.yaml that cannot be read."""
    state = config.stash[_STATE]
    if state.asking is None:
        from harness.pytest_session import Asking

        state.asking = Asking.of(state.options)
    return state.asking


def _is_ours(metafunc: pytest.Metafunc) -> bool:
    """A project may have a fixture of this name of its own, which may ask for ours."""
    for one in reversed(getattr(metafunc, "_arg2fixturedefs", {}).get("ondevice", ())):
        if getattr(one.func, "__module__", None) == __name__:
            return True
        if "ondevice" not in one.argnames:
            break
    return False


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    config = metafunc.config
    if "ondevice" not in metafunc.fixturenames or not config.stash[_STATE].options.devices or not _is_ours(metafunc):
        return
    from harness.errors import HarnessError

    try:
        asking = _asking(config)
    except HarnessError as error:  # once, before anything is measured
        raise pytest.Collector.CollectError(f"--ondevice: {error}") from None
    metafunc.parametrize("ondevice", asking.names, ids=asking.labels, indirect=True, scope="session")


def pytest_report_header(config: pytest.Config) -> str | None:
    devices = config.stash[_STATE].options.devices
    return f"ondevice: {len(devices)} device{'s' * (len(devices) > 1)} given" if devices else None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    state = item.config.stash[_STATE]
    state.item, state.fresh = item, None


def _record(config: pytest.Config, result: Result) -> None:
    """For the summary, and for JUnit XML: of the test that runs now, once however often it asks."""
    from harness.pytest_words import properties

    state = config.stash[_STATE]
    told = state.fresh = state.fresh or []
    if any(one.document is result.document for one in told):
        return
    told.append(result)
    if state.item is not None:
        state.item.user_properties.extend(properties(result, len(told)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    errors, state = sys.modules.get("harness.errors"), item.config.stash[_STATE]
    if call.excinfo is not None and errors is not None and isinstance(call.excinfo.value, errors.HarnessError):
        _shorten(call.excinfo)
    report = yield
    if state.fresh and (call.when == "call" or (call.when == "setup" and report.failed)):
        from harness.pytest_words import details, line

        report.ondevice_lines = [line(one) for one in state.fresh]  # type: ignore[attr-defined]  # crosses to xdist's controller
        if report.failed:
            report.sections.append(("on device", "\n\n".join(details(one) for one in state.fresh)))
    return report


def _shorten(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    """Ends the traceback before the harness's own frames: the message says all that the test's author can use."""
    home, entry, theirs = Path(__file__).parent, excinfo.value.__traceback__, None
    while entry is not None:
        if home not in Path(entry.tb_frame.f_code.co_filename).parents:
            theirs = entry
        entry = entry.tb_next
    if theirs is not None:
        theirs.tb_next = None
        excinfo.traceback = type(excinfo.traceback)(excinfo.tb)


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    answers = sys.modules.get("harness.answers")
    if answers is None or not isinstance(left, answers.Value) ^ isinstance(right, answers.Value):
        return None
    from harness.pytest_words import comparison

    return comparison(op, left, right)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each thing that was measured, and how many tests a missing device kept from running."""
    tests: dict[str, list[str]] = {}
    reports = [one for found in terminalreporter.stats.values() for one in found if hasattr(one, "ondevice_lines")]
    for report in sorted(reports, key=lambda one: one.start):
        for line in report.ondevice_lines:
            tests.setdefault(line, []).append(report.nodeid)
    lines = [f"{asked[0]}{f' and {len(asked) - 1} more' * (len(asked) > 1)}  {line}" for line, asked in tests.items()]
    skipped = sum(NO_DEVICE in str(report.longrepr) for report in terminalreporter.stats.get("skipped", ()))
    if skipped:
        lines.append(f"{skipped} skipped: {NO_DEVICE}")
    if lines:
        terminalreporter.section("on device")
        for text in lines:
            terminalreporter.write_line(text)
