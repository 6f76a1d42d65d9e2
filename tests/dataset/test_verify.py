"""The rules for records, against the same rules in plain Python."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medi_build.dataset.reader import DatasetEntry
from medi_build.dataset.schema import RECORDS
from medi_build.dataset.verify import _first_fault
from tests.dataset.built import filled

ENTRY = DatasetEntry.model_construct(name="toy", task_id=5)
SIDES = ("query", "pos", "neg")


def batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([filled(row) for row in rows], RECORDS)


def row(query: str = "a", pos: str = "b", neg: str = "c", instruction: str = "", task_id: int = 5) -> dict[str, Any]:
    return {"query": [instruction, query], "pos": ["", pos], "neg": ["", neg], "task_id": task_id}


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (row(neg=" b\u2003"), "the negative equals the positive"),
        (row(neg="a "), "the negative equals the query"),
        (row(task_id=6), "wrong task_id"),
        (row(query=" "), "empty query"),
        (row(pos=""), "empty pos"),
        (row(neg="\n"), "empty neg"),
        (row(instruction="Embed the text;"), "the instruction of query is neither empty nor begins with 'Represent '"),
        ({**row(), "pos": ["b"]}, "pos is no [instruction, text]"),
        ({**row(), "neg": ["", "c", "d"]}, "neg is no [instruction, text]"),
    ],
)
def test_each_rule_names_the_first_row_that_breaks_it(bad: dict[str, Any], what: str) -> None:
    good = row(instruction="Represent the text;")
    assert _first_fault(batch([good, good]), ENTRY) is None
    assert _first_fault(batch([good, good, bad, good, bad]), ENTRY) == (2, what)
    assert _first_fault(batch([good, good, bad]).slice(2), ENTRY) == (0, what)


TEXTS = st.sampled_from(["", " ", "a", "b", " a", "a\t", "c"])
ROWS = st.builds(row, TEXTS, TEXTS, TEXTS, st.sampled_from(["", "Represent x;", "x"]), st.sampled_from([5, 5, 5, 6]))


@settings(max_examples=200)
@given(rows=st.lists(ROWS, min_size=1, max_size=4))
def test_a_fault_is_found_exactly_where_there_is_one(rows: list[dict[str, Any]]) -> None:
    def whole(one: dict[str, Any]) -> bool:
        texts = {side: one[side][1].strip() for side in SIDES}
        instructed = one["query"][0] in ("", "Represent x;")
        distinct = texts["neg"] not in (texts["query"], texts["pos"])
        return all(texts.values()) and distinct and instructed and one["task_id"] == 5

    found = _first_fault(batch(rows), ENTRY)
    assert (found is None) == all(map(whole, rows))
    assert found is None or not whole(rows[found[0]])
