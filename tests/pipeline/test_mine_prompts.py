"""What stands in front of the texts when a file is mined: the model's own prompts, or those given."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from medi_build.content.mining_rule import MiningRule
from medi_build.content.pipelines import EncoderSpec
from medi_build.embedding import Prompt
from medi_build.encode.embedder import Embedder, open_embedder
from medi_build.encode.prompts import CONFIG
from tests.encode.tiny_models import edit_json, save_byte_level
from tests.pipeline.own_files import mined_file

PROMPTS = {"query": "query: ", "document": "passage: "}
THINGS = ("tea", "fox", "sea", "door", "lamp", "pump")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_byte_level(tmp_path_factory.mktemp("models") / "prompted")
    edit_json(folder / CONFIG, prompts=PROMPTS)
    return folder


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    rows = [{"query": f"where is the {thing}?", "pos": f"The {thing} stands in the garden."} for thing in THINGS]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def opened(model: Path) -> Embedder:
    return open_embedder(EncoderSpec(model=str(model), dtype="float32"), "cpu")


def mined(source: Path, encoder: Embedder, rule: MiningRule | None = None, **options: Any) -> list[dict[str, Any]]:
    out = source.parent / "out"
    mined_file(source, out, embed=encoder, rule=rule or MiningRule(num_negatives=3), formats=["flagembedding"],
              **options)  # fmt: skip
    return [json.loads(line) for line in (out / "flagembedding.jsonl").read_text().splitlines()]


def scores(rows: list[dict[str, Any]]) -> np.ndarray:
    return np.array([[*row["pos_scores"], *row["neg_scores"]] for row in rows])


def expected(rows: list[dict[str, Any]], queries: Any, documents: Any) -> np.ndarray:
    """The same scores by two functions of sentence-transformers."""
    left = queries([row["query"] for row in rows], normalize_embeddings=True)
    right = [documents([*row["pos"], *row["neg"]], normalize_embeddings=True) for row in rows]
    return np.array([texts @ query for query, texts in zip(left, right, strict=True)])


def test_queries_and_documents_are_encoded_with_the_prompts_that_the_model_has(model: Path, pairs: Path) -> None:
    rows = mined(pairs, opened(model))
    peer = SentenceTransformer(str(model), device="cpu")
    assert np.abs(scores(rows) - expected(rows, peer.encode_query, peer.encode_document)).max() < 2e-3
    for fault in ((peer.encode, peer.encode), (peer.encode_document, peer.encode_query)):
        assert np.abs(scores(rows) - expected(rows, *fault)).max() > 1e-2
    assert not any("prompt" in row for row in rows)  # what the mining model needs is not what a trained one needs
    nearest = mined(pairs, opened(model), MiningRule(num_negatives=1))
    vectors = peer.encode_query([row["query"] for row in rows], normalize_embeddings=True)
    ranked = vectors @ peer.encode_document([row["pos"][0] for row in rows], normalize_embeddings=True).T
    np.fill_diagonal(ranked, -1)
    assert [row["neg"][0] for row in nearest] == [rows[best]["pos"][0] for best in ranked.argmax(axis=1)]


@pytest.mark.parametrize("query", [None, "", "Represent the query: "])
@pytest.mark.parametrize("document", [None, "", "d: "])
def test_an_instruction_takes_the_place_of_a_saved_prompt(
    model: Path, pairs: Path, query: str | None, document: str | None
) -> None:
    rows = mined(pairs, opened(model), instructions=(query, document))
    peer = SentenceTransformer(str(model), device="cpu")

    def queries(texts: list[str], **options: Any) -> Any:
        return peer.encode_query(texts, prompt=query, **options)

    def documents(texts: list[str], **options: Any) -> Any:
        return peer.encode_document(texts, prompt=document, **options)

    assert np.abs(scores(rows) - expected(rows, queries, documents)).max() < 2e-3
    assert {row.get("prompt") for row in rows} == {query or None}


def test_in_symmetric_sets_both_sides_are_queries(model: Path, pairs: Path) -> None:
    rows = mined(pairs, opened(model), symmetric=True)
    peer = SentenceTransformer(str(model), device="cpu")
    assert np.abs(scores(rows) - expected(rows, peer.encode_query, peer.encode_query)).max() < 2e-3
    assert any(row["neg"][0].startswith("where is") for row in rows)


def other_model(model: Path, tmp_path: Path) -> Path:
    other = shutil.copytree(model, tmp_path / "other")
    edit_json(other / CONFIG, prompts={"query": "Represent: ", "document": "d "})
    return other


@pytest.mark.parametrize("role", ["guide", "encoders"])
def test_other_encoders_have_their_own_prompts(model: Path, pairs: Path, tmp_path: Path, role: str) -> None:
    other = other_model(model, tmp_path)
    knobs: dict[str, Any] = {"guide": {"guide": "other"}, "encoders": {"encoders": ("other",)}}[role]
    seen = []

    def spy(texts: Any, instruction: str | None = None, side: Any = None) -> Any:
        seen.append((side, watched.encoder.prompts.text(Prompt(instruction, side))))
        return watched(texts, instruction, side)

    watched = opened(other)
    mined(pairs, opened(model), MiningRule(num_negatives=1, **knobs), others={"other": spy})
    assert seen == [("query", "Represent: "), ("document", "d ")]
    seen.clear()
    mined(pairs, opened(model), MiningRule(num_negatives=1, **knobs), others={"other": spy}, instructions=("q ", "p "))
    fused = [("query", "q "), ("document", "p ")]
    assert seen == (fused if role == "encoders" else [("query", "Represent: "), ("document", "d ")])
