"""One rule for white space: the encoder, `Instructor` and the trainer's collator against sentence-transformers."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer

from medi_build.content.pipelines import EncoderSpec
from medi_build.encode.encoder import Encoder
from medi_build.encode.instructor import Instructor
from medi_build.encode.load import load_model
from medi_build.encode.model_files import BUNDLED, find_model
from medi_build.encode.pair_tokens import Tokens
from medi_build.train.collate import INSTRUCTION_MASK, TripletCollator
from medi_build.train.data import Rows
from medi_build.train.export import save_model
from tests.conftest import ROOT
from tests.encode.tiny_models import save_byte_level, save_t5, unigram_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore")

BLANKS = st.text(alphabet=" \t\n\r\u00a0\u3000", max_size=3)
WORDS = st.lists(st.sampled_from(["query:", "ferry", "Represent", "copper;", "a", "Ω漢", "tide."]), max_size=4)


@st.composite
def spaced(draw: st.DrawFn) -> str:
    """Words with white space of any kind before, between and behind them; also none at all."""
    words = draw(WORDS)
    return (
        draw(BLANKS) + "".join(word + (draw(BLANKS) or " ") for word in words[:-1]) + "".join(words[-1:]) + draw(BLANKS)
    )


class Pair(NamedTuple):
    """The same model, ours and sentence-transformers'."""

    own: Encoder
    instructor: Instructor
    peer: SentenceTransformer


def opened(name: str, folder: Path | None = None) -> Pair:
    spec = EncoderSpec(model=name, dtype="float32")
    peer = SentenceTransformer(str(folder or find_model(name).folder), device="cpu")
    return Pair(Encoder(spec, "cpu"), Instructor(name, "cpu"), peer)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    folder = tmp_path_factory.mktemp("models")
    tiny = str(ROOT / "tests" / "golden" / "tiny_instructor")
    save_model(load_model(find_model(tiny)), folder / "tiny-st")
    kept = save_t5(folder / "kept", unigram_tokenizer())
    pooling = kept / "1_Pooling" / "config.json"
    pooling.write_text(pooling.read_text().replace('"include_prompt": false', '"include_prompt": true'))
    bert = load_model(find_model(BUNDLED))
    bert.set_pooling_include_prompt(False)
    save_model(bert, folder / "word-pieces-out")
    return {
        "word pieces": opened(BUNDLED),
        "byte-level": opened(str(save_byte_level(folder / "bytes"))),
        "sentence pieces": opened(str(kept)),
        "INSTRUCTOR, sentence pieces": opened(tiny, folder / "tiny-st"),
        "INSTRUCTOR, word pieces": opened(str(folder / "word-pieces-out")),
        "INSTRUCTOR, byte-level": opened(str(save_byte_level(folder / "bytes-out", include_prompt=False))),
    }


def ids_of(peer: SentenceTransformer, text: str, prompt: str = "") -> tuple[list[int], int]:
    """Sentence-transformers' token ids of prompt and text, and how many of them it takes for the prompt's."""
    features: dict[str, Any] = peer.preprocess([text], prompt=prompt or None)
    return features["input_ids"][0].tolist(), int(features.get("prompt_length", 0))


def same(one: Tokens, other: Tokens) -> bool:
    return all(np.array_equal(mine, others) for mine, others in zip(one, other, strict=True))


@pytest.mark.parametrize("kind", ["word pieces", "byte-level", "sentence pieces"])
@settings(max_examples=100)
@given(prompt=spaced(), text=spaced())
def test_with_the_prompt_in_the_pooling_it_is_prompt_and_text_to_the_letter(
    models: dict[str, Pair], kind: str, prompt: str, text: str
) -> None:
    own, instructor, peer = models[kind]
    tokens = own.tokenise([text], prompt)
    assert tokens.ids.tolist() == ids_of(peer, text, prompt)[0]
    assert tokens.skip.tolist() == [0]
    assert same(tokens, instructor.tokenise([[prompt, text]]))


