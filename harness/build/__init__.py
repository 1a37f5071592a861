"""The build job: compress and export one variant, in any process. Four functions and their values are all of it."""

from harness.build.job import BuildTask, Prepared, build_variant, preflight, prepare, sensitivity

__all__ = ["BuildTask", "Prepared", "build_variant", "preflight", "prepare", "sensitivity"]
