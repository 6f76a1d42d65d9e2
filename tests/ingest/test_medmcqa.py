import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medi_build.content.cards import Card
from medi_build.dataset.schema import EXAMPLES
from medi_build.ingest.adapters.base import Inputs
from medi_build.ingest.adapters.medmcqa import OPTIONS, adapt, points_at_options, without_announcement
from medi_build.ledger import Ledger

FIXTURE = Path(__file__).parent.parent / "fixtures" / "medmcqa" / "dev.json"


def card(record: str) -> Card:
    return Card.model_validate(
        {
            "name": "medmcqa",
            "description": "exam questions",
            "options": {"adapter": "medmcqa", "record": record},
            "files": {"train": ["train.json"]},
            "licence": {"spdx": "unconfirmed", "commercial_use": "unknown"},
            "citation": "",
            "instruction": {"template": "retrieval"},
        }
    )


def run(path: Path, record: str = "option") -> tuple[dict[str, dict], Ledger]:
    ledger = Ledger("medmcqa")
    adapted = adapt(card(record), Inputs((path,), {}, path.parent), ledger)
    assert adapted.kind == "pairs"
    rows = pa.Table.from_batches(adapted.examples, EXAMPLES).to_pylist()
    ledger.written = ledger.adapted
    ledger.check()
    return {row["id"]: row for row in rows}, ledger


def drops(ledger: Ledger) -> dict[str, int]:
    return dict(ledger.dropped["adapt"])


def test_option_records_take_the_right_option_and_the_wrong_ones():
    rows, ledger = run(FIXTURE)
    assert rows["medmcqa/q-01"]["positives"] == ["Patella"]
    assert rows["medmcqa/q-01"]["negatives"] == ["Talus", "Hamate"]  # "All of the above" is of another form
    assert rows["medmcqa/q-02"]["negatives"] == ["Vitamin A", "Vitamin K"]  # opb says the same as the right option
    assert rows["medmcqa/q-04"]["positives"] == ["Pancreas"]
    assert rows["medmcqa/q-04"]["negatives"] == ["Thyroid", "Spleen"]
    assert drops(ledger) == {
        "answer_points_at_options": 1, "duplicate_id": 1, "bad_answer": 1, "no_answer": 1, "empty_text": 2,
        "invalid_json": 1,
    }  # fmt: skip
    assert ledger.places["adapt/bad_answer"] == [f"{FIXTURE}:8"]


def test_explanation_records_lose_the_letter():
    rows, ledger = run(FIXTURE, "explanation")
    assert rows["medmcqa/q-01"]["positives"][0].startswith("Patella. It is")
    assert rows["medmcqa/q-01"]["answers"] == ["Patella"]
    assert rows["medmcqa/q-03"]["positives"] == ["Each step is part of the first hour's work-up."]
    assert rows["medmcqa/q-03"]["answers"] == []
    assert rows["medmcqa/q-05"]["positives"][0].startswith("Beta cells")
    assert all(row["negatives"] == [] for row in rows.values())
    assert drops(ledger)["no_explanation"] == 3  # null, only "Ans-a", and only the answer


def as_hub_form(path: Path, folder: Path) -> Path:
    """The same rows as the hub has them: ``cop`` from 0, -1 where there is no answer."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:-1]]
    names = ["id", "question", "exp", *OPTIONS]
    columns = {name: [row.get(name) for row in rows] for name in names}
    columns["cop"] = [row.get("cop", 0) - 1 for row in rows]
    file = folder / "train-00000-of-00001.parquet"
    pq.write_table(pa.table(columns), file)
    return file


@pytest.mark.parametrize("record", ["option", "explanation"])
def test_both_raw_forms_give_the_same_examples(record: str, tmp_path: Path):
    raw, raw_ledger = run(FIXTURE, record)
    file = as_hub_form(FIXTURE, tmp_path)
    hub, hub_ledger = run(file, record)
    assert {name: row | {"source_file": file.name} for name, row in raw.items()} == hub
    expected = drops(raw_ledger)
    del expected["invalid_json"]
    assert drops(hub_ledger) == expected


def test_zero_based_answers_in_json_lines_are_recognised(tmp_path: Path):
    row = {"question": "Which one?", "opa": "alpha", "opb": "beta", "opc": "gamma", "opd": "delta"}
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps({**row, "id": str(cop), "cop": cop}) + "\n" for cop in range(4)))
    rows, _ = run(file)
    assert [row["positives"] for row in rows.values()] == [["alpha"], ["beta"], ["gamma"], ["delta"]]


def test_wrong_types_are_counted(tmp_path: Path):
    good = {"question": "Which one?", "opa": "a b", "opb": "c d", "opc": "e f", "opd": "g h", "cop": 4, "id": "1"}
    bad = [[], {**good, "id": 7}, {**good, "id": "2", "cop": "4"}, {**good, "id": "3", "question": 5}]
    file = tmp_path / "dev.json"
    file.write_text("\n".join(json.dumps(row) for row in [good, *bad]))
    rows, ledger = run(file)
    assert list(rows) == ["medmcqa/1"]
    assert drops(ledger) == {"wrong_type": 3, "bad_answer": 1}


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("Ans: A. Flumazenil", "Flumazenil"),
        ("Answer- C. Slowly", "Slowly"),
        ("Ans. is 'a' i.e., Femoral", "Femoral"),
        ("Ans. (a, c) Two hold", "Two hold"),
        ("Ans.D. Endometriosis", "Endometriosis"),
        ("The correct answer is (b) Iron", "Iron"),
        ("Answer is D (Persistent rise)", "(Persistent rise)"),
        ("Option A- Broad complex", "Broad complex"),
        ("Ans. BSolitary cyst", "Solitary cyst"),
        ("Ans: Bone marrow", "Bone marrow"),
        ("Ans. DNA is copied", "DNA is copied"),
        ("Ans-A-", ""),
        ("Ansa cervicalis is a loop of nerves", "Ansa cervicalis is a loop of nerves"),
        ("Options for treatment are few", "Options for treatment are few"),
        ("A cyst grows slowly", "A cyst grows slowly"),
    ],
)
def test_announcements(text: str, rest: str):
    assert without_announcement(text) == rest


@pytest.mark.parametrize(
    "option",
    ["All of the above", "None", "none of these.", "Both", "Both A and B", "A,B", "1 and 2", "Both (A) & (C)",
     "Any of the above.", "Can be any of the above", "All are true", "Neither"],
)  # fmt: skip
def test_pointers(option: str):
    assert points_at_options(option)


@pytest.mark.parametrize(
    "option",
    ["All nucleated cells", "Both lungs", "B", "4", "Hepatitis A and B", "1 cm above the knee", "ALL with t(9;22)"],
)
def test_options_that_say_something_are_no_pointers(option: str):
    assert not points_at_options(option)


@pytest.mark.shared
def test_the_real_files_agree(shared_data: Path):
    folder = shared_data / "medmcqa"
    raw, ledger = run(folder / "dev.json")
    file = folder / "hf_form" / "validation-00000-of-00001.parquet"
    hub, _ = run(file)
    assert {name: row | {"source_file": file.name} for name, row in raw.items()} == hub
    assert ledger.read == 4183
    assert ledger.adapted > 3900
    explained, ledger = run(folder / "dev.json", "explanation")
    assert drops(ledger)["no_explanation"] >= 1977
    assert len(explained) > 2150
    for name, count in {"dev": 1, "train": 1, "test": 0}.items():
        assert len(run(folder / "hf_dummy" / f"{name}.json")[0]) == count
