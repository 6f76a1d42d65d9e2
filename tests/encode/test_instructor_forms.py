"""`Instructor` as a SentenceTransformer: texts and pairs, prompts, and whatever is done to its modules."""

import copy
import json
import pickle
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling

from medi_build.compat import INSTRUCTOR
from medi_build.encode.instructor import Instructor
from medi_build.encode.load import load_model
from medi_build.encode.model_files import find_model
from medi_build.errors import EncoderError, OptionError, TrainError
from medi_build.train.export import save_model
from tests.encode.tiny_models import INSTRUCTION, TEXTS, edit_json

TINY = Path(__file__).parent.parent / "golden" / "tiny_instructor"
PAIRS = [["Represent the sentence;", "one"], ["", "two words"], ["Represent the question: ", "three more words"]]
BLANKS = ["  a text in blanks ", "another", "long " * 300, ""]


@pytest.fixture(scope="module")
def model() -> Instructor:
    return Instructor(TINY, "cpu")


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformer:
    """The same weights as sentence-transformers loads them."""
    folder = tmp_path_factory.mktemp("peer") / "model"
    save_model(load_model(find_model(str(TINY))), folder)
    return SentenceTransformer(str(folder), device="cpu")


def close(a: Any, b: Any, within: float = 2e-6) -> bool:
    return a.shape == b.shape and np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max() < within


def test_it_is_one_class_under_two_names() -> None:
    assert INSTRUCTOR is Instructor
    assert issubclass(Instructor, SentenceTransformer)


@pytest.mark.parametrize("prompt", [None, "", "query: ", "  Represent it ; "])
def test_texts_and_prompts_are_as_in_sentence_transformers(model: Any, peer: Any, prompt: str | None) -> None:
    assert close(model.encode(BLANKS, prompt=prompt), peer.encode(BLANKS, prompt=prompt))
    assert close(model.encode(BLANKS[0], prompt=prompt), peer.encode(BLANKS[0], prompt=prompt))
    assert close(model.encode(np.array(BLANKS), prompt=prompt), peer.encode(BLANKS, prompt=prompt))


@pytest.mark.parametrize("folder", ["tiny_t5", "tiny_bert"])
def test_texts_of_other_models_too(request: pytest.FixtureRequest, folder: str) -> None:
    where = str(request.getfixturevalue(folder))
    own, other = Instructor(where, "cpu"), SentenceTransformer(where, device="cpu")
    for prompt in (None, INSTRUCTION, " query: "):
        assert close(own.encode(TEXTS, prompt=prompt), other.encode(TEXTS, prompt=prompt, batch_size=4))


def test_saved_prompts_are_used_by_name_by_default_and_by_side(tiny_t5: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_t5, tmp_path / "prompts")
    prompts = {"query": "query: ", "document": "passage: ", "other": "other: "}
    edit_json(folder / "config_sentence_transformers.json", prompts=prompts, default_prompt_name="other")
    own, other = Instructor(folder, "cpu"), SentenceTransformer(str(folder), device="cpu")
    assert (own.prompts, own.default_prompt_name) == (prompts, "other")
    assert close(own.encode(TEXTS), other.encode(TEXTS))
    assert close(own.encode(TEXTS, prompt_name="query"), other.encode(TEXTS, prompt_name="query"))
    assert close(own.encode_query(TEXTS), other.encode_query(TEXTS))
    assert close(own.encode_document(TEXTS), other.encode_document(TEXTS))
    assert not close(own.encode_query(TEXTS), own.encode_document(TEXTS), 1e-3)
    pairs = [["", text] for text in TEXTS]
    assert close(own.encode(pairs), own.encode([text.strip() for text in TEXTS], prompt=""))
    for named in ({"prompt": "query: "}, {"prompt_name": "query"}):
        with pytest.raises(TrainError, match="each pair brings its own instruction"):
            own.encode(pairs, **named)
    mine = Instructor(folder, "cpu", prompts={"query": "mine: "}, default_prompt_name="query")
    assert close(mine.encode(TEXTS), other.encode(TEXTS, prompt="mine: "))


