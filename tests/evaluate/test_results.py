"""Results on disk: what is written is what is read, and what is no result is told."""

from pathlib import Path

import pytest

from medi_build.errors import EvaluationError
from medi_build.evaluate.results import Result, items_table, load_items, load_result, result_path, save_result


def result(**changes: object) -> Result:
    fields: dict[str, object] = {
        "suite": "mteb",
        "task": "nfcorpus",
        "task_type": "Retrieval",
        "model": {"model": "org/encoder", "revision": None, "digest": "0123456789abcdef", "dtype": "float32"},
        "instructions": {"source": "templates", "query": "Represent the question;"},
        "main_metric": "ndcg_at_10",
        "metrics": {"ndcg_at_10": 0.25, "recall_at_100": 0.5},
        "statistic": "mean",
        "seconds": 1.5,
    }
    return Result.model_validate({**fields, **changes})


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    path = save_result(tmp_path, result(), items_table(["q1", "q2"], [0.0, 0.5]))
    assert path == tmp_path / "org__encoder-01234567-templates" / "mteb" / "nfcorpus.json"
    assert load_result(path) == result()
    assert load_items(path).to_pydict() == {"id": ["q1", "q2"], "value": [0.0, 0.5]}
    assert load_result(path).main_score == 0.25


def test_other_instructions_are_another_result() -> None:
    model = result().model
    paths = {result_path(Path(), "mteb", "a", model, source) for source in ("templates", "saved", "none", "own.yaml")}
    assert len(paths) == 4
    assert result(instructions={"source": "none"}).label == "org/encoder (none)"


@pytest.mark.parametrize("name", ["../up", "a/b", "with space", "ü"])
def test_a_task_of_any_name_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    path = save_result(tmp_path, result(task=name))
    assert path.resolve().parent == (tmp_path / "org__encoder-01234567-templates" / "mteb").resolve()
    assert load_result(path).task == name


def test_what_is_no_result_is_told(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text('{"suite": "mteb"}', encoding="utf-8")
    with pytest.raises(EvaluationError, match=r"other\.json: is no result of `medi eval` \(task: Field required\)"):
        load_result(path)
    with pytest.raises(EvaluationError, match="cannot be read"):
        load_items(path)
