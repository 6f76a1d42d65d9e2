"""One task under many instructions, with models made for it: one that ignores them, one that follows them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import xxhash
from scipy.stats import spearmanr
from typer.testing import CliRunner

from medi_build.cli import app
from medi_build.content.evaluation import shipped_instructions
from medi_build.embedding import Embedded, Side
from medi_build.encode.model_files import BUNDLED
from medi_build.errors import EvaluationError
from medi_build.evaluate.compare import read_results
from medi_build.evaluate.instructions import NO_INSTRUCTIONS
from medi_build.evaluate.model import EvaluatedModel
from medi_build.evaluate.mteb_tasks import choose_jobs
from medi_build.evaluate.results import load_result
from medi_build.evaluate.robustness import BASELINES, evaluate_robustness, variants

PAIRS = 60
GOLD = np.linspace(0, 5, PAIRS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pairs ``a I`` and ``b I``, whose score grows with their number."""
    path = tmp_path / "numbers"
    path.mkdir()
    lines = [f"a {number}\tb {number}\t{score}" for number, score in enumerate(GOLD)]
    (path / "test.tsv").write_text("\n".join(["sentence1\tsentence2\tscore", *lines]) + "\n", encoding="utf-8")
    return path


def noise(instruction: str) -> np.ndarray:
    return np.random.default_rng(xxhash.xxh3_64_intdigest(instruction.encode())).normal(size=PAIRS)


def model(strength: Callable[[str], float], asked: list[str]) -> EvaluatedModel:
    """Cosines of pairs that go with the gold, and with noise as strong as ``strength`` says of the instruction."""

    def embed(texts: Sequence[str], instruction: str | None = None, side: Side | None = None) -> Embedded:
        assert instruction is not None
        asked.append(instruction)
        angles = GOLD / 10 + strength(instruction) * noise(instruction)
        rows = [(0.0 if text[0] == "a" else 1.5 - angles[int(text[2:])]) for text in texts]
        return Embedded(np.stack([np.cos(rows), np.sin(rows)], axis=1).astype(np.float16), 0)

    about = {"model": "made/up", "digest": "0" * 16}
    return EvaluatedModel(about, embed, NO_INSTRUCTIONS, lambda prompt: prompt.instruction)


def test_a_model_that_ignores_instructions_shows_no_difference(folder: Path, tmp_path: Path) -> None:
    (job,) = choose_jobs([], [folder], None)
    found = evaluate_robustness(model(lambda _: 0.0, []), job, tmp_path / "out")
    metrics = found.result.metrics
    assert metrics["spread"] == pytest.approx(0) and metrics["mean"] == pytest.approx(metrics["random"])
    assert all(found.differences[name] == pytest.approx((0, 0, 0), abs=1e-9) for name in BASELINES)


def test_a_model_that_follows_them_is_worse_under_a_wrong_one(folder: Path, tmp_path: Path) -> None:
    def strength(instruction: str) -> float:
        return 0.4 if "recipe" in instruction else 0.02

    (job,) = choose_jobs([], [folder], None)
    found = evaluate_robustness(model(strength, []), job, tmp_path / "out")
    wrong = found.differences["wrong"]
    assert wrong.low is not None and wrong.high is not None and 0 < wrong.low < wrong.value < wrong.high
    none = found.differences["none"]
    assert none.low is not None and none.high is not None and none.high < wrong.low
    metrics = found.result.metrics
    under = [metrics[f"paraphrase-{number}"] for number in range(1, 11)]
    assert (metrics["mean"], metrics["worst"], metrics["best"], metrics["spread"]) == pytest.approx(
        (np.mean(under), min(under), max(under), np.std(under))
    )
    recipe = shipped_instructions().wrong
    assert recipe is not None
    expected = spearmanr(GOLD, GOLD / 10 + 0.4 * noise(recipe.query))[0]
    assert metrics["wrong"] == pytest.approx(expected, abs=2e-3)
    assert found.result.instructions["wrong"] == {"text": recipe.query}


def test_what_was_evaluated_is_not_again_and_is_no_model_to_compare(folder: Path, tmp_path: Path) -> None:
    (job,), asked = choose_jobs([], [folder], None), []
    one = model(lambda _: 0.1, asked)
    first = evaluate_robustness(one, job, tmp_path / "out").result
    times = len(asked)
    again = evaluate_robustness(one, job, tmp_path / "out").result
    assert len(set(asked)) == 13 and len(asked) == times and again.metrics == first.metrics
    assert read_results([tmp_path / "out"]) == {}
    saved = [load_result(path) for path in (tmp_path / "out").glob("*/robustness/numbers.json")]
    assert [one.metrics for one in saved] == [first.metrics]


def test_random_words_are_those_of_the_seed_and_kinds_without_paraphrases_are_told() -> None:
    one, same, other = (variants("Retrieval", seed)["random"].table for seed in (1, 1, 2))
    assert one == same != other
    assert one is not None and one.other.query != one.other.document
    with pytest.raises(EvaluationError, match=r"no paraphrases of an instruction for Summarization; there are for Cl"):
        variants("Summarization", 1)


def test_the_command_prints_the_spread_and_the_differences(folder: Path, tmp_path: Path) -> None:
    options = ["--data", str(folder), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["eval", "robustness", BUNDLED, *options], catch_exceptions=False)
    assert done.exit_code == 0
    assert "spread" in done.stdout and "numbers: mean less wrong" in done.stdout
