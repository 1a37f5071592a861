"""The model card that `pick -o` lays beside the file to ship: what it is, what was measured, where, how sure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.metrics import METRICS
from harness.report import units
from harness.report.hostile import clean, markdown_text


def model_card(manifest: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    """Markdown. `manifest`: as written beside it; `document`: the session's results document."""
    told: Any = clean(manifest)
    result, pick = told["result"], told["pick"]
    lines = [
        f"# {told['file']}",
        "",
        f"The variant `{result['variant']}` of the experiment `{told['experiment']}`"
        + (f", label {markdown_text(told['label'])}" if told["label"] else "")
        + f", as {result['exporter']} ({result['backend']}), measured on {document['date'][:10]}.",
        "",
        f"- SHA-256 `{told['artifact']['sha256']}`",
        f"- runs with {result['runtime']}, {result['threads']} thread(s)",
        f"- chosen with probability {_number(pick.get('probability'))}",
        f"- binding constraint: {markdown_text(str(pick.get('binding') or 'none'))}",
        "",
        f"Measured on `{result['device']}` ({result['device_id']}), {result['repeats']} repeats:",
        "",
        "| metric | value | 95 % interval | source |",
        "|---|---|---|---|",
    ]
    for name, metric in result["metrics"].items():
        if "absent" in metric:
            continue
        interval = metric["ci95"] if isinstance(metric["ci95"], list) else None
        unit = METRICS[name].unit if name in METRICS else metric["unit"]
        shown = "–" if interval is None else " to ".join(units.human(unit, bound, name) for bound in interval)
        lines.append(f"| {name} | {units.human(unit, metric['value'], name)} | {shown} | {metric['source']} |")
    absent = [f"{name}: {metric['absent']}" for name, metric in result["metrics"].items() if "absent" in metric]
    lines += ["", "Not measured: " + markdown_text("; ".join(absent) or "nothing") + "."]
    if result["caveats"]:
        lines += ["", "Caveats: " + ", ".join(str(c) for c in result["caveats"]) + "."]
    return "\n".join(lines) + "\n"


def _number(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float | int) else "unknown"
