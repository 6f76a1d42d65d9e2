"""The prompts that a model was saved with: what sentence-transformers makes of them, without loading the model."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from medi_build.content.pipelines import EncoderSpec
from medi_build.embedding import Prompt, both_sides
from medi_build.encode.embedder import open_embedder
from medi_build.encode.encoder import Encoder
from medi_build.encode.instructor import Instructor
from medi_build.encode.prompts import CONFIG, prompts_of
from medi_build.errors import EncoderError, OptionError
from tests.encode.tiny_models import TEXTS, edit_json, save_byte_level

SAVED: dict[str, dict[str, Any]] = {
    "nothing": {},
    "both": {"prompts": {"query": "query: ", "document": "passage: "}},
    "queries alone": {"prompts": {"query": "Represent the query: "}},
    "a default beside them": {"prompts": {"query": "query: ", "sts": "sts: "}, "default_prompt_name": "sts"},
    "a default alone": {"prompts": {"sts": "sts: "}, "default_prompt_name": "sts"},
    "the query is the default": {"prompts": {"query": "query: "}, "default_prompt_name": "query"},
    "another name for documents": {"prompts": {"query": "query: ", "passage": "passage: ", "corpus": "c: "}},
    "empty ones": {"prompts": {"query": "", "document": ""}, "default_prompt_name": "query"},
    "of another kind of model": {"prompts": {"query": "query: "}, "model_type": "SparseEncoder"},
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_byte_level(tmp_path_factory.mktemp("models") / "plain")


def saved(plain: Path, tmp_path: Path, **settings: Any) -> Path:
    folder = shutil.copytree(plain, tmp_path / "model")
    edit_json(folder / CONFIG, prompts=None, default_prompt_name=None)
    edit_json(folder / CONFIG, **settings)
    return folder


@pytest.mark.parametrize("settings", SAVED.values(), ids=SAVED)
def test_each_side_is_encoded_as_sentence_transformers_does(
    plain: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    folder = saved(plain, tmp_path, **settings)
    embed = open_embedder(EncoderSpec(model=str(folder), dtype="float32"), "cpu", tmp_path / "store")
    peer = SentenceTransformer(str(folder), device="cpu")
    told = embed.encoder.prompts
    if "model_type" not in settings:
        assert (dict(told.by_name), told.default_name) == (peer.prompts, peer.default_prompt_name)
    for side, encode in (("query", peer.encode_query), ("document", peer.encode_document), (None, peer.encode)):
        wanted = encode(TEXTS, normalize_embeddings=True).astype(np.float32)
        assert np.abs(embed(TEXTS, side=side).vectors.astype(np.float32) - wanted).max() < 1e-3  # type: ignore[arg-type]
    for given in ("", "passage: "):  # what is given takes the place of what is saved
        wanted = peer.encode(TEXTS, prompt=given, normalize_embeddings=True)
        assert np.abs(embed(TEXTS, given, "query").vectors.astype(np.float32) - wanted).max() < 1e-3


def test_prompts_are_part_of_what_the_store_knows_a_vector_by(plain: Path, tmp_path: Path) -> None:
    folder = saved(plain, tmp_path, prompts={"query": "query: "})
    spec = EncoderSpec(model=str(folder))
    embed = open_embedder(spec, "cpu", tmp_path / "store")
    embed(["ferry"], side="query")
    embed(["ferry"], side="document")
    embed(["ferry"], "query: ")
    assert embed.encoded == 2
    before = embed.encoder.identity
    edit_json(folder / CONFIG, prompts={"query": "other: "})
    assert Encoder(spec, "cpu").identity != before


def test_instructor_has_them_by_name(plain: Path, tmp_path: Path) -> None:
    folder = saved(plain, tmp_path, prompts={"query": "query: ", "sts": "sts: "}, default_prompt_name="sts")
    model = Instructor(folder, "cpu")
    assert model.prompts == {"query": "query: ", "document": "", "sts": "sts: "}
    assert model.default_prompt_name == "sts"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompts": ["query: "]}, "prompts is .*texts by name"),
        ({"prompts": {"query": 5}}, "prompts is .*texts by name"),
        ({"prompts": {"a": "a: "}, "default_prompt_name": "b"}, "default_prompt_name is 'b', but the prompts are"),
    ],
)
def test_what_is_no_table_of_prompts_is_an_error_before_the_model_is_loaded(
    plain: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    folder = saved(plain, tmp_path, **settings)
    with pytest.raises(EncoderError, match=message):
        Encoder(EncoderSpec(model=str(folder)), "cpu")
    (folder / CONFIG).write_text("{")
    with pytest.raises(EncoderError, match="is not JSON"):
        Encoder(EncoderSpec(model=str(folder)), "cpu")


def test_what_is_told_says_where_it_comes_from(tmp_path: Path) -> None:
    settings = {"prompts": {"query": "query: ", "passage": "passage: "}, "default_prompt_name": "passage"}
    (tmp_path / CONFIG).write_text(json.dumps(settings))
    prompts = prompts_of(tmp_path)
    assert prompts.told(Prompt(side="query")) == "\"query: \" (saved as 'query')"
    assert prompts.told(Prompt("Represent;", "query")) == '"Represent;" (given)'
    assert prompts.told(Prompt("", "query")) == "none (given)"
    assert prompts.told(Prompt()) == "\"passage: \" (saved as 'passage')"
    assert prompts.told(Prompt(side="document")).startswith("none (sentence-transformers takes 'document'")
    assert prompts_of(tmp_path / "none").told(Prompt(side="document")) == "none (none saved)"
    assert prompts.named("passage") == "passage: "
    with pytest.raises(OptionError, match="prompt name 'web': the model has 'query', 'document', 'passage'"):
        prompts.named("web")


def test_sides_that_are_alike_are_both_queries() -> None:
    assert both_sides((None, None), alike=False) == (Prompt(None, "query"), Prompt(None, "document"))
    assert both_sides((None, None), alike=True) == (Prompt(None, "query"), Prompt(None, "query"))
    assert both_sides(("a", None), alike=True) == (Prompt("a", "query"), Prompt("a", "query"))
    assert both_sides(("a", ""), alike=True) == (Prompt("a", "query"), Prompt("", "query"))
    assert both_sides(("a", None), alike=False) == (Prompt("a", "query"), Prompt(None, "document"))
