"""What can be set about a training run, and the public script's names for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from medi_build.errors import TrainError, did_you_mean
from medi_build.train.batches import BatchSettings, Classes

INSTRUCTOR = "instructor"
TRIPLET = "TripletLoss"
LOSSES = (
    INSTRUCTOR,
    "MultipleNegativesRankingLoss",
    "CachedMultipleNegativesRankingLoss",
    "MultipleNegativesSymmetricRankingLoss",
    "CachedMultipleNegativesSymmetricRankingLoss",
    TRIPLET,
)
"""Our objective, and sentence-transformers' losses over (anchor, positive, negative), by their class names."""

Form = Literal["sentence-transformers", "instructor"]
Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class TrainSettings:
    """One training run. Names are the public script's where it has one.

    Attributes:
        source: folder that `medi build` wrote, Parquet file, or medi-data.json of any age.
        model_name_or_path: encoder to start from.
        output_dir: gets the model, its card, the plot, and the checkpoints.
        model_revision: commit of a model from the hub.
        loss: one of `LOSSES`.
        cl_temperature: divides the cosines; the paper's 0.01.
        hard_negatives: how many negatives of a row are used, ``neg`` first; all there are if not given (TripletLoss
            knows one). A row that has fewer is used with those it has.
        max_source_length: window in tokens, instruction included; the model's own if not given.
        cached: gradient caching: memory for one chunk of `tokens_per_forward` only, one more forward pass.
        tokens_per_forward: texts go through the model in chunks of so many tokens; 16,384 on a GPU and 512 on the
            CPU (whose caches like it small) if not given.
        train_batch_size: rows of a batch, over all processes together.
        num_train_epochs: passes over the (capped) data; ignored if `max_steps` is given.
        max_steps: optimiser steps.
        gradient_accumulation_steps: batches per optimiser step.
        learning_rate: peak, after the warm-up; then linearly to 0.
        warmup_ratio: share of the steps with a rising learning rate.
        weight_decay: of AdamW.
        seed: of batches, dropout and the held-out rows.
        task_cap: see `BatchSettings`.
        task_temperature: see `BatchSettings`.
        classes: see `Classes`; losses that need in-batch negatives read "own-negative" as "apart".
        precision: of the forward passes (autocast); the weights stay float32.
        pool_instruction: let the pooling see the instruction, unlike INSTRUCTOR.
        eval_rows_per_task: rows of each task held out for evaluation, at most a tenth; 0 for none.
        eval_steps: optimiser steps between evaluations and checkpoints.
        logging_steps: optimiser steps between points of the loss curve; divides `eval_steps`.
        skip_bad_rows: leave out rows without text, or whose instruction fills the window, and count them.
        resume: go on from the newest whole checkpoint in `output_dir`, if there is one.
        export: form of the saved model; "instructor" adds a folder in that form.
        lora_rank: train low-rank adapters of this rank (PEFT) and merge them at the end; 0 trains all weights.
        extra: further arguments of sentence-transformers' `SentenceTransformerTrainingArguments`, by name.
    """

    source: Path
    model_name_or_path: str
    output_dir: Path
    model_revision: str | None = None
    loss: str = INSTRUCTOR
    cl_temperature: float = 0.01
    hard_negatives: int | None = None
    max_source_length: int | None = None
    cached: bool = False
    tokens_per_forward: int | None = None
    train_batch_size: int = 64
    num_train_epochs: float = 1.0
    max_steps: int | None = None
    gradient_accumulation_steps: int = 1
    learning_rate: float = 2e-5
    warmup_ratio: float = 0.1
    weight_decay: float = 0.0
    seed: int = 42
    task_cap: int | None = None
    task_temperature: float = 1.0
    classes: Classes = "own-negative"
    precision: Precision = "float32"
    pool_instruction: bool = False
    eval_rows_per_task: int = 16
    eval_steps: int = 500
    logging_steps: int = 10
    skip_bad_rows: bool = False
    resume: bool = True
    export: Form = "sentence-transformers"
    lora_rank: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise `TrainError` for settings that make no sense."""
        if self.loss not in LOSSES:
            raise TrainError(f"loss {self.loss!r} is not one of {', '.join(LOSSES)}{did_you_mean(self.loss, LOSSES)}")
        checks = [
            ("cl_temperature", self.cl_temperature, self.cl_temperature > 0, "above 0"),
            ("hard_negatives", self.hard_negatives, (self.hard_negatives or 1) >= 1, "at least 1"),
            ("max_source_length", self.max_source_length, (self.max_source_length or 8) >= 8, "at least 8"),
            ("tokens_per_forward", self.tokens_per_forward, (self.tokens_per_forward or 1) >= 1, "at least 1"),
            ("gradient_accumulation_steps", self.gradient_accumulation_steps, self.gradient_accumulation_steps >= 1,
             "at least 1"),
            ("learning_rate", self.learning_rate, self.learning_rate > 0, "above 0"),
            ("warmup_ratio", self.warmup_ratio, 0 <= self.warmup_ratio < 1, "at least 0 and below 1"),
            ("eval_rows_per_task", self.eval_rows_per_task, self.eval_rows_per_task >= 0, "at least 0"),
            ("logging_steps", self.logging_steps, self.logging_steps >= 1, "at least 1"),
            ("lora_rank", self.lora_rank, self.lora_rank >= 0, "at least 0"),
        ]  # fmt: skip
        for name, value, good, allowed in checks:
            if not good:
                raise TrainError(f"{name} is {value}, but must be {allowed}")
        if self.eval_steps < 1 or self.eval_steps % self.logging_steps:
            raise TrainError(
                f"eval_steps is {self.eval_steps}, but must be a multiple of logging_steps ({self.logging_steps}), so "
                "that a resumed run continues the loss curve exactly"
            )
        self.batches(1)

    def batches(self, processes: int) -> BatchSettings:
        """The settings of the batch planner."""
        apart = self.loss not in (INSTRUCTOR, TRIPLET) and self.classes == "own-negative"
        return BatchSettings(
            batch_size=self.train_batch_size,
            processes=processes,
            seed=self.seed,
            epochs=self.num_train_epochs,
            steps=None if self.max_steps is None else self.max_steps * self.gradient_accumulation_steps,
            task_cap=self.task_cap,
            task_temperature=self.task_temperature,
            classes="apart" if apart else self.classes,
        )


_RENAMED = {
    "per_device_train_batch_size": "train_batch_size",
    "save_steps": "eval_steps",
    "num_train_epochs": "num_train_epochs",
}
_UNUSED = {
    "cache_dir": "the public script looks for medi-data.json there; name the data itself",
    "do_train": "medi train always trains",
    "overwrite_output_dir": "use --no-resume to start afresh",
    "overwrite_cache": "prepared data is made anew when the source changes",
    "preprocessing_num_workers": "texts are tokenised batch by batch",
    "use_fast_tokenizer": "the model's own tokenizer is used",
    "tokenizer_name": "the model's own tokenizer is used",
    "config_name": "the model's own config is used",
    "use_auth_token": "log in to the hub with `hf auth login`",
    "resize_position_embeddings": "never used by the public script",
    "pad_to_max_length": "batches are padded to their longest text",
    "sub_sample_ratio": "never used by the public script",
    "processed_data_dir": "never used by the public script",
    "max_train_samples": "use --max-steps",
    "max_examples": "use --max-steps",
    "debug_mode": "use --max-steps",
    "add_prompt_to_document": "instructions are the data's matter",
}


def from_public_arguments(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Translate the public script's arguments into fields of `TrainSettings`.

    Returns:
        The fields (arguments of the Hugging Face trainer under ``extra``), and a note for each argument without effect.

    Raises:
        TrainError: for an argument that neither we nor the trainer know.
    """
    from sentence_transformers import SentenceTransformerTrainingArguments

    ours = set(TrainSettings.__dataclass_fields__) - {"extra"}
    trainers = set(SentenceTransformerTrainingArguments.__dataclass_fields__)
    fields: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    notes = []
    for name, value in arguments.items():
        if name in ours or name in _RENAMED:
            fields[_RENAMED.get(name, name)] = _number(name, value)
        elif name in _UNUSED:
            notes.append(f"--{name} has no effect: {_UNUSED[name]}")
        elif name in trainers:
            extra[name] = _number(name, value)
        else:
            known = [*ours, *_RENAMED, *_UNUSED, *trainers]
            raise TrainError(f"--{name} is no argument of medi train{did_you_mean(name, known)}")
    return {**fields, "extra": extra}, notes


def _number(name: str, value: Any) -> Any:
    """Numbers that came as strings, such as ``1e-4`` from a command line; anything else as it is."""
    if not isinstance(value, str) or name in ("loss", "model_name_or_path"):
        return value
    try:
        return float(value)
    except ValueError:
        return value
