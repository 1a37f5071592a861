"""The power gauges of a simulated device, as `device_scripts/meter.sh` reads them: the true power and energy of the
timeline, with each source's steps, noise, scale error and, where it is asked for, a fault.

What a fault does to whom (others are not touched by it):

    wrong_sign    battery: positive while it discharges · hwmon: the shunt sits the other way round
    wrong_unit    battery: mA where µA are meant · hwmon: mW
    wraps         rapl: the counter's range is 2^30 µJ, which it uses up in a minute or two
    missing_rail  odpm: the big cores' rail is not listed · pmic: VDD_CORE has no voltage · rapl: one package is shut
    charging      battery: a charger feeds it
    gaps          all: the reading stops for three seconds in every eleven
    restless      all: something else on the device comes and goes, so that one idle window is not like the next
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.sim.world import Process, World

VOLTS = 3.85
CHARGER_A = 1.5
_GAP_S, _EVERY_S = 3.0, 11.0
_RANGE_UJ, _SHORT_UJ = 262_143_328_850, 1 << 30
#: rail -> share of the power
_ODPM: Mapping[str, float] = {
    "S2M_VDD_CPUCL0": 0.2, "S2M_VDD_CPUCL1": 0.5, "S2M_VDD_MIF": 0.2, "S2M_VDD_INT": 0.1,
}  # fmt: skip
#: rail -> (share, volts)
_PMIC: Mapping[str, tuple[float, float]] = {
    "3V7_WL_SW": (0.03, 3.7), "3V3_SYS": (0.08, 3.3), "1V8_SYS": (0.06, 1.8), "DDR_VDD2": (0.05, 1.1),
    "DDR_VDDQ": (0.02, 0.6), "1V1_SYS": (0.08, 1.1), "0V8_SW": (0.1, 0.8), "VDD_CORE": (0.5, 0.88),
    "3V3_DAC": (0.01, 3.3), "3V3_ADC": (0.01, 3.3), "0V8_AON": (0.01, 0.8), "HDMI": (0.05, 5.1),
}  # fmt: skip
_TURN = 1000.0  # seconds of the energy counters that nobody has seen


@dataclass(frozen=True, kw_only=True)
class Gauge:
    """`look`: the lines that tell what there is. `read`: the words of a reading at a moment. `step_s`: how often the
    source has a new value; in between it says the old one."""

    look: Callable[[World], list[str]]
    read: Callable[[World, float], str]
    step_s: float


def look(world: World, kind: str) -> str:
    gauge = GAUGES.get(kind) if kind in world.profile.gauges else None
    return "" if gauge is None else "".join(f"{line}\n" for line in gauge.look(world))


def facts(world: World) -> list[str]:
    """What facts.sh says of them: `readable|unreadable METER NAME`."""
    found = []
    for kind in world.profile.gauges:
        for line in GAUGES[kind].look(world):
            state, _, _, name = line.split(" ", 3)
            found.append(f"{state} {kind} {name}")
    return found


class Sampling(Process):
    """meter.sh, reading until it is ended: its lines are made when somebody asks for them."""

    def __init__(self, world: World, kind: str, period_s: float, argv: Sequence[str]) -> None:
        super().__init__(argv=argv, start_t=world.t, end_t=math.inf)
        self._world, self._gauge, self._period_s = world, GAUGES[kind], period_s

    def stdout(self, t: float) -> bytes:
        last = min(t, self.end_t)
        count = max(0, math.floor((last - self.start_t) / self._period_s))
        return "".join(self._line(self.start_t + i * self._period_s) for i in range(count + 1)).encode()

    def _line(self, t: float) -> str:
        if self._world.profile.fault == "gaps" and t % _EVERY_S < _GAP_S:
            return ""
        held = math.floor(t / self._gauge.step_s) * self._gauge.step_s
        return f"{math.floor(t * 100) / 100:.2f} {self._gauge.read(self._world, held)}\n"


def sampling(world: World, kind: str, period_s: float, argv: Sequence[str]) -> Process:
    """Raises ValueError for a meter that the device does not have."""
    if kind not in world.profile.gauges or not 0.01 <= period_s <= 60:
        raise ValueError(f"no meter {kind!r}")
    return Sampling(world, kind, period_s, argv)


def _watts(world: World, t: float, noise: float) -> float:
    """The power as the gauge sees it; its noise is the same whenever this moment is asked for."""
    chance = random.Random(round(t * 1000) << 32 | world.address.seed)
    return world.timeline.at(t).power_w * world.gauge_scale * chance.gauss(1.0, noise)


def _joules(world: World, t: float) -> float:
    return (world.timeline.at(t).energy_j + _TURN * world.profile.idle_w) * world.gauge_scale


def _rapl_look(world: World) -> list[str]:
    range_uj = _SHORT_UJ if world.profile.fault == "wraps" else _RANGE_UJ
    lines = [f"readable /sys/class/powercap/intel-rapl:0/energy_uj {range_uj} package-0"]
    if world.profile.fault == "missing_rail":
        lines.append(f"unreadable /sys/class/powercap/intel-rapl:1/energy_uj {range_uj} package-1")
    return lines


def _rapl(world: World, t: float) -> str:
    counter = round(_joules(world, t) * 1e6)
    return str(counter % _SHORT_UJ if world.profile.fault == "wraps" else counter % _RANGE_UJ)


def _hwmon(world: World, t: float) -> str:
    micro = _watts(world, t, 0.003) * {"wrong_unit": 1e3, "wrong_sign": -1e6}.get(world.profile.fault, 1e6)
    return str(round(micro))


def _battery_look(world: World) -> list[str]:
    status = "Charging+charger" if world.profile.fault == "charging" else "Discharging"
    return [f"readable /sys/class/power_supply/battery {status} battery"]


def _battery(world: World, t: float) -> str:
    fault = world.profile.fault
    out = _watts(world, t, 0.004) / VOLTS  # negative is discharging, by the kernel's ABI
    amperes = CHARGER_A - out if fault == "charging" else out if fault == "wrong_sign" else -out
    current = round(amperes * (1e3 if fault == "wrong_unit" else 1e6))
    return f"{current} {round(VOLTS * 1e6)} {'Charging' if fault == 'charging' else 'Discharging'}"


def _odpm_rails(world: World) -> dict[str, float]:
    left_out = "S2M_VDD_CPUCL1" if world.profile.fault == "missing_rail" else ""
    return {name: share for name, share in _ODPM.items() if name != left_out}


def _odpm(world: World, t: float) -> str:
    ms = round(t * 1000)
    uws = _joules(world, t) * 1e6
    rails = [f"CH{i}(T={ms})[{n}], {round(share * uws)}" for i, (n, share) in enumerate(_odpm_rails(world).items())]
    return f"dev t={ms} {' '.join(rails)}"


def _pmic(world: World, t: float) -> str:
    watts = _watts(world, t, 0.003)
    currents = [
        f"{name}_A current({i})={share * watts / volts:.8f}A" for i, (name, (share, volts)) in enumerate(_PMIC.items())
    ]
    shut = "VDD_CORE" if world.profile.fault == "missing_rail" else ""
    volts = [f"{name}_V volt({12 + i})={v:.8f}V" for i, (name, (_, v)) in enumerate(_PMIC.items()) if name != shut]
    return " ".join([*currents, *volts, "EXT5V_V volt(24)=5.12345600V", "BATT_V volt(25)=0.00244141V"])


GAUGES: Mapping[str, Gauge] = {
    "odpm": Gauge(
        look=lambda world: ["readable /sys/bus/iio/devices/iio:device0/energy_value - s2mpg10-odpm"],
        read=_odpm,
        step_s=0.13,
    ),
    "pmic": Gauge(
        look=lambda world: ["readable vcgencmd - vcgencmd"],
        read=_pmic,
        step_s=0.05,
    ),
    "rapl": Gauge(look=_rapl_look, read=_rapl, step_s=0.001),
    "hwmon": Gauge(
        look=lambda world: ["readable /sys/class/hwmon/hwmon0/power1_input 140 ina226 power1"],
        read=_hwmon,
        step_s=0.14,
    ),
    "battery": Gauge(look=_battery_look, read=_battery, step_s=1.0),
}