@pytest.mark.parametrize("kind", ["INSTRUCTOR, sentence pieces", "INSTRUCTOR, word pieces", "INSTRUCTOR, byte-level"])
@settings(max_examples=80)
@given(prompt=spaced(), text=spaced())
def test_with_the_prompt_out_of_the_pooling_it_is_as_instructorembedding_strips(
    models: dict[str, Pair], kind: str, prompt: str, text: str
) -> None:
    own, instructor, peer = models[kind]
    tokens = own.tokenise([text], prompt)
    assert tokens.ids.tolist() == ids_of(peer, (prompt + text.strip()).strip())[0]
    assert tokens.skip.tolist() == [ids_of(peer, text.strip(), prompt.strip())[1]]
    assert same(tokens, instructor.tokenise([[prompt, text]]))


@pytest.mark.parametrize("kind", ["INSTRUCTOR, sentence pieces", "INSTRUCTOR, word pieces"])
@settings(max_examples=100)
@given(prompt=spaced().map(str.lstrip), text=spaced())
def test_where_tokens_hold_no_blanks_that_is_what_sentence_transformers_does(
    models: dict[str, Pair], kind: str, prompt: str, text: str
) -> None:
    own, _, peer = models[kind]
    tokens = own.tokenise([text], prompt)
    assert (tokens.ids.tolist(), tokens.skip[0]) == ids_of(peer, text.strip(), prompt)


@pytest.mark.parametrize("kind", ["word pieces", "byte-level", "sentence pieces", "INSTRUCTOR, sentence pieces"])
@pytest.mark.parametrize("prompt", ["query: ", "query:", "", "Represent the \t tide; \n"])
def test_vectors_follow(models: dict[str, Pair], kind: str, prompt: str) -> None:
    own, instructor, peer = models[kind]
    texts = ["ferry", " ferry", "ferry\n", "\ta  tide. ", "", "two\n\nlines"]
    given = [text.strip() for text in texts] if own.skip_instruction else texts
    wanted = peer.encode(given, prompt=prompt or None, normalize_embeddings=True)
    assert np.abs(own.encode(texts, prompt).vectors - wanted).max() < 1e-5
    pairs = [[prompt, text] for text in texts]
    assert np.abs(instructor.encode(pairs, normalize_embeddings=True) - wanted).max() < 1e-5


@pytest.mark.parametrize("kind", ["word pieces", "byte-level", "INSTRUCTOR, sentence pieces", "INSTRUCTOR, byte-level"])
@settings(max_examples=40)
@given(pairs=st.lists(st.tuples(spaced(), spaced()), min_size=1, max_size=3))
def test_the_trainer_sees_the_tokens_that_the_encoder_sees(
    models: dict[str, Pair], kind: str, pairs: list[tuple[str, str]]
) -> None:
    own, _, peer = models[kind]
    instructions, texts = ([pair[side] for pair in pairs] for side in (0, 1))
    sides = ("query", "pos", "neg")
    rows = Rows(
        list(range(len(pairs))), dict.fromkeys(sides, instructions), dict.fromkeys(sides, texts), [[]] * len(pairs)
    )
    collate = TripletCollator(peer.tokenizer, own.window, np.empty(0, np.int64), skip_instruction=own.skip_instruction)
    batch = collate([(0, rows)])
    tokens = own.tokenise(texts, instructions)
    mask: torch.Tensor = batch["query_attention_mask"].bool()
    assert batch["query_input_ids"][mask].tolist() == tokens.ids.tolist()
    assert batch[f"query_{INSTRUCTION_MASK}"].sum(1).tolist() == tokens.skip.tolist()


def test_a_closing_blank_of_a_prompt_stays(models: dict[str, Pair]) -> None:
    own, _, peer = models["byte-level"]
    kept, lost = (own.encode(["ferry"], prompt).vectors[0] for prompt in ("query: ", "query:"))
    assert np.abs(kept - peer.encode("ferry", prompt="query: ", normalize_embeddings=True)).max() < 1e-5
    assert float(kept @ lost) < 0.995
