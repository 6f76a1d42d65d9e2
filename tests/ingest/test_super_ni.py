import json
from collections import Counter
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medi_build.content.cards import Card
from medi_build.dataset.schema import EXAMPLES
from medi_build.errors import InputError
from medi_build.ingest.adapters.base import Adapted, Inputs
from medi_build.ingest.adapters.super_ni import adapt, decide_kind
from medi_build.ledger import Ledger

FIXTURES = Path(__file__).parent.parent / "fixtures" / "super_ni"
MOOD, TITLES, ALWAYS_YES = (
    "task9001_ferry_mood_classification",
    "task9002_lantern_story_titles",
    "task9003_always_yes_classification",
)


def card(task: str, outputs: str = "auto") -> Card:
    return Card.model_validate(
        {
            "name": f"super_ni/{task}",
            "description": "a task",
            "options": {"adapter": "super_ni", "outputs": outputs},
            "files": {"train": [f"{task}.json"]},
            "licence": {"spdx": "unconfirmed", "commercial_use": "unknown"},
            "citation": "",
            "instruction": {"template": "super_ni"},
        }
    )


def run(path: Path, task: str = "", outputs: str = "auto") -> tuple[Adapted, list[dict], Ledger]:
    task = task or path.stem
    ledger = Ledger(f"super_ni/{task}")
    adapted = adapt(card(task, outputs), Inputs((path,), {}, path.parent), ledger)
    rows = pa.Table.from_batches(adapted.examples, EXAMPLES).to_pylist()
    ledger.written = ledger.adapted
    ledger.check()
    return adapted, rows, ledger


def test_classification_task_with_hard_rows():
    adapted, rows, ledger = run(FIXTURES / f"{MOOD}.json")  # the file says NaN for its URL, as some official ones do
    assert adapted.kind == "classification"
    assert adapted.fields["text_type"] == "review of a ferry crossing"
    assert [row["labels"] for row in rows] == [["good", "mixed"], ["bad"], ["mixed"], ["good"], ["bad"], ["mixed"]]
    assert rows[0]["id"] == f"super_ni/{MOOD}/task9001-00"
    assert rows[0]["query"] == "The crossing was calm and the crew kind."
    assert all(row["positives"] == row["negatives"] == row["answers"] == row["groups"] == [] for row in rows)
    assert ledger.read == 9
    assert dict(ledger.dropped["adapt"]) == {"duplicate_input": 1, "empty_text": 1, "no_output": 1}
    assert ledger.places["adapt/no_output"][0].endswith(f"{MOOD}.json:instance 9")


def test_text_task_keeps_all_outputs_as_answers():
    adapted, rows, _ = run(FIXTURES / f"{TITLES}.json")
    assert adapted.kind == "text2text"
    assert rows[0]["answers"] == ["The Sunday Lantern", "A Light Once a Week"]
    assert all(row["labels"] == [] for row in rows)


def test_card_tells_what_the_outputs_are():
    adapted, rows, _ = run(FIXTURES / f"{TITLES}.json", outputs="class")
    assert adapted.kind == "classification"
    assert rows[1]["labels"] == ["The Wrong Kettle"]


def test_one_class_drops_every_row():
    _, rows, ledger = run(FIXTURES / f"{ALWAYS_YES}.json")
    assert rows == []
    assert dict(ledger.dropped["adapt"]) == {"one_class": 6}


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_hub_form_gives_the_same_examples(form: str, tmp_path: Path):
    path = FIXTURES / "hub_train.jsonl"
    if form == "parquet":
        path = tmp_path / "train.parquet"
        pl.read_ndjson(FIXTURES / "hub_train.jsonl").write_parquet(path, row_group_size=3)
    adapted, rows, ledger = run(path, TITLES)
    original, expected, _ = run(FIXTURES / f"{TITLES}.json")
    places = [{"source_file": path.name, "source_row": first} for first in (1, 3, 4, 6)]
    assert rows == [row | place for row, place in zip(expected, places, strict=True)]
    assert adapted.kind == original.kind
    assert ledger.read == 4  # instances of this task; rows of the other task in the file are not its rows
    assert ledger.notes["further_outputs"] == 2


def test_hub_form_without_the_task_gives_no_rows():
    _, rows, ledger = run(FIXTURES / "hub_train.jsonl", MOOD)
    assert rows == []
    assert ledger.read == 0


def write(folder: Path, instances: list) -> Path:
    path = folder / "task9009_made_up.json"
    path.write_text(json.dumps({"Definition": ["Do it."], "Instances": instances}))
    return path


