"""Accuracy on triplets, against sentence-transformers with the same prompts."""

import json
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from typer.testing import CliRunner

from medi_build.cli import app
from medi_build.content.pipelines import EncoderSpec
from medi_build.encode.model_files import BUNDLED, find_model
from medi_build.errors import EvaluationError, InputError
from medi_build.evaluate.model import open_model
from medi_build.evaluate.results import load_items, load_result, result_path
from medi_build.evaluate.triplets import RECORDS_OWN, evaluate_triplets, triplet_margins

SPEC = EncoderSpec(model=BUNDLED, dtype="float32")
TEXTS = [
    (
        "Represent the question;",
        "how do plants eat",
        "Photosynthesis turns light into sugar.",
        "Cars need fuel.",
    ),
    (
        "Represent the question;",
        "who wrote the play",
        "The author of the play is unknown.",
        "A very old drama.",
    ),
    ("Represent the name;", "capital of the country", "Its seat of government", "A village by the sea"),
    ("", "fast train", "a slow bus", "an express railway"),
]
RECORDS = [
    {"query": [one, query], "pos": [one and "Represent the text;", pos], "neg": ["", neg], "task_id": number // 2}
    for number, (one, query, pos, neg) in enumerate(TEXTS)
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "held-out.json"
    path.write_text(json.dumps(RECORDS), encoding="utf-8")
    return path


def expected(prompts: str) -> np.ndarray:
    model = SentenceTransformer(str(find_model(BUNDLED, None).folder), device="cpu")
    sides = {}
    for side in ("query", "pos", "neg"):
        pairs = [record[side] for record in RECORDS]
        texts = [(own if prompts == "templates" else "") + text for own, text in pairs]
        sides[side] = model.encode(texts, normalize_embeddings=True)
    return (sides["query"] * (sides["pos"] - sides["neg"])).sum(axis=1)


@pytest.mark.parametrize("instructions", ["templates", "none"])
def test_margins_are_those_of_sentence_transformers(data: Path, instructions: str) -> None:
    found = triplet_margins(open_model(SPEC, instructions, device="cpu"), data)
    np.testing.assert_allclose(found.margins, expected(instructions), atol=2e-3)
    assert found.task == ["0", "0", "1", "1"]


def test_steps_do_not_change_the_margins(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_model(SPEC, "templates", device="cpu")
    whole = triplet_margins(model, data)
    monkeypatch.setattr("medi_build.evaluate.triplets.ROWS_PER_STEP", 1)
    monkeypatch.setattr("medi_build.ingest.triplets.ROWS_PER_BATCH", 1)
    stepwise = triplet_margins(model, data)
    np.testing.assert_array_equal(stepwise.margins, whole.margins)
    assert stepwise.where == whole.where


def test_the_result_says_what_was_measured(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--data", str(data), "--out", str(out), "--dtype", "float32", "--instructions", "none"]
    told = CliRunner().invoke(app, ["eval", "triplets", BUNDLED, *options], catch_exceptions=False)
    assert told.exit_code == 0
    model = open_model(SPEC, "none", device="cpu")
    path = result_path(out, "triplets", "held-out", model.about, "none")
    result, right = load_result(path), expected("none") > 0
    assert f"accuracy {right.mean():.4f} over 4 triplets" in told.stdout
    assert load_items(path)["value"].to_pylist() == right.astype(float).tolist()
    assert result.metrics["accuracy_task_1"] == right[2:].mean()
    assert result.main_score == right.mean() and result.instructions == {"source": "none", "query": "", "document": ""}


def test_rows_without_a_text_are_counted_and_a_source_of_them_refused(tmp_path: Path) -> None:
    path, model = tmp_path / "x.json", open_model(SPEC, "templates", device="cpu")
    empty = {**RECORDS[0], "neg": ["", " "]}
    path.write_text(json.dumps([RECORDS[0], empty]), encoding="utf-8")
    result = evaluate_triplets(model, path, tmp_path / "out")
    assert (result.counts["triplets"], result.counts["without_text"]) == (1, 1)
    assert result.instructions["query"] == RECORDS_OWN
    path.write_text(json.dumps([empty]), encoding="utf-8")
    with pytest.raises(EvaluationError, match=r"no record with a text on each side \(1 without\)"):
        evaluate_triplets(model, path, tmp_path / "out")
    path.write_text('[{"query": 1}]', encoding="utf-8")
    with pytest.raises(InputError, match="record 0: has no pos"):
        evaluate_triplets(model, path, tmp_path / "out")
