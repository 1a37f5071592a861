"""`compare`, `gate` and `baseline`: every answer and every refusal, on a simulated device whose truth is known."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import confirm as confirming
from harness import lanes, work
from harness.analyze import compare as judging
from harness.analyze import history as tracking
from harness.analyze import results
from harness.analyze.compare import Compared
from harness.analyze.history import Change, Point, Series
from harness.cli import app
from harness.commands import alarms as alarming
from harness.commands.sides import label_of
from harness.errors import Offline
from harness.report.compare_text import SIMULATED
from harness.sim import world as worlds
from harness.store import Store
from harness.types import Cell, DeviceSpec
from tests.release_kit import DEVICES, SAME, SLOWER, Lab, enter
from tests.session_kit import schema

SIZES = {"fp32": 1000, "int8": 300}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """v1, v2 with nothing changed, v3 whose int8 is slower and larger; a quick label, one of a single repeat, one of
    another plan, and a session without label of another experiment."""
    folder = tmp_path_factory.mktemp("measured")
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        lab = Lab(folder)
        lab.release("v1", SAME, sizes=SIZES)
        lab.release("v2", SAME, sizes=SIZES, build="v1")
        lab.release("v3", SLOWER, sizes=SIZES | {"int8": 900})
        lab.release("quick", SAME, "--quick", sizes=SIZES, build="v1")
        lab.release("once", SLOWER, sizes=SIZES, build="v3", plan={"repeats": 1})
        lab.release("memory", SAME, sizes=SIZES, build="v1", plan={"memory": True})
        lab.release("", {"tiny": 1.0}, name="other")
        lab.release("two", SAME, sizes=SIZES, build="v1", devices=["pi", "pi2"], name="fleet")
    return folder


@pytest.fixture
def lab(measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    shutil.copytree(measured, tmp_path / "lab")
    enter(tmp_path / "lab", monkeypatch)
    yield Lab(tmp_path / "lab")
    worlds._worlds.clear()


def outcomes(document: Any, variant: str | None = None) -> dict[str, str]:
    rows = [r for r in document["comparisons"] if variant in (None, r["variant"])]
    return {f"{r['variant']} {r['metric']}": r["outcome"] for r in rows}


def run_id(lab: Lab, label: str | None) -> str:
    _, found = lab.json("runs")
    return str(next(s["id"] for s in found if s["label"] == label))


# -- compare -----------------------------------------------------------------------------------------------------------


def test_unchanged_labels_are_not_worse(lab: Lab) -> None:
    code, found = lab.json("compare", "v1", "v2")
    assert code == 0
    assert "worse" not in outcomes(found).values()
    assert outcomes(found)["int8 size_bytes"] == "same"
    schema("compare").validate(found)


def test_a_slower_and_larger_variant_is_worse_one_way_and_better_the_other(lab: Lab) -> None:
    code, found = lab.json("compare", "v1", "v3")
    assert (code, found["verdict"], found["base"], found["head"]) == (1, "worse", "v1", "v3")
    assert {outcomes(found)[f"int8 {m}"] for m in ("latency_ms", "size_bytes")} == {"worse"}
    assert found["simulated"] is True
    schema("compare").validate(found)
    code, back = lab.json("compare", "v3", "v1")
    assert (code, back["verdict"]) == (0, "better")


def test_text_and_markdown_say_the_same_to_stdout_and_progress_goes_to_stderr(lab: Lab) -> None:
    assert lab("compare", "v1", "v3", "--confirm") == 1
    assert lab.stdout.splitlines()[0] == SIMULATED
    assert lab.stdout.splitlines()[-1].startswith("verdict: worse (")
    assert "confirmed by measuring again" in lab.stdout
    assert "measuring again" in lab.stderr and "pi: " in lab.stderr and "pi: " not in lab.stdout
    assert lab("compare", "v1", "v3", "--format", "markdown") == 1
    assert lab.stdout.startswith(f"> **{SIMULATED}**") and "**Worse**" in lab.stdout


def test_what_only_seemed_worse_is_taken_back_by_measuring_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    real = judging.compare

    def seems_worse(*args: Any, **more: Any) -> Any:
        return [dataclasses.replace(r, outcome="worse") if r.metric == "latency_ms" else r for r in real(*args, **more)]

    monkeypatch.setattr(judging, "compare", seems_worse)
    code, found = lab.json("compare", "v1", "v2")
    assert code == 1
    code, found = lab.json("compare", "v1", "v2", "--confirm")
    assert code == 0
    latency = [r for r in found["comparisons"] if r["metric"] == "latency_ms"]
    assert [r["confirmed"] for r in latency] == [False, False]


def test_one_repeat_never_makes_a_verdict(lab: Lab) -> None:
    code, found = lab.json("compare", "v1", "once")
    timed = [r for r in found["comparisons"] if r["metric"].endswith("_ms")]
    assert timed and {r["outcome"] for r in timed} == {"inconclusive"}
    assert all(r["reason"] for r in timed)
    assert lab("compare", "v1", "once", "--fail-on", "inconclusive") == 1
    assert code == 0


def test_a_metric_that_one_side_lacks_is_named(lab: Lab) -> None:
    _, found = lab.json("compare", "v1", "memory")
    rows = [r for r in found["comparisons"] if r["metric"] == "peak_memory_bytes"]
    assert {r["outcome"] for r in rows} == {"missing"}
    assert all(r["reason"] for r in rows) and all(r["ratio"] is None for r in rows)
    assert lab("compare", "v1", "memory") == 3
    assert lab("compare", "v1", "memory", "--allow-missing", str(len(rows) - 1)) == 3
    assert lab("compare", "v1", "memory", "--allow-missing", str(len(rows))) == 0


def test_sessions_by_the_beginning_of_their_id(lab: Lab) -> None:
    code, found = lab.json("compare", f"run:{run_id(lab, 'v1')[:8]}", f"run:{run_id(lab, 'v3')[:12]}")
    assert code == 1
    assert found["sessions"] == {"base": [run_id(lab, "v1")], "head": [run_id(lab, "v3")]}
    assert lab("compare", "v1", f"run:{run_id(lab, 'v3')[:8]}") == 1


def test_only_the_devices_asked_for(lab: Lab) -> None:
    lab.release("three", SLOWER, sizes=SIZES, devices=["pi", "pi2"], name="fleet")
    _, found = lab.json("compare", "two", "three", "--device", "pi2")
    assert {r["device"] for r in found["comparisons"]} == {"pi2"}
    _, found = lab.json("compare", "two", "three", "--device", "sim://pi5-fan?seed=4&run_sd=0.005")
    assert {r["device"] for r in found["comparisons"]} == {"pi"}
    lab.says(2, "compare", "two", "three", "--device", "pi3", names=("'pi3'", "did you mean 'pi"))


REFUSED = [
    (["compare", "v1", "v33"], 2, ("no label 'v33'", "did you mean 'v3'")),
    (["compare", "vv1", "v3"], 2, ("no label 'vv1'", "did you mean 'v1'")),
    (["compare", "v1", "v3", "--experiment", "dem"], 2, ("'dem'",)),
    (["compare", "v1", "two"], 2, ("has no label",)),
    (["compare", "v1", "v1"], 2, ("compared with itself",)),
    (["compare", "v1", "quick"], 2, ("--quick", "never decide")),
    (["compare", "v1", "run:zz"], 2, ("no session begins with 'zz'", "harness runs")),
    (["compare", "v1", "run:"], 2, ("begin",)),
    (["compare", "v1", "v3", "--across", "os,weather"], 2, ("'weather'", "one of: ")),
    (["compare", "v1", "v3", "--across", "runer"], 2, ("did you mean 'runner'",)),
    (["compare", "v1", "v3", "--device", "p"], 2, ("'p'",)),
    (["compare", "v1", "v3", "--input", "1,3"], 2, ("for two files",)),
    (["compare", "v1", "v3", "--fail-on", "same"], 2, ("fail-on",)),
    (["compare", "v1", "v3", "--format", "xml"], 2, ("format",)),
    (["compare", "v1", "v3", "--allow-missing", "-1"], 2, ("allow-missing",)),
    (["compare", "v1"], 2, ("HEAD",)),
    (["compare", "devices.yaml", "v1"], 2, ("devices.yaml is a file and v1 is not",)),
    (["compare", "a.pte", "b.pte"], 2, ("on which device", "--device")),
    (["compare", "a.pte", "nope.pte"], 2, ("is a file and nope.pte is not",)),
    (["compare", "gone.pte", "v1"], 2, ("gone.pte: No such file",)),
    (["compare", "a.pte", "c.ptl", "--device", "local"], 2, ("two runtimes",)),
    (["gate", "--max-minutes", "1"], 2, ("without a CONFIG",)),
    (["gate", "nope.yaml"], 2, ("nope.yaml",)),
    (["gate", "package-v1", "--experiment", "demo"], 2, ("names its own",)),
    (["gate", "package-v1"], 3, ("no baseline", "harness baseline set")),
    (["gate"], 3, ("no baseline", "harness baseline set")),
    (["gate", "--label", "v9"], 3, ("no baseline",)),
    (["baseline", "set", "v9"], 2, ("no label 'v9'",)),
    (["baseline", "set", "quick"], 2, ("--quick",)),
    (["baseline", "show", "--experiment", "dem"], 2, ("did you mean 'demo'",)),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "code", "names"), REFUSED, ids=[" ".join(r[0]) for r in REFUSED])
def test_wrong_input_is_one_message(lab: Lab, arguments: list[str], code: int, names: tuple[str, ...]) -> None:
    for name in ("a.pte", "b.pte", "c.ptl"):
        (lab.folder / name).write_bytes(b"no model at all")
    lab.says(code, *arguments, names=names)


@pytest.mark.parametrize("arguments", [["compare", "a", "b"], ["gate"], ["history"], ["baseline", "set", "v1"]])
def test_an_empty_store_and_none_at_all_have_a_clear_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    enter(tmp_path, monkeypatch)
    lab = Lab(tmp_path)
    lab.says(2, *arguments, names="no store")
    Store.open(f"sqlite:///{tmp_path}/h.db", create=True).close()
    lab.says(2, *arguments, names=("the store has no session", "harness run"))
    assert lab("baseline", "show") == 0


def test_a_quick_session_by_its_id_is_refused(lab: Lab) -> None:
    lab.says(2, "compare", "v1", f"run:{run_id(lab, 'quick')}", names="never decides")


def test_sessions_of_two_experiments_are_refused(lab: Lab) -> None:
    lab.says(2, "compare", f"run:{run_id(lab, 'two')}", f"run:{run_id(lab, 'v1')}", names="not of one experiment")
    lab.says(2, "compare", f"run:{run_id(lab, 'v1')}", "v3", "--experiment", "fleet", names="not of one experiment")


@pytest.mark.parametrize(
    ("name", "identify", "said"),
    [
        ("adb://R58N1234", False, "adb://3f9a"), ("adb://R58N1234", True, "adb://R58N1234"), ("pixel", False, "pixel"),
        ("ssh://me@10.0.0.7", False, "ssh://3f9a"), ("sim://pi5?seed=1", False, "sim://pi5?seed=1"),
        ("local", False, "local"),
    ],
)  # fmt: skip
def test_a_device_is_told_without_its_address(name: str, identify: bool, said: str) -> None:
    assert label_of(name, "3f9a", identify) == said


def test_labels_and_experiments_complete_and_never_fail(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def offered(*words: str) -> list[str]:
        """What the shell shows after `words`."""
        monkeypatch.setenv("COMP_WORDS", " ".join(["harness", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        monkeypatch.setenv("_HARNESS_COMPLETE", "complete_bash")
        capsys.readouterr()
        with pytest.raises(SystemExit):
            app([], prog_name="harness")
        return capsys.readouterr().out.split()

    of_label = (["compare"], ["report", "--label"], ["export-runs", "--label"], ["gate", "--label"])
    of_experiment = (["compare", "--experiment"], ["pick", "--experiment"], ["baseline", "show", "--experiment"])
    monkeypatch.setenv("HARNESS_STORE", f"sqlite:///{lab.folder}/h.db")
    for words in of_label:
        assert offered(*words, "v") == ["v3", "v2", "v1"], words
    for words in of_experiment:
        assert offered(*words, "dem") == ["demo"], words
    monkeypatch.setenv("HARNESS_STORE", "nonsense")
    assert offered(*of_label[0], "v") == offered(*of_experiment[0], "dem") == []


# -- baseline ----------------------------------------------------------------------------------------------------------


def test_a_baseline_is_set_shown_and_replaced(lab: Lab) -> None:
    assert lab("baseline", "show", "--experiment", "demo") == 0
    assert "no baseline" in lab.stdout
    assert lab.json("baseline", "set", "v1") == (
        0, {"schema": 1, "experiment": "demo", "label": "v1", "before": None},
    )  # fmt: skip
    assert lab("baseline", "set", "v2") == 0 and "it was v1" in lab.stdout
    _, found = lab.json("baseline", "show")
    assert {"experiment": "demo", "label": "v2"} in found["baselines"]
    assert {"experiment": "fleet", "label": None} in found["baselines"]


# -- gate --------------------------------------------------------------------------------------------------------------


def gate(lab: Lab, *arguments: str) -> tuple[int, Any]:
    code, found = lab.json("gate", *arguments)
    schema("gate").validate(found)
    assert found["passed"] == (code == 0) and bool(found["failures"]) == (code != 0)
    return code, found


@pytest.fixture
def based(lab: Lab) -> Lab:
    assert lab("baseline", "set", "v1") == 0
    return lab


def test_an_unchanged_package_passes_and_writes_the_page(based: Lab) -> None:
    source = based.package("same", SAME, sizes=SIZES, build="v1")
    code, found = gate(based, source, "--label", "v4")
    assert code == 0
    assert set(outcomes(found).values()) == {"same"}
    assert (found["base"], found["head"], found["report"]) == ("v1", "v4", "reports/demo-simulated.html")
    page = (based.folder / found["report"]).read_text()
    assert "(base)" not in page and "Against the baseline" in page
    assert based("gate", source, "--label", "v5", "--repeats", "3") == 0
    assert based.stdout.splitlines()[-1] == "gate: passed"


def test_a_slower_variant_fails_paired_though_the_device_has_another_day(based: Lab) -> None:
    source = based.package("slow", {"fp32": 10.0, "int8": 5.3}, sizes=SIZES, build="v9")
    code, found = gate(based, source)
    assert code == 1
    worse = {(r["variant"], r["metric"]): r for r in found["comparisons"] if r["outcome"] == "worse"}
    assert ("int8", "latency_ms") in worse
    assert worse["int8", "latency_ms"]["design"] == "paired"
    assert found["head"].startswith("run:")
    assert based("gate", source, "--confirm") == 1
    assert "gate: failed: " in based.stdout.splitlines()[-1] and "worse" in based.stdout.splitlines()[-1]


def test_the_paired_session_can_be_compared_again_by_its_id(based: Lab) -> None:
    gate(based, based.package("slow", SLOWER, sizes=SIZES, build="v9"), "--label", "v9")
    code, found = based.json("compare", f"run:{run_id(based, 'v9')}", f"run:{run_id(based, 'v9')}")
    assert code == 1
    assert {r["design"] for r in found["comparisons"] if r["metric"] == "latency_ms"} == {"paired"}


@pytest.mark.parametrize(
    ("budgets", "code", "within"),
    [({"latency_ms": 5.5}, 0, True), ({"latency_ms": 4.0}, 1, False), ({"accuracy": 0.9}, 3, None)],
)
def test_budgets_are_judged_for_the_pick(based: Lab, budgets: Any, code: int, within: bool | None) -> None:
    pick = {"minimize": "latency_ms", "where": [], "confidence": 0.9}
    source = based.package("same", SAME, sizes=SIZES, build="v1", budgets=budgets, pick=pick)
    got, found = gate(based, source, "--repeats", "3")
    assert got == code
    assert [(b["variant"], b["within"]) for b in found["budgets"]] == [("int8", within)]
    page = (based.folder / found["report"]).read_text(encoding="utf-8")
    said = {0: "passed", 1: "failed: 1 over budget", 3: "failed: 1 budget cannot be judged"}
    assert page.count(f"The gate {said[code]}.") == 2  # at its top, and beside the comparison
    assert f"int8: {next(iter(budgets))} at " in page


def test_a_gate_from_which_nothing_can_ship_is_not_green(based: Lab) -> None:
    pick = {"minimize": "latency_ms", "where": ["latency_ms <= 1"], "confidence": 0.9}
    code, found = gate(based, based.package("same", SAME, sizes=SIZES, build="v1", pick=pick), "--repeats", "3")
    assert code == 1
    assert found["failures"] == ["no variant fits the pick's constraints"]


def test_without_a_pick_every_variant_keeps_to_the_budget(based: Lab) -> None:
    source = based.package("same", SAME, sizes=SIZES, build="v1", budgets={"latency_ms": 5.5})
    code, found = gate(based, source, "--repeats", "3")
    assert code == 1
    assert {b["variant"]: b["within"] for b in found["budgets"]} == {"int8": True, "fp32": False}
    assert found["failures"] == ["1 over budget"]


def test_a_threshold_of_the_experiment_decides_what_matters(based: Lab) -> None:
    source = based.package("slow", {"fp32": 10.0, "int8": 5.3}, sizes=SIZES, build="v9", thresholds={"latency_ms": 0.3})
    _, found = gate(based, source)
    assert outcomes(found)["int8 latency_ms"] == "same"


def test_a_device_that_is_away_is_never_green(based: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(spec: DeviceSpec) -> Any:
        if spec.name == "away":
            raise Offline("no such phone", "plug it in")
        return work.look(spec)

    monkeypatch.setattr(lanes, "look", away)
    source = based.package("same", SAME, sizes=SIZES, build="v1", devices=["pi", "away"])
    code, found = gate(based, source, "--repeats", "3")
    assert code == 3
    assert any("away was not reached: no such phone" in why for why in found["failures"])
    assert based("gate", source, "--device", "away") == 3
    assert "passed" not in based.stdout


def test_a_gate_that_was_cut_off_is_never_green(based: Lab) -> None:
    source = based.package("same", SAME, sizes=SIZES, build="v1")
    code, found = gate(based, source, "--max-minutes", "0", "--repeats", "3")
    assert code == 3
    assert any("is not finished" in why for why in found["failures"])
    assert gate(based, source, "--repeats", "3")[0] == 0  # the same command goes on


def test_a_gate_without_any_counterpart_is_never_green(based: Lab) -> None:
    code, found = gate(based, based.package("new", {"brand-new": 3.0}, build="v1"), "--repeats", "2")
    assert code == 3
    assert "nothing was compared" in found["failures"]
    assert {r["outcome"] for r in found["comparisons"]} == {"missing"}


def test_what_has_lost_its_file_is_compared_with_the_stored_baseline(based: Lab) -> None:
    head = based.package("slow", SLOWER, sizes=SIZES | {"int8": 900}, build="v9")
    store = Store.open(f"sqlite:///{based.folder}/h.db")
    package = store.session(run_id(based, "v1")).package
    store.close()
    lost = next(b.artifact for b in package.builds if b.variant == "int8")
    assert lost is not None
    (based.folder / "artifacts" / f"{lost.sha256}.pte").unlink()
    code, found = gate(based, head)
    rows = {r["metric"]: r for r in found["comparisons"] if r["variant"] == "int8"}
    assert rows["latency_ms"]["design"] == "unpaired"
    assert rows["latency_ms"]["reason"].startswith("not paired: the base's file")
    assert rows["size_bytes"]["outcome"] == "worse" and code == 1
    paired = {r["design"] for r in found["comparisons"] if r["variant"] == "fp32" and r["metric"] == "latency_ms"}
    assert paired == {"paired"}


def test_only_the_variants_asked_for(based: Lab) -> None:
    source = based.package("slow", SLOWER, sizes=SIZES, build="v9")
    code, found = gate(based, source, "--variant", "fp32", "--repeats", "3")
    assert code == 0
    assert {r["variant"] for r in found["comparisons"]} == {"fp32"}
    based.says(2, "gate", source, "--variant", "fp31", names="did you mean 'fp32'")


def test_the_baseline_itself_is_no_release_to_gate(based: Lab) -> None:
    source = based.package("same", SAME, sizes=SIZES, build="v1")
    based.says(2, "gate", source, "--label", "v1", names="the baseline itself")
    based.says(2, "gate", "--label", "v1", "--experiment", "demo", names="the baseline itself")


def test_the_first_gate_tells_how_to_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(tmp_path, monkeypatch)
    lab = Lab(tmp_path)
    source = lab.package("first", SAME)
    lab.says(3, "gate", source, "--label", "v1", names=("no baseline", "harness run CONFIG --label", "baseline set"))


def test_without_a_config_the_newest_label_is_judged_as_stored(based: Lab) -> None:
    code, found = gate(based, "--label", "v3")
    assert (code, found["base"], found["head"], found["report"]) == (1, "v1", "v3", None)
    assert {r["design"] for r in found["comparisons"] if r["metric"] == "latency_ms"} == {"unpaired"}
    code, found = gate(based, "--experiment", "demo")
    assert found["head"] == "memory"  # the newest that may decide
    assert gate(based, "--label", "v2")[0] == 0


def test_a_newest_session_without_label_is_judged_too(based: Lab) -> None:
    based.release("", SLOWER, sizes=SIZES, build="v3")
    code, found = gate(based, "--experiment", "demo")
    assert found["head"] == f"run:{run_id(based, None)[:8]}"
    assert outcomes(found)["int8 latency_ms"] == "worse" and code == 1


def test_all_values_equal_give_no_made_up_verdict(based: Lab) -> None:
    """A device without any noise: nothing can be divided by a spread of nothing."""
    for label in ("e1", "e2"):
        still = "sim://pi5-fan?seed=9&run_sd=0&within_sd=0&spike_share=0&migration_share=0"
        (based.folder / "devices.yaml").write_text(f'pi: {{uri: "{still}", runner: {{command: [sim-runner]}}}}\n')
        based.release(label, SAME, sizes=SIZES, build=label, name="still")
    code, found = based.json("compare", "e1", "e2")
    assert code in (0, 3)
    assert "worse" not in outcomes(found).values()


# -- the history's part ------------------------------------------------------------------------------------------------


def alarm(lab: Lab, monkeypatch: pytest.MonkeyPatch, variant: str = "int8") -> None:
    """The history of this variant's latency raises an alarm at the newest release."""
    real = tracking.history

    def with_change(stored: Any, *args: Any, **more: Any) -> Any:
        at = len(real(stored)[0].points) - 1
        change = Change(at=at, ratio=1.07, p_value=1e-6, worse=True)
        return [
            dataclasses.replace(s, changes=(change,), points=(*s.points[:at], raised(s.points[at])))
            for s in real(stored, *args, **more)
            if s.cell.variant == variant and s.metric == "latency_ms"
        ]

    def raised(point: Point) -> Point:
        return dataclasses.replace(point, relative=(point.relative or 1.0) * 1.07, left_out=None)

    monkeypatch.setattr(tracking, "history", with_change)


