"""Training: sentence-transformers' trainer over planned batches, with exact resume."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sentence_transformers.sentence_transformer.losses as st_losses
import torch
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from torch.utils.data import DataLoader
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, set_seed

from medi_build.arrays import Ints
from medi_build.dataset.reader import Manifest
from medi_build.devices import processes
from medi_build.encode.load import find_model, load_model, not_finite, quiet, window_of
from medi_build.errors import TrainError
from medi_build.train.batches import BatchPlan, PlannedSampler, own_negative_tasks, plan_batches
from medi_build.train.checkpoints import drop_older_checkpoints, newest_checkpoint, run_fingerprint, write_receipt
from medi_build.train.collate import CUT, ROWS, TripletCollator, instructions_that_fill, leave_instructions_out
from medi_build.train.data import TrainingData, prepare
from medi_build.train.export import merge_adapters, save_model
from medi_build.train.holdout import ACCURACY, TripletEvaluator, hold_out
from medi_build.train.keys import first_hard_negatives, take_keys
from medi_build.train.model_card import Trained, write_card, write_plot
from medi_build.train.objective import InstructorLoss
from medi_build.train.settings import CUSTOM, INSTRUCTOR, REPLACED, TRIPLET, TrainSettings
from medi_build.train.triplets import open_source

DATA_FOLDER = "training-data"
TOKENS_PER_FORWARD = {True: 16_384, False: 512}
"""On a GPU, and on the CPU."""


class PlannedTrainer(SentenceTransformerTrainer):  # type: ignore[misc]
    """The trainer with our batches: each process reads its own slices, nothing is shuffled or dropped after that."""

    def __init__(self, *, data: TrainingData, plan: BatchPlan, collator: TripletCollator, **kwargs: Any) -> None:
        super().__init__(data_collator=collator, **kwargs)
        self.data, self.plan = data, plan
        self.cut = torch.zeros((), dtype=torch.long, device=self.args.device)
        for printer in (PrinterCallback, ProgressCallback):  # one line for each of 330 tasks is no way to tell
            self.remove_callback(printer)
        alone = self.args.world_size == 1 and self.args.device.type == "cpu"
        self.lookups = _sparse_lookups(self.model) if alone else []

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

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """One batch's gradients, dense when all its chunks are through."""
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        for lookup in self.lookups:
            if lookup.weight.grad is not None and lookup.weight.grad.is_sparse:
                lookup.weight.grad = lookup.weight.grad.to_dense()
        return loss

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The loss, which has to be a number."""
        rows = inputs.pop(ROWS)
        self.cut += inputs.pop(CUT)
        result = super().compute_loss(model, inputs, *args, **kwargs)
        loss = result[0] if isinstance(result, tuple) else result
        if not torch.isfinite(loss):
            task, numbers = int(self.data.keys.task[int(rows[0])]), rows.tolist()
            raise TrainError(
                f"the loss is {loss.item()} at step {self.state.global_step + 1}, task {task}, records {numbers} of "
                f"{self.data.info['source']}; lower learning_rate ({self.args.learning_rate}), raise cl_temperature, "
                "or train in float32 or bfloat16"
            )
        return result

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate without a draw from the random numbers that dropout goes on with."""
        with torch.random.fork_rng(devices=[]):
            metrics: dict[str, float] = super().evaluate(*args, **kwargs)
        return metrics

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        with _writing(Path(self.args.output_dir)):
            super()._save_checkpoint(*args, **kwargs)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log, with the number of texts that were cut to the window since the last time, over all processes."""
        cut = int(self.accelerator.reduce(self.cut.clone()))
        self.cut.zero_()
        super().log({**logs, CUT: cut}, *args, **kwargs)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Say what to do where the libraries cannot write: torch tells of a full disk by a RuntimeError."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        raise TrainError(
            f"{folder}: cannot be written ({error}); make room and run the same command again, it goes on from the "
            "newest whole checkpoint"
        ) from error


def _sparse_lookups(model: torch.nn.Module) -> list[torch.nn.Embedding]:
    """Have embedding tables give sparse gradients; returns those tables.

    A dense gradient is as large as the whole table, and would be filled with zeros and added up for every chunk of a
    batch: a tenth of a step on the CPU. (On a GPU it is nothing, and the sparse sum would not be deterministic.)
    """
    lookups = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    for lookup in lookups:
        lookup.sparse = True
    return lookups


class _Receipts(TrainerCallback):  # type: ignore[misc]
    """Marks each checkpoint as whole once everything of it is written, and only then removes older ones."""

    def __init__(self, fingerprint: dict[str, str], most: int | None) -> None:
        self.fingerprint, self.most = fingerprint, most

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir)
        if state.is_world_process_zero:
            write_receipt(folder / f"checkpoint-{state.global_step}", self.fingerprint)
            if self.most:
                best = state.best_model_checkpoint
                drop_older_checkpoints(folder, self.most, Path(best) if best else None)


class _Lines(TrainerCallback):  # type: ignore[misc]
    """Tells the loss and the held-out accuracy, a line each time, and has the last step logged and evaluated."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self.report = report

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == state.max_steps:
            control.should_log = True
            control.should_evaluate = args.eval_strategy != "no"

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
        at = f"step {state.global_step:,} of {state.max_steps:,}:"
        if "loss" in logs:
            self.report(f"{at} loss {logs['loss']:.4f}, learning rate {logs['learning_rate']:.2e}")
        if (accuracy := logs.get(f"eval_{ACCURACY}")) is not None:
            self.report(f"{at} held-out triplet accuracy {accuracy:.4f}")


