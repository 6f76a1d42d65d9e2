"""Weighted-mean pooling that leaves out each row's own instruction, as sentence-transformers does for a whole batch.

A token weighs as much as its place in the row, instruction included. sentence-transformers finds the places by a
length of instruction that all rows share; where a mask leaves the instructions out row by row, it would count from the
first token of the text.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

MODE = "weightedmean"


def weigh_by_place(model: Iterable[Any]) -> None:
    """Have a model's poolings with that mode count the places right under a mask without the instruction.

    By a hook, which is not saved, and once, however often it is asked for. Rows have to be padded on the right.
    """
    for module in model:
        if MODE in _modes(module) and not hasattr(module, "weighs_by_place"):
            module.weighs_by_place = module.register_forward_hook(_count_from_the_row)


def _modes(module: Any) -> tuple[str, ...]:
    modes = getattr(module, "pooling_mode", ())
    return (modes,) if isinstance(modes, str) else tuple(modes)


def _count_from_the_row(pooling: Any, inputs: tuple[dict[str, Any], ...], features: dict[str, Any]) -> dict[str, Any]:
    """The hook; sentence-transformers' own encode gives ``prompt_length``, and is left alone."""
    import torch

    del inputs
    if pooling.include_prompt or "prompt_length" in features:
        return features
    parts = list(features["sentence_embedding"].split(pooling.embedding_dimension, dim=-1))
    pooled = weighted_mean(features["token_embeddings"], features["attention_mask"])
    parts[_modes(pooling).index(MODE)] = pooled
    return {**features, "sentence_embedding": torch.cat(parts, dim=-1)}


def weighted_mean(token_embeddings: "Tensor", mask: "Tensor") -> "Tensor":
    """The mean [b, d] of embeddings [b, t, d]; each weighs its place from 1 where the mask [b, t] is 1, else 0."""
    import torch

    weights = mask * torch.arange(1, mask.shape[1] + 1, device=mask.device, dtype=torch.float32)
    summed = (token_embeddings * weights[..., None]).sum(dim=1)
    return (summed / weights.sum(dim=1, keepdim=True).clamp(min=1e-9)).to(token_embeddings.dtype)
