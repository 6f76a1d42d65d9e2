"""Two processes with half a batch each are one process with the whole batch."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from medi_build.devices import processes
from medi_build.errors import OptionError
from medi_build.train.settings import TrainSettings
from medi_build.train.trainer import train

pytestmark = pytest.mark.slow

SCRIPT = """
import json, os, sys
from pathlib import *
from medi_build.train.settings import *
from medi_build.train.trainer import train
results = [train(settings, report=lambda line: None) for settings in {settings!r}]
if os.environ["RANK"] == "0":
    Path({out!r}).write_text(json.dumps([[r.history, r.accuracy] for r in results]))
"""


def curve(history: list[dict[str, Any]]) -> list[tuple[int, float, float]]:
    return [(point["step"], point["loss"], point["grad_norm"]) for point in history if "loss" in point]


def run_in_processes(settings: list[TrainSettings], folder: Path, processes: int) -> list[Any]:
    script, out = folder / "run.py", folder / "results.json"
    script.write_text(SCRIPT.format(settings=settings, out=str(out)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(processes)}
    started = [
        subprocess.Popen(
            [sys.executable, str(script)],
            env={**shared, "OMP_NUM_THREADS": "1", "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    errors = [process.communicate(timeout=300)[1] for process in started]
    assert [process.returncode for process in started] == [0] * processes, errors[0][-3000:]
    return json.loads(out.read_text())


@pytest.mark.slow
def test_two_processes_equal_one(tiny_model: Path, tmp_path: Path) -> None:
    """Loss, gradients and accuracy, plain and cached; nothing random in the network."""
    from tests.train.conftest import toy_records

    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"dropout_rate": 0.0}))
    data = tmp_path / "medi-data.json"
    records = toy_records(80)  # 36 rows of each task to train on: batches of 6 either way
    for i, record in enumerate(records):
        record["hard_negatives"] = [f"{number} more ships than {i}" for number in range(i % 4)]
    data.write_text(json.dumps(records))
    fixed: dict[str, Any] = {"source": data, "model_name_or_path": str(model), "train_batch_size": 6, "max_steps": 6}
    fixed |= {"eval_steps": 6, "logging_steps": 1, "learning_rate": 1e-3, "cl_temperature": 0.1}
    fixed |= {"tokens_per_forward": 150, "extra": {"use_cpu": True, "disable_tqdm": True}}
    together = [TrainSettings(output_dir=tmp_path / f"two-{c}", cached=c, **fixed) for c in (False, True)]
    results = run_in_processes(together, tmp_path, 2)
    for cached, (history, accuracy) in zip((False, True), results, strict=True):
        alone = TrainSettings(output_dir=tmp_path / f"one-{cached}", cached=cached, **fixed)
        one = train(alone, report=lambda line: None)
        assert len(curve(history)) == 6
        for left, right in zip(curve(one.history), curve(history), strict=True):
            assert left == pytest.approx(right, rel=1e-4)
        assert one.accuracy == pytest.approx(accuracy)


LAUNCHER = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
PLAIN_ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def medi_train(model: Path, data: Path, out: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    command = ["train", data, "--model", model, "--output-dir", out, "--max-steps", 2, "--train-batch-size", 4]
    command += ["--use_cpu", "--max-source-length", 48, "--export", "instructor"]
    ours = {name: value for name, value in os.environ.items() if name not in LAUNCHER}
    return subprocess.run(
        [sys.executable, "-m", "medi_build", *map(str, command)],
        env={**ours, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        check=False,
    )


@pytest.mark.parametrize("environment", [dict.fromkeys(LAUNCHER, ""), PLAIN_ASCII])
def test_empty_variables_and_an_ascii_locale_train_as_well(
    tiny_model: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    from tests.train.conftest import toy_records

    records = toy_records(40)
    for record in records:
        record["query"][0] = "Représente la question ・ 質問;"
    data = tmp_path / "medi-data.json"
    data.write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
    done = medi_train(tiny_model, data, tmp_path / "out", environment)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert "Représente la question ・ 質問;" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two', but must be a whole number of at least 1"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is '0', but must be a whole number of at least 1"),
        ({"RANK": "1"}, "RANK is 1, but must be below WORLD_SIZE, which is 1"),
        ({"LOCAL_RANK": "1.5"}, "LOCAL_RANK is '1.5', but must be a whole number"),
    ],
)
def test_variables_of_a_launcher_that_make_no_sense_are_an_error(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    for name in LAUNCHER:
        monkeypatch.delenv(name, raising=False)
    assert processes() == (1, 0)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(OptionError, match=message):
        processes()
    with pytest.raises(OptionError, match=message):  # also without the command
        train(TrainSettings(source=Path("none"), model_name_or_path="none", output_dir=Path("none")))


def test_what_a_launcher_set_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(LAUNCHER, ("4", "3", "", "2"), strict=True):
        monkeypatch.setenv(name, value)
    assert processes() == (4, 3)
    assert [os.environ.get(name) for name in LAUNCHER] == ["4", "3", None, "2"]
