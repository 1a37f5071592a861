"""The command line of a simulated runner: what the real one takes, as far as it is heeded here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Options:
    """`inputs`: INDEX:DTYPE:SHAPE:PATH each. `runtime`: by the name of the bundle's entry."""

    purpose: str
    run: str
    model: str
    runtime: str
    threads: int = 1
    cpus: str = "any"
    outputs: str | None = None
    seconds: float = 2.0
    min_seconds: float = 2.0
    min_iterations: int = 100
    max_seconds: float = 60.0
    drop_cache: bool = False
    inputs: tuple[str, ...] = ()


def options(argv: Sequence[str]) -> Options:
    """Raises ValueError for a command line that no harness writes."""
    start = argv.index("--purpose")
    flags: dict[str, str] = {}
    inputs, drop = [], False
    words = iter(argv[start:])
    for word in words:
        if word == "--drop-cache":
            drop = True
        elif word == "--input":
            inputs.append(next(words, ""))
        elif word.startswith("--"):
            flags[word] = next(words, "")
        else:
            raise ValueError(f"unexpected word {word!r}")
    entry = argv[start - 1].rpartition("-")[2] if start else ""
    return Options(
        purpose=flags["--purpose"],
        run=flags.get("--run", ""),
        model=flags["--model"],
        runtime=entry if entry in ("torchscript", "null") else "executorch",
        threads=int(flags.get("--threads", "1")),
        cpus=flags.get("--cpus", "any"),
        outputs=flags.get("--outputs"),
        seconds=float(flags.get("--seconds", "2")),
        min_seconds=float(flags.get("--min-seconds", "2")),
        min_iterations=int(flags.get("--min-iterations", "100")),
        max_seconds=float(flags.get("--max-seconds", "60")),
        drop_cache=drop,
        inputs=tuple(inputs),
    )
