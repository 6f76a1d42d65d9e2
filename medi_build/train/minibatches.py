"""Cuts a batch of texts into chunks by a budget of tokens, as sentence-transformers does in its cached losses."""

from collections.abc import Mapping

from torch import Tensor

Features = Mapping[str, Tensor]
"""One tokenised column: ``input_ids`` and ``attention_mask`` int64 [n, t], and further tensors with a row per text."""


def minibatch_ranges(features: Features, tokens: int) -> list[tuple[int, int]]:
    """``(begin, end)`` of each chunk: as many rows as have at most ``tokens`` real tokens together, at least one."""
    ranges: list[tuple[int, int]] = []
    begin = held = 0
    lengths: list[int] = features["attention_mask"].sum(dim=1).tolist()
    for row, length in enumerate(lengths):
        held += length
        if held > tokens and row > begin:
            ranges.append((begin, row))
            begin, held = row, length
    return [*ranges, (begin, len(lengths))] if lengths else ranges


def minibatch(features: Features, begin: int, end: int) -> dict[str, Tensor]:
    """Some rows, without the columns at the right end that are padding in all of them."""
    mask = features["attention_mask"]
    used = mask[begin:end].any(dim=0).nonzero()
    width = int(used[-1]) + 1 if len(used) else mask.shape[1]
    return {
        name: value[begin:end, :width] if value.ndim > 1 and value.shape[1] == mask.shape[1] else value[begin:end]
        for name, value in features.items()
    }
