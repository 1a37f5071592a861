"""The power chip of a Raspberry Pi 5: current and voltage of its twelve rails, by `vcgencmd pmic_read_adc`.

The sum of current × voltage is what the rails give, less than what the board takes: the 5 V input has no current
sensor, and USB, the fan and the losses of the chip are not seen. Its accuracy is not published; ± 3 % is assumed.
At 50 readings a second vcgencmd slows other programs, so it is asked four times a second."""

from __future__ import annotations

import re
from typing import Any

from harness.errors import RunnerError
from harness.interfaces import EnergyTrace, Meter
from harness.measure.meters import sampler

PERIOD_S = 0.25
UNCERTAINTY = 0.03
RAILS = (
    "3V7_WL_SW", "3V3_SYS", "1V8_SYS", "DDR_VDD2", "DDR_VDDQ", "1V1_SYS", "0V8_SW", "VDD_CORE", "3V3_DAC", "3V3_ADC",
    "0V8_AON", "HDMI",
)  # fmt: skip
#: these have a voltage and no current
INPUTS = ("EXT5V", "BATT")
MAX_A, MAX_V = 30.0, 30.0

_WORD = re.compile(r"(?:current|volt)\([0-9]{1,3}\)=(-?[0-9]{1,4}(?:\.[0-9]{1,12})?)([AV])")
_NAME = re.compile(r"([A-Z0-9_]{1,32})_([AV])")


class Pmic:
    def unfit(self, bench: Any) -> str | None:
        if sampler.rails_of(bench):
            return "its rails are always added up: take `rails` out of the device's entry"
        return sampler.unreadable(sampler.look(bench, "pmic"), "vcgencmd", "a Raspberry Pi 5 has pmic_read_adc")

    def start(self, bench: Any) -> None:
        self._uncertainty = sampler.calibration(bench, UNCERTAINTY)
        self._sampler = sampler.Sampler(bench, "pmic", PERIOD_S, [])

    def stop(self) -> EnergyTrace:
        return trace(self._sampler.stop(), self._uncertainty)


def trace(found: list[sampler.Reading], uncertainty: float = UNCERTAINTY) -> EnergyTrace:
    """Raises RunnerError, also where a rail is missing."""
    t_s: list[float] = []
    values: list[float] = []
    rails: tuple[str, ...] | None = None
    for reading in found:
        if reading.words == ("-",):
            continue
        watts = powers(reading.words)
        if rails is not None and tuple(watts) != rails:
            raise RunnerError("the rails of the power chip changed during the run")
        rails = tuple(watts)
        t_s.append(reading.t_s)
        values += watts.values()
    if rails is None:
        raise RunnerError("vcgencmd could not be asked during the run")
    return EnergyTrace(
        kind="power",
        clock="read",
        rails=rails,
        t_s=tuple(t_s),
        values=tuple(values),
        period_s=PERIOD_S,
        uncertainty=uncertainty,
        clock_s=sampler.STAMP_S,
        notes={"covers": "rails of the power chip, without the 5 V input, USB and losses"},
    )


def powers(words: tuple[str, ...]) -> dict[str, float]:
    """Rail -> W, from words like `VDD_CORE_A current(7)=1.52A VDD_CORE_V volt(15)=0.87V`. Raises RunnerError."""
    told: dict[str, dict[str, float]] = {"A": {}, "V": {}}
    if len(words) % 2:
        raise RunnerError(f"vcgencmd said {sampler.clean(' '.join(words))[:100]!r}, which is not understood")
    for name, value in zip(words[0::2], words[1::2], strict=True):
        of, said = _NAME.fullmatch(name), _WORD.fullmatch(value)
        if of is None or said is None or of[2] != said[2]:
            raise RunnerError(f"vcgencmd said {sampler.clean(f'{name} {value}')[:100]!r}, which is not understood")
        if of[1] in told[of[2]]:
            raise RunnerError(f"vcgencmd named {of[1]}_{of[2]} twice")
        told[of[2]][of[1]] = float(said[1])
    amperes, volts = told["A"], {name: value for name, value in told["V"].items() if name not in INPUTS}
    if odd := sorted(set(amperes) ^ set(volts)):
        raise RunnerError(f"the rail {odd[0]} has {'no voltage' if odd[0] in amperes else 'no current'}")
    if missing := [name for name in RAILS if name not in amperes]:
        raise RunnerError(f"the rail {missing[0]} is missing")
    if any(not 0 <= volts[n] <= MAX_V or not -0.1 <= amperes[n] <= MAX_A for n in amperes):
        raise RunnerError("a rail of the power chip has an impossible current or voltage")
    return {name: amperes[name] * volts[name] for name in amperes}


_: type[Meter] = Pmic
