"""By which split variants are chosen. What is chosen by is no longer an honest estimate of what was chosen: with
`select_on: validation` fronts and picks never look at the test split, whose accuracy is then only reported."""

from __future__ import annotations

from harness.types import Session

_ON_VALIDATION = {"accuracy": "validation_accuracy", "accuracy_drop": "validation_drop"}


def selected_on(session: Session) -> str:
    """`test` or `validation`."""
    return str(session.package.experiment.get("select_on") or "test")


def judged_by(metric: str, on: str) -> str:
    """The metric that stands for `metric` in objectives and constraints."""
    return _ON_VALIDATION.get(metric, metric) if on == "validation" else metric
