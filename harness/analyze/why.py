"""Why a variant is, or is not, as much faster as its arithmetic promises.

Predicted is what counting gives: time = Σ multiply-accumulates × the share of a vector register that one takes. A
register of 128 bits holds 4 fp32, 8 fp16 or 16 int8 lanes (Arm Neon and x86 SSE alike; wider ones in proportion), so
fp16 takes 1/2 and int8 1/4 of fp32's time. Static int8 quantizes convolutions and linear layers; dynamic int8 and
4-bit weights only linear layers, whose activations become int8 on the way (XNNPACK's qd8 kernels); other matrix
products (attention) stay as they are but in fp16. Zeros are multiplied like any other number. It is a bound of the
arithmetic and no simulation: where the measured speed-up falls short, the causes listed are those that can be counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.analyze.intervals import over_runs
from harness.analyze.status import number
from harness.types import Build, Precision

#: register share of one multiply-accumulate in (linear layers, convolutions, other matrix products)
WIDTHS: Mapping[Precision, tuple[float, float, float]] = {
    "fp32": (1.0, 1.0, 1.0),
    "fp16": (0.5, 0.5, 0.5),
    "static_int8": (0.25, 0.25, 1.0),
    "dynamic": (0.25, 1.0, 1.0),
    "int4": (0.25, 1.0, 1.0),
}
#: measured over predicted within these is as predicted: arithmetic alone is not told apart more finely
AS_PREDICTED = (0.8, 1.25)
#: a share of the work below this explains nothing that could be seen
LEAST_SHARE = 0.05
#: fewer multiply-accumulates take less than what any call costs: some 1 µs at the 20 G a second of one fast core, where
#: a call of an almost empty model was measured at 0.5 µs
SMALL_MACS = 20_000


@dataclass(frozen=True, kw_only=True)
class Cause:
    """`share`: of the work that it touches, by which causes are sorted. None, and last, where it cannot be told, and
    for zeros: the prediction promised nothing for them."""

    cause: str
    value: float
    unit: str
    text: str
    share: float | None

    @property
    def extent(self) -> float:
        """By which one file's cause is compared with the same of another."""
        return self.value if self.share is None else self.share

    def as_json(self) -> dict[str, Any]:
        return {"cause": self.cause, "value": self.value, "unit": self.unit, "text": self.text}


def why(own: Build, reference: Build, latency: Mapping[str, Any], base: Mapping[str, Any],
        blocks: Mapping[int, float], base_blocks: Mapping[int, float]) -> dict[str, Any]:  # fmt: skip
    """`predicted_speedup`, `measured_speedup` with `ci95`, `verdict`, `explains` and a one-line `text`; or absent.

    `latency` and `base` are the `latency_ms` objects of the result and of the reference beside it, `blocks` and
    `base_blocks` their runs' medians by block of the schedule: what shook both in a block cancels in their ratio."""
    for found in (latency, base):
        if "absent" in found:
            return {"absent": str(found["absent"])}
    times = predicted_time(reference), predicted_time(own)
    if times[0] is None or times[1] is None:
        return {"absent": "the build did not count its layers' multiply-accumulates"}
    predicted, measured = times[0] / times[1], base["value"] / latency["value"]
    ratios = [base_blocks[b] / blocks[b] for b in sorted(blocks.keys() & base_blocks.keys())]
    interval = over_runs(ratios, measured)
    verdict = _verdict(predicted, measured, interval)
    causes = _explains(own, reference, verdict, predicted)
    return {
        "predicted_speedup": predicted,
        "measured_speedup": measured,
        "ci95": list(interval) if interval else {"absent": "fewer than 2 repeats beside the reference's"},
        "verdict": verdict,
        "explains": [cause.as_json() for cause in causes],
        "text": _line(predicted, measured, verdict, causes),
    }


def predicted_time(build: Build) -> float | None:
    """In multiply-accumulates of fp32; None where the build did not count them, or there are none."""
    layers = _layers(build)
    macs, linear = number(layers.get("macs")), number(layers.get("linear_macs"))
    if macs is None or linear is None:
        return None
    total = number(build.facts.get("macs"))  # not every model can be counted as a whole
    kinds = linear, macs - linear, max(0.0, (macs if total is None else total) - macs)
    time = sum(count * width for count, width in zip(kinds, WIDTHS[build.precision], strict=True))
    return time or None


def steps(build: Build) -> list[dict[str, Any]]:
    """What each step of the build took, in order; empty where it is not known."""
    said = build.facts.get("steps") or ()
    known = [(str(s.get("step")), number(s.get("seconds"))) for s in said if isinstance(s, Mapping)]
    return [{"step": name, "seconds": seconds} for name, seconds in known if seconds is not None]


def _layers(build: Build) -> Mapping[str, Any]:
    found = build.facts.get("layers")
    return found if isinstance(found, Mapping) else {}


def _verdict(predicted: float, measured: float, interval: tuple[float, float] | None) -> str:
    low, high = AS_PREDICTED
    if low <= measured / predicted <= high or (interval and interval[0] <= predicted <= interval[1]):
        return "as predicted"
    return "slower than predicted" if measured < predicted else "faster than predicted"


