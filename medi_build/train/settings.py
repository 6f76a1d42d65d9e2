"""What can be set about a training run, and the public script's names for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from medi_build.errors import TrainError, did_you_mean
from medi_build.train.batches import BatchSettings, Classes

INSTRUCTOR = "instructor"
TRIPLET = "TripletLoss"
CUSTOM = "custom"
"""A loss that the caller of `trainer.train` makes."""
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
Precision = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class TrainSettings:
    """One training run. Names are the public script's where it has one.

    Attributes:
        source: folder that `medi build` or `medi mine` wrote, Parquet file, medi-data.json of any age, or a file in one
            of the forms of `medi mine`.
        model_name_or_path: encoder to start from.
        output_dir: gets the model, its card, the plot, and the checkpoints.
        model_revision: commit of a model from the hub.
        trust_remote_code: let code that comes with the model run.
        loss: one of `LOSSES`, or `CUSTOM`.
        cl_temperature: divides the cosines; the paper's 0.01.
        hard_negatives: how many negatives of a row are used, ``neg`` first; all there are if not given (TripletLoss
            knows one). A row that has fewer is used with those it has.
        warehouse: where the source is, if it is the name of a version.
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
        precision: of the forward passes (autocast); the weights stay float32. "auto" is bfloat16 on a GPU that
            multiplies it natively, and float32 elsewhere.
        full_determinism: have torch take all sums in one order, also where a GPU is faster without one: a run, resumed
            or not, then gives the same bits each time on one kind of GPU. On the CPU it does so anyway.
        pool_instruction: let the pooling see the instruction, unlike INSTRUCTOR.
        eval_rows_per_task: rows of each task held out for evaluation, at most a tenth; 0 for none.
        eval_sets: evaluation sets on disk, each ``FORM:DIR`` (`medi_build.train.evaluation.FORMS`), scored whenever the
            held-out rows are. They choose nothing: the checkpoint that is kept is that of the best held-out accuracy.
        eval_steps: optimiser steps between evaluations and checkpoints.
        logging_steps: optimiser steps between points of the loss curve; divides `eval_steps`.
        skip_bad_rows: leave out rows without text, or whose instruction fills the window, and count them.
        resume: go on from the newest whole checkpoint in `output_dir`, if there is one.
        export: form of the saved model; "instructor" adds a folder in that form.
        query_instruction: of queries in a file whose records have none, as what `medi mine` writes.
        document_instruction: the same for positives and negatives.
        lora_rank: train nothing but low-rank adapters of this rank (PEFT) and merge them at the end; 0 trains all
            weights.
        lora_targets: linear layers that get one, by the last parts of their names and separated by commas, as in
            "query,value", or "all-linear"; see `medi_build.train.lora.lora_layers` for those taken if not given.
        extra: further arguments of sentence-transformers' `SentenceTransformerTrainingArguments`, by name.
    """

    source: Path | str
    model_name_or_path: str
    output_dir: Path
    model_revision: str | None = None
    trust_remote_code: bool = False
    loss: str = INSTRUCTOR
    cl_temperature: float = 0.01
    hard_negatives: int | None = None
    max_source_length: int | None = None
    warehouse: Path | None = None
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
    precision: Precision = "auto"
    full_determinism: bool = False
    pool_instruction: bool = False
    eval_rows_per_task: int = 16
    eval_sets: tuple[str, ...] = ()
    eval_steps: int = 500
    logging_steps: int = 10
    skip_bad_rows: bool = False
    resume: bool = True
    export: Form = "sentence-transformers"
    query_instruction: str = ""
    document_instruction: str = ""
    lora_rank: int = 0
    lora_targets: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise `TrainError`, which lists them all, for settings that make no sense."""
        faults = []
        if self.loss not in (*LOSSES, CUSTOM):
            faults.append(f"loss {self.loss!r} is not one of {', '.join(LOSSES)}{did_you_mean(self.loss, LOSSES)}")
        checks = [
            ("cl_temperature", self.cl_temperature, self.cl_temperature > 0, "above 0"),
            ("learning_rate", self.learning_rate, self.learning_rate > 0, "above 0"),
            ("warmup_ratio", self.warmup_ratio, 0 <= self.warmup_ratio < 1, "at least 0 and below 1"),
        ]
        for name, least in _LEAST.items():
            value = getattr(self, name)
            checks.append((name, value, value is None or value >= least, f"at least {least}"))
        faults += [f"{name} is {value}, but must be {allowed}" for name, value, good, allowed in checks if not good]
        if self.logging_steps >= 1 and (self.eval_steps < 1 or self.eval_steps % self.logging_steps):
            faults.append(
                f"eval_steps is {self.eval_steps}, but must be a multiple of logging_steps ({self.logging_steps}), so "
                "that a resumed run continues the loss curve exactly"
            )
        try:
            self.batches(1)
        except TrainError as error:
            faults.append(str(error))
        if faults:
            raise TrainError("; ".join(faults))

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


