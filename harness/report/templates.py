"""jinja2 with autoescape on and undefined names refused; templates, styles and scripts travel in the package."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from harness.report.hostile import script_json

if TYPE_CHECKING:
    import jinja2


@cache
def environment() -> jinja2.Environment:
    import jinja2

    env = jinja2.Environment(
        loader=jinja2.FunctionLoader(text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters["script_json"] = script_json
    env.filters["day"] = day
    env.filters["few"] = few
    return env


def day(date: object) -> str:
    """`2026-01-12 09:30 UTC` of an ISO date; what is not one stays as it is."""
    try:
        at = datetime.fromisoformat(str(date))
    except ValueError:
        return str(date)
    return f"{at.astimezone(UTC) if at.tzinfo else at:%Y-%m-%d %H:%M} UTC"


def few(labels: Sequence[object], most: int = 12) -> str:
    """A list in a sentence, its end counted where it is long."""
    return ", ".join(map(str, labels[:most])) + (f" and {len(labels) - most} more" if len(labels) > most else "")


def text(name: str) -> str:
    """The text of one file of `templates/`."""
    return (files("harness.report") / "templates" / name).read_text(encoding="utf-8")


def render(name: str, **values: Any) -> str:
    return environment().get_template(name).render(**values)
