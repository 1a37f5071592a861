"""The simulated devices that exist, each a frozen description of a world: its heat, its noise, its clocks, its faults.

The numbers are made up in the range of what such devices show; none is measured, but for `recorded-host`, whose noise
is a trace of a real computer (data/recorded-host.json)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["phone", "board", "computer"]


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """CPUs of one frequency policy. `khz`: its clocks, ascending. `speed`: of one of its cores at the highest clock,
    relative to the device's fastest."""

    cpus: tuple[int, ...]
    khz: tuple[int, ...]
    speed: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One device. Latency truth is the median at the highest clock of the fastest cluster; all noise multiplies it.

    Noise. `run_sd`: of the run's own effect, lognormal. `within_sd`, `rho`: of the iterations' AR(1) on the logarithm.
    `spike_share` of all iterations take `spike_factor` times as long. A background burst comes every `burst_every_s`
    on average (0: never), lasts `burst_s` and slows everything by `burst_factor`. `drift`: the fraction by which all
    models slow down over the first `drift_minutes`, linearly; no sensor and no calibration kernel shows it.
    `migration_share`: of the runs that may use any CPU, which have a fifth of their iterations on the slowest cluster.

    Heat. One body: `rise_c_per_w` above `ambient_c` for each W, reached with the time constant `tau_s`. Above each of
    `trips_c` the clock steps down once (`hysteresis_c` below it, up again). `fixed_c`: a body that always has it.

    Power. `idle_w`; `load_w` is added by a model that does not say its own, at the highest clock; it goes with the
    clock to the power of 2.5. `gauges`: sources that can be read. `gauge_error`: one standard deviation of a gauge's
    constant error of scale.

    `drop_every`: calls between two drops of the link, on average (0: never). `samples`: how many iterations a run
    tells at most beyond those that were asked for; its time passes as if it had made them all."""

    name: str
    kind: Kind
    model: str
    clusters: tuple[Cluster, ...]
    run_sd: float = 0.005
    within_sd: float = 0.015
    rho: float = 0.5
    spike_share: float = 0.005
    spike_factor: float = 1.6
    burst_every_s: float = 0.0
    burst_s: float = 2.0
    burst_factor: float = 1.3
    drift: float = 0.0
    drift_minutes: float = 10.0
    migration_share: float = 0.0
    sentinel_sd: float = 0.002
    ambient_c: float = 25.0
    rise_c_per_w: float = 4.0
    tau_s: float = 120.0
    trips_c: tuple[float, ...] = ()
    hysteresis_c: float = 3.0
    fixed_c: float | None = None
    idle_w: float = 0.8
    load_w: float = 2.0
    clocks_readable: bool = True
    zones_readable: bool = True
    gauges: tuple[str, ...] = ()
    gauge_error: float = 0.005
    fault: str = "none"
    drop_every: float = 0.0
    sleeps: bool = False
    capped: bool = False
    trace: str | None = None
    samples: int = 200

    @property
    def cores(self) -> int:
        return sum(len(cluster.cpus) for cluster in self.clusters)

    @property
    def android(self) -> bool:
        return self.kind == "phone"


_LITTLE = Cluster(cpus=(0, 1, 2, 3), khz=(300_000, 600_000, 1_000_000, 1_400_000, 1_800_000), speed=0.4)
_BIG = Cluster(cpus=(4, 5, 6, 7), khz=(500_000, 1_000_000, 1_400_000, 1_800_000, 2_200_000, 2_600_000))
_PI = Cluster(cpus=(0, 1, 2, 3), khz=(1_500_000, 1_800_000, 2_100_000, 2_400_000))
_HOST = Cluster(cpus=(0, 1), khz=(2_000_000, 2_500_000, 3_000_000))

_PHONE = Profile(
    name="phone-passive-cooling",
    kind="phone",
    model="phone with passive cooling",
    clusters=(_LITTLE, _BIG),
    run_sd=0.01,
    within_sd=0.02,
    rho=0.5,
    sentinel_sd=0.004,
    rise_c_per_w=7.0,
    tau_s=150.0,
    trips_c=(39.0, 41.0, 43.0),
    hysteresis_c=1.5,
    load_w=2.5,
    gauges=("odpm", "battery"),
)

PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        _PHONE,
        replace(
            _PHONE,
            name="phone-unrooted",
            model="phone whose sensors and clocks are closed to a shell",
            run_sd=0.04,
            within_sd=0.03,
            rho=0.6,
            sentinel_sd=0.015,
            spike_share=0.02,
            clocks_readable=False,
            zones_readable=False,
            gauges=("battery",),
            gauge_error=0.01,
        ),
        Profile(
            name="pi5-fan",
            kind="board",
            model="board with a fan",
            clusters=(_PI,),
            run_sd=0.004,
            within_sd=0.008,
            rho=0.3,
            sentinel_sd=0.0015,
            rise_c_per_w=6.0,
            tau_s=30.0,
            trips_c=(80.0, 85.0),
            idle_w=2.7,
            load_w=3.5,
            gauges=("pmic",),
        ),
        Profile(
            name="big-little",
            kind="board",
            model="board with four fast and four slow cores",
            clusters=(_LITTLE, _BIG),
            run_sd=0.008,
            migration_share=0.15,
            rise_c_per_w=5.0,
            tau_s=60.0,
            trips_c=(75.0, 80.0),
            idle_w=1.5,
            load_w=3.0,
            gauges=("hwmon",),
        ),
        Profile(
            name="noisy-host",
            kind="computer",
            model="shared computer",
            clusters=(_HOST,),
            run_sd=0.02,
            within_sd=0.05,
            rho=0.8,
            spike_share=0.03,
            spike_factor=2.0,
            burst_every_s=90.0,
            burst_s=4.0,
            burst_factor=1.4,
            sentinel_sd=0.01,
            rise_c_per_w=0.8,
            tau_s=20.0,
            idle_w=12.0,
            load_w=15.0,
            clocks_readable=False,
            gauges=("rapl",),
        ),
        Profile(
            name="recorded-host",
            kind="computer",
            model="two-core virtual machine, its noise recorded",
            clusters=(_HOST,),
            sentinel_sd=0.01,
            rise_c_per_w=0.8,
            tau_s=20.0,
            idle_w=12.0,
            load_w=15.0,
            clocks_readable=False,
            zones_readable=False,
            trace="recorded-host",
        ),
        replace(
            _PHONE,
            name="phone-throttles",
            model="phone that throttles within a second of load",
            rise_c_per_w=12.0,
            tau_s=6.0,
            trips_c=(29.5, 31.0, 33.0),
            hysteresis_c=1.0,
            idle_w=0.2,
        ),
        replace(_PHONE, name="phone-sleeps", model="phone that falls asleep in each measurement", sleeps=True),
        replace(_PHONE, name="phone-capped", model="phone whose clock is capped in each measurement", capped=True),
        replace(_PHONE, name="phone-never-cools", model="phone that is hot whatever it does", fixed_c=44.0),
    )
}
