"""The list of what exists: name -> "module:Class", loaded on demand so that naming costs no import.

Third parties add theirs through the entry-point groups `harness.techniques`, `harness.exporters`,
`harness.transports`, `harness.meters` and `harness.sections`.
"""

from __future__ import annotations

import importlib
import sys
from functools import cache
from typing import Any

from harness.errors import ToolchainError, UsageError
from harness.metrics import nearest

TECHNIQUES = {
    "quantize_pt2e": "harness.compress.quantize_pt2e:QuantizePt2e",
    "quantize_aware": "harness.compress.quantize_aware:QuantizeAware",
    "prune_magnitude": "harness.compress.prune_magnitude:PruneMagnitude",
    "cluster": "harness.compress.cluster:Cluster",
    "prune_channels": "harness.compress.prune_channels:PruneChannels",
    "low_rank": "harness.compress.low_rank:LowRank",
    "quantize_eager": "harness.compress.quantize_eager:QuantizeEager",
    "fold_bn": "harness.compress.fold_bn:FoldBn",
    "equalize": "harness.compress.equalize:Equalize",
    "distill": "harness.compress.distill:Distill",
    "finetune": "harness.compress.finetune:Finetune",
}

EXPORTERS = {
    "executorch": "harness.export.executorch:ExecuTorch",
    "torchscript_lite": "harness.export.torchscript_lite:TorchScriptLite",
}

TRANSPORTS = {
    "local": "harness.devices.local:Local",
    "ssh": "harness.devices.ssh:Ssh",
    "adb": "harness.devices.adb_server:AdbServer",
    "adb+tcp": "harness.devices.adb_direct:AdbTcp",
    "adb+usb": "harness.devices.adb_direct:AdbUsb",
    "sim": "harness.sim.transport:Sim",
}

#: order here = order in which `auto` tries them
METERS: dict[str, str] = {
    "odpm": "harness.measure.meters.odpm:Odpm",
    "pmic": "harness.measure.meters.pmic:Pmic",
    "rapl": "harness.measure.meters.rapl:Rapl",
    "hwmon": "harness.measure.meters.hwmon:Hwmon",
    "battery": "harness.measure.meters.battery:Battery",
    "exec": "harness.measure.meters.exec:Exec",
}

#: order here = order on the page
SECTIONS = {
    "pareto": "harness.report.pareto:Pareto",
    "comparison": "harness.report.comparison:Comparison",
    "history": "harness.report.history:History",
    "latency": "harness.report.latency:Latency",
    "why": "harness.report.why:Why",
    "operators": "harness.report.operators:Operators",
    "resources": "harness.report.resources:Resources",
    "energy": "harness.report.energy:Energy",
    "sustained": "harness.report.sustained:Sustained",
    "conditions": "harness.report.conditions:Conditions",
    "table": "harness.report.table:Table",
    "detail": "harness.report.detail:Detail",
    "troubles": "harness.report.troubles:Troubles",
    "provenance": "harness.report.provenance:Provenance",
}

KINDS = {
    "technique": TECHNIQUES,
    "exporter": EXPORTERS,
    "transport": TRANSPORTS,
    "meter": METERS,
    "section": SECTIONS,
}


def names(kind: str) -> dict[str, str]:
    """Every name of this kind, ours and third parties' (which may not replace ours)."""
    return _installed(f"harness.{kind}s", tuple(sys.path)) | KINDS[kind]


@cache
def _installed(group: str, path: tuple[str, ...]) -> dict[str, str]:
    """Looking through all distributions takes tens of milliseconds; `path` is where they are looked for."""
    from importlib.metadata import entry_points

    return {point.name: point.value for point in entry_points(group=group)}


def load(kind: str, name: str) -> Any:
    """The class registered under `name`.

    Raises UsageError for an unknown name (the nearest one suggested), ToolchainError where its module cannot
    be imported."""
    known = KINDS[kind] if name in KINDS[kind] else names(kind)
    if name not in known:
        raise UsageError(f"unknown {kind} {name!r}", nearest(name, known))
    module, _, attribute = known[name].partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ToolchainError(f"{kind} {name!r} cannot be loaded: {error}") from error
