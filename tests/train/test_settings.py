"""Settings: those that cannot be are refused, and the public script's arguments are known."""

from pathlib import Path
from typing import Any

import pytest

from medi_build.errors import TrainError
from medi_build.train.settings import from_public_arguments
from tests.train.runs import eight_steps, run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("bad", [
    {"loss": "instructer"},
    {"cl_temperature": 0.0},
    {"eval_steps": 5, "logging_steps": 2},
    {"warmup_ratio": 1.5},
    {"train_batch_size": 0},
    {"max_source_length": 2},
    {"max_source_length": 0},
    {"hard_negatives": 0},
    {"weight_decay": -1.0},
    {"weight_decay": float("nan")},
    {"precision": "float16"},
    {"extra": {"use_cpu": True, "fp16": True}},
    {"extra": {"load_best_model_at_end": False}},
    {"extra": {"lr_scheduler_type": "sideways"}},
    {"extra": {"report_to": "pigeons"}},
    {"extra": {"learning_rate": 1.0}},
])  # fmt: skip
def test_impossible_settings_are_refused(toy_data: Path, tiny_model: Path, tmp_path: Path, bad: dict[str, Any]) -> None:
    with pytest.raises(TrainError):
        run(eight_steps(toy_data, tiny_model, tmp_path / "run", **bad))


def test_the_public_scripts_arguments_are_known() -> None:
    fields, notes = from_public_arguments(
        {
            "cl_temperature": 0.1,
            "per_device_train_batch_size": 4,
            "cache_dir": "x",
            "adam_beta2": "9e-1",
            "do_train": True,
        }
    )
    assert fields == {"cl_temperature": 0.1, "train_batch_size": 4, "extra": {"adam_beta2": 0.9}}
    assert len(notes) == 2
    fields, notes = from_public_arguments(
        {"per_device_train_batch_size": 4, "bf16": True, "fp16": "false", "save_steps": "1000", "run_name": 7,
         "eval_strategy": "epoch", "num_beams": 4}, processes=2
    )  # fmt: skip
    assert fields == {
        "train_batch_size": 8,
        "precision": "bfloat16",
        "eval_steps": 1000,
        "extra": {"run_name": "7"},
    }
    assert [note.split()[0] for note in notes] == ["--eval_strategy", "--num_beams"]
    with pytest.raises(TrainError, match=r"did you mean 'cl_temperature'"):
        from_public_arguments({"cl_temprature": 1})
    with pytest.raises(TrainError, match=r"--lora_rank is 'four'.*integer"):
        from_public_arguments({"lora_rank": "four"})
    with pytest.raises(TrainError, match=r"--adam_beta2 is 'x'.*number"):
        from_public_arguments({"adam_beta2": "x"})
