"""Evaluation sets during training: scored at each evaluation, with the model as it is, and without a trace in it."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer

from medi_build.content.evaluation import shipped_instructions
from medi_build.errors import EvaluationError, TrainError
from medi_build.train.evaluation import read_sets
from tests.train.runs import eight_steps, run, same, weights

SENTENCES = [
    ("a b c", "a b c d", 5.0), ("x y z", "y z x", 4.0), ("a c e", "b d f", 1.0),
    ("one two", "two three", 2.5), ("p q", "r s t", 0.0), ("k l m n", "k l o", 3.0),
]  # fmt: skip


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    folder = tmp_path / "pairs"
    folder.mkdir()
    lines = ["sentence1\tsentence2\tscore", *("\t".join(map(str, row)) for row in SENTENCES)]
    (folder / "test.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def expected(model: Path | SentenceTransformer) -> float:
    """Spearman's correlation by sentence-transformers, under the shipped instruction."""
    encoder = SentenceTransformer(str(model), device="cpu") if isinstance(model, Path) else model
    prompt = shipped_instructions().task_types["STS"].query
    left, right = (
        encoder.encode([row[side] for row in SENTENCES], prompt=prompt, normalize_embeddings=True) for side in (0, 1)
    )
    return float(spearmanr((left * right).sum(axis=1), [row[2] for row in SENTENCES])[0])


def test_sets_are_scored_at_each_evaluation_and_change_nothing(
    tiny_model: Path, toy_data: Path, pairs: Path, tmp_path: Path
) -> None:
    plain = run(eight_steps(toy_data, tiny_model, tmp_path / "plain"))
    scored = run(eight_steps(toy_data, tiny_model, tmp_path / "scored", eval_sets=(f"sts:{pairs}",)))
    assert same(weights(tmp_path / "plain"), weights(tmp_path / "scored"))
    name = "pairs_cosine_spearman"
    points = [point["step"] for point in scored.history if f"eval_{name}" in point]
    assert points == [4, 8] and plain.scores == {}
    assert scored.scores[name][1] == pytest.approx(expected(tmp_path / "scored"), abs=1e-6)
    assert name in (tmp_path / "scored" / "README.md").read_text(encoding="utf-8")
    plots = [(tmp_path / run_name / "training.svg").read_text(encoding="utf-8") for run_name in ("plain", "scored")]
    assert plots[1].count("<!-- score on evaluation sets -->") == 1 and "evaluation sets" not in plots[0]


def test_without_held_out_rows_no_set_chooses_the_checkpoint(
    tiny_model: Path, toy_data: Path, pairs: Path, tmp_path: Path
) -> None:
    plain = run(eight_steps(toy_data, tiny_model, tmp_path / "plain", eval_rows_per_task=0))
    settings = eight_steps(toy_data, tiny_model, tmp_path / "scored", eval_rows_per_task=0, eval_sets=(f"sts:{pairs}",))
    scored = run(settings)
    assert same(weights(tmp_path / "plain"), weights(tmp_path / "scored"))
    assert plain.accuracy is None and scored.accuracy is None
    assert np.isfinite(scored.scores["pairs_cosine_spearman"]).all()


def test_what_is_no_set_is_told_before_anything_else(
    tiny_model: Path, toy_data: Path, pairs: Path, tmp_path: Path
) -> None:
    for named, error, message in [
        (str(pairs), TrainError, r"it has to be FORM:DIR, FORM being one of beir, sts"),
        (f"bier:{pairs}", TrainError, r"eval is 'bier:"),
        (f"beir:{pairs}", TrainError, rf"the folder is of the form sts; write sts:{pairs}"),
        (f"sts:{tmp_path / 'none'}", EvaluationError, "no such folder"),
    ]:
        with pytest.raises(error, match=message):
            run(eight_steps(toy_data, tiny_model, tmp_path / "out", eval_sets=(named,)))
    assert not (tmp_path / "out").exists()
    with pytest.raises(TrainError, match="another set is named 'pairs'"):
        read_sets([f"sts:{pairs}", f"sts:{pairs}"])
