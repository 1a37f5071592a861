"""Shared by all tests."""

from __future__ import annotations

from hypothesis import settings

# the machines that run this are shared and noisy: an example that takes long is no finding
settings.register_profile("harness", deadline=None)
settings.load_profile("harness")
