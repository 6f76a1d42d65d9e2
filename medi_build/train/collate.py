"""Batches of records to tensors: tokenised together with their instruction, padded to the batch and no further."""

from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medi_build.arrays import Ints
from medi_build.encode.pair_tokens import TRUNCATED, Tokens, tokenise
from medi_build.errors import TrainError
from medi_build.ingest.triplets import SIDES
from medi_build.train.data import Rows, TrainingData

INSTRUCTION_MASK = "special_tokens_mask"
"""1 on the tokens of the instruction. sentence-transformers keeps this name from the transformer, but merges, slices
and trims it with the other [b, t] features; its own ``prompt_length`` it takes for one length of the whole batch."""
CUT = "texts_cut"
"""Entry of a batch: how many of its texts did not fit the window, int64 scalar."""
ROWS = "row_numbers"
"""Entry of a batch: its rows' numbers in the data, int64 [b]."""
_IDS = "_input_ids"


class TripletCollator:
    """Turns the one item that `TrainingData` gives for a batch into columns of tensors.

    The columns are query, pos, neg, and hard_1, hard_2, ... for further negatives: ``hard_1`` has a text of each row
    that has one, in the order of the rows. Each is ``{column}_input_ids``, ``{column}_attention_mask`` and
    ``{column}_`` + `INSTRUCTION_MASK`, int64 [texts, t], as wide as its longest text. ``label`` is int64 [b, 2]:
    whether in-batch negatives count (0 where the batch's task leaves them out), and how many negatives the row has.
    The label has this meaning for `InstructorLoss` alone.
    """

    valid_label_columns = ("label",)

    def __init__(
        self,
        tokenizer: Any,
        window: int,
        own_negative_tasks: Ints,
        *,
        negatives: int = 1,
        level: bool = False,
        skip_instruction: bool = True,
    ) -> None:
        """Set up.

        Args:
            tokenizer: of the encoder.
            window: tokens of a text at most, instruction included.
            own_negative_tasks: tasks that leave out in-batch negatives.
            negatives: how many negatives of a row are used at most, ``neg`` first.
            level: give every row as many negatives as the row with most, by repeating its own: what
                sentence-transformers' losses need.
            skip_instruction: whether the pooling leaves the instruction out: texts are joined to it as `tokenise` says.
        """
        self.tokenizer, self.window = tokenizer, window
        self.own_negative_tasks = frozenset(own_negative_tasks.tolist())
        self.negatives, self.level, self.skip_instruction = negatives, level, skip_instruction

    def __call__(self, items: list[tuple[int, Rows]]) -> dict[str, Tensor]:
        """Collate the batch; ``items`` has one entry, the task and its rows."""
        ((task, rows),) = items
        counts, columns = self._columns(rows)
        texts = list(chain.from_iterable(texts for _, texts in columns.values()))
        instructions = list(chain.from_iterable(instructions for instructions, _ in columns.values()))
        tokens = tokenise(self.tokenizer, texts, instructions, self.window, skip_instruction=self.skip_instruction)
        batch: dict[str, Tensor] = {}
        start = 0
        for column, (_, of_column) in columns.items():
            padded = _pad(tokens, start, start + len(of_column), self.tokenizer.pad_token_id)
            batch |= {f"{column}_{name}": value for name, value in padded.items()}
            start += len(of_column)
        in_batch = torch.full_like(counts, int(task not in self.own_negative_tasks))
        cut = torch.tensor(int(np.count_nonzero(tokens.flags & TRUNCATED)))
        numbers = torch.tensor(rows.numbers)
        return {**batch, "label": torch.stack([in_batch, counts], dim=1), CUT: cut, ROWS: numbers}

    def _columns(self, rows: Rows) -> tuple[Tensor, dict[str, tuple[list[str], list[str]]]]:
        """How many negatives each row has, int64 [b], and each column's instructions and texts."""
        columns = {side: (rows.instructions[side], rows.texts[side]) for side in SIDES}
        prompts, first = columns["neg"]
        negatives = [[text, *more][: self.negatives] for text, more in zip(first, rows.hard_negatives, strict=True)]
        most = max(map(len, negatives))
        if self.level:
            negatives = [[texts[i % len(texts)] for i in range(most)] for texts in negatives]
        for number in range(1, most):
            has = [row for row, texts in enumerate(negatives) if len(texts) > number]
            columns[f"hard_{number}"] = [prompts[row] for row in has], [negatives[row][number] for row in has]
        return torch.tensor([len(texts) for texts in negatives]), columns


def columns_of(batch: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """The batch's columns in their order, each with the names a model wants."""
    columns = [name.removesuffix(_IDS) for name in batch if name.endswith(_IDS)]
    return [
        {name.removeprefix(f"{column}_"): value for name, value in batch.items() if name.startswith(f"{column}_")}
        for column in columns
    ]


def _pad(tokens: Tokens, start: int, end: int, filler: int) -> dict[str, Tensor]:
    """The texts from ``start`` to ``end`` as a rectangle."""
    lengths = tokens.lengths[start:end]
    places = np.arange(lengths.max())
    inside = places < lengths[:, None]
    ids = np.full(inside.shape, filler, np.int64)
    ids[inside] = tokens.ids[tokens.offsets[start] : tokens.offsets[end]]
    return {
        "input_ids": torch.from_numpy(ids),
        "attention_mask": torch.from_numpy(inside.astype(np.int64)),
        INSTRUCTION_MASK: torch.from_numpy((places < tokens.skip[start:end, None]).astype(np.int64)),
    }


def leave_instructions_out(model: Any) -> None:
    """Make a model's pooling leave out each row's own instruction, also where a batch mixes instructions.

    sentence-transformers' pooling knows one prompt length for all rows. A hook in front of it masks row by row instead;
    hooks are not saved, so the saved model has the plain module with ``include_prompt`` off.

    Raises:
        TrainError: the model is not a transformer followed by one pooling.
    """
    from sentence_transformers.sentence_transformer.modules import Pooling

    poolings = [module for module in model if isinstance(module, Pooling)]
    if len(poolings) != 1:
        kinds = ", ".join(type(module).__name__ for module in model)
        raise TrainError(f"the model is made of {kinds}; medi trains a transformer followed by one pooling")
    poolings[0].include_prompt = False
    poolings[0].register_forward_pre_hook(_mask_instructions)


def _mask_instructions(_: nn.Module, inputs: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    features, *others = inputs
    instruction = features.get(INSTRUCTION_MASK)
    if instruction is None:
        return inputs
    return ({**features, "attention_mask": features["attention_mask"] * (1 - instruction)}, *others)


def instructions_that_fill(data: TrainingData, tokenizer: Any, window: int) -> dict[str, int]:
    """Instructions that leave no room for text in the window, with their token counts."""
    known = data.info["instructions"]
    tokens = tokenise(tokenizer, [""] * len(known), known, window, skip_instruction=True)
    full = np.flatnonzero(tokens.lengths >= window)
    return {known[index]: int(tokens.lengths[index]) for index in full}
