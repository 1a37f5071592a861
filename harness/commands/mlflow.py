"""`export-mlflow`: a session's results as MLflow runs."""

from __future__ import annotations


def export_mlflow(
    to: str | None, experiment: str | None, label: str | None, files: bool, page: bool,
    store: str | None, identify: bool, json_out: bool,
) -> int:  # fmt: skip
    raise NotImplementedError