def train(
    settings: TrainSettings,
    *,
    loss: Callable[[Any], torch.nn.Module] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    report: Callable[[str], None] = print,
) -> Trained:
    """Train an encoder and save it with its card and the plot of loss and accuracy.

    Args:
        settings: what to train on what, and how.
        loss: for ``settings.loss`` "custom", makes the loss for a SentenceTransformer; it gets the columns query,
            pos, neg and further negatives, all with a text in every row, and labels that mean nothing to it.
        callbacks: further callbacks of the Hugging Face trainer.
        report: takes the lines that tell what happens, in the first process.

    Raises:
        DatasetError: the source is a folder that is no whole build; told before the model is loaded.
        TrainError: bad data (names the row), settings that make no sense, a model with NaN in its weights, a NaN
            loss, a corrupted checkpoint.
        EncoderError: the model cannot be loaded.
    """
    if (loss is not None) != (settings.loss == CUSTOM):
        raise TrainError(f"loss is {settings.loss!r} and a loss of one's own is {loss}; 'custom' goes with one")
    set_seed(settings.seed)
    args = _arguments(settings)
    tell = report if args.process_index == 0 else _say_nothing
    tokens_per_forward = settings.tokens_per_forward or TOKENS_PER_FORWARD[args.device.type == "cuda"]
    source = open_source(settings.source)
    data = _prepare(settings, args, source.files)
    model, window = load_for_training(settings)
    planned = _plan_training(settings, data, model.tokenizer, window, args.world_size)
    for line in planned.lines(settings):
        tell(line)
    if model.truncate_dim is not None:
        tell(f"vectors are trained in full length; where the model encodes, they are cut to {model.truncate_dim}")
    fingerprint = run_fingerprint(settings, planned.plan, data.info["digest"])
    checkpoint = newest_checkpoint(settings.output_dir, fingerprint) if settings.resume else None
    evaluator = None
    if len(planned.evaluation):
        triplets = TripletCollator(model.tokenizer, window, np.empty(0, np.int64))
        evaluator = TripletEvaluator(data, planned.evaluation, triplets, tokens_per_forward)
    receipts = _Receipts(fingerprint, args.save_total_limit)
    args.save_total_limit = None
    try:
        trainer = PlannedTrainer(
            data=data,
            plan=planned.plan,
            collator=planned.collator,
            model=model,
            args=_with_steps(args, len(planned.plan), evaluates=evaluator is not None),
            loss=loss(model) if loss else make_loss(settings, model, tokens_per_forward, planned.collator.negatives),
            evaluator=evaluator,
            callbacks=[receipts, _Lines(tell), *callbacks],
        )
    except (ImportError, RuntimeError, ValueError) as error:  # such as no package for report_to
        raise TrainError(f"the trainer cannot be set up: {error}") from error
    before = evaluator(model) if evaluator else {}
    with quiet():
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    after = evaluator(model) if evaluator else {}
    trained = Trained(
        settings.output_dir,
        list(trainer.state.log_history),
        (before[ACCURACY], after[ACCURACY]) if evaluator else None,
        {int(name.rsplit("_", 1)[1]): value for name, value in after.items() if name != ACCURACY},
        sum(point.get(CUT, 0) for point in trainer.state.log_history),
        planned.skipped,
        int(checkpoint.name.split("-")[1]) if checkpoint else 0,
    )
    if trained.texts_cut:
        tell(f"{trained.texts_cut:,} texts were cut to the window of {window} tokens")
    if trainer.is_world_process_zero():
        _save(model, settings, data, source.manifest, planned.plan, trained)
    return trained


