"""On-device benchmarking for PyTorch models: compress, export, measure on the device, decide.

    import harness

    outcome = harness.run("experiment.yaml", devices="pi5")
    outcome.pick
    outcome["int8"].latency_ms.p95 < 40
    harness.results().query("status == 'ok'")

docs/python-api.md describes it; what goes wrong is a `HarnessError`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.answers import Answer as Answer
    from harness.answers import Result as Result
    from harness.answers import Value as Value
    from harness.api import compare as compare
    from harness.api import latest as latest
    from harness.api import ondevice as ondevice
    from harness.api import results as results
    from harness.api import run as run
    from harness.api import runs as runs
    from harness.errors import HarnessError as HarnessError
    from harness.errors import NotMeasured as NotMeasured
    from harness.errors import Undecided as Undecided
    from harness.outcome import Outcome as Outcome

__version__ = "0.1.0"

#: the API's names -> where each is; imported when it is used, so that the command line and pytest start without
_HOMES = {
    **dict.fromkeys(("Answer", "Result", "Value"), "answers"),
    **dict.fromkeys(("HarnessError", "NotMeasured", "Undecided"), "errors"),
    **dict.fromkeys(("compare", "latest", "ondevice", "results", "run", "runs"), "api"),
    "Outcome": "outcome",
}
__all__ = [
    "Answer", "HarnessError", "NotMeasured", "Outcome", "Result", "Undecided", "Value", "compare", "latest",
    "ondevice", "results", "run", "runs",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"harness.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
