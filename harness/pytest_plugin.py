"""pytest's plugin: the fixture `ondevice` measures a file or a model on the device that `--ondevice` names.

Every pytest of a machine that has the harness installed reads this file: it imports pytest and nothing heavy."""

from __future__ import annotations