_LEAST = {
    "hard_negatives": 1,
    "max_source_length": 8,
    "tokens_per_forward": 1,
    "gradient_accumulation_steps": 1,
    "eval_rows_per_task": 0,
    "logging_steps": 1,
    "weight_decay": 0,
    "lora_rank": 0,
}
_RENAMED = {"save_steps": "eval_steps"}
_PRECISIONS: dict[str, Precision] = {"bf16": "bfloat16", "fp16": "float16"}
_PUBLIC_SCRIPT = {
    "cache_dir": "the public script looks for medi-data.json there; name the data itself",
    "overwrite_output_dir": "use --no-resume to start afresh",
    "overwrite_cache": "prepared data is made anew when the source changes",
    "preprocessing_num_workers": "texts are tokenised batch by batch",
    "use_fast_tokenizer": "the model's own tokenizer is used",
    "tokenizer_name": "the model's own tokenizer is used",
    "config_name": "the model's own config is used",
    "use_auth_token": "log in to the hub with `hf auth login`",
    "pad_to_max_length": "batches are padded to their longest text",
    "max_train_samples": "use --max-steps",
    "max_examples": "use --max-steps",
    "debug_mode": "use --max-steps",
    "max_eval_samples": "use --eval_rows_per_task",
    "add_prompt_to_document": "instructions are the data's matter",
    "source_prefix": "instructions are the data's matter",
    "train_file": "name the data itself",
    "validation_file": "rows of each task are held out; see --eval_rows_per_task",
    **dict.fromkeys(
        ("resize_position_embeddings", "sub_sample_ratio", "processed_data_dir", "lang", "dataset_name",
         "dataset_config_name", "sample_selection_train_file_path", "text_column", "summary_column", "test_file",
         "def_only", "val_max_target_length", "max_predict_samples", "num_beams", "ignore_pad_token_for_loss",
         "forced_bos_token", "sortish_sampler", "predict_with_generate", "generation_max_length",
         "generation_num_beams", "generation_config"),
        "it has none in the public script's training, either",
    ),
}  # fmt: skip
_HELD_OUT = "held-out triplets are evaluated every --eval_steps; --eval_rows_per_task 0 for none"
_BEST = "the checkpoint with the best held-out accuracy is kept"
_BATCHES = "batches are planned ahead, see --classes and --task_cap; no row is dropped"
REPLACED = {
    "do_train": "medi train always trains",
    "do_eval": _HELD_OUT,
    "do_predict": "medi train only trains",
    "eval_strategy": _HELD_OUT,
    "evaluation_strategy": _HELD_OUT,
    "prediction_loss_only": _HELD_OUT,
    "per_device_eval_batch_size": "evaluation goes by --tokens_per_forward",
    "load_best_model_at_end": _BEST,
    "metric_for_best_model": _BEST,
    "greater_is_better": _BEST,
    "resume_from_checkpoint": "a run goes on from its newest whole checkpoint; --no-resume to start afresh",
    "dataloader_drop_last": _BATCHES,
    "train_sampling_strategy": _BATCHES,
    "group_by_length": _BATCHES,
    "batch_sampler": _BATCHES,
    "multi_dataset_batch_sampler": _BATCHES,
    "remove_unused_columns": "records have no other columns",
    "prompts": "instructions are the data's matter",
}
"""Arguments of the trainer whose part another one plays here."""


def from_public_arguments(arguments: Mapping[str, Any], processes: int = 1) -> tuple[dict[str, Any], list[str]]:
    """Translate the public script's arguments into fields of `TrainSettings`.

    Args:
        arguments: by name; values may be strings, as on a command line.
        processes: how many train together.

    Returns:
        The fields (arguments of the Hugging Face trainer under ``extra``), and a note for each argument without effect.

    Raises:
        TrainError: for an argument that neither we nor the trainer know, or a value of another type than it takes.
    """
    from sentence_transformers import SentenceTransformerTrainingArguments

    ours = get_type_hints(TrainSettings)
    del ours["extra"]
    trainers = get_type_hints(SentenceTransformerTrainingArguments)
    fields: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    notes = []
    for name, value in arguments.items():
        if name in ours or name in _RENAMED:
            kept = _RENAMED.get(name, name)
            fields[kept] = _typed(name, value, ours[kept])
        elif name == "per_device_train_batch_size":
            fields["train_batch_size"] = processes * _typed(name, value, int)
        elif name in _PRECISIONS:
            if _typed(name, value, bool):
                fields["precision"] = _PRECISIONS[name]
            elif name == "bf16":
                fields["precision"] = "float32"
        elif reason := _PUBLIC_SCRIPT.get(name, REPLACED.get(name)):
            notes.append(f"--{name} has no effect: {reason}")
        elif name in trainers:
            extra[name] = _typed(name, value, trainers[name])
        else:
            known = [*ours, *_RENAMED, *_PUBLIC_SCRIPT, *REPLACED, *trainers]
            raise TrainError(
                f"--{name} is no argument of medi train, of the public script or of the Hugging Face trainer"
                f"{did_you_mean(name, known)}"
            )
    return {**fields, "extra": extra}, notes


def _typed(name: str, value: Any, kind: Any) -> Any:
    """The value as its field has it: ``1e-4`` is text to YAML, and a name may look like a number."""
    try:
        return TypeAdapter(kind, config=ConfigDict(coerce_numbers_to_str=True)).validate_python(value)
    except ValidationError as error:
        raise TrainError(f"--{name} is {value!r}: {error.errors()[0]['msg'].lower()}") from error
