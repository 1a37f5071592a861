"""Every command with wrong input: one clear message, the right exit code, never a traceback."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from tests.conftest import Done, Harness

SCHEMAS = Path(__file__).parent / "schema"


def one_message(done: Done, code: int, *says: str) -> None:
    assert done.code == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    for text in says:
        assert text in done.stderr


COMMANDS = ["init", "run", "build", "measure", "devices", "doctor", "report", "pick", "runs", "export-runs"]
COMMANDS += ["compare", "gate", "history", "runners"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(harness: Harness, tmp_path: Path, command: str) -> None:
    arguments = [command, "build"] if command == "runners" else [command]
    done = harness(*arguments, "--help", cwd=tmp_path)
    assert done.code == 0
    assert f"harness {' '.join(arguments)}" in done.stdout.partition("Example:")[2]


@pytest.mark.parametrize("command", [*COMMANDS[:-1], "runners build", "runners add", "runners list"])
def test_every_command_takes_the_common_options(harness: Harness, tmp_path: Path, command: str) -> None:
    told = harness(*command.split(), "--help", cwd=tmp_path).stdout
    for option in ("--store", "--debug", "--json", "--identify"):
        assert option in told, option


def test_the_readme_names_every_command() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    for command in COMMANDS:
        if command not in ("devices", "init", "runners"):
            assert f"harness {command}" in readme


WRONG = [
    (["bogus"], 2, "bogus"),
    (["run"], 2, "CONFIG|DIR"),
    (["run", "nope.yaml"], 2, "nope.yaml: No such file"),
    (["run", "empty"], 2, "not a package"),
    (["run", "small.yaml", "--device", "$(reboot)"], 2, "not a device"),
    (["run", "small.yaml", "--device", "-rf"], 2, "not a device"),
    (["run", "small.yaml", "--device", "telnet://pi"], 2, "telnet"),
    (["run", "small.yaml", "--device", "ssh://-oProxyCommand=reboot"], 2, "ssh://[user@]host[:port]"),
    (["run", "small.yaml", "--device", "adb://a b"], 2, "adb"),
    (["run", "small.yaml", "--device", "phone"], 2, "phone"),
    (["run", "small.yaml", "--device", "tag:none"], 2, "none"),
    (["run", "small.yaml", "--devices", "nope.yaml"], 2, "nope.yaml"),
    (["run", "small.yaml", "--devices", "small.yaml"], 2, "small.yaml"),
    (["devices", "--device", "adb+tcp://127.0.0.1:99999"], 2, "port"),
    (["runners", "build", "--target", "linux-sparc"], 2, "linux-aarch64"),
    (["run", "small.yaml", "--device", "local", "--device", "local"], 2, "twice"),
    (["run", "small.yaml", "--variant", "fp31"], 2, "did you mean 'fp32'"),
    (["run", "small.yaml", "--label", "a\nb"], 2, "printable"),
    (["run", "small.yaml", "--label", "auto"], 2, "git"),
    (["run", "small.yaml", "--max-minutes", "x"], 2, "max-minutes"),
    (["run", "small.yaml", "--store", "bogus"], 2, "not a URL"),
    (["run", "small.yaml", "--store", "sqlite:////dev/null/x.db"], 3, "--store"),
    (["build", "small.yaml", "-o", "small.yaml"], 2, "not a package"),
    (["measure", "nope.pte"], 2, "No such file"),
    (["measure", "small.yaml"], 2, "neither .pte nor .ptl"),
    (["measure", "file.ptl"], 2, "--input"),
    (["measure", "file.ptl", "--input", "1,x"], 2, "SHAPE[:DTYPE]"),
    (["measure", "file.ptl", "--input", "1,3:complex"], 2, "float32"),
    (["measure", "file.ptl", "--inputs", "small.yaml"], 2, "np.savez"),
    (["measure", "file.pte", "--threads", "0"], 2, "threads"),
    (["measure", "file.pte", "--threads", "9999"], 2, "cores"),
    (["report"], 2, "no store"),
    (["run", "file.pte"], 2, "harness measure"),
    (["pick", "--where", "x"], 2, "METRIC[.STAT] OP NUMBER"),
    (["pick", "--minimize", "latency"], 2, "did you mean 'latency_ms'"),
    (["runs"], 2, "no store"),
    (["export-runs", "-o", "x.csv"], 2, "no store"),
    (["export-runs", "--format", "xls", "-o", "x"], 2, "csv, json, parquet"),
    (["init", "nocolon"], 2, "module:callable"),
    (["runners", "add", "small.yaml"], 3, "small.yaml"),
    (["runners", "build", "--runtime", "onnx"], 2, "executorch"),
]


@pytest.mark.parametrize(("arguments", "code", "says"), [pytest.param(*w, id=" ".join(w[0])) for w in WRONG])
def test_wrong_input_is_one_message(
    project: Path, harness: Harness, tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    for name in ("small.yaml", "small_model.py"):
        shutil.copy(project / name, tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("file.ptl", "file.pte"):
        (tmp_path / name).write_bytes(b"no model at all")
    one_message(harness(*arguments, cwd=tmp_path), code, says)


def test_more_threads_than_cores_are_refused_before_anything_is_built(
    project: Path, harness: Harness, tmp_path: Path
) -> None:
    shutil.copy(project / "small_model.py", tmp_path)
    text = (project / "small.yaml").read_text().replace("{repeats: 3,", "{repeats: 3, threads: [999],")
    (tmp_path / "a.yaml").write_text(text)
    one_message(harness("run", "a.yaml", cwd=tmp_path), 2, "999 threads", "cores")
    assert not (tmp_path / ".harness").exists()


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch exploded",)


def test_a_pickle_bomb_as_weights_is_refused_and_does_not_explode(
    project: Path, harness: Harness, tmp_path: Path
) -> None:
    shutil.copy(project / "small_model.py", tmp_path)
    (tmp_path / "w.pt").write_bytes(pickle.dumps(Bomb()))
    text = (project / "small.yaml").read_text().replace('"small_model:net"', '"small_model:net", weights: w.pt')
    (tmp_path / "a.yaml").write_text(text)
    one_message(harness("run", "a.yaml", cwd=tmp_path), 2, "w.pt", "allow_pickle")
    assert not (tmp_path / "exploded").exists()


USER_CODE = [
    ("a factory that raises", "def net():\n    raise RuntimeError('no weights today')", "no weights today"),
    ("no such callable", "x = 1", "net"),
    ("a syntax error", "def net(:", "bad_model.py"),
    ("not a module", "def net():\n    return 3", "nn.Module"),
    (
        "a shape that does not fit",
        "import torch\ndef net():\n    return torch.nn.Linear(7, 2)",
        "cannot be run on [1, 16] (float32)",
    ),
]


@pytest.mark.parametrize(("code", "says"), [pytest.param(*u[1:], id=u[0]) for u in USER_CODE])
def test_user_code_that_cannot_be_used_is_one_message(
    harness: Harness, tmp_path: Path, code: str, says: str
) -> None:
    (tmp_path / "bad_model.py").write_text(code)
    (tmp_path / "a.yaml").write_text(
        'name: x\nmodel: {factory: "bad_model:net", example_inputs: {shape: [1, 16]}}\nvariants: [{name: fp32}]\n'
    )
    one_message(harness("run", "a.yaml", cwd=tmp_path), 2, says)


def test_a_training_step_without_a_train_split_is_one_message(
    project: Path, harness: Harness, tmp_path: Path
) -> None:
    model = (project / "small_model.py").read_text().replace('"train": items[:250], ', "")
    (tmp_path / "small_model.py").write_text(model)
    shutil.copy(project / "small.yaml", tmp_path)
    one_message(harness("run", "small.yaml", cwd=tmp_path), 2, "train")


def test_a_variant_whose_process_dies_is_a_failed_row_and_stops_no_other(
    project: Path, harness: Harness, tmp_path: Path
) -> None:
    text = (project / "small_model.py").read_text()
    text = text.replace('return {"train"', 'return {"loss": lambda output, target: __import__("os")._exit(3), "train"')
    (tmp_path / "small_model.py").write_text(text)
    config = (project / "small.yaml").read_text().replace(", steps: [{finetune: {epochs: 8, lr: 0.02}}]}", "}")
    (tmp_path / "small.yaml").write_text(config.replace("{quantize_pt2e: {}}", "{quantize_pt2e: {}}"))
    done = harness("build", "small.yaml", "--json", cwd=tmp_path)
    assert done.code == 3, done.stderr
    found = {(row["variant"], row["exporter"]): (row["status"], row["reason"]) for row in done.json["builds"]}
    assert found["fp32", "executorch"][0] == "ok"
    assert found["int8", "executorch"][0] == "failed"
    assert "process died" in found["int8", "executorch"][1]


def test_no_compiler_is_one_message(package: Path, harness: Harness, tmp_path: Path) -> None:
    """A host without g++ and without runners: the remedy is named."""
    done = harness(
        "run", str(package), cwd=tmp_path, HARNESS_CACHE=str(tmp_path / "cache"), CXX="/nonexistent/g++", PATH="/bin"
    )
    one_message(done, 3, "g++")


def test_a_full_disk_is_one_message(package: Path, environment: dict[str, str], tmp_path: Path) -> None:
    if shutil.which("unshare") is None or os.getuid() != 0:
        pytest.skip("needs a file system of its own: sudo make test")
    small = tmp_path / "small"
    small.mkdir()
    script = 'mount -t tmpfs -o size=100k tmpfs "$1" && cd "$1" && exec "$2" -m harness run "$3"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", str(small), sys.executable, str(package)],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    if "mount:" in done.stderr:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert "No space left" in done.stderr or "full" in done.stderr


def test_devices_and_doctor_answer_in_their_schemas(harness: Harness, tmp_path: Path) -> None:
    done = harness("devices", "--json", cwd=tmp_path)
    jsonschema.validate(done.json, json.loads((SCHEMAS / "devices.schema.json").read_text()))
    assert done.json[0]["state"] == "ready"
    assert harness("doctor", cwd=tmp_path).code == 0
    assert not (tmp_path / ".harness").exists()  # looking changes nothing


def test_init_writes_an_experiment_that_can_be_read_and_overwrites_nothing(harness: Harness, tmp_path: Path) -> None:
    assert harness("init", cwd=tmp_path).code == 0
    planned = harness("run", "experiment.yaml", "--dry-run", "--json", cwd=tmp_path)
    assert planned.code == 0, planned.stderr
    assert len({row["variant"] for row in planned.json["builds"]}) == 6
    one_message(harness("init", cwd=tmp_path), 2, "exists")
    for arguments in (["my_models:net"], ["my_models:net", "my_models:data"]):
        out = f"{len(arguments)}.yaml"
        assert harness("init", *arguments, "-o", out, cwd=tmp_path).code == 0
        done = harness("run", out, "--dry-run", "--json", cwd=tmp_path)
        assert done.code == 0, done.stderr
        assert len({row["variant"] for row in done.json["builds"]}) == 6


def test_sensitivity_tells_of_each_layer_what_treating_it_alone_costs(
    project: Path, harness: Harness, tmp_path: Path
) -> None:
    done = harness("sensitivity", str(project / "small.yaml"), "--json", cwd=tmp_path)
    assert done.code == 0, done.stderr
    layers = {layer["name"]: layer for layer in done.json["layers"]}
    assert list(layers) == ["layers.0", "layers.2"] and layers["layers.0"]["macs"] == 16 * 64
    for layer in layers.values():
        assert set(layer["effects"]) == {"int8", "prune", "low_rank"}
        assert layer["effects"]["int8"]["sqnr_db"] > layer["effects"]["prune"]["sqnr_db"]
        assert layer["effects"]["low_rank"]["drop"] is not None  # a tenth of train was held out to validate on
    shown = harness("sensitivity", str(project / "small.yaml"), cwd=tmp_path)
    assert shown.code == 0 and "layers.2" in shown.stdout and "dB" in shown.stdout
    wrong = harness("sensitivity", str(project / "small.yaml"), "--variant", "int9", cwd=tmp_path)
    assert wrong.code == 2 and "int8" in wrong.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("runs", "--store", "sqlite:///none.db"), 2),
        (("runs", "--store", "postgresql://h@127.0.0.1:1/x"), 3),
        (("gate", "--experiment", "demo", "--store", "postgresql://h@127.0.0.1:1/x"), 3),
        (("runs", "--store", "sqlite://"), 2),
        (("run", "none.yaml", "--store", "sqlite:///:memory:"), 2),
        (("runs", "--store", "sqlite:////tmp"), 2),
    ],
)
def test_an_error_ends_alike_with_its_traceback(
    words: tuple[str, ...], code: int, harness: Harness, tmp_path: Path
) -> None:
    plain, debug = harness(*words, cwd=tmp_path), harness(*words, "--debug", cwd=tmp_path)
    assert (plain.code, debug.code) == (code, code)
    assert "Traceback" in debug.stderr and "Traceback" not in plain.stderr
    assert debug.stderr.endswith(plain.stderr) and plain.stderr.startswith("error: ")