@pytest.mark.parametrize(
    "arguments",
    [
        {"convert_to_tensor": True},
        {"convert_to_numpy": False},
        {"normalize_embeddings": True, "truncate_dim": 4},
        {"precision": "ubinary"},
        {"output_value": "token_embeddings"},
        {"output_value": None},
    ],
)
def test_every_argument_does_what_it_does_there(model: Any, peer: Any, arguments: dict[str, Any]) -> None:
    ours, theirs = (one.encode(BLANKS[:2], prompt="Say: ", **arguments) for one in (model, peer))
    assert type(ours) is type(theirs)
    if arguments.get("output_value", "") is None:
        assert [set(row) for row in ours] == [set(row) for row in theirs]
        ours, theirs = ([row["sentence_embedding"] for row in rows] for rows in (ours, theirs))
    for own, other in zip(ours, theirs, strict=True):
        assert close(torch.as_tensor(own).numpy(), torch.as_tensor(other).numpy())


def test_pairs_are_never_those_of_a_cross_encoder(model: Any) -> None:
    wanted = model.encode(PAIRS)
    assert close(model.encode({"instruction": PAIRS[0][0], "text": PAIRS[0][1]}), wanted[0])
    assert not close(model.encode(PAIRS[0]), wanted[:2], 1e-3)  # two strings in a list are two texts
    assert close(model.encode(sentences=[tuple(pair) for pair in PAIRS]), wanted)
    features = model.tokenize(PAIRS)
    with torch.no_grad():
        assert close(model(features)["sentence_embedding"].numpy(), wanted)
        assert close(model(features)["sentence_embedding"].numpy(), wanted)  # features are not used up
    assert "instruction_mask" not in model.tokenize(["a text"])
    with pytest.raises(TrainError, match="pass batch_size by name"):
        model.encode(PAIRS, 32)