def _explains(own: Build, reference: Build, verdict: str, predicted: float) -> list[Cause]:
    """Slower: all that holds this file up. Faster: what holds the reference up more. As predicted: only the zeros that
    buy nothing."""
    mine = list(_causes(own))
    if verdict == "slower than predicted":
        mine += _outputs(own, reference, predicted)
    if verdict == "faster than predicted":
        less = {cause.cause: cause.extent for cause in mine}
        found = [c for c in _causes(reference) if c.extent > less.get(c.cause, 0.0)]
        mine = [Cause(**(vars(c) | {"text": f"of the reference: {c.text}"})) for c in found]
    elif verdict == "as predicted":
        mine = [cause for cause in mine if cause.cause == "unstructured_zeros"]
    return sorted(mine, key=lambda c: -1.0 if c.share is None else c.share, reverse=True)


def _causes(build: Build) -> Iterator[Cause]:
    """Whatever can be counted that keeps a file from running as fast as its arithmetic."""
    yield from _outside(build.facts.get("delegation"))
    layers = _layers(build)
    macs = number(layers.get("macs")) or 0.0
    if macs < SMALL_MACS:
        text = f"{macs:,.0f} MACs only: what a call costs outweighs them"
        yield Cause(cause="small", value=macs, unit="MACs", text=text, share=1.0)
    shares = {
        "odd_channels": ("odd_channel_macs", "of MACs in layers whose channels are not multiples of 8"),
        "memory_bound": ("memory_bound_macs", "of MACs wait for memory"),
    }
    for name, (key, text) in shares.items():
        share = (number(layers.get(key)) or 0.0) / macs if macs else 0.0
        if share >= LEAST_SHARE:
            yield Cause(cause=name, value=share, unit="fraction", text=f"{_percent(share)} {text}", share=share)
    zeros = number(layers.get("unstructured_zeros")) or 0.0
    if zeros >= LEAST_SHARE:
        text = f"{_percent(zeros)} of weights are scattered zeros, which the kernels compute all the same"
        yield Cause(cause="unstructured_zeros", value=zeros, unit="fraction", text=text, share=None)


def _outputs(own: Build, reference: Build, predicted: float) -> Iterator[Cause]:
    """Values that the layers write: each is scaled, clamped and stored once, however little arithmetic is behind it.
    Named where they shrank far less than the arithmetic did."""
    mine, before = (number(_layers(build).get("outputs")) for build in (own, reference))
    if not mine or not before or before / mine * AS_PREDICTED[1] >= predicted:
        return
    fewer = f"only {_times(before / mine)} fewer" if before > mine * 1.01 else "no fewer" if mine <= before else "more"
    text = f"{fewer} values to write than the reference's, for {_times(predicted)} less arithmetic"
    yield Cause(cause="outputs", value=mine / before, unit="fraction", text=text, share=None)


def _outside(delegation: Any) -> Iterator[Cause]:
    """Of a format with delegates: nodes that the portable kernels run, and borders that data crosses."""
    if not isinstance(delegation, Mapping):
        return
    inside, outside = (int(number(delegation.get(key)) or 0) for key in ("delegated", "undelegated"))
    partitions = int(number(delegation.get("partitions")) or 0)
    if outside:
        nodes = f"{outside} node{'' if outside == 1 else 's'} outside the delegate"
        if not inside:
            nodes = f"no delegate: the portable kernels run all {outside} node{'' if outside == 1 else 's'}"
        text = nodes + _operators(delegation.get("left_outside"))
        share = outside / (inside + outside)
        yield Cause(cause="undelegated", value=outside, unit="nodes", text=text, share=share)
    if partitions > 1:
        text = f"{partitions} partitions: data crosses in and out"
        yield Cause(cause="partitions", value=partitions, unit="partitions", text=text, share=None)


def _operators(left: Any, most: int = 3) -> str:
    """` (softmax ×2, add ×1 and 2 more kinds)`, the commonest first."""
    counts = {str(name): int(number(n) or 0) for name, n in left.items()} if isinstance(left, Mapping) else {}
    names = sorted(counts, key=lambda name: (-counts[name], name))
    if not names:
        return ""
    rest = len(names) - most
    more = f" and {rest} more kind{'' if rest == 1 else 's'}" if rest > 0 else ""
    return f" ({', '.join(f'{name} ×{counts[name]}' for name in names[:most])}{more})"


def _line(predicted: float, measured: float, verdict: str, causes: list[Cause]) -> str:
    """The likeliest cause only; all of them are in `explains`."""
    more = f", and {len(causes) - 1} more" if len(causes) > 1 else ""
    said = causes[0].text + more if causes else ""
    if verdict == "as predicted":
        return f"{_times(measured)}, as predicted ({_times(predicted)})" + (f"; {said}" if said else "")
    return f"{_times(measured)}, predicted {_times(predicted)}: {said or 'nothing that was counted explains it'}"


def _times(ratio: float) -> str:
    return f"{ratio:.0f}×" if ratio >= 10 else f"{ratio:.1f}×" if ratio >= 1 else f"{ratio:.2f}×"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
