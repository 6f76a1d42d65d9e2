"""What people type never becomes an operator, and counts of facets are those of the records."""

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medi_build.browse import find
from medi_build.browse.records_file import Group

TEXTS = ["the quick brown fox", "a quick box", "Ünïcode façade", "NEAR AND OR NOT", "100 % off* the (fox)"]


@pytest.fixture(scope="module")
def database() -> sqlite3.Connection:
    made = sqlite3.connect(":memory:")
    made.execute("CREATE VIRTUAL TABLE texts USING fts5(query, pos, neg, tokenize = 'unicode61 remove_diacritics 2')")
    made.executemany("INSERT INTO texts VALUES (?, 'same', 'other')", [(text,) for text in TEXTS])
    return made


def found(database: sqlite3.Connection, words: str, side: str = "") -> list[str]:
    expression = find.match(words, side)
    assert expression
    return [row[0] for row in database.execute("SELECT query FROM texts WHERE texts MATCH ?", (expression,))]


@pytest.mark.parametrize(
    ("words", "hits"),
    [
        ("quick", TEXTS[:2]),
        ("QUICK fox", TEXTS[:1]),
        ('"quick brown"', TEXTS[:1]),
        ('"brown quick"', []),
        ("qui* b*", TEXTS[:2]),
        ("unicode facade", [TEXTS[2]]),
        ("near and not", [TEXTS[3]]),
        ("(fox) %", [TEXTS[0], TEXTS[4]]),
        ("query:fox", []),
        ('"quick', TEXTS[:2]),
        ("quick\0fox", TEXTS[:1]),
    ],
)
def test_words_phrases_and_beginnings_are_found(database: sqlite3.Connection, words: str, hits: list[str]) -> None:
    assert found(database, words) == hits


def test_a_side_is_searched_alone(database: sqlite3.Connection) -> None:
    assert found(database, "fox", "query") == [TEXTS[0], TEXTS[4]]
    assert found(database, "fox", "pos") == []
    assert len(found(database, "other same")) == len(TEXTS)


@given(
    words=st.text(max_size=40) | st.text(alphabet='"*()^:-+{}NEAR AND\0', max_size=30),
    side=st.sampled_from(["", *find.SIDES]),
)
def test_nothing_that_is_typed_breaks_a_search(words: str, side: str) -> None:
    made = sqlite3.connect(":memory:")
    made.execute("CREATE VIRTUAL TABLE texts USING fts5(query, pos, neg)")
    if expression := find.match(words, side):
        made.execute("SELECT rowid FROM texts WHERE texts MATCH ?", (expression,)).fetchall()


GROUPS = {
    0: Group("a", "pairs", "dense", "MIT", (), 10),
    1: Group("a", "pairs", "given", "MIT", ("margin",), 5),
    2: Group("b", "pairs", "dense", "CC0-1.0", ("margin", "small"), 2),
}
COUNTS = {0: 10, 1: 5, 2: 2}


def test_a_facets_own_choice_does_not_count_for_its_values() -> None:
    told = find.facet_counts(GROUPS, COUNTS, {"dataset": {"b"}})
    assert told["dataset"] == [("a", 15), ("b", 2)]
    assert told["miner"] == [("dense", 2)]
    assert told["warning"] == [("margin", 2), ("small", 2)]
    assert find.chosen(GROUPS, {"dataset": {"b", "a"}, "warning": {"margin"}}) == [1, 2]


def test_a_choice_that_gives_nothing_stays_to_be_taken_back() -> None:
    assert ("gone", 0) in find.facet_counts(GROUPS, COUNTS, {"dataset": {"gone"}})["dataset"]
    assert find.chosen(GROUPS, {"dataset": {"gone"}}) == []


@pytest.mark.parametrize("page", ["0", "-1", "x", "²", "9" * 30, ""])
def test_an_address_is_something_to_search_for_whatever_it_holds(page: str) -> None:
    asked = find.wanted({"page": [page], "side": ["neg'"], "sort": ["id"], "q": ["w" * 9999], "dataset": ["a", "b"]})
    assert 1 <= asked.page <= find.MOST_PAGES and asked.side == "" and asked.sort == "built"
    assert len(asked.words) == find.LONGEST_SEARCH and asked.facets == {"dataset": {"a", "b"}}


def test_neighbours_are_found_by_rare_words() -> None:
    assert find.terms("The Façade_of a façade") == ["the", "facade", "of", "a"]
    assert find.near_match({"the": 9_000_000, "once": 1, "fox": 7, "box": 3}) == '{query} : ("box" OR "fox")'
    assert find.near_match({"the": 9_000_000, "once": 1}) == ""


def test_pieces_of_what_was_found() -> None:
    assert find.pieces(f"a {find.OPEN}fox{find.CLOSE} b") == [("a ", False), ("fox", True), (" b", False)]
