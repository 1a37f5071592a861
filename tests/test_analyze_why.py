"""Why a variant is, or is not, faster: predictions worked out by hand, and the causes that are told."""

from __future__ import annotations

from typing import Any

import pytest

from harness.analyze.why import predicted_time, steps, why
from tests.session_kit import all_runs, build, documented, session

#: thousands of multiply-accumulates: 1000, 400 of them in linear layers, all channels even, nothing held up by memory
PLAIN = {"macs": 1000, "linear_macs": 400, "odd_channel_macs": 0, "memory_bound_macs": 0, "unstructured_zeros": 0.0}


def made(precision: str = "fp32", macs: int | None = 1000, delegation: Any = None, **layers: Any) -> Any:
    """A build of so many thousand multiply-accumulates."""
    counted = {k: v * 1000 if k.endswith("macs") else v for k, v in (PLAIN | layers).items()}
    facts: dict[str, Any] = {"layers": counted} | ({} if macs is None else {"macs": macs * 1000})
    return build("any", precision=precision, facts=facts | ({"delegation": delegation} if delegation else {}))


def asked(own: Any, reference: Any, speedup: float, spread: float = 0.0) -> dict[str, Any]:
    """Measured in 5 blocks: the reference takes 2 ms, the other 2 ms / speed-up, alternating by ± spread."""
    base = {block: 2.0 for block in range(5)}
    mine = {block: 2.0 / speedup * (1 + spread * (-1) ** block) for block in base}
    return why(own, reference, {"value": 2.0 / speedup}, {"value": 2.0}, mine, base)


def causes(found: dict[str, Any]) -> list[str]:
    return [cause["cause"] for cause in found["explains"]]


@pytest.mark.parametrize(
    ("precision", "macs", "time"),
    [
        ("fp32", 1000, 1000.0),
        ("fp16", 1000, 500.0),
        ("static_int8", 1000, 250.0),
        ("dynamic", 1000, 400 / 4 + 600),  # only linear layers
        ("int4", 1000, 400 / 4 + 600),
        ("fp32", 1200, 1200.0),  # 200 more in attention's matrix products
        ("fp16", 1200, 600.0),
        ("static_int8", 1200, 250.0 + 200),
        ("static_int8", None, 250.0),  # a model that could not be counted as a whole
    ],
)
def test_predicted_time_is_multiply_accumulates_by_the_width_of_their_lanes(
    precision: str, macs: int | None, time: float
) -> None:
    assert predicted_time(made(precision, macs)) == pytest.approx(1000 * time)


def test_as_predicted_is_within_a_quarter_or_within_its_interval() -> None:
    found = asked(made("static_int8"), made(), 3.6)
    assert (found["predicted_speedup"], found["measured_speedup"]) == (4.0, pytest.approx(3.6))
    assert (found["verdict"], found["text"]) == ("as predicted", "3.6×, as predicted (4.0×)")
    assert asked(made("static_int8"), made(), 3.0)["verdict"] == "slower than predicted"
    assert asked(made("static_int8"), made(), 5.2)["verdict"] == "faster than predicted"
    noisy = asked(made("static_int8"), made(), 3.0, spread=0.6)
    assert noisy["ci95"][0] < 4.0 < noisy["ci95"][1]
    assert noisy["verdict"] == "as predicted"


def test_the_interval_is_of_the_ratios_in_each_block_so_that_what_shook_both_cancels() -> None:
    base = {0: 1.0, 1: 3.0, 2: 2.0}
    found = why(made(), made(), {"value": 1.0}, {"value": 2.0}, {b: v / 2 for b, v in base.items()}, base)
    assert found["ci95"] == pytest.approx([2.0, 2.0])
    alone = why(made(), made(), {"value": 1.0}, {"value": 2.0}, {0: 1.0}, {0: 2.0})
    assert alone["ci95"] == {"absent": "fewer than 2 repeats beside the reference's"}


def test_a_slower_variant_is_told_everything_that_holds_it_up_the_largest_share_first() -> None:
    outside = {"delegated": 36, "undelegated": 4, "partitions": 3, "left_outside": {"softmax": 2, "add": 1, "mul": 1}}
    own = made("static_int8", delegation=outside, odd_channel_macs=410, memory_bound_macs=620, unstructured_zeros=0.8)
    found = asked(own, made(), 1.2)
    assert [c["text"] for c in found["explains"]] == [
        "62 % of MACs wait for memory",
        "41 % of MACs in layers whose channels are not multiples of 8",
        "4 nodes outside the delegate (softmax ×2, add ×1, mul ×1)",
        "3 partitions: data crosses in and out",
        "80 % of weights are scattered zeros, which the kernels compute all the same",
    ]
    assert [(c["value"], c["unit"]) for c in found["explains"]] == [
        (0.62, "fraction"), (0.41, "fraction"), (4, "nodes"), (3, "partitions"), (0.8, "fraction")]  # fmt: skip
    assert found["text"] == "1.2×, predicted 4.0×: 62 % of MACs wait for memory, and 4 more"


def test_as_predicted_tells_only_of_zeros_that_buy_nothing() -> None:
    own = made(odd_channel_macs=900, unstructured_zeros=0.8)
    found = asked(own, made(), 1.0)
    assert causes(found) == ["unstructured_zeros"]
    assert found["text"].startswith("1.0×, as predicted (1.0×); 80 % of weights are scattered zeros")


