"""Two processes with half a batch each are one process with the whole batch."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, sys
from pathlib import *
from medi_build.train.settings import *
from medi_build.train.trainer import train
trained = train({settings}, report=lambda line: None)
import os
if os.environ.get("RANK", "0") == "0":
    losses = [(p["step"], p["loss"], p["grad_norm"]) for p in trained.history if "loss" in p]
    Path({out!r}).write_text(json.dumps([losses, trained.accuracy]))
"""


def run(folder: Path, settings: str, processes: int) -> tuple[list[list[float]], list[float]]:
    folder.mkdir()
    script = folder / "run.py"
    script.write_text(SCRIPT.format(settings=settings, out=str(folder / "losses.json")))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = []
    for rank in range(processes):
        ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)} if processes > 1 else {}
        started.append(
            subprocess.Popen([sys.executable, str(script)], env={**shared, **ranks}, stderr=subprocess.PIPE, text=True)
        )
    for process in started:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-3000:]
    losses, accuracy = json.loads((folder / "losses.json").read_text())
    return losses, accuracy


@pytest.mark.parametrize("cached", [False, True])
def test_two_processes_equal_one(toy_data: Path, tiny_model: Path, tmp_path: Path, cached: bool) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for path in tiny_model.rglob("*"):
        target = model / path.relative_to(tiny_model)
        target.mkdir() if path.is_dir() else target.write_bytes(path.read_bytes())
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"dropout_rate": 0.0}))

    def settings(out: str) -> str:
        return (
            f"TrainSettings(source=Path({str(toy_data)!r}), model_name_or_path={str(model)!r}, "
            f"output_dir=Path({str(tmp_path / out)!r}), train_batch_size=6, max_steps=5, eval_steps=5, "
            f"logging_steps=1, learning_rate=1e-3, cl_temperature=0.1, cached={cached}, tokens_per_forward=150, "
            "extra={'use_cpu': True, 'disable_tqdm': True})"
        )

    one, accuracy_of_one = run(tmp_path / "one", settings("out-1"), 1)
    two, accuracy_of_two = run(tmp_path / "two", settings("out-2"), 2)
    assert len(one) == 5
    for left, right in zip(one, two, strict=True):
        assert left == pytest.approx(right, rel=1e-3)
    assert accuracy_of_one == accuracy_of_two
