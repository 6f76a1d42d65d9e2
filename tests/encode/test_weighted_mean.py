"""Weighted-mean pooling without the instruction, against sentence-transformers' own."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from medi_build.content.pipelines import EncoderSpec
from medi_build.encode.encoder import Encoder
from medi_build.encode.load import load_model
from medi_build.encode.model_files import find_model
from medi_build.encode.weighted_mean import weighted_mean
from tests.encode.tiny_models import INSTRUCTION, TEXTS, peer_vectors
from tests.encode.tiny_networks import save_network


def encoder(model: Path) -> Encoder:
    return Encoder(EncoderSpec(model=str(model), dtype="float32"), "cpu")


@pytest.mark.parametrize("include_prompt", [False, True])
@pytest.mark.parametrize("pooling", ["weightedmean", ("mean", "weightedmean", "cls")])
def test_it_equals_sentence_transformers(tmp_path: Path, pooling: Any, include_prompt: bool) -> None:
    folder = save_network(tmp_path / "model", "Bert", pooling, include_prompt=include_prompt)
    wanted = {prompt: peer_vectors(folder, TEXTS, prompt) for prompt in ("", "Represent:", INSTRUCTION)}
    for instruction, vectors in wanted.items():
        assert np.abs(encoder(folder).encode(TEXTS, instruction).vectors - vectors).max() < 1e-6
    instructions = [list(wanted)[i % 3] for i in range(len(TEXTS))]
    mixed = encoder(folder).encode(TEXTS, instructions).vectors
    assert np.abs(mixed - [wanted[own][i] for i, own in enumerate(instructions)]).max() < 1e-6
    if pooling == "weightedmean" and not include_prompt:
        places_from_the_text = load_model(find_model(str(folder)))
        places_from_the_text[1]._forward_hooks.clear()
        wrong = encoder(folder)
        vars(wrong)["model"] = places_from_the_text
        assert np.abs(wrong.encode(TEXTS, INSTRUCTION).vectors - wanted[INSTRUCTION]).max() > 1e-3


def test_the_loaded_model_keeps_sentence_transformers_own_encode(tmp_path: Path) -> None:
    folder = save_network(tmp_path / "model", "Bert", "weightedmean", include_prompt=False)
    peer = SentenceTransformer(str(folder), device="cpu")
    for model in (load_model(find_model(str(folder))), copy.deepcopy(load_model(find_model(str(folder))))):
        for prompt in (None, INSTRUCTION):
            assert np.array_equal(model.encode(TEXTS, prompt=prompt), peer.encode(TEXTS, prompt=prompt))


def test_what_is_left_out_has_no_gradient_and_no_row_is_divided_by_nothing() -> None:
    tokens = torch.randn(2, 3, 4, requires_grad=True)
    pooled = weighted_mean(tokens, torch.tensor([[0, 1, 1], [0, 0, 0]]))
    assert torch.allclose(pooled[0], (2 * tokens[0, 1] + 3 * tokens[0, 2]) / 5)
    assert not pooled[1].any()
    pooled.sum().backward()
    assert not tokens.grad[0, 0].any()
