"""Eight processes write to one PostgreSQL and to one SQLite at once: no run is lost, none is there twice."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from harness.store import Store
from harness.store.store import cell_key
from tests.standins.postgres import Postgres
from tests.test_store import begin, make_run, raw

PROCESSES, CELLS, REPEATS = 8, 2, 5

#: each child tries to fill every slot, in an order of its own, and does all that others do too
PROGRAM = """
import dataclasses, os, random, sys, traceback
sys.path.insert(0, {root!r})
import numpy as np
import psycopg
from harness.store import Store
from tests.test_store import CELL, begin, make_run

urls, sessions = sys.argv[1:3], sys.argv[3:5]
read, write = os.pipe()


def work(child):
    chance = random.Random(child)
    stores = [Store.open(url) for url in urls]
    slots = [(cell, repeat) for cell in range({cells}) for repeat in range({repeats})]
    chance.shuffle(slots)
    for number, (cell, repeat) in enumerate(slots):
        for store, session in zip(stores, sessions):
            samples = {{"latency_ns": np.arange(1 + repeat * 1000, dtype=np.uint64) + child}}
            run = make_run(
                session, cell=dataclasses.replace(CELL, threads=cell), repeat=repeat, arrays=samples,
                id=f"{{child}}-{{cell}}-{{repeat}}", attempt=child + 1,
            )
            first = store.append(run)
            say("counts" if first else "late", store, run)
            lost = dataclasses.replace(run, id=run.id + "-lost", attempt=100 + child, counts=False, status="invalid")
            assert store.append(lost)
            assert not store.append(lost)
            assert not store.append(dataclasses.replace(lost, id=lost.id + "-again"))
            same = dataclasses.replace(run, id=f"same-{{cell}}-{{repeat}}", purpose="memory", attempt=1)
            say("same" if store.append(same) else "there", store, same)
            store.set_baseline("exp", f"{{child}}-{{number}}")
            store.set_baseline(f"new {{number}}", str(child))
            store.put_digest(session, f"{{child}}", bytes([child]) * 1000)
            if number % 6 == 0:
                begin(store, label=f"{{child}}-{{number}}")


def say(word, store, run):
    os.write(1, f"{{word}} {{urls.index(store.url)}} {{run.id}}\\n".encode())  # whole, whoever writes beside


children = []
for child in range({processes}):
    if (pid := os.fork()) == 0:
        os.close(write)
        os.read(read, 1)  # until all are there
        try:
            work(child)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    children.append(pid)
os.close(write)
sys.exit(sum(os.waitpid(pid, 0)[1] != 0 for pid in children))
"""


def test_eight_processes_lose_and_double_nothing(postgres: Postgres, tmp_path: Path) -> None:
    urls = [f"sqlite:///{tmp_path}/h.db", postgres()]
    sessions = [begin(Store.open(url, create=True)) for url in urls]
    program = PROGRAM.format(root=str(Path.cwd()), processes=PROCESSES, cells=CELLS, repeats=REPEATS)
    command = [sys.executable, "-c", program, *urls, *sessions]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    for number, (url, session) in enumerate(zip(urls, sessions, strict=True)):
        said = {word: {one[2] for one in lines if one[:2] == [word, str(number)]} for word in ("counts", "same")}
        check(Store.open(url), session, said["counts"], said["same"])
        assert len([one for one in lines if one[:2] == ["same", str(number)]]) == CELLS * REPEATS
    check_constraints(urls[1], sessions[1])


def check(store: Store, session: str, counts: set[str], same: set[str]) -> None:
    """`counts`, `same`: the runs of which a process was told that they are stored now."""
    runs = store.runs(session, arrays=True)
    ids = Counter(run.id for run in runs)
    assert set(ids.values()) == {1}
    slots = CELLS * REPEATS
    lost = {f"{child}-{c}-{r}-lost" for child in range(PROCESSES) for c in range(CELLS) for r in range(REPEATS)}
    assert len(counts) == len(same) == slots
    assert set(ids) == counts | same | lost
    counted = Counter((cell_key(run.cell), run.purpose, run.repeat) for run in runs if run.counts)
    assert set(counted.values()) == {1}
    assert len(counted) == 2 * slots == len(store.counted(session))
    for run in runs:
        child = int(run.id.partition("-")[0]) if run.id[0].isdigit() else None
        samples = run.arrays["latency_ns"]
        assert len(samples) == 1 + run.repeat * 1000
        assert child is None or samples[0] == child
    listed = [one["label"] for one in store.list_sessions() if one["label"]]
    assert sorted(listed) == sorted(f"{child}-{n}" for child in range(PROCESSES) for n in range(0, slots, 6))
    assert store.baseline("exp") in {f"{child}-{slots - 1}" for child in range(PROCESSES)}
    for number in range(slots):
        assert store.baseline(f"new {number}") in {str(child) for child in range(PROCESSES)}
    kept = [store.digests({session: str(child)}) == {session: bytes([child]) * 1000} for child in range(PROCESSES)]
    assert sum(kept) == 1


@pytest.mark.parametrize("name", ["one_attempt", "one_counts"])
def test_the_crowd_is_held_by_the_databases_own_constraints(postgres: Postgres, name: str) -> None:
    url = postgres()
    session = begin(Store.open(url, create=True))
    check_constraints(url, session)
    with raw(url) as connection:
        found = connection.exec_driver_sql(f"SELECT indexdef FROM pg_indexes WHERE indexname = '{name}'").scalar()
    assert "UNIQUE" in str(found)
    assert ("WHERE counts" in str(found)) == (name == "one_counts")


def check_constraints(url: str, session: str) -> None:
    """Nothing but a run that is told to be there stands in its way."""
    store = Store.open(url)
    assert store.append(make_run(session, id="free", repeat=REPEATS + 1, attempt=1))
    assert not store.append(make_run(session, id="free-2", repeat=REPEATS + 1, attempt=2))
    store.close()
