"""What the surroundings of a run say of it: disturbed, throttled, capped, on unknown clocks. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.analyze import surroundings as said
from harness.types import Enrolment, Run, Snapshot, Status

# The calibration kernel: how much it may differ at least, and in sds of its logarithm from run to run at rest. At a
# bare 3 % an idle virtual machine would lose a third of its runs, so without a known sd nothing is judged by it.
DISTURBED = 0.03
SLOWED = 0.05
SPREADS = 3.0
SLOW = "slowed"  # how the reason of a run begins that began on a device slower than at rest
#: of fewer sentinel runs no standard deviation is told
FEWEST_ENROLMENTS = 5
#: of fewer timed runs no spread of what the kernel changed within them
FEWEST_CHANGES = 8

#: a clock is steady when so much of the time was spent at one frequency
STEADY_SHARE = 0.95
#: the kernel counts in ticks of 10 ms: of fewer than these no such share can be told
FEWEST_TICKS = 20
#: a policy on whose CPUs fewer of the iterations ran was only passed through
USED_SHARE = 0.05

#: bits 0-3 of vcgencmd get_throttled are so now, 16-19 the same since boot (raspberrypi.com, os.html#get_throttled)
THROTTLED = ("under-voltage", "clock capped", "throttled", "soft temperature limit")


def enrolment(runs: Sequence[Run], since: Sequence[Run] = ()) -> Enrolment | None:
    """What these sentinel runs (of one device and one setting of cpus) say of it at rest; None for none that counts.

    Of each run, the kernel's median before; over the runs, the median and the sample sd of the logarithms (None of
    fewer than five). The rest is how it was before the last of them: the first may still have been cooling.

    `since`: the timed runs after it, whether they count or not. What the kernel changed within each has a spread too,
    about its median: a device that slows down in every run has no wider limit for it."""
    counted = sorted((r for r in runs if r.purpose == "sentinel" and r.counts), key=lambda r: (r.repeat, r.attempt))
    if not counted:
        return None
    values = [ns for run in counted if (ns := said.sentinel_ns(run.conditions, "before")) is not None]
    enough = len(values) >= FEWEST_ENROLMENTS
    return Enrolment(
        sentinel_ns=statistics.median(values) if values else None,
        sentinel_sd=statistics.stdev(math.log(ns) for ns in values) if enough else None,
        change_sd=_change_sd(since),
        rest=next((at for run in reversed(counted) if (at := said.snapshot(run.conditions, "before"))), None),
    )


def _change_sd(runs: Sequence[Run]) -> float | None:
    """1.4826 × the median absolute deviation of log(after / before): the sd of what is normal, whatever is not."""
    changes = [math.log(ratio) for run in runs if (ratio := kernel_ratio(run.conditions)) is not None]
    if len(changes) < FEWEST_CHANGES:
        return None
    middle = statistics.median(changes)
    return 1.4826 * statistics.median(abs(change - middle) for change in changes)


def judged(
    conditions: Mapping[str, Any], enrolled: Enrolment | None, heats: bool = False
) -> tuple[Status, str | None, tuple[str, ...]]:
    """(status, reason, caveats) of a timed run, by its conditions alone. Only ever `ok` or `invalid`.

    The cause comes before its symptom: throttled, capped, placement, then what the calibration kernel showed. A run
    that `heats` (sustained) is made to see the device throttle: only how it began is judged."""
    misplaced, slowed = _misplaced(conditions), _slowed(conditions, enrolled)
    if heats:
        reason = misplaced or slowed
    else:
        heat = _throttled(conditions) or _capped(conditions)
        reason = heat or misplaced or _disturbed(conditions, enrolled) or slowed
    return "ok" if reason is None else "invalid", reason, tuple(_caveats(conditions, enrolled, heats))


def _caveats(conditions: Mapping[str, Any], enrolled: Enrolment | None, heats: bool) -> Iterator[str]:
    shares = _clock_shares(conditions)
    if not heats and any(share is not None and share < STEADY_SHARE for share in shares):
        yield "freq_unstable"
    if not shares or None in shares:
        yield "clock_unknown"
    if said.gate_state(conditions) != "open":
        yield "thermal_unknown"
    needed: tuple[said.When, ...] = ("before",) if heats else ("before", "after")
    if _spread(enrolled) is None or any(said.sentinel_ns(conditions, when) is None for when in needed):
        yield "sentinel_unknown"


# -- heat --------------------------------------------------------------------------------------------------------------


def _throttled(conditions: Mapping[str, Any]) -> str | None:
    before = said.snapshot(conditions, "before") or Snapshot()
    after = said.snapshot(conditions, "after") or Snapshot()
    bits = after.throttled or 0
    if bits & 0xF:
        return f"throttled: vcgencmd get_throttled was {bits:#x} after the run ({_bits(bits)})"
    if before.throttled is not None and (new := bits & ~before.throttled & 0xF0000):
        return f"throttled: vcgencmd get_throttled went from {before.throttled:#x} to {bits:#x} ({_bits(new >> 16)})"
    if after.thermal_status:
        return f"throttled: Android's thermal status was {after.thermal_status} after the run (0 is none)"
    return None


def _bits(bits: int) -> str:
    return ", ".join(name for bit, name in enumerate(THROTTLED) if bits >> bit & 1)


# -- clocks ------------------------------------------------------------------------------------------------------------


def _used(conditions: Mapping[str, Any], policies: Mapping[str, said.Policy]) -> list[str] | None:
    """The policies on whose CPUs the run really was; None where it is not known."""
    counts = said.cpu_counts(conditions)
    if not counts:
        return list(policies) if len(policies) == 1 else None
    least = USED_SHARE * sum(counts.values())
    return [name for name, p in policies.items() if sum(counts.get(cpu, 0) for cpu in p.cpus) >= least]


def _capped(conditions: Mapping[str, Any]) -> str | None:
    """A limit of a clock that fell: around the timed part as the runner saw it, or between the two looks around it."""
    before, after = said.policies(conditions, "before"), said.policies(conditions, "after")
    first, last = (said.snapshot(conditions, when) or Snapshot() for when in ("before", "after"))
    used = _used(conditions, before)
    for name in sorted({*before, *first.max_khz}):
        if used is not None and name in before and name not in used:
            continue
        runner = [p[name].max_khz if name in p else None for p in (before, after)]
        for was, became in (runner, (first.max_khz.get(name), last.max_khz.get(name))):
            if was is not None and became is not None and became < was:
                return f"capped: {name}'s limit fell from {was} to {became} kHz during the run"
    return None


def _clock_shares(conditions: Mapping[str, Any]) -> list[float | None]:
    """Of each policy that the run used, the share of the time at its commonest frequency; None where unknown."""
    before, after = said.policies(conditions, "before"), said.policies(conditions, "after")
    used = _used(conditions, before)
    if used is None:
        return [None]
    return [_share(before[name].ticks, after[name].ticks) if name in after else None for name in used]


def _share(before: Mapping[int, int], after: Mapping[int, int]) -> float | None:
    spent = [ticks - before.get(khz, 0) for khz, ticks in after.items()]
    if not before or sum(spent) < FEWEST_TICKS or min(spent) < 0:  # or the counters began anew
        return None
    return max(spent) / sum(spent)


def _misplaced(conditions: Mapping[str, Any]) -> str | None:
    asked = said.cpus_asked(conditions)
    outside = [] if asked is None else sorted(set(said.cpu_counts(conditions)) - asked)
    return f"placement: ran on CPU {', '.join(map(str, outside[:8]))}, outside the mask" if outside else None


# -- the calibration kernel --------------------------------------------------------------------------------------------


def kernel_ratio(conditions: Mapping[str, Any]) -> float | None:
    """How many times as long the kernel took behind the run as before it; None where the runner did not tell both."""
    before, after = said.sentinel_ns(conditions, "before"), said.sentinel_ns(conditions, "after")
    return None if before is None or after is None else after / before


def disturbance_limit(enrolled: Enrolment | None) -> float | None:
    """The relative change of the kernel that spoils a run; None where the device's own variation is not known."""
    spread = _spread(enrolled)
    return None if spread is None else max(DISTURBED, SPREADS * spread)


