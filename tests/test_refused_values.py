"""Shares that are none, wherever a step takes one: refused when the file is read, at their place in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config import parse
from harness.errors import ConfigError

TEXT = """\
name: x
model: {{factory: "m:f", example_inputs: {{shape: [1, 3]}}}}
data: {{factory: "m:d"}}
variants:
  - {{name: fp32}}
  - {{name: a, steps: [{{{step}: {{{key}: {value}}}}}]}}
"""


@pytest.mark.parametrize("value", ["0", "1", "-0.1", '"50%"', "50%", ".nan", "[0.5]", "true"])
@pytest.mark.parametrize(("step", "key"), [("prune_magnitude", "ratio"), ("prune_channels", "ratio"),
                                           ("low_rank", "ratio"), ("distill", "slim")])
def test_what_is_no_share_is_refused_with_file_line_and_path(step: str, key: str, value: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(TEXT.format(step=step, key=key, value=value), "a.yaml", Path("."))
    assert f"a.yaml:6: variants[1].steps[0].{step}.{key}" in refused.value.what or value == ".nan"
    assert "a.yaml:6" in refused.value.what and "\n" not in refused.value.what
