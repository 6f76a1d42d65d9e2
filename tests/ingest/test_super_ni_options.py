"""Outputs that point at an option of their input: each form, and what is no such output."""

import json
from pathlib import Path

import pytest

from medi_build.ingest.adapters.super_ni_options import Pointer, option_text, pointer
from tests.ingest.test_super_ni import run

OPTIONS = ["a barn", "a lighthouse", "a mill"]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("B", Pointer("", "letter", 2)),
        ("b", Pointer("", "letter", 2)),
        ("(B).", Pointer("", "letter", 2)),
        ("E.", Pointer("", "letter", 5)),
        ("2", Pointer("", "number", 2)),
        ("10", Pointer("", "number", 10)),
        ("Option 2", Pointer("option", "number", 2)),
        ("Option2", Pointer("option", "number", 2)),
        ("option (b)", Pointer("option", "letter", 2)),
        ("Completion A", Pointer("completion", "letter", 1)),
        ("Text two", Pointer("text", "number", 2)),
        ("second", Pointer("", "ordinal", 2)),
        ("The first sentence", Pointer("sentence", "ordinal", 1)),
        ("the second one", Pointer("", "ordinal", 2)),
        ("Speaker 2", None),
        ("0", None),
        ("12", None),
        ("(7, 8)", None),
        ("After step 2.", None),
        ("bad", None),
        ("optiona", None),
        ("A barn", None),
        ("Yes", None),
        ("", None),
    ],
)
def test_what_is_read_as_a_pointer(output: str, expected: Pointer | None):
    assert pointer(output) == expected


FORMS = {
    "(A) (B)": ("Where is it? (A) {} (B) {} (C) {}", "B"),
    "(A)text": ("Where is it?\n(A){} (B){} (C).{}", "B"),
    "(a)": ("Where is it? (a) {} (b) {} (c) {}", "b"),
    "(1)(2)": ("Where is it?\n(1){}(2){}(3){}", "2"),
    "<1> <2>": ("Options: <1> {} <2> {} <3> {}", "2"),
    "a ) ,": ("a , b and c walk . Options: a ) {} , b ) {} , c ) {}", "b"),
    "1)text,": ("Options: 1){}, 2){}, 3){}", "2"),
    "a.": ("Choices: a. {} b. {} c. {}", "b"),
    "1.": ("Sentence 1: x Sentence 2: y Choices: 1. {} 2. {} 3. {}", "2"),
    "A: by line": ("Where is it?\nA: {}\nB: {}\nC: {}", "B"),
    "bare letters": ("A boat is seen. Options: A {} B {} C {}", "B"),
    "Option1:": ("Question: Where? Option1: {} Option2: {} Option3: {} Explanation: It stands at the sea.", "Option2"),
    "Option A:": ("Where?\n\n Option A:{}\n\n Option B: {}\n\n Option C: {}", "Option B"),
    "Completion A:": ("Prompt: A man sees\nCompletion A: {}\nCompletion B: {}\nCompletion C: {}", "Completion B"),
    "Middle 1:": ("Beginning: 1. Go. Middle 1: {} Middle 2: {} Middle 3: {} Ending: Back.", "2"),
    "Text one:": ("Text one: {}\n Text two: {}\n Text three: {}", "Text two"),
    "Sentence 1: first": ("Sentence 1: {} Sentence 2: {} Sentence 3: {}", "second sentence"),
    "mention before": ("Say (A) or (B). (A) {} (B) {} (C) {}", "B"),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_options(form: str):
    text, output = FORMS[form]
    target = pointer(output)
    assert target is not None
    found = [option_text(text.format(*OPTIONS), target._replace(rank=rank)) for rank in (1, 2, 3, 4)]
    assert found == [*OPTIONS, None]


@pytest.mark.parametrize("list_", ["Plan: 1. eat 2. sleep.", "They came (1) by boat and (2) on foot."])
def test_a_list_inside_another_part_is_none_of_options_with_a_name(list_: str):
    text = f"Beginning: {list_} Middle 1: It rained. Middle 2: It snowed. Ending: All froze."
    assert option_text(text, Pointer("", "number", 2)) == "It snowed."
    assert option_text(f"Sentence 1: Tea. Sentence 2: Milk. {list_}", Pointer("", "number", 1)) != "Tea."


def test_two_lines_are_the_options_of_an_ordinal():
    text = "He poured milk on his tie.\n\nHe poured milk on his cereal."
    assert option_text(text, Pointer("", "ordinal", 2)) == "He poured milk on his cereal."
    assert option_text(text, Pointer("", "number", 2)) is None
    assert option_text(f"{text}\nWhy?", Pointer("", "ordinal", 2)) is None


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("A great tea, I bought 5 boxes in 2 weeks.", "5"),
        ("Speaker 1: Hello. Speaker 2: Hi.", "2"),
        ("How many words end with 't'? 'A cat sat.'", "2"),
        ("(B) alone is no list", "B"),
        ("(A)  (B) the first is empty", "A"),
    ],
)
def test_where_no_option_is(text: str, output: str):
    target = pointer(output)
    assert target is not None
    assert option_text(text, target) is None


