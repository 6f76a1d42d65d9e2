"""A run that was stopped, killed or ran out of disk goes on from its newest whole checkpoint, exactly."""

import resource
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from medi_build.errors import TrainError
from medi_build.train.checkpoints import RECEIPT, drop_older_checkpoints
from medi_build.train.model_card import Trained
from tests.train.runs import StopAt, eight_steps, losses, run, same, weights

pytestmark = pytest.mark.slow


def test_a_resumed_run_continues_exactly(unbroken: Trained, toy_data: Path, tiny_model: Path, tmp_path: Path) -> None:
    settings = eight_steps(toy_data, tiny_model, tmp_path / "broken", export="instructor")
    with pytest.raises(KeyboardInterrupt):
        run(settings, callbacks=[StopAt(6)])
    resumed = run(settings)
    assert resumed.resumed_from == 4
    assert losses(resumed) == losses(unbroken)
    assert same(weights(resumed.output_dir), weights(unbroken.output_dir))


def test_a_killed_process_resumes_exactly(unbroken: Trained, toy_data: Path, tiny_model: Path, tmp_path: Path) -> None:
    settings = eight_steps(toy_data, tiny_model, tmp_path / "killed", export="instructor")
    script = tmp_path / "run.py"
    script.write_text(
        "import os, signal\nfrom pathlib import *\nfrom transformers import TrainerCallback\n"
        "from medi_build.train.settings import *\nfrom medi_build.train.trainer import train\n"
        "class Kill(TrainerCallback):\n    def on_step_end(self, args, state, control, **_):\n"
        "        if state.global_step == 7: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"train({settings!r}, callbacks=[Kill()])\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    resumed = run(settings)
    assert resumed.resumed_from == 4
    assert losses(resumed) == losses(unbroken)
    assert same(weights(resumed.output_dir), weights(unbroken.output_dir))


def test_a_run_that_dies_while_it_writes_or_removes_a_checkpoint_goes_on_from_the_one_before(
    unbroken: Trained, toy_data: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = eight_steps(toy_data, tiny_model, tmp_path / "half", export="instructor")
    save = torch.save

    def dies(value: Any, file: Any, *args: Any, **kwargs: Any) -> None:
        if "checkpoint-8" in str(file) and "optimizer" in str(file):
            Path(file).write_bytes(b"half")
            raise KeyboardInterrupt
        save(value, file, *args, **kwargs)

    monkeypatch.setattr(torch, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        run(settings)
    monkeypatch.undo()
    assert (settings.output_dir / "checkpoint-8" / "model.safetensors").exists()
    resumed = run(settings)
    assert resumed.resumed_from == 4
    assert losses(resumed) == losses(unbroken)

    few = eight_steps(toy_data, tiny_model, tmp_path / "few", eval_steps=2, export="instructor")
    removed: list[str] = []

    def dies_too(folder: Path) -> None:
        removed.append(folder.name)
        next(path for path in folder.iterdir() if path.is_file()).unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.rmtree", dies_too)
    with pytest.raises(KeyboardInterrupt):
        run(few)
    monkeypatch.undo()
    shutil.rmtree(few.output_dir / "checkpoint-6")  # so that the half-removed one is the next in line
    again = run(few)
    assert len(removed) == 1
    assert again.resumed_from in {2, 4} - {int(removed[0].split("-")[1])}
    assert losses(again) == losses(unbroken)  # however often it is evaluated


@pytest.mark.parametrize("limit", [20_000, 60_000])
def test_a_full_disk_is_an_error_that_says_so(
    unbroken: Trained, toy_data: Path, tiny_model: Path, tmp_path: Path, limit: int
) -> None:
    """The weights of a checkpoint are above the first limit already, the optimizer's state is above both."""
    settings = eight_steps(toy_data, tiny_model, tmp_path / "full", export="instructor")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        with pytest.raises(TrainError, match=r"full: cannot be written \(.*make room"):
            run(settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, ignored)
    assert losses(run(settings)) == losses(unbroken)


def test_the_newest_and_the_best_checkpoint_are_kept(tmp_path: Path) -> None:
    for step in (100, 20, 3, 40):
        (tmp_path / f"checkpoint-{step}").mkdir()
    (tmp_path / "checkpoint-old").mkdir()
    drop_older_checkpoints(tmp_path, 3, tmp_path / "checkpoint-3")
    assert {path.name for path in tmp_path.iterdir()} == {
        "checkpoint-100", "checkpoint-40", "checkpoint-3", "checkpoint-old"
    }  # fmt: skip
    drop_older_checkpoints(tmp_path, 1, None)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-100", "checkpoint-old"}


def test_a_checkpoint_is_not_taken_for_another_runs(toy_data: Path, tiny_model: Path, tmp_path: Path) -> None:
    settings = eight_steps(toy_data, tiny_model, tmp_path / "run", max_steps=4)
    run(settings)
    with pytest.raises(TrainError, match=r"another run.*learning_rate was 0.001, is 0.01"):
        run(replace(settings, learning_rate=0.01))
    checkpoint = settings.output_dir / "checkpoint-4"
    (checkpoint / "optimizer.pt").write_bytes(b"\0" * 10)
    with pytest.raises(TrainError, match=r"optimizer.pt: has changed.*corrupted"):
        run(settings)
    (checkpoint / "optimizer.pt").unlink()
    with pytest.raises(TrainError, match=r"optimizer.pt: is missing"):
        run(settings)
    (checkpoint / "2_Dense" / "model.safetensors").unlink()
    with pytest.raises(TrainError, match=r"2_Dense/model.safetensors: is missing"):
        run(settings)
    (checkpoint / RECEIPT).write_text("{")
    with pytest.raises(TrainError, match=r"cannot be read"):
        run(settings)
    (checkpoint / RECEIPT).unlink()  # as if it had been killed while writing the checkpoint
    assert run(settings).resumed_from == 0


def test_texts_cut_are_counted_once_over_a_whole_run_even_if_it_breaks(
    toy_data: Path, tiny_model: Path, tmp_path: Path
) -> None:
    short: dict[str, Any] = {"max_source_length": 32, "eval_rows_per_task": 0, "logging_steps": 2, "max_steps": 9}
    whole = run(eight_steps(toy_data, tiny_model, tmp_path / "whole", **short))
    wide = run(eight_steps(toy_data, tiny_model, tmp_path / "wide", **{**short, "max_source_length": 512}))
    settings = eight_steps(toy_data, tiny_model, tmp_path / "broken", **short)
    with pytest.raises(KeyboardInterrupt):
        run(settings, callbacks=[StopAt(7)])
    assert run(settings).texts_cut == whole.texts_cut > 0
    assert wide.texts_cut == 0
