"""Triplet accuracy on held-out rows, by task: is the positive nearer to the query than the negative?"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sentence_transformers.base.evaluation import BaseEvaluator
from torch.nn import functional

from medi_build.train.batches import Ints
from medi_build.train.collate import TripletCollator, columns_of
from medi_build.train.data import TrainingData
from medi_build.train.objective import embed_columns

ACCURACY = "triplet_accuracy"
_ROWS_PER_STEP = 128


class TripletEvaluator(BaseEvaluator):  # type: ignore[misc]
    """Accuracy of every task over its held-out rows, and their mean over the tasks (so that none outweighs)."""

    def __init__(self, data: TrainingData, rows: Ints, collator: TripletCollator, tokens_per_forward: int) -> None:
        super().__init__()
        self.data, self.rows, self.collator = data, rows, collator
        self.tokens_per_forward = tokens_per_forward
        self.primary_metric = ACCURACY
        self.tasks = data.keys.task[rows]

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: float = -1, steps: int = -1
    ) -> dict[str, float]:
        """Evaluate; ``{"triplet_accuracy": mean, "triplet_accuracy_task_7": ...}``. A tie counts as wrong."""
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
    """cos(query, positive) - cos(query, negative) of each row, float32 [n]."""
    margins = np.empty(len(rows), np.float32)
    training = model.training
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(rows), _ROWS_PER_STEP):
            batch = collator(data.__getitems__(rows[start : start + _ROWS_PER_STEP].tolist()))
            columns = [{name: value.to(model.device) for name, value in c.items()} for c in columns_of(batch)]
            query, pos, neg = functional.normalize(embed_columns(model, columns, tokens_per_forward).float(), dim=-1)
            margins[start : start + _ROWS_PER_STEP] = (query * (pos - neg)).sum(dim=-1).cpu().numpy()
    model.train(training)
    return margins
