"""Records as the table that other forms are made from."""

import pyarrow as pa
import pytest

from medi_build.dataset.export.forms import instructions_of, most_negatives, to_tuples
from medi_build.dataset.formats import TUPLES
from medi_build.dataset.schema import RECORDS as SCHEMA
from tests.dataset.built import filled
from tests.dataset.export.conftest import ANSWER, QUESTION, RECORDS


def table(*rows: int) -> pa.Table:
    return pa.Table.from_pylist([filled(RECORDS[row]) for row in rows], schema=SCHEMA)


def test_texts_stand_alone_and_the_instruction_of_the_query_beside_them() -> None:
    made = to_tuples(table(0, 1), "nothing")
    assert made.table.schema.equals(TUPLES)
    assert made.filled == 0
    first, second = made.table.to_pylist()
    assert (first["instruction"], first["query"], first["pos"]) == (QUESTION, "question 0?", 'answer "0"\n')
    assert first["negatives"] == ["wrong 0", "wrong 0 0"]
    assert second["negatives"] == ["wrong 1", "wrong 1 0", "wrong 1 1"]
    assert second["negative_scores"] == [0.5, 0.25, 0.25]


@pytest.mark.parametrize(("in_text", "query"), [("documents", ""), ("all", QUESTION)])
def test_an_instruction_in_the_text_is_joined_to_the_letter(in_text: str, query: str) -> None:
    [row] = to_tuples(table(1), in_text).table.to_pylist()  # type: ignore[arg-type]
    assert row["query"] == f"{query}question 1?"
    assert row["pos"] == f'{ANSWER}answer "1"\n'
    assert row["negatives"] == [f"{ANSWER}wrong 1", f"{ANSWER}wrong 1 0", f"{ANSWER}wrong 1 1"]


def test_rows_with_fewer_negatives_repeat_theirs_in_turn() -> None:
    made = to_tuples(table(0, 8, 1), "nothing", 3)
    assert made.filled == 2
    assert made.table["negatives"].to_pylist() == [
        ["wrong 0", "wrong 0 0", "wrong 0"],
        ["wrong 0"] * 3,
        ["wrong 1", "wrong 1 0", "wrong 1 1"],
    ]
    assert made.table["negative_scores"].to_pylist()[0] == [0.5, 0.25, 0.5]


def test_slices_are_read_from_where_they_begin() -> None:
    whole = table(*range(8))
    parts = [to_tuples(whole.slice(start, 3), "all", 3).table for start in (0, 3, 6)]
    assert pa.concat_tables(parts).to_pylist() == to_tuples(whole, "all", 3).table.to_pylist()
    assert to_tuples(whole.slice(0, 0), "all").table.num_rows == 0


def test_what_decides_the_columns() -> None:
    assert most_negatives(table(0, 8)) == 2
    assert most_negatives(table(8)) == 1
    assert most_negatives(table().slice(0, 0)) == 1
    assert instructions_of(table(0, 8)) == {(QUESTION, ANSWER), ("", "")}