def test_an_alarm_that_the_pairs_deny_is_told_and_does_not_fail(based: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    alarm(based, monkeypatch)
    source = based.package("same", SAME, sizes=SIZES, build="v1")
    code, found = gate(based, source, "--label", "v4", "--confirm")
    assert code == 0
    assert [(a["variant"], a["label"], a["confirmed"]) for a in found["alarms"]] == [("int8", "v4", None)]
    assert "in the same blocks, it is same" in found["alarms"][0]["reason"]


def test_an_unconfirmed_alarm_alone_does_not_fail(based: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    alarm(based, monkeypatch)
    code, found = gate(based, "--label", "v2")
    assert code == 0
    assert [a["confirmed"] for a in found["alarms"]] == [None]
    assert based("gate", "--label", "v2") == 0
    assert "7 % slower, unconfirmed" in based.stdout


def test_an_alarm_that_measuring_again_confirms_fails(based: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    alarm(based, monkeypatch)
    again = lambda pairs, *rest: [dataclasses.replace(c, confirmed=True) for _, c in pairs]  # noqa: E731
    monkeypatch.setattr(confirming, "changes", again)
    code, found = gate(based, "--label", "v2", "--confirm")
    assert code == 1
    assert found["failures"] == ["1 worse since an earlier release"]


CELL = Cell(
    variant="int8", seed=0, exporter="executorch", backend="xnnpack", input="default", device_id="x", threads=1,
    cpus="any",
)  # fmt: skip


@pytest.mark.parametrize(
    ("outcome", "paired", "decided", "confirmed"),
    [
        ("same", True, True, None), ("better", True, True, None), ("inconclusive", True, False, None),
        ("same", False, False, None), ("worse", False, True, None), ("worse", True, True, None),
        (None, True, False, None),
    ],
)  # fmt: skip
def test_only_pairs_speak_against_the_history(outcome: Any, paired: bool, decided: bool, confirmed: Any) -> None:
    points = tuple(
        Point(label=f"v{i}", sessions=("s",), created_utc=str(i), value=1.0, relative=1.0 + i / 10, runs=5, segment=0)
        for i in range(2)
    )
    change = Change(at=1, ratio=1.1, p_value=1e-6, worse=True)
    series = Series(
        cell=CELL, device="pi", metric="latency_ms", lower_is_better=True, points=points, changes=(change,)
    )
    row = Compared(
        cell=CELL, device="pi", metric="latency_ms", design=None, base=1.0, head=1.0, outcome=outcome, threshold=0.02
    )
    (found,) = alarming.raised([series], "v0", [row] if outcome else [], paired)
    assert (found.compared, found.change.confirmed) == (decided, confirmed)
    assert alarming.raised([series], "v1", [], paired) == []  # the baseline accepted it


# -- what must not be green -------------------------------------------------------------------------------------------


def test_one_pair_tells_nothing_and_is_not_green(based: Lab) -> None:
    source = based.package("slow", {"fp32": 10.0, "int8": 15.0}, sizes=SIZES, build="v9")
    code, found = gate(based, source, "--repeats", "1")
    assert code == 3
    assert any("without any interval" in why for why in found["failures"])


def test_one_pair_does_not_take_a_regression_back(based: Lab) -> None:
    based.release("v9", {"fp32": 10.0, "int8": 15.0}, sizes=SIZES)
    assert based("compare", "v1", "v9") == 1
    assert based("compare", "v1", "v9", "--confirm", "--repeats", "1") == 1


def test_what_the_device_now_skips_is_missing(based: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    real = results.verdict

    def skips(row: Any, *more: Any) -> Any:
        return ("skipped", "needs QnnBackend") if row.build.variant.startswith("int8") else real(row, *more)

    source = based.package("other", {"fp32": 10.0, "int8": 50.0}, sizes=SIZES, build="v9")
    monkeypatch.setattr(results, "verdict", skips)
    code, found = gate(based, source, "--repeats", "3")
    assert code == 3
    assert [r["variant"] for r in found["comparisons"] if r["outcome"] == "missing"] == ["int8"]


def test_a_variant_that_is_gone_is_missing_on_another_device_too(lab: Lab) -> None:
    lab.release("v7", {**SAME, "old": 7.0}, devices=["pi"])
    assert lab("baseline", "set", "v7") == 0
    code, found = gate(lab, lab.package("rest", SAME, build="v7", devices=["pi2"]), "--repeats", "3")
    assert code == 3
    assert "old" in {r["variant"] for r in found["comparisons"] if r["outcome"] == "missing"}


def test_a_device_on_which_nothing_fits_keeps_no_budget(based: Lab) -> None:
    pick = {"minimize": "latency_ms", "where": ["latency_ms <= 5.5"], "confidence": 0.9}
    based.folder.joinpath("devices.yaml").write_text(
        DEVICES.replace("seed=5&run_sd=0.005", "seed=5&run_sd=0.3")  # too restless for any constraint to hold
    )
    more = {"pick": pick, "devices": ["pi", "pi2"], "budgets": {"latency_ms": 5.5}}
    code, found = gate(based, based.package("two", SAME, sizes=SIZES, build="v1", **more), "--repeats", "3")
    assert code == 3
    assert "nothing was picked on pi2" in {b["reason"] for b in found["budgets"]}


def test_a_gate_that_was_cut_off_does_not_say_that_nothing_fits(based: Lab) -> None:
    source = based.package("same", SAME, sizes=SIZES, build="v1", pick={"minimize": "latency_ms", "where": []})
    code, found = gate(based, source, "--max-minutes", "0", "--repeats", "3")
    assert code == 3 and not any("fits" in why for why in found["failures"])


def test_a_metric_that_the_plan_no_longer_has_is_missing(lab: Lab) -> None:
    lab.release("m", SAME, sizes=SIZES, build="v1", plan={"memory": True})
    assert lab("baseline", "set", "m") == 0
    code, found = gate(lab, lab.package("less", SAME, sizes=SIZES, build="v1"), "--repeats", "3")
    assert code == 3
    assert {r["metric"] for r in found["comparisons"] if r["outcome"] == "missing"} == {"peak_memory_bytes"}


def test_a_device_that_the_experiment_no_longer_names_is_missing_unless_asked_so(lab: Lab) -> None:
    lab.release("two", SAME, sizes=SIZES, build="v1", devices=["pi", "pi2"])
    assert lab("baseline", "set", "two") == 0
    source = lab.package("one", SAME, sizes=SIZES, build="v1", devices=["pi"])
    code, found = gate(lab, source, "--repeats", "3")
    assert code == 3
    assert {r["device"] for r in found["comparisons"] if r["outcome"] == "missing"} == {"pi2"}
    assert gate(lab, source, "--repeats", "3", "--device", "pi")[0] == 0


def test_a_side_is_not_compared_with_itself(based: Lab) -> None:
    own = f"run:{run_id(based, 'v1')}"
    for pair in (("v1", "v1"), (own, "v1"), ("v1", own), (own, own)):
        assert based("compare", *pair) == 2, pair
