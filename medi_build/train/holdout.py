"""Triplets held out of training, and their accuracy by task: is the positive nearer to the query than the negative?"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sentence_transformers.base.evaluation import BaseEvaluator
from torch.nn import functional

from medi_build.arrays import Ints
from medi_build.train.collate import TripletCollator, columns_of
from medi_build.train.data import TrainingData
from medi_build.train.keys import RowKeys
from medi_build.train.objective import embed_columns

ACCURACY = "triplet_accuracy"
_ROWS_PER_STEP = 128


class TripletEvaluator(BaseEvaluator):  # type: ignore[misc]
    """Accuracy of every task over its held-out rows, and their mean over the tasks (so that none outweighs)."""

    def __init__(
        self,
        data: TrainingData,
        rows: Ints,
        collator: TripletCollator,
        tokens_per_forward: int,
        precision: torch.dtype = torch.float32,
    ) -> None:
        """Set up; ``precision`` is that of the training's forward passes, which all evaluations are made in."""
        super().__init__()
        self.data, self.rows, self.collator = data, rows, collator
        self.tokens_per_forward, self.precision = tokens_per_forward, precision
        self.primary_metric = ACCURACY
        self.tasks = data.keys.task[rows]

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: float = -1, steps: int = -1
    ) -> dict[str, float]:
        """Evaluate; ``{"triplet_accuracy": mean, "triplet_accuracy_task_7": ...}``. A tie counts as wrong."""
        narrow = self.precision != torch.float32
        with torch.autocast(model.device.type, self.precision, enabled=narrow):
            margins = triplet_margins(model, self.data, self.rows, self.collator, self.tokens_per_forward)
        accuracy = {int(task): float((margins[self.tasks == task] > 0).mean()) for task in np.unique(self.tasks)}
        by_task = {f"{ACCURACY}_task_{task}": value for task, value in accuracy.items()}
        return {ACCURACY: float(np.mean(list(accuracy.values()))), **by_task}


def triplet_margins(
    model: Any,
    data: TrainingData,
    rows: Ints,
    collator: Callable[[Any], dict[str, torch.Tensor]],
    tokens_per_forward: int,
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """cos(query, positive) - cos(query, negative) of each row, float32 [n]; of vectors as the model gives them out."""
    margins = np.empty(len(rows), np.float32)
    training = model.training
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(rows), _ROWS_PER_STEP):
            batch = collator(data.__getitems__(rows[start : start + _ROWS_PER_STEP].tolist()))
            columns = [{name: value.to(model.device) for name, value in c.items()} for c in columns_of(batch)]
            vectors = embed_columns(model, columns, tokens_per_forward)[..., : model.truncate_dim]
            query, pos, neg = functional.normalize(vectors.float(), dim=-1)
            margins[start : start + _ROWS_PER_STEP] = (query * (pos - neg)).sum(dim=-1).cpu().numpy()
    model.train(training)
    return margins


def hold_out(keys: RowKeys, rows_per_task: int, seed: int) -> tuple[Ints, Ints]:
    """Split the rows into those to train on and those to evaluate on.

    From every task about ``rows_per_task`` rows, and at most a tenth of it, chosen by a seeded hash of the query, so
    that all rows of one query are on one side.

    Returns:
        int64 training rows and int64 evaluation rows, both ascending.
    """
    order = np.argsort(keys.task, kind="stable")
    starts = np.flatnonzero(np.diff(keys.task[order], prepend=np.iinfo(np.int64).min))
    held: list[Ints] = []
    for rows in np.split(order, starts[1:]):
        queries, inverse, counts = np.unique(keys.query[rows], return_inverse=True, return_counts=True)
        ranked = np.argsort(queries * np.uint64(2 * seed + 1), kind="stable")
        fits = np.cumsum(counts[ranked]) <= min(rows_per_task, len(rows) // 10)
        chosen = np.zeros(len(queries), bool)
        chosen[ranked[fits]] = True
        held.append(rows[chosen[inverse]])
    evaluation = np.sort(np.concatenate(held))
    training = np.setdiff1d(np.arange(len(keys.task)), evaluation, assume_unique=True)
    return training, evaluation
