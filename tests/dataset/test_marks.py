"""Files of marks: what is written is read, in both forms; every fault is named with its line."""

from pathlib import Path

import pytest

from medi_build.dataset.marks import RECORD, Mark, marks_digest, marks_of, read_marks, write_marks
from medi_build.errors import InputError
from medi_build.files import text_digest

GONE = text_digest("gone")
MARKS = [
    Mark("toy/1", GONE, text_digest("q"), text_digest("p"), "also\ttrue, “quoted”", "ann", "2026-01-02"),
    Mark("toy/2", RECORD),
    Mark("toys/1", GONE),
]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_marks(tmp_path / "m.jsonl", MARKS)
    assert read_marks(tmp_path / "m.jsonl") == MARKS
    assert not list(tmp_path.glob(".*")), "nothing is left beside it"


def test_a_csv_of_ones_own_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text(f'\ufeffid,neg,reason\ntoy/1,{GONE},"so, so"\ntoy/2,record,\n', encoding="utf-8")
    assert read_marks(path) == [Mark("toy/1", GONE, reason="so, so"), Mark("toy/2", RECORD)]


def test_the_marks_of_a_dataset_are_its_own_and_each_once() -> None:
    again = Mark("toy/1", GONE, text_digest("q"), text_digest("p"), "later")
    assert [one.id for one in marks_of([*MARKS, again], "toy")] == ["toy/1", "toy/2"]
    assert marks_of([*MARKS, again], "to") == ()


def test_what_people_say_and_the_order_do_not_decide() -> None:
    said = Mark("toy/2", RECORD, reason="because", by="bob", time="now")
    assert marks_digest(MARKS[:2]) == marks_digest([said, MARKS[0]]) != marks_digest(MARKS[:1])


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{", "is no JSON"),
        ("[1]", "is no mark but list"),
        ('{"neg": "record"}', "has no id"),
        ('{"id": "a/1"}', "neg is ''"),
        ('{"id": "a/1", "neg": "the text itself"}', "neg is 'the text itself'"),
        ('{"id": "a/1", "neg": "record", "query": "x"}', "query is 'x'"),
        ('{"id": "a/1", "neg": "record", "reason": 3}', "reason is no text"),
        ('{"id": "a/1", "neg": "record", "why": "x"}', "has 'why', which no mark has"),
    ],
)
def test_a_fault_is_named_with_its_line(tmp_path: Path, line: str, fault: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(f'{{"id": "a/1", "neg": "record"}}\n\n{line}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"m\.jsonl:3: ") as error:
        read_marks(path)
    assert fault in str(error.value) and "64 hex digits" in str(error.value)


def test_a_row_of_a_csv_that_is_too_long_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("id,neg\na/1,record,more\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"m\.csv:2: "):
        read_marks(path)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_file_that_cannot_be_read_is_one_clear_error(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "m.jsonl").write_bytes(content)
    with pytest.raises(InputError, match="cannot be read"):
        read_marks(tmp_path / "m.jsonl")
