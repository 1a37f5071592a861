"""How long the page of a large document takes to make and to open, how large it is, and how fast its charts answer.

    python benchmarks/page_scale.py [--variants 200] [--devices 5] [--releases 30] [--document FILE.json] [-o PAGE]

The document is made up (its numbers mean nothing), or a real one as `harness report --json` prints it. Opened in
headless Chromium (playwright) from disk. Targets: made in < 15 s, < 20 MB, a change of axes drawn within 1 s.
The named alternative is the same page with every row of every table laid out at once (as when all are asked for)."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.interfaces import PageData
from harness.report.page import render

Rng = np.random.Generator
CELL = ("variant", "seed", "exporter", "backend", "input", "device", "device_id", "threads", "cpus", "context")
METRICS = (
    "latency_ms", "first_inference_ms", "load_ms", "cold_load_ms", "sustained_ms", "energy_j", "peak_memory_bytes",
    "size_bytes", "compressed_bytes", "accuracy",
)  # fmt: skip
UNITS = {"energy_j": "J", "peak_memory_bytes": "bytes", "size_bytes": "bytes", "compressed_bytes": "bytes",
         "accuracy": "fraction"}  # fmt: skip
EXACT = ("size_bytes", "compressed_bytes", "accuracy")
OPERATORS = [f"aten::operator_{n}.out" for n in range(60)]


def page_data(variants: int = 200, devices: int = 5, releases: int = 30, seed: int = 0) -> PageData:
    """A made-up session of `variants` × `devices` results, compared with a baseline, `releases` labels of history."""
    rng = np.random.default_rng(seed)
    results = [result(rng, f"v{v:03}", d) for v in range(variants) for d in range(devices)]
    cells = [{key: found[key] for key in CELL} for found in results]
    front = [cell | {"probability": 0.9, "tied_with": []} for cell in cells[: devices * 20]]
    picks = [cell | {"probability": 0.95, "runner_up": cells[devices + d], "binding": None}
             for d, cell in enumerate(cells[:devices])]  # fmt: skip
    everywhere = cells[0] | {"device": "*", "device_id": "*"}
    document = {
        "schema": 1, "experiment": "large", "label": "v30", "session": "made-up", "date": "2026-01-12T09:30:00Z",
        "report": None, "results": results, "selected_on": "test", "front": front,
        "near_front": [cell | {"probability": 0.1} for cell in cells[devices * 20 : devices * 22]],
        "robust_front": [everywhere | {"probability": 0.93, "tied_with": []}], "picks": picks,
        "pick": everywhere | {"probability": 0.93, "runner_up": None, "binding": None}, "objectives_dropped": {},
    }  # fmt: skip
    quantiles = {i: latency_quantiles(rng, found["metrics"]["latency_ms"]["value"]) for i, found in enumerate(results)}
    return PageData(
        document=document, quantiles_ms=quantiles, provenance={"Notice": "Every number of this page is made up."},
        comparison=comparison(rng, cells), history=history(rng, cells, releases),
    )  # fmt: skip


def result(rng: Rng, variant: str, device: int) -> dict[str, Any]:
    ms = float(rng.lognormal(1 + 0.3 * device, 0.6))
    values = {
        "latency_ms": ms, "first_inference_ms": 3 * ms, "load_ms": 5.0, "cold_load_ms": 50.0,
        "throughput_ips": 1e3 / ms, "peak_memory_bytes": 1e7 * ms**0.3,
        "model_memory_bytes": 4e6 * ms**0.3, "size_bytes": 1e6 * ms**0.5,
        "compressed_bytes": 9e5 * ms**0.5, "accuracy": 0.99 - 0.02 / ms, "accuracy_drop": 0.02 / ms,
        "energy_j": 0.002 * ms, "power_w": 2.0, "sustained_ms": 1.3 * ms, "throttle_after_s": 180.0, "macs": 1e6,
        "parameters": 1e5, "sparsity": 0.0, "delegated_fraction": 1.0, "output_sqnr_db": 40.0,
    }  # fmt: skip
    units = {"throughput_ips": "inferences/s", "power_w": "W", "throttle_after_s": "s", "accuracy_drop": "fraction",
             "sparsity": "fraction", "delegated_fraction": "fraction", "output_sqnr_db": "dB", "macs": "1",
             "parameters": "1"}  # fmt: skip
    metrics: dict[str, dict[str, Any]] = {
        key: {"value": value, "unit": UNITS.get(key) or units.get(key) or ("bytes" if "bytes" in key else "ms"),
              "ci95": [value * 0.99, value * 1.01], "source": "made up"}
        for key, value in values.items()
    }  # fmt: skip
    metrics["latency_ms"] |= {"p90": 1.1 * ms, "p95": 1.2 * ms, "p99": 1.5 * ms, "mean": 1.02 * ms, "min": 0.9 * ms}
    metrics["sustained_ms"] |= {"minute1": ms, "end": 1.3 * ms}
    metrics["energy_j"] |= {"gross": 0.003 * ms, "idle_w": 1.5, "rails": ["package-0"], "period_s": 0.1,
                            "uncertainty": 0.01, "windows": 5, "seconds": 30.0}  # fmt: skip
    metrics["peak_memory_bytes"]["parts"] = {"model_mapped": 1e6, "packed_weights": 2e6, "arenas": 5e5, "other": 1e6}
    return {
        "variant": variant, "seed": 0, "exporter": "executorch", "backend": "xnnpack", "input": "default",
        "device": f"phone{device}", "device_id": f"0000000{device}", "threads": 1, "cpus": "any", "context": "host",
        "runtime": "executorch 1.5.1", "status": "ok", "reason": None, "caveats": [], "repeats": 5, "runs": [],
        "artifact": {"path": "x.pte", "sha256": f"{variant:0>64}", "size_bytes": 1_000_000, "built": True},
        "metrics": metrics, "steps": [{"step": "quantize_pt2e", "seconds": 3.0}], "simulated": False,
        "conditions": conditions(), "sustained": sustained(rng, ms), "operators": operators(rng, ms),
        "profile": {"traced_ms": 1.05 * ms, "untraced_ms": ms, "coverage": 0.95},
        "why": {"predicted_speedup": 4.0, "measured_speedup": 2.5, "ci95": [2.4, 2.6],
                "verdict": "slower than predicted",
                "explains": [{"cause": "memory_bound", "value": 0.6, "unit": "fraction", "text": "60 % wait"}],
                "text": "2.5×, predicted 4.0×: 60 % wait for memory"},
    }  # fmt: skip


def conditions() -> dict[str, Any]:
    return {
        "temperature_c": {"sensor": "skin", "before": [30.0, 32.0], "after": [33.0, 36.0]}, "gate_wait_s": 20.0,
        "redone": {"runs": 0, "reasons": []}, "sentinel": {"median_change": 0.01, "limit": 0.06},
        "clocks": {"residency": 0.98, "khz": 2_400_000}, "cpus": {"6": 0.9, "7": 0.1}, "load": 0.2,
        "prepared": {"set": {}, "not_set": []}, "enrolled": True, "burn_in": True, "seed": 1,
    }  # fmt: skip


def sustained(rng: Rng, ms: float) -> dict[str, Any]:
    t = np.linspace(0, 600, 200)
    curve = ms * (1 + 0.3 * t / 600) * (1 + 0.01 * rng.standard_normal(200))
    return {"t_s": t.tolist(), "latency_ms": curve.tolist(), "temperature_c": (30 + t / 60).tolist(),
            "clock_khz": [2_400_000.0] * 200}  # fmt: skip


def operators(rng: Rng, ms: float) -> list[dict[str, Any]]:
    shares = np.sort(rng.dirichlet(np.ones(len(OPERATORS))))[::-1]
    return [{"name": name, "kind": "operator", "time_us": 1000 * ms * share, "share": share, "calls": 1}
            for name, share in zip(OPERATORS, shares.tolist(), strict=True)]  # fmt: skip


def latency_quantiles(rng: Rng, median: float) -> list[float]:
    samples = median * np.exp(0.03 * rng.standard_normal(500))
    values: list[float] = np.quantile(samples, np.linspace(0, 1, 101)).tolist()
    return values


def comparison(rng: Rng, cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Mostly the same; a few of each other outcome."""
    outcomes = ("worse", "better", "inconclusive", "incomparable", "missing", "same")
    chosen = rng.choice(outcomes, len(cells) * len(METRICS), p=(0.01, 0.01, 0.1, 0.01, 0.01, 0.86))
    places = [(cell, metric) for cell in cells for metric in METRICS]
    rows = [compared(cell, metric, str(outcome)) for (cell, metric), outcome in zip(places, chosen, strict=True)]
    verdict = "worse" if "worse" in chosen else "same"
    return {"schema": 1, "base": "v29", "head": "v30", "verdict": verdict, "comparisons": rows}


