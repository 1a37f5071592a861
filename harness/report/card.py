"""The model card that `pick -o` lays beside the file to ship: what it is, what was measured, where, how sure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.metrics import METRICS, TASK_METRICS
from harness.report import units
from harness.report.hostile import clean, markdown_text
from harness.report.simulated import banner, imported


def model_card(manifest: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    """Markdown. `manifest`: as written beside it; `document`: the session's results document."""
    told: Any = clean(manifest)
    result, pick = told["result"], told["pick"]
    names = sorted({shipped["file"] for shipped in told["files"]})
    said = banner(document, "in this card")
    lines = [f"> **{markdown_text(one)}**\n" for one in (said, imported(document)) if one]
    lines += [
        f"# {told['file'] if len(names) == 1 else told['experiment']}",
        "",
        f"The variant `{result['variant']}` of the experiment `{told['experiment']}`"
        + (f", label {markdown_text(told['label'])}" if told["label"] else "")
        + f", as {result['exporter']} ({result['backend']}), "
        + f"{'simulated' if said else 'measured'} on {document['date'][:10]}.",
        "",
    ]
    for shipped in told["files"]:
        case = f"input case `{shipped['input']}`: " if len(told["files"]) > 1 else ""
        lines.append(f"- {case}`{shipped['file']}`, SHA-256 `{shipped['artifact']['sha256']}`")
    lines += [
        f"- runs with {result['runtime']}, {result['threads']} thread(s), cpus {result['cpus']}",
        f"- chosen with probability {_number(pick.get('probability'))}",
        f"- binding constraint: {markdown_text(str(pick.get('binding') or 'none'))}",
    ]
    lines += _why(told)
    if document.get("selected_on") == "validation":
        lines.append("- chosen on the validation split; the accuracy on the test split decided nothing")
    if took := [f"{step['step']} {units.seconds(step['seconds'])}" for step in result.get("steps") or ()]:
        lines.append(f"- made by: {', '.join(took)}")
    for result in told["results"]:
        lines += _measured(result, several=len(told["results"]) > 1)
    return "\n".join(lines) + "\n"


def _why(told: Any) -> list[str]:
    """By which rule, before whom, and what would make it surer; as far as the manifest says."""
    pick, rule = told["pick"], told.get("rule")
    lines = []
    if rule:
        where = " and ".join(rule["where"]) or "no constraint"
        sure = f"at confidence {rule['confidence']:g}"
        lines.append(f"- rule: best {rule['minimize']} with {markdown_text(where)}, {sure}")
    if up := pick.get("runner_up"):
        lines.append(f"- runner-up: `{up['variant']}` as {up['exporter']} ({up['backend']})")
    if pick.get("settle"):
        lines.append(f"- to be surer: {markdown_text(pick['settle'])}")
    return lines


def _measured(result: Any, several: bool) -> list[str]:
    case = f", input case `{result['input']}`" if several else ""
    how = "Simulated" if result.get("simulated") else "Measured"
    lines = [
        "",
        f"{how} on `{result['device']}` ({result['device_id']}){case}, {result['repeats']} repeats:",
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
    lines += _remarks(result)
    absent = [f"{name}: {metric['absent']}" for name, metric in result["metrics"].items() if "absent" in metric]
    lines += ["", "Not measured: " + markdown_text("; ".join(absent) or "nothing") + "."]
    if result["caveats"]:
        lines += ["", "Caveats: " + ", ".join(str(c) for c in result["caveats"]) + "."]
    return lines


def _remarks(result: Any) -> list[str]:
    """What the table cannot say: what the control is, how trainings differ, why it is as fast as it is."""
    metrics = result["metrics"]
    said = []
    if control := metrics.get("accuracy_drop_control", {}).get("control"):
        said.append(
            f"accuracy_drop_control is the loss against `{control}`, which was trained as long and not compressed"
        )
    for name in TASK_METRICS:
        if seeds := metrics.get(name, {}).get("seeds"):
            unit, values = metrics[name]["unit"], ", ".join(seeds["values"])
            scale = units.scale(unit, [seeds["mean"]], name)
            spread = units.mean_sd(seeds["mean"] * scale.factor, seeds["sd"] * scale.factor)
            said.append(f"{name} over {seeds['n']} trainings (seeds {values}): mean {spread}{scale.suffix}")
    why = result.get("why") or {}
    if "text" in why:
        said.append(f"speed-up over the reference: {markdown_text(why['text'])}")
    return ["", *(f"- {line}" for line in said)] if said else []


def _number(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float | int) else "unknown"
