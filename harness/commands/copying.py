"""`store copy`: a store's sessions into another."""

from __future__ import annotations


def store_copy(source: str, target: str, json_out: bool) -> int:
    raise NotImplementedError
