"""The arrows between the parts: cli -> commands -> pipeline -> stages -> core, and heavy libraries in their places."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "harness"
STAGES = {"compress", "export", "devices", "measure", "store", "analyze", "report", "sim"}
ALSO = {"report": {"analyze"}}  # a stage that may use another
ABOVE = {"cli", "__main__", "commands", "pipeline", "build", "work", "schedule", "executors", "screen", "package"}
ABOVE |= {"lanes", "adaptive", "attempt", "judging", "settings", "records", "pairs", "cli_options", "cli_releases"}
ABOVE |= {"confirm", "foreign", "more", "api", "answers", "frames", "exchange", "pytest_plugin", "notebook"}
ABOVE |= {"cli_exchange", "__init__", "live", "own_devices"}
ABOVE |= {"single", "pytest_session", "pytest_words", "outcome", "outcome_html"}
ABOVE |= {"arguments", "guest"}
TORCH = {"compress", "export", "loading", "models", "weights", "data", "samples", "fingerprint", "task_metric"}
TORCH |= {"build"}
HEAVY = {
    "torch": TORCH | {"interfaces", "api", "live", "single"},  # for types only
    "torchao": {"compress", "quiet"},
    "executorch": {"compress", "export", "quiet"},
    "plotly": {"report"},
    "pandas": {"commands", "report", "api", "frames", "outcome"},
    "sqlalchemy": {"store"},
    "typer": {"cli", "cli_options", "cli_releases", "cli_exchange"},
    "mlflow": {"exchange"},
    "fsspec": {"shared_files"},
    "asyncssh": {"devices"},
    "adb_shell": {"devices"},
}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if "migrations" not in path.parts:
            yield path.relative_to(PACKAGE).parts[0].removesuffix(".py"), path


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """(module, at the top level and not for types only) of every import in the file."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            yield name, id(node) in top and id(node) not in typing_only


@pytest.mark.parametrize(("part", "path"), [pytest.param(*m, id=str(m[1].relative_to(PACKAGE))) for m in modules()])
def test_a_stage_imports_no_other_stage_and_nothing_above_it(part: str, path: Path) -> None:
    if part in ABOVE:
        return
    allowed = ALSO.get(part, set()) | {part}
    for name, _ in imports(path):
        if name.startswith("harness."):
            target = name.split(".")[1]
            assert target not in ABOVE, f"{path}: imports {name}, which is above it"
            assert target not in STAGES or target in allowed or part not in STAGES, f"{path}: imports {name}"


@pytest.mark.parametrize(("part", "path"), [pytest.param(*m, id=str(m[1].relative_to(PACKAGE))) for m in modules()])
def test_heavy_libraries_stay_in_their_places(part: str, path: Path) -> None:
    for name, _ in imports(path):
        root = name.split(".")[0]
        assert part in HEAVY.get(root, {part}), f"{path}: imports {name}"


@pytest.mark.parametrize(("part", "path"), [pytest.param(*m, id=str(m[1].relative_to(PACKAGE))) for m in modules()])
def test_what_is_slow_to_import_is_imported_where_it_is_used(part: str, path: Path) -> None:
    slow = {"torch", "torchao", "executorch", "plotly", "pandas", "scipy", "torch_pruning", "alembic", "mlxtend"}
    slow |= {"mlflow", "fsspec"}
    for name, at_top in imports(path):
        assert not (at_top and name.split(".")[0] in slow), f"{path}: imports {name} at its top"


def test_analysis_does_no_io() -> None:
    for path in (PACKAGE / "analyze").glob("*.py"):
        for name, _ in imports(path):
            assert name.split(".")[0] not in {"os", "pathlib", "io", "socket", "subprocess", "time", "datetime"}, path
        assert not re.search(r"(?<![\w.])open\(", path.read_text()), path


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["devices", "--json"], ["report", "--help"], ["pick", "--help"], ["doctor", "--json"]],
)
def test_commands_that_need_no_torch_import_none(arguments: list[str], tmp_path: Path) -> None:
    program = (
        "import sys\nfrom harness.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules and 'plotly' not in sys.modules, 'imported'"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_a_command_that_asks_no_device_imports_no_devices_library(tmp_path: Path) -> None:
    program = (
        "import sys, harness.cli, harness.commands.running, harness.commands.looking\n"
        "found = {'asyncssh', 'adb_shell', 'usb1', 'cryptography'} & set(sys.modules)\n"
        "assert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