def test_bad_instances_are_counted(tmp_path: Path):
    good = [{"id": f"{i}", "input": f"text {i}", "output": [f"out {i}"]} for i in range(3)]
    bad = [
        7,
        {"id": 5, "input": "number as id", "output": ["x"]},
        {"id": "0", "input": "known id", "output": ["x"]},
        {"id": "a", "input": None, "output": ["x"]},
        {"id": "b", "input": "no output key"},
        {"id": "c", "input": "numbers as output", "output": [1, 2]},
        {"id": "d", "input": "x" * 100_001, "output": ["x"]},
        {"id": "e", "input": "lone \ud800 surrogate", "output": ["x"]},
    ]
    _, rows, ledger = run(write(tmp_path, good + bad))
    assert [row["query"] for row in rows] == ["text 0", "text 1", "text 2"]
    assert dict(ledger.dropped["adapt"]) == {
        "wrong_type": 3, "duplicate_id": 1, "no_output": 2, "too_long": 1, "invalid_unicode": 1,
    }  # fmt: skip


def test_too_few_rows(tmp_path: Path):
    _, rows, ledger = run(write(tmp_path, [{"id": "0", "input": "alone", "output": ["x"]}]))
    assert rows == []
    assert dict(ledger.dropped["adapt"]) == {"too_few_rows": 1}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"Instances": [{"id": "0", "inp', "not valid JSON"),
        (b'{"Definition": ["x"]}', "list 'Instances'"),
        (b"[]", "list 'Instances'"),
        (b'{"Instances": "\xff"}', "not UTF-8"),
        (b"PAR1 and nothing more", "not in the hub's form"),
    ],
)
def test_damaged_files_are_told(tmp_path: Path, content: bytes, told: str):
    path = tmp_path / "task9009_made_up.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=told) as error:
        run(path)
    assert str(path) in str(error.value)


def test_missing_file_is_told(tmp_path: Path):
    with pytest.raises(InputError, match="cannot be read"):
        run(tmp_path / "task9009_made_up.json")


def each(labels: int, rows_per_label: int, length: int = 5) -> list[list[str]]:
    return [[f"{label:0{length}d}"] for label in range(labels) for _ in range(rows_per_label)]


@pytest.mark.parametrize(
    ("outputs", "category", "kind"),
    [
        ([["What rolls?"], ["What falls?"]] * 40, "Question Generation", "text2text"),
        ([["What?"], ["yes"], ["no"]] * 40, "Question Answering", "classification"),
        (each(2, 50), "Question Answering", "classification"),
        (each(20, 2), "Translation", "classification"),
        (each(20, 1), "Sentiment Analysis", "text2text"),
        (each(40, 39), "Gender Classification", "classification"),
        (each(40, 39), "Word Analogy", "text2text"),
        (each(44, 60), "Word Analogy", "classification"),
        (each(64, 9), "Text Categorization", "text2text"),
        (each(101, 500), "Text Categorization", "text2text"),
        (each(40, 39, length=61), "Text Categorization", "text2text"),
        ([], "Text Categorization", "text2text"),
    ],
)
def test_kind_is_decided_by_data(outputs: list[list[str]], category: str, kind: str):
    assert decide_kind(outputs, category) == kind


def test_a_name_that_says_classification_needs_two_rows_a_class():
    dialogues = each(47, 4)
    assert decide_kind(dialogues, "Dialogue Act Recognition") == "text2text"
    assert (
        decide_kind(dialogues, "Dialogue Act Recognition", "task1394_meta_woz_task_classification") == "classification"
    )
    assert decide_kind(each(47, 1), "Dialogue Act Recognition", "task1394_a_classification") == "text2text"


@pytest.mark.slow
@given(st.lists(st.lists(st.sampled_from([f"label {i}" for i in range(20)]), min_size=1), min_size=40), st.text())
def test_few_classes_with_enough_rows_are_always_classification(outputs: list[list[str]], category: str):
    assert decide_kind(outputs, category) == "classification"


@pytest.mark.slow
@pytest.mark.shared
def test_all_real_tasks(shared_data: Path):
    kinds, resolved = {}, Counter[str]()
    for path in sorted((shared_data / "super_ni" / "tasks").glob("*.json")):
        adapted, rows, ledger = run(path)
        instances = json.loads(path.read_bytes())["Instances"]
        assert ledger.read == len(instances), path
        assert len(rows) >= 0.9 * len({instance["input"].strip() for instance in instances}), path
        assert len({row["query"] for row in rows}) == len(rows)
        assert len({row["id"] for row in rows}) == len(rows)
        vocabulary = {output.strip() for instance in instances for output in instance["output"]}
        if len(vocabulary) <= 20 and len(instances) >= 50:
            assert adapted.kind == "classification" or ledger.notes["options_resolved"], path
        kinds[path.stem.split("_")[0]] = adapted.kind
        resolved[path.stem.split("_")[0]] = ledger.notes["options_resolved"]
    assert len(kinds) == 81
    assert set(+resolved) == {"task362"}
    for task in ("task089", "task342", "task563", "task564", "task1338", "task1418"):
        assert kinds[task] == "classification"
    for task in ("task033", "task352", "task763", "task1153", "task1314", "task1711"):
        assert kinds[task] == "text2text"
