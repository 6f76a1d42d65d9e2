"""Batches of records to tensors: tokenised together with their instruction, padded to the batch and no further."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medi_build.encode.tokens import Tokens, tokenise
from medi_build.errors import TrainError
from medi_build.train.batches import Ints
from medi_build.train.data import Rows, TrainingData
from medi_build.train.source import SIDES
from medi_build.train.tokens import tokenise_pairs

INSTRUCTION_MASK = "special_tokens_mask"
"""1 on the tokens of the instruction. sentence-transformers keeps this name from the transformer, but merges, slices
and trims it with the other [b, t] features; its own ``prompt_length`` it takes for one length of the whole batch."""


class TripletCollator:
    """Turns the one item that `TrainingData` gives for a batch into columns of tensors.

    For each side ``{side}_input_ids``, ``{side}_attention_mask`` and ``{side}_`` + `INSTRUCTION_MASK` int64 [b, t], as
    wide as the side's longest text; ``label`` int64 [b], 0 where the batch's task leaves out in-batch negatives. The
    label has this meaning for `InstructorLoss` alone.
    """

    valid_label_columns = ("label",)

    def __init__(self, tokenizer: Any, window: int, own_negative_tasks: Ints) -> None:
        self.tokenizer, self.window = tokenizer, window
        self.own_negative_tasks = frozenset(own_negative_tasks.tolist())

    def __call__(self, items: list[tuple[int, Rows]]) -> dict[str, Tensor]:
        """Collate the batch; ``items`` has one entry, the task and its rows."""
        ((task, rows),) = items
        batch: dict[str, Tensor] = {}
        for side in SIDES:
            tokens = tokenise_pairs(self.tokenizer, rows.instructions[side], rows.texts[side], self.window)
            batch |= {f"{side}_{name}": value for name, value in _pad(tokens, self.tokenizer.pad_token_id).items()}
        in_batch = int(task not in self.own_negative_tasks)
        return batch | {"label": torch.full((len(rows.texts[SIDES[0]]),), in_batch)}


def columns_of(batch: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """The batch's three columns, each with the names a model wants."""
    return [
        {name.removeprefix(f"{side}_"): value for name, value in batch.items() if name.startswith(f"{side}_")}
        for side in SIDES
    ]


def _pad(tokens: Tokens, filler: int) -> dict[str, Tensor]:
    places = np.arange(tokens.lengths.max())
    inside = places < tokens.lengths[:, None]
    ids = np.full(inside.shape, filler, np.int64)
    ids[inside] = tokens.ids
    return {
        "input_ids": torch.from_numpy(ids),
        "attention_mask": torch.from_numpy(inside.astype(np.int64)),
        INSTRUCTION_MASK: torch.from_numpy((places < tokens.skip[:, None]).astype(np.int64)),
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
    tokens = tokenise(tokenizer, [""] * len(known), known, window, skip_instruction=False)
    full = np.flatnonzero(tokens.lengths >= window)
    return {known[index]: int(tokens.lengths[index]) for index in full}