def compared(cell: Mapping[str, Any], metric: str, outcome: str) -> dict[str, Any]:
    ratio = {"worse": 1.08, "better": 0.93}.get(outcome, 1.002)
    why = {"inconclusive": "the interval is too wide", "incomparable": "os: Android 15 -> Android 16",
           "missing": "the device was not reached"}  # fmt: skip
    known = outcome != "missing"
    moved = [{"factor": "delegated_fraction", "base": "1", "head": "0.6"}] if outcome == "worse" else []
    return {
        **cell, "metric": metric, "unit": UNITS.get(metric, "ms"), "base": 1.0 if known else None, "head": ratio,
        "ratio": ratio if known else None, "ci95": [ratio * 0.99, ratio * 1.01] if known else None, "outcome": outcome,
        "minimum_detectable": 0.03 if known else None, "reason": why.get(outcome), "design": "paired", "moved": moved,
        "confirmed": None, "n": 5, "p_value": 0.01, "q_value": 0.02, "threshold": 0.02,
    }  # fmt: skip


def history(rng: Rng, cells: list[dict[str, Any]], releases: int) -> dict[str, Any]:
    return {"schema": 1, "experiment": "large", "series": list(_series(rng, cells, releases))}


def _series(rng: Rng, cells: list[dict[str, Any]], releases: int) -> Iterator[dict[str, Any]]:
    for number, (cell, metric) in enumerate((cell, metric) for cell in cells for metric in METRICS):
        steps = np.where(np.arange(releases) >= releases - 3, 1.06 if number % 100 == 0 else 1.0, 1.0)
        noise = 0.0 if metric in EXACT else 0.01
        values = 2.0 * steps * (1 + noise * rng.standard_normal(releases))
        reference = None if metric in EXACT or metric == "peak_memory_bytes" else "v000"
        days = [f"2026-{1 + i // 28:02}-{1 + i % 28:02}T00:00:00Z" for i in range(releases)]
        points = [{
            "label": f"v{i + 1}", "sessions": ["made-up"], "created_utc": days[i],
            "value": float(value), "relative": float(value) / 3, "runs": 5, "segment": int(i >= releases // 2),
            "began": ["os"] if i == releases // 2 else [], "absent": None,
        } for i, value in enumerate(values)]  # fmt: skip
        change = {"at": releases - 3, "label": f"v{releases - 2}", "ratio": 1.06, "p_value": 1e-5, "worse": True,
                  "confirmed": None, "stands": True, "reason": None}  # fmt: skip
        yield {
            **cell, "metric": metric, "unit": UNITS.get(metric, "ms"), "normalised": reference,
            "reason": None if reference else "not divided by the reference",
            "points": points, "changes": [change] if number % 100 == 0 and releases > 6 else [],
        }  # fmt: skip


AXES = [("size_bytes", "accuracy"), ("energy_j", "peak_memory_bytes"), ("latency_ms", "accuracy_drop")]
#: changes an axis and waits until the browser has painted what came of it
CHANGE = """([id, value]) => new Promise((done) => {
  const begin = performance.now(), select = document.getElementById(id);
  select.value = value;
  select.dispatchEvent(new Event("change", { bubbles: true }));
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - begin), 0));
})"""


def opened(file: Path, chromium: str) -> dict[str, float]:
    """Seconds until the charts are drawn, milliseconds of the slowest of several changes, what the console said."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        begin = time.perf_counter()
        page.goto(file.as_uri())
        page.wait_for_selector("#pareto-chart .main-svg", timeout=120_000)
        open_s = time.perf_counter() - begin
        known = set(page.eval_on_selector_all("#pareto-x option", "options => options.map(o => o.value)"))
        pairs = [(x, y) for x, y in AXES if {x, y} <= known]
        axes = [page.evaluate(CHANGE, [f"pareto-{side}", key]) for x, y in pairs for side, key in (("x", x), ("y", y))]
        device = "#page-device option:nth-child(2)"
        one = page.locator(device).get_attribute("value") if page.locator(device).count() else None
        switches = [page.evaluate(CHANGE, ["page-device", value]) for value in (one, "") if one is not None]
        everything = page.evaluate(SHOW_ALL)
        browser.close()
    return {
        "open_s": open_s, "axis_ms": max(axes, default=0.0), "device_ms": max(switches, default=0.0),
        "all_rows_ms": everything, "complaints": float(len(complaints)),
    }  # fmt: skip


SHOW_ALL = """() => new Promise((done) => {
  const begin = performance.now();
  document.querySelectorAll("button.more").forEach((button) => button.click());
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - begin), 0));
})"""


def made(data: PageData, out: Path) -> dict[str, float]:
    begin = time.perf_counter()
    html = render(data)
    seconds = time.perf_counter() - begin
    out.write_text(html, encoding="utf-8")
    return {"made_s": seconds, "megabytes": out.stat().st_size / 1e6}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    for name, default in (("variants", 200), ("devices", 5), ("releases", 30), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--document", type=Path, help="a document of `harness report --json` instead of a made-up one")
    parser.add_argument("-o", "--out", type=Path, help="keep the page here")
    asked = parser.parse_args(arguments)
    if asked.document:
        data = PageData(document=json.loads(asked.document.read_text("utf-8")), quantiles_ms={}, provenance={})
    else:
        data = page_data(asked.variants, asked.devices, asked.releases, asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        out = asked.out or Path(folder) / "page.html"
        found = made(data, out)
        print(f"made in {found['made_s']:.1f} s (target < 15), {found['megabytes']:.1f} MB (target < 20)")
        good = found["made_s"] < 15 and found["megabytes"] < 20
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        if chromium is None:
            print("not opened: no chromium here")
            return 0 if good else 1
        seen = opened(out, chromium)
    print(f"opened in {seen['open_s']:.1f} s; the slowest change of an axis {seen['axis_ms']:.0f} ms (target < 1000), "
          f"of the device {seen['device_ms']:.0f} ms; console messages: {seen['complaints']:.0f}")  # fmt: skip
    print(f"the alternative, every row laid out at once: {seen['all_rows_ms']:.0f} ms more")
    return 0 if good and seen["axis_ms"] < 1000 and not seen["complaints"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
