"""What is decided before the first step: which rows are used, held out, and meet in which batch."""

from typing import Any, NamedTuple

import numpy as np

from medi_build.arrays import Ints
from medi_build.errors import TrainError
from medi_build.train.batches import BatchPlan, own_negative_tasks, plan_batches
from medi_build.train.collate import TripletCollator, instructions_that_fill
from medi_build.train.data import TrainingData
from medi_build.train.holdout import hold_out
from medi_build.train.keys import first_hard_negatives, take_keys
from medi_build.train.settings import INSTRUCTOR, TRIPLET, TrainSettings


class TrainingPlan(NamedTuple):
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


def plan_training(
    settings: TrainSettings, data: TrainingData, tokenizer: Any, window: int, processes: int
) -> TrainingPlan:
    """Plan a run over the usable rows.

    Raises:
        TrainError: an instruction leaves no room for text, or there is nothing to train on.
    """
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
    skip = not settings.pool_instruction
    collator = TripletCollator(
        tokenizer, window, own_negatives, negatives=negatives, level=level, skip_instruction=skip
    )
    return TrainingPlan(plan, rows[evaluation], collator, skipped)


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
