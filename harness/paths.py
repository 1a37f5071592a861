"""Where things live on this computer: the user's cache folder and the scripts that run on devices."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_dir() -> Path:
    """The folder for SDKs, bundles, builds and locks: HARNESS_CACHE, else the user's cache folder."""
    if given := os.environ.get("HARNESS_CACHE"):
        return Path(given).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "harness"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "harness"


def device_scripts_dir() -> Path:
    """`device_scripts/`: beside the package in a source tree, inside it in a wheel."""
    package = Path(__file__).resolve().parent
    beside = package.parent / "device_scripts"
    return beside if beside.is_dir() else package / "_device_scripts"
