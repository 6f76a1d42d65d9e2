"""Training: from settings to a saved model, with exact resume."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sentence_transformers.sentence_transformer.losses as st_losses
import torch
from sentence_transformers import SentenceTransformerTrainingArguments
from transformers import TrainerCallback, set_seed

from medi_build.devices import processes
from medi_build.encode.adapter import merge_adapters
from medi_build.encode.load import load_model, not_finite, quiet
from medi_build.encode.model_files import ModelFiles, transformer_in
from medi_build.encode.window import window_of
from medi_build.errors import TrainError
from medi_build.evaluate.local_data import LocalSet
from medi_build.files import remove_left_behind
from medi_build.ingest.mined_forms import Instructions
from medi_build.ingest.triplets import Source, open_source
from medi_build.train import checks
from medi_build.train.arguments import make_arguments, optimiser_faults, with_steps
from medi_build.train.checkpoints import newest_checkpoint, run_fingerprint
from medi_build.train.collate import CUT, TripletCollator, leave_instructions_out
from medi_build.train.data import TrainingData, prepare
from medi_build.train.evaluation import Evaluator, metric_of, read_sets
from medi_build.train.export import save_model
from medi_build.train.facts import data_facts
from medi_build.train.hardware import DTYPES, in_one_order, out_of_memory_told, settled
from medi_build.train.holdout import ACCURACY, TripletEvaluator
from medi_build.train.lora import add_lora, lora_layers
from medi_build.train.model_card import Trained, write_card, write_plot
from medi_build.train.objective import InstructorLoss
from medi_build.train.plan import TrainingPlan, plan_training
from medi_build.train.planned_trainer import Lines, PlannedTrainer, Receipts, writing
from medi_build.train.settings import CUSTOM, INSTRUCTOR, TRIPLET, TrainSettings

TOKENS_PER_FORWARD = {True: 16_384, False: 512}
"""On a GPU, and on the CPU."""
MERGED_BASE = "merged-base"
"""Folder of the output for what LoRA trains on, where that is an adapter itself and lies nowhere as a whole."""

Report = Callable[[str], None]


def train(
    settings: TrainSettings,
    *,
    loss: Callable[[Any], torch.nn.Module] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    report: Report = print,
) -> Trained:
    """Train an encoder and save it with its card and the plot of loss and accuracy.

    What can be known before the first step is checked before it, and all that is wrong with settings and model is
    told in one error; the output folder is then as it was.

    Args:
        settings: what to train on what, and how.
        loss: for ``settings.loss`` "custom", makes the loss for a SentenceTransformer; it gets the columns query,
            pos, neg and further negatives, all with a text in every row, and labels that mean nothing to it.
        callbacks: further callbacks of the Hugging Face trainer.
        report: takes the lines that tell what happens, in the first process.

    Raises:
        DatasetError: the source is a folder that is no whole build; told before the model is loaded.
        TrainError: bad data (names the row), settings or a model that training makes no sense with, a NaN loss, a
            corrupted checkpoint, a full disk.
        EncoderError: the model cannot be loaded.
        OptionError: a launcher's environment variables make no sense.
    """
    if (loss is not None) != (settings.loss == CUSTOM):
        raise TrainError(f"loss is {settings.loss!r} and a loss of one's own is {loss}; 'custom' goes with one")
    processes()  # tells of variables that are no numbers before a library below trips over them
    settings, lines = settled(settings)
    with in_one_order(settings.full_determinism):
        set_seed(settings.seed)
        start = _check(settings)
        first = start.args.process_index == 0
        tell = report if first else _say_nothing
        for line in lines:
            tell(line)
        with checks.nothing_left(settings.output_dir) if first else nullcontext():
            run = _set_up(settings, start, loss, callbacks, tell)
        with out_of_memory_told(settings, _tokens_per_forward(settings, start.args)):
            return _run(settings, start, run, tell)


class _Start(NamedTuple):
    """What is there once settings and model are found good."""

    args: SentenceTransformerTrainingArguments
    source: Source
    files: ModelFiles
    model: Any
    window: int
    sets: tuple[LocalSet, ...]


class _Run(NamedTuple):
    """A run that is ready for its first step."""

    trainer: PlannedTrainer
    data: TrainingData
    planned: TrainingPlan
    evaluator: Evaluator | None
    checkpoint: Path | None


def _check(settings: TrainSettings) -> _Start:
    """Whether settings and model are good; nothing is written."""
    faults = checks.Faults()
    faults.add(checks.settings_faults(settings))
    args = faults.of(make_arguments, settings)
    if args is not None:
        faults.add(optimiser_faults(args))
    source = faults.of(open_source, settings.source, settings.warehouse)
    sets = faults.of(read_sets, settings.eval_sets)
    if faults.found and not checks.is_local(settings.model_name_or_path):
        faults.raise_them()  # nothing is fetched for a run that cannot be
    loaded = _load(settings, args, faults)
    faults.raise_them()
    assert args is not None and source is not None and loaded is not None and sets is not None
    return _Start(args, source, *loaded, sets)


def _load(settings: TrainSettings, args: Any, faults: checks.Faults) -> tuple[ModelFiles, Any, int] | None:
    """The model, ready for our collator, and its window in tokens; what is wrong with it goes to ``faults``."""
    files = faults.of(checks.trainable_files, settings)
    trust = settings.trust_remote_code
    model = None if files is None else faults.of(partial(load_model, trust_remote_code=trust), files)
    if files is None or model is None:
        return None
    before = len(faults.found)
    faults.add(checks.model_faults(settings, model, args))
    if len(faults.found) > before:
        return None
    window = window_of(model, files.name, settings.max_source_length)
    model.max_seq_length = window
    if settings.pool_instruction:
        model.set_pooling_include_prompt(True)
    else:
        leave_instructions_out(model)
    return files, model, window


def load_for_training(settings: TrainSettings) -> tuple[Any, int]:
    """The encoder, ready for our collator, and its window in tokens; LoRA is put on later.

    Raises:
        EncoderError: it cannot be loaded.
        TrainError: it cannot be trained so.
    """
    faults = checks.Faults()
    loaded = _load(settings, None, faults)
    faults.raise_them()
    assert loaded is not None
    return loaded[1:]


def _set_up(
    settings: TrainSettings,
    start: _Start,
    loss: Callable[[Any], torch.nn.Module] | None,
    callbacks: Sequence[TrainerCallback],
    tell: Report,
) -> _Run:
    """Read the data, plan the batches, make the trainer."""
    args, model, window = start.args, start.model, start.window
    tokens_per_forward = _tokens_per_forward(settings, args)
    data = _prepare(settings, args, start.source.files)
    planned = plan_training(settings, data, model.tokenizer, window, args.world_size)
    for line in [*_told_of_model(settings, start), *planned.lines(settings)]:
        tell(line)
    fingerprint = run_fingerprint(settings, planned.plan, data.info["digest"], start.files.digest)
    faults = checks.Faults()
    checkpoint = faults.of(newest_checkpoint, settings.output_dir, fingerprint) if settings.resume else None
    if settings.lora_rank:
        tell(_add_lora(settings, start))
    held_out = None
    if len(planned.evaluation):
        triplets = TripletCollator(
            model.tokenizer, window, np.empty(0, np.int64), skip_instruction=not settings.pool_instruction
        )
        precision = DTYPES[settings.precision]
        held_out = TripletEvaluator(data, planned.evaluation, triplets, tokens_per_forward, precision)
    evaluator = Evaluator(held_out, start.sets) if held_out or start.sets else None
    args = with_steps(args, len(planned.plan), evaluates=evaluator is not None, holds_out=held_out is not None)
    faults.add(checks.room_faults(settings, model, args.max_steps, args.save_total_limit))
    faults.raise_them()
    receipts = Receipts(fingerprint, args.save_total_limit)
    args.save_total_limit = None
    try:
        trainer = PlannedTrainer(
            data=data,
            plan=planned.plan,
            collator=planned.collator,
            model=model,
            args=args,
            loss=loss(model) if loss else make_loss(settings, model, tokens_per_forward, planned.collator.negatives),
            evaluator=evaluator,
            callbacks=[receipts, Lines(tell, [metric_of(data) for data in start.sets]), *callbacks],
        )
    except (ImportError, OSError, RuntimeError, ValueError) as error:  # such as no package for report_to
        raise TrainError(f"the trainer cannot be set up: {error}") from error
    return _Run(trainer, data, planned, evaluator, checkpoint)


def _run(settings: TrainSettings, start: _Start, run: _Run, tell: Report) -> Trained:
    """Train, and save in the first process."""
    trainer, evaluator, checkpoint = run.trainer, run.evaluator, run.checkpoint
    before = evaluator(start.model) if evaluator else {}
    with quiet():
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    after = evaluator(start.model) if evaluator else {}
    plan, by_task = run.planned.plan, map(_by_task, (before, after))
    trained = Trained(
        settings.output_dir,
        list(trainer.state.log_history),
        (before[ACCURACY], after[ACCURACY]) if ACCURACY in before else None,
        data_facts(settings, run.data, start.source, plan, *by_task),
        {metric_of(data): (before[metric_of(data)], after[metric_of(data)]) for data in start.sets},
        (2 + run.planned.collator.negatives) * len(plan.rows),
        sum(point.get(CUT, 0) for point in trainer.state.log_history),
        run.planned.skipped,
        int(checkpoint.name.split("-")[1]) if checkpoint else 0,
    )
    if trained.texts_cut:
        tell(f"{trained.texts_cut:,} texts were cut to the window of {start.window} tokens")
    if trainer.is_world_process_zero():
        _save(start.model, settings, start.source, trained)
    return trained


def _by_task(found: Mapping[str, float]) -> dict[int, float]:
    """Held-out accuracies by task id."""
    name = f"{ACCURACY}_task_"
    return {int(key.removeprefix(name)): value for key, value in found.items() if key.startswith(name)}


def _tokens_per_forward(settings: TrainSettings, args: Any) -> int:
    return settings.tokens_per_forward or TOKENS_PER_FORWARD[args.device.type == "cuda"]


def _say_nothing(_: str) -> None:
    """What the other processes tell."""


def _told_of_model(settings: TrainSettings, start: _Start) -> list[str]:
    lines = []
    if start.files.base is not None:
        lines.append(
            f"{settings.model_name_or_path}: the adapter is merged into the weights of {start.files.base.folder}, "
            "and training goes on from there"
        )
    if (numbers := start.model.truncate_dim) is not None:
        lines.append(f"vectors are trained in full length; where the model encodes, they are cut to {numbers}")
    return lines


def _add_lora(settings: TrainSettings, start: _Start) -> str:
    """Put LoRA on the model. Its checkpoints name a base, so one that lies nowhere as a whole is saved."""
    network = start.model[0].auto_model
    layers = lora_layers(network, settings.lora_targets)
    base = start.files.folder / transformer_in(start.files.folder)
    if start.files.base is not None:
        base = settings.output_dir / MERGED_BASE
        with start.args.main_process_first(desc="saving the merged base"), writing(settings.output_dir), quiet():
            if start.args.process_index == 0:
                network.save_pretrained(str(base))
    return add_lora(start.model, base, settings.lora_rank, layers)


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
        return prepare(
            settings.source,
            files,
            settings.output_dir / checks.DATA_FOLDER,
            skip_bad_rows=settings.skip_bad_rows,
            instructions=Instructions(settings.query_instruction, settings.document_instruction),
        )


def _save(model: Any, settings: TrainSettings, source: Source, trained: Trained) -> None:
    if settings.lora_rank:
        merge_adapters(model)
    if broken := not_finite(model):
        raise TrainError(
            f"{len(broken)} weights of the trained model are not finite ({broken[0]} and others), so it is not saved; "
            f"lower learning_rate ({settings.learning_rate}), or train in float32 or bfloat16"
        )
    with writing(settings.output_dir), quiet():
        remove_left_behind(settings.output_dir)
        save_model(model, settings.output_dir)
        if settings.export == "instructor":
            save_model(model, settings.output_dir / "instructor", form="instructor")
        write_plot(trained, settings.output_dir / "training.svg")
        write_card(settings, source, trained)
