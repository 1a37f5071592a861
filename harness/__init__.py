"""On-device benchmarking for PyTorch models: compress, export, measure on the device, decide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.answers import Answer, Result, Value
    from harness.api import Outcome, compare, latest, ondevice, results, run, runs
    from harness.errors import HarnessError

__version__ = "0.1.0"
__all__ = [
    "Answer", "HarnessError", "Outcome", "Result", "Value", "compare", "latest", "ondevice", "results", "run", "runs",
]  # fmt: skip

_HOMES = {"Answer": "answers", "Result": "answers", "Value": "answers", "HarnessError": "errors"}


def __getattr__(name: str) -> Any:
    """The API's names, imported when the first is used: the command line and the pytest plugin start without."""
    if name not in __all__:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"harness.{_HOMES.get(name, 'api')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