def _say_nothing(_: str) -> None:
    """What the other processes tell."""


class _TrainingPlan(NamedTuple):
    """What is decided before the first step: batches of rows of the data, rows to evaluate on, rows left out."""

    plan: BatchPlan
    evaluation: Ints
    collator: TripletCollator
    skipped: dict[str, int]

    def lines(self, settings: TrainSettings) -> list[str]:
        """What there is to train on, as text."""
        lines = self.plan.report.lines()
        most = self.collator.negatives
        if most > 1:
            texts = (2 + most) * settings.train_batch_size
            lines.append(f"a row has up to {most} hard negatives, a batch up to {texts:,} texts")
        lines.append(f"{len(self.evaluation):,} rows held out")
        if self.skipped:
            lines.append("left out: " + ", ".join(f"{count:,} {reason}" for reason, count in self.skipped.items()))
        return lines


def _plan_training(
    settings: TrainSettings, data: TrainingData, tokenizer: Any, window: int, processes: int
) -> _TrainingPlan:
    rows, skipped = _usable_rows(data, tokenizer, window, settings.skip_bad_rows)
    training, evaluation = hold_out(take_keys(data.keys, rows), settings.eval_rows_per_task, settings.seed)
    keys = take_keys(data.keys, rows[training])
    negatives = 1 + int(np.diff(keys.hard_negatives.offsets).max(initial=0))
    if settings.loss == TRIPLET:
        negatives = 1
    elif settings.hard_negatives is not None:
        negatives = min(negatives, settings.hard_negatives)
    batch_settings = settings.batches(processes)
    plan = plan_batches(first_hard_negatives(keys, negatives - 1), batch_settings)
    plan = BatchPlan(rows[training][plan.rows], plan.offsets, plan.report)
    own_negatives = own_negative_tasks(keys, batch_settings)
    level = settings.loss != INSTRUCTOR
    collator = TripletCollator(tokenizer, window, own_negatives, negatives=negatives, level=level)
    return _TrainingPlan(plan, rows[evaluation], collator, skipped)


def load_for_training(settings: TrainSettings) -> tuple[Any, int]:
    """The encoder, ready for our collator, and its window in tokens.

    Raises:
        EncoderError: it cannot be loaded.
        TrainError: its weights are int8, or no numbers.
    """
    trust = settings.trust_remote_code
    files = find_model(settings.model_name_or_path, settings.model_revision, trust_remote_code=trust)
    if files.int8:
        raise TrainError(
            f"{settings.model_name_or_path}: is an int8 folder, whose weights cannot be trained; train the model that "
            "it was made from, and quantize the result"
        )
    model = load_model(files, trust_remote_code=trust)
    if settings.export == "instructor" and model.truncate_dim is not None:
        raise TrainError(
            f"{settings.model_name_or_path} cuts its vectors to truncate_dim {model.truncate_dim}, which "
            "InstructorEmbedding cannot; take truncate_dim out of its config_sentence_transformers.json, or leave out "
            "--export instructor"
        )
    if broken := not_finite(model):
        raise TrainError(
            f"{settings.model_name_or_path}: {len(broken)} weights are not finite ({broken[0]} and others); start from "
            "a model that is whole"
        )
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


