"""Training: sentence-transformers' trainer over planned batches, with exact resume."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sentence_transformers.sentence_transformer.losses as st_losses
import torch
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from torch.utils.data import DataLoader
from transformers import TrainerCallback, set_seed

from medi_build.encode.load import find_model, load_model, window_of
from medi_build.errors import TrainError
from medi_build.train.batches import Ints, Plan, PlannedSampler, own_negative_tasks, plan_batches
from medi_build.train.checkpoints import newest_checkpoint, run_fingerprint, write_receipt
from medi_build.train.collate import TripletCollator, instructions_that_fill, leave_instructions_out
from medi_build.train.data import TrainingData, hold_out, prepare, take_keys
from medi_build.train.evaluate import ACCURACY, TripletEvaluator
from medi_build.train.export import merge_adapters, save_model
from medi_build.train.objective import InstructorLoss
from medi_build.train.report import Trained, write_card, write_plot
from medi_build.train.settings import INSTRUCTOR, TrainSettings

DATA_FOLDER = "training-data"
TOKENS_PER_FORWARD = {True: 16_384, False: 512}
"""On a GPU, and on the CPU."""


class PlannedTrainer(SentenceTransformerTrainer):  # type: ignore[misc]
    """The trainer with our batches: each process reads its own slices, nothing is shuffled or dropped after that."""

    def __init__(self, *, data: TrainingData, plan: Plan, collator: TripletCollator, **kwargs: Any) -> None:
        super().__init__(data_collator=collator, **kwargs)
        self.data, self.plan = data, plan

    def get_train_dataloader(self) -> DataLoader[Any]:
        """This process's slices of the planned batches."""
        sampler: Any = PlannedSampler(self.plan, self.args.process_index, self.args.world_size)
        return DataLoader(
            self.data,  # type: ignore[arg-type]
            batch_sampler=sampler,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            generator=torch.Generator().manual_seed(self.args.seed),
        )

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """None: we write the card ourselves, once."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """The loss, which has to be a number."""
        result = super().compute_loss(*args, **kwargs)
        loss = result[0] if isinstance(result, tuple) else result
        if not torch.isfinite(loss):
            raise TrainError(
                f"the loss is {loss.item()} at step {self.state.global_step + 1}; lower learning_rate "
                f"({self.args.learning_rate}), raise cl_temperature, or train in float32 or bfloat16"
            )
        return result


class _Receipts(TrainerCallback):  # type: ignore[misc]
    """Marks each checkpoint as whole once everything of it is written."""

    def __init__(self, fingerprint: dict[str, str]) -> None:
        self.fingerprint = fingerprint

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            write_receipt(Path(args.output_dir) / f"checkpoint-{state.global_step}", self.fingerprint)


def train(
    settings: TrainSettings,
    *,
    callbacks: Sequence[TrainerCallback] = (),
    report: Callable[[str], None] = print,
) -> Trained:
    """Train an encoder and save it with its card and the plot of loss and accuracy.

    Args:
        settings: what to train on what, and how.
        callbacks: further callbacks of the Hugging Face trainer.
        report: takes the lines that tell what happens.

    Raises:
        TrainError: bad data (names the row), settings that make no sense, a NaN loss, a corrupted checkpoint.
        EncoderError: the model cannot be loaded.
    """
    set_seed(settings.seed)
    args = _arguments(settings)
    tokens_per_forward = settings.tokens_per_forward or TOKENS_PER_FORWARD[args.device.type == "cuda"]
    data = _prepare(settings, args)
    model, window = load_for_training(settings)
    run = _plan_run(settings, data, model.tokenizer, window, args.world_size)
    for line in run.plan.report.lines():
        report(line)
    if run.skipped:
        report("left out: " + ", ".join(f"{count:,} {reason}" for reason, count in sorted(run.skipped.items())))
    fingerprint = run_fingerprint(settings, run.plan, data.info["digest"])
    checkpoint = newest_checkpoint(settings.output_dir, fingerprint) if settings.resume else None
    evaluator = None
    if len(run.evaluation):
        evaluator = TripletEvaluator(data, run.evaluation, run.collator, tokens_per_forward)
    trainer = PlannedTrainer(
        data=data,
        plan=run.plan,
        collator=run.collator,
        model=model,
        args=_with_steps(args, len(run.plan), evaluates=evaluator is not None),
        loss=make_loss(settings, model, tokens_per_forward),
        evaluator=evaluator,
        callbacks=[_Receipts(fingerprint), *callbacks],
    )
    before = evaluator(model)[ACCURACY] if evaluator else None
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    after = evaluator(model)[ACCURACY] if evaluator else None
    trained = Trained(
        settings.output_dir,
        list(trainer.state.log_history),
        None if before is None or after is None else (before, after),
        run.skipped,
        int(checkpoint.name.split("-")[1]) if checkpoint else 0,
    )
    if trainer.is_world_process_zero():
        _save(model, settings, data, run.plan, trained)
    return trained


class _Run(NamedTuple):
    """What is decided before the first step: batches of rows of the data, rows to evaluate on, rows left out."""

    plan: Plan
    evaluation: Ints
    collator: TripletCollator
    skipped: dict[str, int]


def _plan_run(settings: TrainSettings, data: TrainingData, tokenizer: Any, window: int, processes: int) -> _Run:
    rows, skipped = _usable_rows(data, tokenizer, window, settings.skip_bad_rows)
    training, evaluation = hold_out(take_keys(data.keys, rows), settings.eval_rows_per_task, settings.seed)
    keys = take_keys(data.keys, rows[training])
    batch_settings = settings.batches(processes)
    plan = plan_batches(keys, batch_settings)
    plan = Plan(rows[training][plan.rows], plan.offsets, plan.report)
    collator = TripletCollator(tokenizer, window, own_negative_tasks(keys, batch_settings))
    return _Run(plan, rows[evaluation], collator, skipped)


def load_for_training(settings: TrainSettings) -> tuple[Any, int]:
    """The encoder, ready for our collator, and its window in tokens."""
    files = find_model(settings.model_name_or_path, settings.model_revision)
    model = load_model(files)
    window = window_of(model, files.name, settings.max_source_length)
    model.max_seq_length = window
    if settings.pool_instruction:
        model.set_pooling_include_prompt(True)
    else:
        leave_instructions_out(model)
    if settings.lora_rank:
        from peft import LoraConfig, TaskType

        model.add_adapter(
            LoraConfig(task_type=TaskType.FEATURE_EXTRACTION, r=settings.lora_rank, lora_alpha=2 * settings.lora_rank)
        )
    return model, window


def make_loss(settings: TrainSettings, model: Any, tokens_per_forward: int) -> torch.nn.Module:
    """Our objective, or a loss of sentence-transformers with the same temperature and chunks."""
    if settings.loss == INSTRUCTOR:
        return InstructorLoss(model, settings.cl_temperature, tokens_per_forward, cached=settings.cached)
    options: dict[str, Any] = {} if settings.loss == "TripletLoss" else {"scale": 1.0 / settings.cl_temperature}
    if settings.loss.startswith("Cached"):
        options["mini_batch_num_tokens"] = tokens_per_forward
    loss: torch.nn.Module = getattr(st_losses, settings.loss)(model, **options)
    return loss


def _prepare(settings: TrainSettings, args: SentenceTransformerTrainingArguments) -> TrainingData:
    """Read the data in the first process; the others find it prepared."""
    with args.main_process_first(desc="reading the training data"):
        return prepare(settings.source, settings.output_dir / DATA_FOLDER, skip_bad_rows=settings.skip_bad_rows)


def _usable_rows(data: TrainingData, tokenizer: Any, window: int, skip: bool) -> tuple[Ints, dict[str, int]]:
    """The rows that can teach something, and how many were left out for what.

    A row whose negative is its positive asks for the impossible and is always left out.
    """
    skipped = dict(data.info["skipped"])
    full = instructions_that_fill(data, tokenizer, window)
    bad = data.rows_with_instructions(full)
    if len(bad) and not skip:
        row = int(bad[0])
        instruction = next(text for texts in data.rows([row]).instructions.values() for text in texts if text in full)
        raise TrainError(
            f"{data.info['source']}, record {row} counted over all its files: the instruction takes "
            f"{full[instruction]} tokens and leaves no room for text in a window of {window} ({len(bad)} such rows): "
            f"{instruction[:80]!r}; raise max_source_length, or skip such rows with --skip-bad-rows"
        )
    same = np.setdiff1d(np.flatnonzero(data.keys.neg == data.keys.pos), bad)
    counts = {"instruction_fills_window": len(bad), "negative_is_positive": len(same)}
    skipped |= {reason: count for reason, count in counts.items() if count}
    return np.setdiff1d(np.arange(len(data)), [*bad, *same]), skipped


def _arguments(settings: TrainSettings) -> SentenceTransformerTrainingArguments:
    given: Mapping[str, Any] = settings.extra
    defaults: dict[str, Any] = {
        "report_to": "none",
        "use_cpu": not torch.accelerator.is_available(),  # else bf16 on a machine without a GPU is refused
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "save_total_limit": 2,
        "logging_nan_inf_filter": False,
        "bf16": settings.precision == "bfloat16",
        "fp16": settings.precision == "float16",
    }
    ours: dict[str, Any] = {
        "output_dir": str(settings.output_dir),
        "gradient_accumulation_steps": settings.gradient_accumulation_steps,
        "learning_rate": settings.learning_rate,
        "warmup_steps": settings.warmup_ratio,
        "weight_decay": settings.weight_decay,
        "seed": settings.seed,
        "logging_steps": settings.logging_steps,
        "save_strategy": "steps",
        "save_steps": settings.eval_steps,
        "eval_steps": settings.eval_steps,
    }
    if clash := sorted(set(ours) & set(given)):
        raise TrainError(f"extra arguments {', '.join(clash)} are set by medi itself; use the fields of TrainSettings")
    args = SentenceTransformerTrainingArguments(**{**defaults, **given, **ours})
    if args.n_gpu > 1:
        raise TrainError(
            f"one process sees {args.n_gpu} GPUs; start one process for each (`torchrun --nproc-per-node {args.n_gpu}"
            " -m medi_build train ...`), or show it one with CUDA_VISIBLE_DEVICES=0"
        )
    return args


def _with_steps(
    args: SentenceTransformerTrainingArguments, batches: int, *, evaluates: bool
) -> SentenceTransformerTrainingArguments:
    """The plan is the whole run: one pass over it, evaluated on the way, the best checkpoint kept."""
    args.max_steps = -(-batches // args.gradient_accumulation_steps)
    if evaluates:
        args.eval_strategy = "steps"
        args.load_best_model_at_end = True
        args.metric_for_best_model = f"eval_{ACCURACY}"
        args.greater_is_better = True
    return args


def _save(model: Any, settings: TrainSettings, data: TrainingData, plan: Plan, trained: Trained) -> None:
    if settings.lora_rank:
        merge_adapters(model)
    save_model(model, settings.output_dir)
    if settings.export == "instructor":
        save_model(model, settings.output_dir / "instructor", form="instructor")
    write_plot(trained.history, settings.output_dir / "training.svg")
    write_card(settings, data, plan, trained)
