import numpy as np
import pytest
from transformers import ByT5Tokenizer

from medi_build.encode.pair_tokens import TRUNCATED, UNALIGNED, tokenise
from tests.encode.tiny_models import INSTRUCTION, TEXTS, unigram_tokenizer

PREFIX = 18
"""Tokens of INSTRUCTION in the letters-and-pieces vocabulary, `</s>` not counted."""


@pytest.fixture(scope="module")
def tokenizer():
    return unigram_tokenizer()


def test_ids_are_those_of_the_stripped_and_joined_text(tokenizer):
    tokens = tokenise(tokenizer, TEXTS, [INSTRUCTION] * len(TEXTS), 64, skip_instruction=True)
    for i, text in enumerate(TEXTS):
        expected = tokenizer(INSTRUCTION + text.strip(), truncation=True, max_length=64)["input_ids"]
        assert tokens.ids[tokens.offsets[i] : tokens.offsets[i + 1]].tolist() == expected
    assert tokens.skip.tolist() == [PREFIX] * len(TEXTS)


def test_truncated_only_where_tokens_were_lost(tokenizer):
    exactly = "a" * 14  # metaspace + 14 letters + </s>
    tokens = tokenise(tokenizer, [exactly, exactly + "b"], ["", ""], 16, skip_instruction=True)
    assert tokens.lengths.tolist() == [16, 16]
    assert (tokens.flags & TRUNCATED).tolist() == [0, 1]


def test_a_tokenizer_written_in_python_is_asked_for_what_it_cut():
    tokens = tokenise(ByT5Tokenizer(), ["abcdefg", "abcdefgh"], ["", ""], 8, skip_instruction=True)
    assert tokens.lengths.tolist() == [8, 8]
    assert (tokens.flags & TRUNCATED).tolist() == [0, 1]


def test_a_token_across_the_seam_is_flagged_and_the_count_kept(tokenizer):
    instruction = "sentence;"
    tokens = tokenise(tokenizer, ["The", "a", "The"], [instruction, instruction, ""], 64, skip_instruction=True)
    assert (tokens.flags & UNALIGNED != 0).tolist() == [True, False, False]
    assert tokens.skip[0] == tokens.skip[1] > 0
    assert tokens.skip[2] == 0


def test_an_instruction_that_fills_the_window_leaves_the_closing_token(tokenizer):
    tokens = tokenise(tokenizer, ["text"], ["abcdefghijklmnopqrstuvw"], 16, skip_instruction=True)
    assert tokens.lengths.tolist() == [16]
    assert tokens.skip.tolist() == [15]
    assert tokens.ids[-1] == tokenizer.eos_token_id


def test_instructions_that_the_pooling_keeps_are_not_skipped(tokenizer):
    tokens = tokenise(tokenizer, ["a"], [INSTRUCTION], 64, skip_instruction=False)
    assert tokens.skip.tolist() == [0]


def test_no_texts(tokenizer):
    tokens = tokenise(tokenizer, [], [], 64, skip_instruction=True)
    assert tokens.lengths.shape == (0,)
    assert tokens.ids.dtype == np.int32