def _spread(enrolled: Enrolment | None) -> float | None:
    """The device's own variation: None where its enrolment did not tell."""
    if enrolled is None or enrolled.sentinel_sd is None:
        return None
    return max(enrolled.sentinel_sd, enrolled.change_sd or 0.0)


def _disturbed(conditions: Mapping[str, Any], enrolled: Enrolment | None) -> str | None:
    ratio, limit = kernel_ratio(conditions), disturbance_limit(enrolled)
    if ratio is None or limit is None:
        return None
    change = ratio - 1
    if abs(change) <= limit:
        return None
    took = f"{_percent(abs(change))} {'longer' if change > 0 else 'less'}"
    return f"disturbed: the calibration kernel took {took} behind the run than before it (limit {_percent(limit)})"


def _slowed(conditions: Mapping[str, Any], enrolled: Enrolment | None) -> str | None:
    before, spread = said.sentinel_ns(conditions, "before"), _spread(enrolled)
    if before is None or spread is None or enrolled is None or not enrolled.sentinel_ns:
        return None
    change, limit = before / enrolled.sentinel_ns - 1, max(SLOWED, SPREADS * spread)
    if change <= limit:
        return None
    took = f"{_percent(change)} longer"
    return f"{SLOW}: the calibration kernel took {took} before the run than at rest (limit {_percent(limit)})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
