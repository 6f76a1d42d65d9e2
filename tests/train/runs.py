"""Short training runs for tests."""

from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from transformers import TrainerCallback

from medi_build.train.model_card import Trained
from medi_build.train.settings import TrainSettings
from medi_build.train.trainer import train


def settings_for(data: Path, model: Path, out: Path, **changes: Any) -> TrainSettings:
    """Two steps."""
    fast: dict[str, Any] = {
        "train_batch_size": 8,
        "max_steps": 2,
        "learning_rate": 1e-2,
        "cl_temperature": 0.1,
        "eval_steps": 1,
        "logging_steps": 1,
        "eval_rows_per_task": 0,
        "warmup_ratio": 0.0,
        "extra": {"use_cpu": True, "disable_tqdm": True},
    }
    return TrainSettings(source=data, model_name_or_path=str(model), output_dir=out, **{**fast, **changes})


def eight_steps(data: Path, model: Path, out: Path, **changes: Any) -> TrainSettings:
    """Long enough to learn something, with rows held out and a checkpoint half way."""
    longer: dict[str, Any] = {
        "max_steps": 8,
        "learning_rate": 1e-3,
        "eval_steps": 4,
        "max_source_length": 48,
        "eval_rows_per_task": 16,
        "warmup_ratio": 0.1,
    }
    return settings_for(data, model, out, **{**longer, **changes})


def run(settings: TrainSettings, **options: Any) -> Trained:
    return train(settings, report=lambda line: None, **options)


def losses(trained: Trained) -> list[tuple[int, float]]:
    return [(point["step"], point["loss"]) for point in trained.history if "loss" in point]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return SentenceTransformer(str(folder), device="cpu").state_dict()


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


class StopAt(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


class Steps(TrainerCallback):
    """Counts the steps that are begun."""

    begun = 0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.begun += 1
