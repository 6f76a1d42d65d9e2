"""Rows to prompts as in the public script, answers to scores, and what is wrong with files."""

import json
from pathlib import Path
from typing import Any

import pytest

from medi_build.errors import EvaluationError
from medi_build.evaluate.prompt_retrieval.score import judge_answers, judge_examples, label_in, rouge_l
from medi_build.evaluate.prompt_retrieval.tasks import FORMS, MRPC, SST5, read_task, tasks_there
from tests.evaluate.prompt_files import geoquery_rows, sst5_rows, write_task

PAIR = {"sentence1": "A ferry sank", "sentence2": "A ship went down", "label": 1}


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "pool", "questions"),
    [("rte", 2490, 256), ("sst5", 3000, 256), ("mrpc", 3000, 256), ("geoquery", 391, 344)],
)
def test_the_real_files_are_read_row_by_row(name: str, pool: int, questions: int, shared_data: Path) -> None:
    folder = shared_data / "eval" / "prompt_retrieval"
    task = read_task(folder, name)
    assert (len(task.pool), len(task.questions)) == (pool, questions)
    assert tasks_there(folder) == list(FORMS)
    rows = json.loads((folder / f"{name}_eval.json").read_text())
    for row, example in zip(rows, task.questions, strict=True):
        prompt = task.prompt(example, [task.pool[0]])
        assert prompt.startswith(task.header + task.pool[0].ask + task.pool[0].answer)
        for key in ("sentence1", "sentence2", "text", "question"):
            assert row.get(key, "") in prompt
        if "label_text" in row:
            assert example.answer == example.kind == row["label_text"]
        if "query" in row:
            assert example.answer.split() == row["query"].rstrip("; ").split()


def test_prompts_are_the_public_ones(tmp_path: Path) -> None:
    write_task(tmp_path, "rte", [PAIR], [{**PAIR, "label": 0}])
    task = read_task(tmp_path, "rte")
    asked = "A ferry sank.\nquestion: A ship went down. True or False?\nanswer:\n"
    assert task.prompt(task.questions[0], task.pool) == f"{asked}False\n\n\n{asked}"
    assert task.questions[0].text == "A ferry sank.\nquestion: A ship went down"
    assert task.questions[0].answer == "True"
    write_task(tmp_path, "mrpc", [PAIR], [PAIR])
    task = read_task(tmp_path, "mrpc")
    asked = (
        "Are the following two sentences 'equivalent' or 'not equivalent'?\nA ferry sank.\nA ship went down.\nanswer:\n"
    )
    assert task.prompt(task.questions[0], task.pool) == f"{asked}equivalent\n\n\n{asked}"
    write_task(tmp_path, "sst5", sst5_rows(1), sst5_rows(1, 1))
    task = read_task(tmp_path, "sst5")
    assert task.prompt(task.questions[0], []) == (
        "How do you feel about the following sentence?\nthe baker waits , it waits number 1\nanswer:\n"
    )
    write_task(tmp_path, "geoquery", geoquery_rows(1), geoquery_rows(1, 1))
    task = read_task(tmp_path, "geoquery")
    assert task.prompt(task.questions[0], task.pool) == (
        "CREATE TABLE river(\n  name text,\n  length number\n)\n\n"
        "CREATE TABLE town(\n  name text,\n  length number\n)\n\n"
        "-- Using valid SQLite, answer the following questions for the tables provided above.\n"
        "-- how long is the river number 0\n"
        'SELECT RIVERalias0.LENGTH FROM RIVER AS RIVERalias0 WHERE RIVERalias0.NAME = "n0"\n\n'
        "-- how long is the town number 1\nSELECT"
    )


@pytest.mark.parametrize(
    ("text", "labels", "label"),
    [
        ("very negative", SST5, "very negative"),
        ("negative\n\n\nHow", SST5, "negative"),
        ("  Very Negative.", SST5, "very negative"),
        ("**positive**", SST5, "positive"),
        ("not equivalent", MRPC, "not equivalent"),
        ("'equivalent'", MRPC, "equivalent"),
        ("equivalently", MRPC, None),
        ("I think it is positive", SST5, None),
        ("very", SST5, None),
        ("", SST5, None),
    ],
)
def test_labels_in_what_was_generated(text: str, labels: tuple[str, ...], label: str | None) -> None:
    assert label_in(text, labels) == label


