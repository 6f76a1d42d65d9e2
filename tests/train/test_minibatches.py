"""Chunks are those that sentence-transformers' cached losses would make, so that both paths compute the same."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.base.losses import gradcache
from torch import Tensor

from medi_build.train.minibatches import minibatch, minibatch_ranges


def features(lengths: list[int], padding: int) -> dict[str, Tensor]:
    width = max(lengths) + padding
    mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    ids = torch.arange(mask.numel()).view_as(mask)
    return {"input_ids": ids, "attention_mask": mask, "prompt_length": torch.arange(len(lengths))}


LENGTHS = st.lists(st.integers(0, 12), min_size=1, max_size=20).filter(any)


@settings(max_examples=100)
@given(lengths=LENGTHS, budget=st.integers(1, 40), padding=st.integers(0, 3))
def test_chunks_are_whole_within_the_budget_and_trimmed(lengths: list[int], budget: int, padding: int) -> None:
    batch = features(lengths, padding)
    ranges = minibatch_ranges(batch, budget)
    assert [row for begin, end in ranges for row in range(begin, end)] == list(range(len(lengths)))
    for begin, end in ranges:
        assert sum(lengths[begin:end]) <= budget or end == begin + 1
        assert end == len(lengths) or sum(lengths[begin : end + 1]) > budget, "another row had room"
        chunk, longest = minibatch(batch, begin, end), max(lengths[begin:end])
        assert torch.equal(chunk["prompt_length"], batch["prompt_length"][begin:end])
        assert torch.equal(chunk["input_ids"], batch["input_ids"][begin:end, : longest or None])
        assert chunk["attention_mask"].shape == chunk["input_ids"].shape


@pytest.mark.skipif(
    not {"_create_minibatch", "_minibatch_ranges"} <= vars(gradcache).keys(), reason="private names, no longer there"
)
@settings(max_examples=100)
@given(lengths=LENGTHS, budget=st.integers(1, 40), padding=st.integers(0, 3))
def test_they_equal_those_of_the_library(lengths: list[int], budget: int, padding: int) -> None:
    batch = features(lengths, padding)
    ranges = minibatch_ranges(batch, budget)
    assert ranges == gradcache._minibatch_ranges(batch, 1, budget)
    for begin, end in ranges:
        ours, theirs = minibatch(batch, begin, end), gradcache._create_minibatch(batch, begin, end)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