def test_without_their_hook_their_loop_gives_the_same(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, texts = model.encode(PAIRS), model.encode(BLANKS, prompt="Say: ")
    monkeypatch.setattr(Instructor, "_inference", SentenceTransformer._inference)
    assert close(model.encode(PAIRS), wanted)
    assert close(model.encode(BLANKS, prompt="Say: "), texts)


def test_what_is_done_to_the_modules_shows_in_the_next_vectors(peer: Any) -> None:
    model, other = Instructor(TINY, "cpu"), copy.deepcopy(peer)
    before = model.encode(BLANKS)
    for one in (model, other):
        one.max_seq_length = 16
    assert close(model.encode(BLANKS), other.encode(BLANKS))
    assert not close(model.encode(BLANKS)[2], before[2], 1e-3)
    for one in (model, other):
        one[1] = Pooling(one[1].embedding_dimension, "max")
        one.truncate_dim = 5
    assert close(model.encode(BLANKS), other.encode(BLANKS))
    for one in (model, other):
        with torch.no_grad():
            one[0].auto_model.shared.weight.data.mul_(2)
    assert close(model.encode(BLANKS), other.encode(BLANKS))
    half, theirs = model.half().encode(BLANKS), other.half().encode(BLANKS)
    assert half.dtype == theirs.dtype == np.float16
    assert close(half, theirs, 5e-3)
    assert model.to("cpu").float().encode(BLANKS).dtype == np.float32


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_torch_quantizes_it(model: Any, peer: Any, dtype: Any) -> None:
    own = Instructor(TINY, "cpu", dtype=dtype)
    quantized, theirs = (
        torch.quantization.quantize_dynamic(one, {torch.nn.Linear}, dtype=torch.qint8) for one in (own, peer)
    )
    assert isinstance(quantized, Instructor)
    found = quantized.encode(["one"], prompt="Say: ")
    assert close(found, theirs.encode(["one"], prompt="Say: "), 0.02)
    assert not np.array_equal(quantized.encode(PAIRS), model.encode(PAIRS))
    assert close(own.encode(PAIRS), model.encode(PAIRS), 0.02)
    with pytest.raises(EncoderError, match="cannot be saved again"):
        quantized.save("nowhere")


def test_sixteen_bits_are_the_arithmetic_and_not_the_weights(tmp_path: Path) -> None:
    narrow, wide = Instructor(TINY, "cpu", dtype="bfloat16"), Instructor(TINY, "cpu")
    vectors = narrow.encode(PAIRS)
    assert not np.array_equal(vectors, wide.encode(PAIRS))
    assert (vectors * wide.encode(PAIRS)).sum(axis=1).min() > 0.999
    narrow.save(str(tmp_path / "saved"))
    assert np.array_equal(Instructor(tmp_path / "saved", "cpu").encode(PAIRS), wide.encode(PAIRS))
    with torch.no_grad():
        narrow[0].auto_model.shared.weight.data.mul_(2)
        narrow[0].auto_model.encoder.block[0].layer[0].SelfAttention.q.weight.data.mul_(3)
        wide[0].load_state_dict(narrow[0].state_dict())
    assert (narrow.encode(PAIRS) * wide.encode(PAIRS)).sum(axis=1).min() > 0.999


def test_copies_and_pickles_are_the_model(model: Any) -> None:
    wanted = model.encode(PAIRS)
    for other in (
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        Instructor(modules=list(model), device="cpu"),
    ):
        assert isinstance(other, Instructor)
        assert np.array_equal(other.encode(PAIRS), wanted)


def test_threads_may_share_it(model: Any) -> None:
    many, texts = PAIRS * 40, BLANKS * 20
    wanted = (model.encode(many), model.encode(texts, prompt="Say: "), model.encode(texts[:9], output_value=None))
    found: dict[int, Any] = {}
    before = torch.get_num_threads()
    torch.set_num_threads(2)

    def work(number: int) -> None:
        found[number] = (
            np.array_equal(model.encode(many), wanted[0]),
            np.array_equal(model.encode(texts, prompt="Say: "), wanted[1]),
            torch.equal(
                model.encode(texts[:9], output_value=None)[0]["sentence_embedding"], wanted[2][0]["sentence_embedding"]
            ),
        )

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(6), (True, True, True))
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_saved_it_is_what_sentence_transformers_loads(model: Any, peer: Any, tmp_path: Path) -> None:
    model.save(tmp_path / "saved")
    for loaded in (SentenceTransformer(str(tmp_path / "saved"), device="cpu"), Instructor(tmp_path / "saved", "cpu")):
        assert close(loaded.encode(BLANKS, prompt="Say: "), peer.encode(BLANKS, prompt="Say: "))
    types = [module["type"] for module in json.loads((tmp_path / "saved" / "modules.json").read_text())]
    assert all(name.startswith("sentence_transformers.") for name in types)


def test_what_cannot_be_honoured_is_refused(tmp_path: Path) -> None:
    for wrong, message in [
        ({"backend": "onnx"}, "backend 'onnx' is not supported"),
        ({"model_kwargs": {"device_map": "auto"}}, "device_map is not supported"),
        ({"cache_dir": "x"}, "no argument cache_dir"),
        ({"modules": [torch.nn.Identity()]}, "not both"),
    ]:
        with pytest.raises(EncoderError, match=message):
            Instructor(TINY, **wrong)
    with pytest.raises(EncoderError, match="name a model"):
        Instructor()
    with pytest.raises(OptionError, match="'toaster'"):
        Instructor(TINY, device="toaster")


def test_arguments_of_loading_reach_the_libraries() -> None:
    model = Instructor(
        TINY,
        device="cpu",
        cache_folder=None,
        model_kwargs={"torch_dtype": torch.float16},
        tokenizer_kwargs={"model_max_length": 24},
        similarity_fn_name="dot",
        truncate_dim=4,
    )
    assert (model.dtype, model.max_seq_length, model.similarity_fn_name) == (torch.float16, 24, "dot")
    assert model.encode(PAIRS).shape == (3, 4)
    assert model.similarity(model.encode(PAIRS), model.encode(PAIRS)).shape == (3, 3)
