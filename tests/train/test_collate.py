"""Tokens, masks and pooling against sentence-transformers' own prompts, text by text."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from medi_build.encode.load import load_model
from medi_build.encode.model_files import find_model
from medi_build.encode.pair_tokens import tokenise
from medi_build.errors import TrainError
from medi_build.train.collate import CUT, INSTRUCTION_MASK, TripletCollator, columns_of, leave_instructions_out
from medi_build.train.data import Rows
from medi_build.train.objective import embed_columns

INSTRUCTIONS = ["Represent the question;", "", "Represent the Science document for retrieval: ", "Represent"]
TEXTS = ["why do ships leave?", " bread rises ", "two trains " * 30, "a"]


def rows_of(instructions: list[str], texts: list[str], more: list[list[str]] | None = None) -> Rows:
    sides = ("query", "pos", "neg")
    shifted = [texts[i:] + texts[:i] for i in range(3)]
    return Rows(
        list(range(len(texts))),
        dict.fromkeys(sides, instructions),
        dict(zip(sides, shifted, strict=True)),
        more or [[] for _ in texts],
    )


def test_a_batch_may_mix_instructions(tiny_model: Path) -> None:
    model = load_model(find_model(str(tiny_model)))
    model.max_seq_length = 48
    leave_instructions_out(model)
    batch = TripletCollator(model.tokenizer, 48, np.array([3]))([(1, rows_of(INSTRUCTIONS, TEXTS))])
    vectors = embed_columns(model.eval(), columns_of(batch), 60)
    peer = SentenceTransformer(str(tiny_model), device="cpu")
    peer.set_pooling_include_prompt(False)
    peer.max_seq_length = 48
    for column in range(3):
        for i, instruction in enumerate(INSTRUCTIONS):
            text = TEXTS[(i + column) % 4].strip()
            wanted = peer.encode(text, prompt=instruction or None, convert_to_tensor=True)
            assert torch.allclose(vectors[column, i], wanted, atol=2e-6), (instruction, text)


def test_batches_are_padded_to_their_longest_text(tiny_model: Path) -> None:
    tokenizer = SentenceTransformer(str(tiny_model), device="cpu").tokenizer
    batch = TripletCollator(tokenizer, 512, np.array([], np.int64))([(1, rows_of([""] * 4, ["a", "to sea", "b", "c"]))])
    assert batch["query_attention_mask"].sum(1).max() == batch["query_input_ids"].shape[1] < 12
    assert batch["label"].tolist() == [[1, 1]] * 4


def test_the_label_tells_tasks_without_in_batch_negatives(tiny_model: Path) -> None:
    tokenizer = SentenceTransformer(str(tiny_model), device="cpu").tokenizer
    collate = TripletCollator(tokenizer, 512, np.array([3]))
    assert collate([(3, rows_of(INSTRUCTIONS, TEXTS))])["label"].tolist() == [[0, 1]] * 4
    assert collate([(4, rows_of(INSTRUCTIONS, TEXTS))])["label"].tolist() == [[1, 1]] * 4


def test_further_negatives_are_columns_of_their_own(tiny_model: Path) -> None:
    tokenizer = SentenceTransformer(str(tiny_model), device="cpu").tokenizer
    more = [["one"], [], ["three ships", "four trains", "five"], ["six"]]
    rows, none = rows_of(INSTRUCTIONS, TEXTS, more), np.empty(0, np.int64)

    def texts_of(**options: Any) -> tuple[list[list[int]], list[list[str]]]:
        batch = TripletCollator(tokenizer, 512, none, **options)([(1, rows)])
        columns = [tokenizer.batch_decode(c["input_ids"], skip_special_tokens=True) for c in columns_of(batch)]
        return batch["label"].tolist(), columns[2:]

    def joined(pairs: list[tuple[int, str]]) -> list[str]:
        return tokenizer.batch_decode(
            tokenizer([INSTRUCTIONS[row] + text for row, text in pairs])["input_ids"], skip_special_tokens=True
        )

    labels, columns = texts_of(negatives=3)
    assert labels == [[1, 2], [1, 1], [1, 3], [1, 2]]
    assert columns[1:] == [joined([(0, "one"), (2, "three ships"), (3, "six")]), joined([(2, "four trains")])]
    assert len(texts_of(negatives=1)[1]) == 1
    _, columns = texts_of(negatives=3, level=True)
    first = rows.texts["neg"]
    assert columns[1] == joined([(0, "one"), (1, first[1].strip()), (2, "three ships"), (3, "six")])
    assert columns[2] == joined(
        [(0, first[0].strip()), (1, first[1].strip()), (2, "four trains"), (3, first[3].strip())]
    )


def test_texts_that_do_not_fit_are_counted(tiny_model: Path) -> None:
    tokenizer = SentenceTransformer(str(tiny_model), device="cpu").tokenizer
    batch = TripletCollator(tokenizer, 32, np.empty(0, np.int64))([(1, rows_of(INSTRUCTIONS, TEXTS))])
    cut = sum(len(tokenizer(INSTRUCTIONS[row] + text.strip())["input_ids"]) > 32
              for side in range(3) for row, text in enumerate(TEXTS[side:] + TEXTS[:side]))  # fmt: skip
    assert batch[CUT].item() == cut > 0


def test_the_window_and_the_instruction_mask(tiny_model: Path) -> None:
    tokenizer = SentenceTransformer(str(tiny_model), device="cpu").tokenizer
    tokens = tokenise(tokenizer, ["a", "b c", "d"], ["Represent " * 50, "Represent;", ""], 32, skip_instruction=True)
    assert tokens.lengths[0] == 32
    assert tokens.skip[0] == 31
    assert tokens.skip[2] == 0
    batch = TripletCollator(tokenizer, 32, np.array([], np.int64))([(1, rows_of(INSTRUCTIONS, TEXTS))])
    mask = batch[f"query_{INSTRUCTION_MASK}"]
    own = tokenise(tokenizer, TEXTS, INSTRUCTIONS, 32, skip_instruction=True).skip
    assert mask.sum(1).tolist() == own.tolist()
    assert (mask.diff(dim=1) <= 0).all()


def test_a_model_without_one_pooling_is_refused() -> None:
    with pytest.raises(TrainError, match="made of Linear"):
        leave_instructions_out(torch.nn.Sequential(torch.nn.Linear(2, 2)))
