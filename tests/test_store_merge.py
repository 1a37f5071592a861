"""What a copy does where both stores hold a row of one key: which of two is newer, and when that cannot be seen."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness.store import merge
from harness.store.merge import Conflict
from harness.store.raw import EXACT

FACTS = json.dumps({"device_id": "a", "os": "L", "kernel": "6", "battery": 1})
LATER = json.dumps({"device_id": "a", "os": "L", "kernel": "6", "battery": 2})


def device(facts: str | None = None, runners: str = "{}", unreached: str | None = None, **more: Any) -> tuple[Any, ...]:
    row = {"session_id": "s", "name": "pi", "position": 0, "spec": "{}", "facts": facts, "runners": runners}
    row |= {"unreached": unreached} | more
    return tuple(row[column.name] for column in EXACT["session_devices"].c)


@pytest.mark.parametrize("newer", [True, False, None])
@pytest.mark.parametrize("unknown", [None, "null"])
def test_a_device_that_only_one_store_reached_is_taken_from_there(newer: bool | None, unknown: str | None) -> None:
    reached, not_reached = device(FACTS, '{"null": "x"}'), device(unknown, unreached="offline")
    filled, kept = merge.device("s", not_reached, reached, newer)
    assert (filled, kept) == ({"facts": FACTS, "runners": '{"null": "x"}', "unreached": None}, None)
    assert merge.device("s", reached, not_reached, newer) == ({}, None)


@pytest.mark.parametrize(
    ("newer", "filled", "told"), [(True, {"facts": LATER}, False), (False, {}, False), (None, {}, True)]
)
def test_the_device_of_the_session_that_is_further_on_is_the_newer(newer: bool | None, filled: Any, told: bool) -> None:
    found, kept = merge.device("session s", device(FACTS), device(LATER), newer)
    assert (found, bool(kept)) == (filled, told)
    assert not kept or "session s, device pi" in kept


def test_that_a_device_was_tried_is_more_than_nothing() -> None:
    assert merge.device("s", device(), device(unreached="offline"), None) == ({"unreached": "offline"}, None)
    assert merge.device("s", device(unreached="offline"), device(), None) == ({}, None)
    assert merge.device("s", device(unreached="off"), device(unreached="locked"), None)[1]


@pytest.mark.parametrize("column", ["position", "spec"])
def test_what_a_device_is_called_by_never_changes(column: str) -> None:
    with pytest.raises(Conflict, match=column):
        merge.device("s", device(FACTS), device(FACTS, **{column: "[]"}), True)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ('{"a": 1, "b": 2}', '{ "b":2, "a":1 }', True),
        ('{"a": 1}', '{"a": 1.0}', False),
        ('{"a": 1}', '{"a": true}', False),
        ('{"a": [0.1]}', '{"a": [0.1000]}', True),
        ("null", None, False),
        ('{"a": NaN}', '{ "a": 1}', False),
        ("no json", "no  json", False),
    ],
)
def test_json_is_compared_by_what_it_says(a: str | None, b: str | None, same: bool) -> None:
    found = merge.differing("session_devices", device(facts=a), device(facts=b))
    assert found == ([] if same else ["facts"])
    assert merge.differing("session_devices", device(facts=a), device(facts=a)) == []
