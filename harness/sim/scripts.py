"""The harness's own device scripts as the simulated device runs them; each answers in the form of its namesake in
`device_scripts/`."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence

from harness.interfaces import Completed
from harness.paths import device_scripts_dir
from harness.sim import gauges, runner
from harness.sim.world import HOME, File, Process, World

_ABIS = {"arm64": "aarch64", "amd64": "x86_64"}


def said(text: str, code: int = 0, err: str = "") -> Completed:
    return Completed(returncode=code, stdout=text.encode(), stderr=err.encode())


def standing_in_input(world: World, words: Sequence[str], script: bytes) -> Completed:
    """`sh -s WORDS` with one of our scripts in standard input."""
    for name in ("facts.sh", "lease.sh"):
        if script == (device_scripts_dir() / name).read_bytes():
            return run(world, name, words, b"")
    return said("", 127, "a simulated device knows no such script")


def run(world: World, name: str, words: Sequence[str], stdin: bytes) -> Completed:
    script = SCRIPTS.get(name)
    if script is None:
        return said("", 127, f"a simulated device has no {name}")
    return script(world, list(words), stdin)


def hashes(world: World, paths: Sequence[str]) -> bytes:
    out = []
    for path in paths:
        try:
            out.append(f"{world.files[path].sha256}  {path}\n")
        except (KeyError, OSError):
            continue  # not there, on the device or any more on the host
    return "".join(out).encode()


def facts(world: World, words: list[str], stdin: bytes) -> Completed:
    p = world.profile
    machine = platform.machine().lower()
    lines = {
        "abi": _ABIS.get(machine, machine),  # this host's: its runner computes what a real model answers
        "kernel": "Linux simulated",
        "os_release": f"simulated {p.kind}",
        "model": f"simulated {p.model}",
        "serial": world.address.uri,
        "hostname": "simulated",
        "home": HOME,
        "cores": p.cores,
        "page_size": 4096,
        "memory_kib": 8 << 20,
        "boot_id": world.boot_id,
    }
    text = "".join(f"{key}={value}\n" for key, value in lines.items())
    for cluster in p.clusters if p.clocks_readable else ():
        text += f"cluster={' '.join(map(str, cluster.cpus))} max_khz {cluster.khz[-1]} midr \n"
    text += f"thermal_zones={int(p.zones_readable)}\n"
    text += "".join(f"energy={line}\n" for line in gauges.facts(world))
    return said(text)


def lease(world: World, words: list[str], stdin: bytes) -> Completed:
    """As lease.sh, but that nobody can come in between: the world is locked."""
    verb, _, *rest = words
    held = world.lease if world.lease is not None and world.lease[2] > world.t else None
    if verb == "holder":
        return said("" if held is None else f"held {held[3]}\n")
    if verb == "release":
        if world.lease is not None and world.lease[1] == rest[0]:
            world.lease = None
        return said("")
    host, token, term = rest[0], rest[1], float(rest[2])
    takeover, label = (rest[3] == "yes", rest[4]) if verb == "acquire" else (False, rest[3])
    if held is not None and held[1] != token and not (takeover and held[0] == host):
        return said(f"{'held' if verb == 'acquire' else 'lost'} {held[3]}\n")
    world.lease = (host, token, world.t + term, label)
    return said("mine\n")


def store(world: World, words: list[str], stdin: bytes) -> Completed:
    verb, *rest = words
    if verb == "hash":
        return Completed(returncode=0, stdout=hashes(world, rest), stderr=b"")
    if verb == "receive":
        partial, target, digest = rest
        if partial in world.files:
            if world.files[partial].sha256 != digest:
                del world.files[partial]
                return said("damaged\n")
            world.files[target] = world.files.pop(partial)
            return said("ok\n")
        there = target in world.files and world.files[target].sha256 == digest
        return said("ok\n" if there else "missing\n")
    if verb == "room":
        return said(f"free {64 << 20}\n")
    if verb == "sweep":
        for path in [path for path in world.files if "/.tmp-" in path]:
            del world.files[path]
        return said("")
    return said("", 2, f"store.sh: unknown verb {verb}")


def runs(world: World, words: list[str], stdin: bytes) -> Completed:
    verb, folder, *rest = words
    if verb == "start":
        if folder not in world.processes:  # asked twice is harmless
            process = launch(world, rest[1:])
            process.files["notes.json"] = File(data=stdin)
            world.processes[folder] = process
        return said("")
    found = world.processes.get(folder)
    if found is not None and verb == "end":
        world.kill(found, "kill")
    return said(f"{state(world, found)}\n")


def launch(world: World, argv: Sequence[str]) -> Process:
    """What runs detached: the meter's script, or a runner; anything else ends at once, as a word nobody knows."""
    script = world.files.get(argv[1]) if argv[:1] == ["sh"] and len(argv) > 4 else None
    try:
        if script is not None and script.script == "meter.sh":
            return gauges.sampling(world, argv[2], float(argv[4]), argv)
        return runner.begin(world, argv)
    except (ValueError, KeyError) as error:
        return Process(argv=argv, start_t=world.t, end_t=world.t, exit_code=127, stderr=f"{error}\n".encode())


def meter(world: World, words: list[str], stdin: bytes) -> Completed:
    """A look; its sampling is a process of its own."""
    return said(gauges.look(world, words[2]) if words[:1] == ["look"] and len(words) > 2 else "")


def state(world: World, process: Process | None) -> str:
    if process is None or process.killed == "kill":
        return "lost"
    if process.killed == "deadline":
        return "deadline"
    return "running" if world.running(process) else f"exit {process.exit_code}"


def prepare(world: World, words: list[str], stdin: bytes) -> Completed:
    verb, _, *rest = words
    asked = [word.partition("=")[0] for word in rest if "=" in word] if verb == "begin" else []
    return said("".join(f"not {key} a simulated device has no settings\n" for key in asked))


def telemetry(world: World, words: list[str], stdin: bytes) -> Completed:
    """As telemetry.sh; a phone that is closed to a shell still has Android's services, as a real one does."""
    p, now = world.profile, world.timeline.at(world.t)
    celsius = now.temp_c + float(world.calls.normal(0, 0.05))
    lines = [f"uptime_s={world.t:.2f}", f"loadavg={0.1 if not p.burst_every_s else 0.6}"]
    if p.zones_readable:
        lines.append(f"zone=body {round(celsius * 1000)}")
    for cluster in p.clusters if p.clocks_readable else ():
        name, khz = f"policy{cluster.cpus[0]}", cluster.khz
        lines.append(f"max_khz={name} {khz[max(0, len(khz) - 1 - now.level)]}")
        lines.append(f"governor={name} schedutil")
    if p.android:
        lines.append(f"thermal_status={min(now.level, 6)}")
        lines.append(f"temperature=now Temperature{{mValue={celsius:.2f}, mType=3, mName=SKIN, mStatus=0}}")
        lines += ["battery_percent=80", f"battery_decicelsius={round(celsius * 10)}"]
        lines += [f"charging={'yes' if p.fault == 'charging' else 'no'}", "screen=true"]
    elif p.kind == "board":
        lines.append(f"throttled={0x8 if now.level else 0:#x}")
    return said("".join(f"{line}\n" for line in lines))


SCRIPTS: Mapping[str, Callable[[World, list[str], bytes], Completed]] = {
    "facts.sh": facts,
    "lease.sh": lease,
    "store.sh": store,
    "runs.sh": runs,
    "prepare.sh": prepare,
    "telemetry.sh": telemetry,
    "meter.sh": meter,
}
