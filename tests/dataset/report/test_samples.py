"""The records that a page shows, and how their texts are made fit for it."""

from pathlib import Path

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from medi_build.dataset.reader import open_dataset
from medi_build.dataset.report.samples import chosen, marked, read_rows, shown, visible
from medi_build.dataset.report.texts_map import SIZE, drawn, layout
from tests.dataset.built import write_built


def test_records_go_from_the_largest_margin_to_the_smallest() -> None:
    positive = [0.9, 0.5, float("nan"), 0.7, 0.9]
    negative = [0.1, 0.6, 0.2, 0.4, 0.1]
    table = pl.DataFrame({"positive_score": positive, "negative_score": negative})
    assert chosen(table).tolist() == [2, 0, 4, 3, 1]
    assert chosen(table, 3).tolist() == [2, 4, 1]
    assert chosen(table.head(0)).tolist() == []


def test_rows_are_read_by_place_across_shards_in_the_order_asked_for(tmp_path: Path) -> None:
    rows = [{"task_id": 1, "id": f"toy/{number}", "query": ["", f"q{number}"]} for number in range(7)]
    built = open_dataset(write_built(tmp_path / "built", rows, shards_of=3))
    wanted = np.array([6, 0, 3, 3, 2])
    found = read_rows(built, built.manifest.datasets[0], wanted)
    assert [row["id"] for row in found] == [f"toy/{number}" for number in wanted]


@given(st.text(max_size=200), st.integers(2, 60))
def test_a_shown_text_is_short_and_hides_nothing(text: str, longest: int) -> None:
    line = shown(text, longest)
    assert "\n" not in line
    assert visible(line) == line, "nothing is left that cannot be seen"
    if visible(text) == text:
        assert len(line) <= longest


def test_a_megabyte_of_one_word_is_cut() -> None:
    assert shown("w" * 1_000_000, 10) == "w" * 9 + "…"
    assert shown("short", 10) == "short"


def test_marks_that_turn_text_around_are_shown_by_number() -> None:
    assert visible("a\u202eb\x00c\u200fd") == "a⟨U+202E⟩b⟨U+0000⟩c⟨U+200F⟩d"
    assert visible("naïve 漢字 😀") == "naïve 漢字 😀"


@given(st.text(max_size=80), st.text(max_size=80))
def test_pieces_put_together_are_the_text(text: str, other: str) -> None:
    assert "".join(piece for piece, _ in marked(text, other)) == text


def test_words_that_the_other_lacks_are_marked_unless_they_are_most() -> None:
    assert marked("A woman is serving tea.", "a WOMAN is drinking tea") == [
        ("A woman is ", False),
        ("serving", True),
        (" tea.", False),
    ]
    assert marked("entirely other words", "nothing alike here") == [("entirely other words", False)]


def test_the_map_takes_from_each_dataset_in_proportion_and_some_at_least() -> None:
    places = drawn([10_000, 100, 2, 0], seed=1, points=100)
    assert [len(part) for part in places] == [98, 3, 2, 0]
    assert all(len(set(part.tolist())) == len(part) for part in places)
    again = drawn([10_000, 100, 2, 7], seed=1, points=100)
    assert (again[0] == places[0]).all(), "another dataset moves no point of this one"
    assert (drawn([10_000, 100, 2, 0], seed=2, points=100)[0] != places[0]).any()


def test_what_is_alike_stands_together_on_the_map() -> None:
    generator = np.random.default_rng(0)
    centres = np.eye(3, 16)
    vectors = np.repeat(centres, 20, axis=0) + generator.normal(0, 0.05, (60, 16))
    places = layout(vectors.astype(np.float16), seed=0)
    assert (places >= 0).all() and (places <= SIZE).all()
    assert (layout(vectors.astype(np.float16), seed=0) == places).all()
    distance = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    group = np.repeat(np.arange(3), 20)
    assert (group[distance.argmin(axis=1)] == group).mean() > 0.95