def test_a_faster_one_is_told_what_holds_the_reference_up_more() -> None:
    found = asked(
        made(memory_bound_macs=100, odd_channel_macs=300), made(memory_bound_macs=700, odd_channel_macs=300), 2
    )
    assert [c["text"] for c in found["explains"]] == ["of the reference: 70 % of MACs wait for memory"]


def test_a_slower_one_that_nothing_explains_says_so() -> None:
    found = asked(made("fp16"), made(), 0.7)
    assert found["explains"] == []
    assert found["text"] == "0.70×, predicted 2.0×: nothing that was counted explains it"


def test_a_model_with_next_to_nothing_to_compute_is_told_so_first() -> None:
    facts = {"layers": PLAIN | {"macs": 1280, "linear_macs": 1280, "memory_bound_macs": 1280}}
    found = asked(build("any", precision="static_int8", facts=facts), build("any", facts=facts), 0.85)
    assert causes(found) == ["small", "memory_bound"]
    assert found["text"] == "0.85×, predicted 4.0×: 1,280 MACs only: what a call costs outweighs them, and 1 more"


def test_small_shares_and_a_single_partition_explain_nothing() -> None:
    whole = {"delegated": 9, "undelegated": 0, "partitions": 1, "left_outside": {}}
    own = made("fp16", delegation=whole, odd_channel_macs=49, memory_bound_macs=49, unstructured_zeros=0.049)
    assert causes(asked(own, made(), 1.0)) == []


def test_without_a_delegate_all_nodes_run_on_the_portable_kernels() -> None:
    none = {"delegated": 0, "undelegated": 5, "partitions": 0, "left_outside": {f"op{i}": 1 for i in range(5)}}
    (cause,) = asked(made("static_int8", delegation=none), made(), 1.0)["explains"]
    assert (
        cause["text"] == "no delegate: the portable kernels run all 5 nodes (op0 ×1, op1 ×1, op2 ×1 and 2 more kinds)"
    )


@pytest.mark.parametrize("facts", [{}, {"layers": None}, {"layers": {}}, {"layers": {"macs": "many"}},
                                   {"layers": PLAIN | {"macs": 0, "linear_macs": 0}}])  # fmt: skip
def test_builds_that_did_not_count_have_no_prediction(facts: Any) -> None:
    old = build("any", facts=facts)
    for own, reference in ((old, made()), (made(), old)):
        assert asked(own, reference, 2.0) == {"absent": "the build did not count its layers' multiply-accumulates"}


def test_steps_are_those_whose_seconds_are_known() -> None:
    known = [{"step": "finetune", "seconds": 12.5}, {"step": "odd", "seconds": None}, "no"]
    assert steps(build("any", facts={"steps": known})) == [{"step": "finetune", "seconds": 12.5}]
    assert steps(build("any")) == []


def test_each_measured_result_of_a_document_says_why_and_what_its_steps_took() -> None:
    def counted(variant: str, **more: Any) -> Any:
        took = [{"step": "finetune", "seconds": 3.0}]
        return build(variant, facts={"macs": 1000, "layers": PLAIN, "steps": took}, **more)

    s = session([counted("fp32"), counted("int8", precision="static_int8"), build("slim"),
                 build("gone", status="failed", reason="it raised", artifact=None)])  # fmt: skip
    fp32, int8, slim, gone = documented(s, all_runs(s))["results"]
    assert fp32["why"] == {"absent": "this is the reference"}
    assert int8["why"]["predicted_speedup"] == 4.0
    assert int8["why"]["measured_speedup"] == pytest.approx(2.5, rel=0.02)
    assert int8["why"]["ci95"][0] < 2.5 < int8["why"]["ci95"][1]
    assert int8["steps"] == [{"step": "finetune", "seconds": 3.0}]
    assert slim["why"] == {"absent": "the build did not count its layers' multiply-accumulates"}
    assert (gone["why"], gone["steps"]) == (None, [])


def test_what_was_not_measured_or_has_no_reference_says_so() -> None:
    s = session([build("fp32"), build("int8")])
    _, int8 = documented(s, [r for r in all_runs(s) if r.cell.variant != "int8"])["results"]
    assert int8["why"] == {"absent": "the result is failed"}
    s = session([build("fp32", status="failed", reason="it raised", artifact=None), build("int8")])
    _, int8 = documented(s, all_runs(s))["results"]
    assert int8["why"] == {"absent": "the reference fp32 is failed: it raised"}


def test_values_that_are_written_all_the_same_explain_why_less_arithmetic_is_not_as_much_less_time() -> None:
    found = asked(made("static_int8", outputs=500), made(outputs=500), 2.0)
    (cause,) = found["explains"]
    assert (cause["cause"], cause["value"], cause["unit"]) == ("outputs", 1.0, "fraction")
    assert cause["text"] == "no fewer values to write than the reference's, for 4.0× less arithmetic"
    half = asked(made("static_int8", outputs=250), made(outputs=500), 2.0)
    assert half["explains"][0]["text"].startswith("only 2.0× fewer values to write")
    assert not asked(made("static_int8", outputs=100), made(outputs=500), 2.0)["explains"]  # shrank by more than that
    assert not asked(made("static_int8", outputs=500), made(outputs=500), 4.0)["explains"]  # as predicted