def test_many_marks_take_no_time_to_speak_of():
    text = "(A) x (B) y " * 8000
    assert option_text(text, Pointer("", "letter", 2)) == "y"


def task(folder: Path, rows: list[tuple[str, list[str]]], name: str = "task9010_harbour_choice") -> Path:
    path = folder / f"{name}.json"
    instances = [{"id": f"{i}", "input": text, "output": outputs} for i, (text, outputs) in enumerate(rows)]
    path.write_text(json.dumps({"Categories": ["Question Answering"], "Instances": instances}))
    return path


def choices(count: int) -> list[tuple[str, list[str]]]:
    return [(f"Which? (A) pier {i} (B) mole {i}", ["A" if i % 2 else "B"]) for i in range(count)]


@pytest.mark.parametrize("outputs", ["auto", "option"])
def test_the_option_s_text_takes_the_place_of_the_letter(tmp_path: Path, outputs: str):
    adapted, rows, ledger = run(task(tmp_path, choices(40)), outputs=outputs)
    assert adapted.kind == "text2text"
    assert [row["answers"] for row in rows[:2]] == [["mole 0"], ["pier 1"]]
    assert ledger.notes["options_resolved"] == 40


def test_options_that_are_the_same_in_all_rows_are_classes(tmp_path: Path):
    rows = [(f"Fact {i}. (A) {a} (B) {b}", ["A"]) for i in range(20) for a, b in (("yes", "no"), ("no", "yes"))]
    adapted, examples, _ = run(task(tmp_path, rows))
    assert adapted.kind == "classification"
    assert [row["labels"] for row in examples[:2]] == [["yes"], ["no"]]


def test_rows_whose_option_is_not_found_are_dropped_and_counted(tmp_path: Path):
    faulty = [("Which? (A) pier (B) mole", ["C"]), ("Which? Who knows.", ["A"]), ("Which? (A) x (B) y", ["unclear"])]
    _, rows, ledger = run(task(tmp_path, choices(40) + faulty), outputs="option")
    assert len(rows) == 40
    assert dict(ledger.dropped["adapt"]) == {"option_not_found": 3}
    assert ledger.places["adapt/option_not_found"][0].endswith("instance 41")


def test_by_rule_outputs_stay_where_the_inputs_hold_no_options(tmp_path: Path):
    ratings = [(f"A tea of grade {i}.", [str(1 + i % 5)]) for i in range(40)]
    adapted, rows, ledger = run(task(tmp_path, ratings))
    assert adapted.kind == "classification"
    assert rows[1]["labels"] == ["2"]
    assert not ledger.notes["options_resolved"]
    few = choices(40) + [(f"Which, of {i}?", ["A"]) for i in range(3)]
    adapted, _, ledger = run(task(tmp_path, few))
    assert adapted.kind == "classification", "with more than one row in twenty without options, letters may be labels"
    assert not ledger.dropped


@pytest.mark.parametrize("outputs", ["text", "count", "wrong"])
def test_what_is_no_class_is_treated_by_output(tmp_path: Path, outputs: str):
    adapted, rows, ledger = run(task(tmp_path, choices(40)), outputs=outputs)
    assert adapted.kind == "text2text"
    assert rows[0]["answers"] == ["B"]
    assert not ledger.notes["options_resolved"]
