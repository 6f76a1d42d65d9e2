"""What is drawn where the filters leave nothing; `test_reference.py` holds it to a plain version over all knobs."""

import pytest

from medi_build.content.mining_rule import MiningRule
from tests.mine.test_filters import angles, names, run

NEAR = [(f"d{angle}", f"near{angle}@{angle}", []) for angle in range(1, 20)]
FAR = [(f"f{angle}", f"far{angle}@{angle}", []) for angle in range(60, 90)]
QUERY = {"query": "q@0", "positives": ["p@40"]}
"""Its positive is further from it than all of `NEAR`."""
RULE = {"relative_margin": 0.05, "range_max": 10, "relax": True}


def mined(docs, query=QUERY, **knobs):
    got, ledger = run([query], MiningRule(**{**RULE, **knobs}), docs, embed=angles(0))
    return got, {name: count for name, count in ledger.notes.items() if name.startswith("random")}


def test_an_easy_text_below_the_positive_is_taken_where_all_that_is_ranked_lies_above_it():
    assert mined(NEAR + FAR, relax=False)[0] == []
    [row], notes = mined(NEAR + FAR, num_negatives=3)
    assert all(name.startswith("far") for name in names(row))
    assert (row["neg_rank"], row["miner"], row["hard_negative_ranks"]) == (-2, "random", [-2, -2])
    assert len({row["neg"], *row["hard_negatives"]}) == 3
    assert notes == {"random_text_taken": 1}


def test_a_row_that_has_a_candidate_gets_no_other():
    rows, notes = mined([("x", "x@50", []), *FAR], num_negatives=3, min_score=0.6)
    assert [names(row) for row in rows] == [["x"]] and notes == {}


def test_where_no_text_lies_below_the_positive_the_furthest_of_those_drawn_is_taken():
    [row], notes = mined(NEAR, num_negatives=3)
    assert names(row)[0] in {f"near{angle}" for angle in range(12, 20)} and row["hard_negatives"] == []
    assert notes == {"random_text_taken": 1, "random_text_above_margin": 1}


@pytest.mark.parametrize("knobs", [{"max_score": 0.1}, {"max_length_ratio": 1.01}], ids=str)
def test_what_is_no_negative_at_all_is_not_drawn(knobs):
    assert mined([(f"d{i}", f"{'long' * 9}@{i}", []) for i in range(1, 9)], **knobs) == ([], {})


def test_a_floor_does_not_hold_for_texts_that_are_to_be_easy():
    assert mined(FAR, min_score=0.9)[1] == {"random_text_taken": 1}


def test_what_is_excluded_is_not_drawn():
    docs = [(name, text, ["page"]) for name, text, _ in NEAR]
    assert mined(docs, {**QUERY, "groups": ["page"]}) == ([], {})


def test_every_row_draws_for_itself_whatever_other_rows_there_are():
    rows = [{"query": f"q{i}@{i / 50}", "positives": [f"p{i}@40"], "id": f"toy/{i}"} for i in range(30)]
    docs = NEAR + FAR + [(f"p{i}", f"p{i}@40", []) for i in range(30)]
    rule = MiningRule(**RULE)
    together = {row["neg"] for row in run(rows, rule, docs, embed=angles(0))[0]}
    assert len(together) > 10
    alone = {run([row], rule, docs, embed=angles(0))[0][0]["neg"] for row in rows}
    assert alone == together


def test_drawn_texts_are_held_to_the_positives_of_their_own_query_where_one_has_several_rows():
    near = [(f"d{angle}", f"near{angle}@{angle}", []) for angle in range(20, 36)]
    rows = [QUERY, QUERY, {"query": "other@180", "positives": ["its@181"]}]
    got, _ = run(rows, MiningRule(**{**RULE, "num_negatives": 9}), near + FAR, embed=angles(0))
    assert [row["miner"] for row in got] == ["random", "random", "dense"]
    assert all(name.startswith("far") for row in got[:2] for name in names(row))
