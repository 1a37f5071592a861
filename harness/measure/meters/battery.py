"""The battery's gauge: current and voltage, as far as the kernel tells them.

The ABI says µA, µV, and a negative current while discharging; there are phones with mA, and with the other sign. Here
the ABI is assumed and marked so (`uncalibrated`): only idle and load together show which it is (analyze/gauge.py). A
voltage shows its unit by itself. With a charger connected nobody knows what the battery does not deliver: refused.
± 3 %: gauges are good at comparing on one device, not at absolute values (source.android.com, device power).
Source: Documentation/ABI/testing/sysfs-class-power of the Linux kernel."""

from __future__ import annotations

from typing import Any

from harness.errors import RunnerError
from harness.interfaces import EnergyTrace, Meter
from harness.measure.meters import sampler

PERIOD_S = 0.25  # gauges have something new every 0.2 s to some seconds
UNCERTAINTY = 0.03
LOWEST_V, HIGHEST_V = 2.5, 25.0  # of one lithium cell to six


class Battery:
    def unfit(self, bench: Any) -> str | None:
        found = sampler.look(bench, "battery")
        if reason := sampler.unreadable(found, "battery gauge that tells a current", "Android lets no shell at it"):
            return reason
        if len(found) > 1:
            return f"it has several batteries: {', '.join(one.name for one in found[:4])}"
        self._gauge = found[0]
        return charging(found[0].value)

    def start(self, bench: Any) -> None:
        self._bench = bench
        self._uncertainty = sampler.calibration(bench, UNCERTAINTY)
        self._sampler = sampler.Sampler(bench, "battery", PERIOD_S, [self._gauge.path])

    def stop(self) -> EnergyTrace:
        found = self._sampler.stop()
        if reason := self.unfit(self._bench):
            raise RunnerError(f"behind the run: {reason}")
        return trace(found, self._uncertainty)


def charging(status: str | None) -> str | None:
    """Why a battery of this status (device_scripts/meter.sh) tells nothing of the device, or None."""
    if status is not None and status.endswith("+charger"):
        return "a charger is connected: take the cable out, and use Wi-Fi (adb pair, or adb tcpip) meanwhile"
    if status != "Discharging":
        return f"the battery is not discharging (its status is {sampler.clean(status or 'not told')!r})"
    return None


def trace(found: list[sampler.Reading], uncertainty: float = UNCERTAINTY) -> EnergyTrace:
    """Power in W as the ABI has it, positive while discharging. Raises RunnerError."""
    rows = []
    for reading in found:
        status = reading.words[2] if len(reading.words) == 3 else "-"
        if status != "-" and (reason := charging(status)):
            raise RunnerError(f"{reading.t_s - found[0].t_s:.0f} s into the run {reason}")
        rows.append(sampler.Reading(t_s=reading.t_s, words=reading.words[:2]))
    t_s, pairs = sampler.numbers(rows, 2, 1.0)
    scale = volt_scale(pairs[1::2])
    watts = tuple(-amps * 1e-6 * volts * scale for amps, volts in zip(pairs[0::2], pairs[1::2], strict=True))
    if not any(watts):
        raise RunnerError("the gauge says that no current flows")
    return EnergyTrace(
        kind="power",
        clock="read",
        rails=("battery",),
        t_s=t_s,
        values=watts,
        period_s=PERIOD_S,
        uncertainty=uncertainty,
        clock_s=sampler.STAMP_S,
        uncalibrated=True,
        notes={"covers": "all that the battery delivers", "volt_unit": "µV" if scale == 1e-6 else "mV"},
    )


def volt_scale(raw: tuple[float, ...]) -> float:
    """V per unit of what is told: µV, or mV. Raises RunnerError where no battery has such a voltage in either."""
    for scale in (1e-6, 1e-3):
        if min(raw) * scale >= LOWEST_V and max(raw) * scale <= HIGHEST_V:
            return scale
    raise RunnerError(f"the battery's voltage is told as {min(raw):g} to {max(raw):g}, neither µV nor mV")


_: type[Meter] = Battery