def make_loss(settings: TrainSettings, model: Any, tokens_per_forward: int, negatives: int) -> torch.nn.Module:
    """Our objective, or a loss of sentence-transformers with the same temperature and chunks."""
    if settings.loss == INSTRUCTOR:
        return InstructorLoss(
            model, settings.cl_temperature, tokens_per_forward, cached=settings.cached, negatives=negatives
        )
    options: dict[str, Any] = {} if settings.loss == TRIPLET else {"scale": 1.0 / settings.cl_temperature}
    if settings.loss.startswith("Cached"):
        options["mini_batch_num_tokens"] = tokens_per_forward
    loss: torch.nn.Module = getattr(st_losses, settings.loss)(model, **options)
    return loss


def _prepare(
    settings: TrainSettings, args: SentenceTransformerTrainingArguments, files: Sequence[Path]
) -> TrainingData:
    """Read the data in the first process; the others find it prepared."""
    with args.main_process_first(desc="reading the training data"):
        return prepare(settings.source, files, settings.output_dir / DATA_FOLDER, skip_bad_rows=settings.skip_bad_rows)


def _usable_rows(data: TrainingData, tokenizer: Any, window: int, skip: bool) -> tuple[Ints, dict[str, int]]:
    """The rows that can teach something, and how many were left out for what.

    A row whose negative is its positive or its query asks for the impossible and is always left out.
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
    left_out = {"instruction_fills_window": bad}
    for side, texts in (("positive", data.keys.pos), ("query", data.keys.query)):
        left_out[f"negative_is_{side}"] = np.flatnonzero(data.keys.neg == texts)
    usable = np.arange(len(data))
    for reason, rows in left_out.items():
        remaining = np.setdiff1d(usable, rows)
        if gone := len(usable) - len(remaining):
            skipped[reason] = gone
        usable = remaining
    return usable, skipped


def _arguments(settings: TrainSettings) -> SentenceTransformerTrainingArguments:
    processes()  # tells of variables that are no numbers before a library below trips over them
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
    if clash := sorted({*ours, *REPLACED} & set(given)):
        raise TrainError(f"extra arguments {', '.join(clash)} are set by medi itself; use the fields of TrainSettings")
    try:
        args = SentenceTransformerTrainingArguments(**{**defaults, **given, **ours})
    except (TypeError, ValueError, ImportError) as error:
        raise TrainError(f"the trainer does not take these arguments: {error}") from error
    if args.fp16 and args.device.type == "cpu":
        raise TrainError("precision is float16, which the CPU does not train in; use float32 or bfloat16 there")
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


def _save(
    model: Any,
    settings: TrainSettings,
    data: TrainingData,
    manifest: Manifest | None,
    plan: BatchPlan,
    trained: Trained,
) -> None:
    if settings.lora_rank:
        merge_adapters(model)
    if broken := not_finite(model):
        raise TrainError(
            f"{len(broken)} weights of the trained model are not finite ({broken[0]} and others), so it is not saved; "
            f"lower learning_rate ({settings.learning_rate}), or train in float32 or bfloat16"
        )
    with _writing(settings.output_dir), quiet():
        save_model(model, settings.output_dir)
        if settings.export == "instructor":
            save_model(model, settings.output_dir / "instructor", form="instructor")
        write_plot(trained.history, trained.accuracy, settings.output_dir / "training.svg")
        write_card(settings, data, manifest, plan, trained)