def test_answers_are_judged(tmp_path: Path) -> None:
    write_task(tmp_path, "sst5", sst5_rows(1), sst5_rows(4))
    judged = judge_answers(read_task(tmp_path, "sst5"), ["very negative", "neutral", "no idea", "negative"])
    assert judged.values == [1.0, 1.0, 0.0, 1.0]  # labels are 0, 2, 4, 1
    assert judged.metrics == {"accuracy": 0.75}
    assert judged.no_label == 1
    write_task(tmp_path, "geoquery", geoquery_rows(1), geoquery_rows(4))
    task = read_task(tmp_path, "geoquery")
    right = [question.answer for question in task.questions]
    answers = [
        right[0].removeprefix("SELECT"),
        f"\n{right[1]} ;\n\n-- another question",
        " 1",
        "",
    ]
    judged = judge_answers(task, answers)
    assert judged.values[:2] == [1.0, 1.0]
    assert judged.metrics["exact_match"] == 0.5
    # "SELECT 1" has one word of the query's, which has 11 of letters and digits: precision 1/2, recall 1/11.
    words = 11
    assert judged.values[2] == pytest.approx(2 * (1 / 2) * (1 / words) / (1 / 2 + 1 / words))
    assert judged.metrics["rouge_l"] == pytest.approx(sum(judged.values) / 4)


def test_rouge_l_of_label_numbers_is_accuracy() -> None:
    """So the published figures of tasks with labels are accuracies."""
    assert rouge_l(["0", "1", "4"], ["0", "2", "4"]) == [1.0, 0.0, 1.0]


def test_examples_are_judged(tmp_path: Path) -> None:
    write_task(tmp_path, "geoquery", geoquery_rows(4), geoquery_rows(3, 4))
    task = read_task(tmp_path, "geoquery")
    pool = task.pool  # templates of rivers and towns by turns
    judged = judge_examples(task, [[pool[0], pool[1], pool[2]], [pool[1], pool[0]], []])
    assert judged.values == pytest.approx([2 / 3, 1 / 2, 0])
    assert judged.metrics == pytest.approx({"template_share": (2 / 3 + 1 / 2) / 3, "nearest_template": 1 / 3})


@pytest.mark.parametrize(
    ("name", "rows", "told"),
    [
        ("sst5", [], "has to be a JSON array of objects, at least one"),
        ("sst5", {"text": "a"}, "has to be a JSON array of objects"),
        ("sst5", [{"label": 1}], "row 0: has no 'text'"),
        ("sst5", [*sst5_rows(2), {"text": "a", "label": 5}], "row 2: 'label' is 5, not a number from 0 to 4"),
        ("sst5", [{"text": "a", "label": True}], "'label' is True, not a number"),
        ("sst5", [{"text": None, "label": 1}], "'text' is 'None', not a text"),
        ("rte", [{**PAIR, "label": -1}], "'label' is -1, not a number from 0 to 1"),
        ("geoquery", [{**geoquery_rows(1)[0], "db_column_types": ["text"]}], "row 0: "),
        ("geoquery", [{"question": "a", "query": "SELECT"}], "row 0: has no 'db_column_names'"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(tmp_path: Path, name: str, rows: Any, told: str) -> None:
    write_task(tmp_path, name, rows, sst5_rows(1))
    with pytest.raises(EvaluationError, match=told) as caught:
        read_task(tmp_path, name)
    assert f"{name}_train.json" in str(caught.value)


def test_missing_files_and_mistyped_tasks(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"--task sst2: .* did you mean 'sst5'\?; they are rte, sst5, mrpc"):
        read_task(tmp_path, "sst2")
    with pytest.raises(EvaluationError, match="holds the files of no Prompt Retrieval task"):
        tasks_there(tmp_path)
    with pytest.raises(EvaluationError, match=r"mrpc_train\.json: is missing"):
        read_task(tmp_path, "mrpc")
    (tmp_path / "mrpc_train.json").write_text("[{]")
    with pytest.raises(EvaluationError, match=r"mrpc_train\.json: is no JSON"):
        read_task(tmp_path, "mrpc")
