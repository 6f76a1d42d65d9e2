"""Single knobs where a slip shows only in one constellation; each fault is listed in tests/planted_faults.py."""

from functools import partial

import numpy as np
import pytest

from medi_build.content.mining_rule import MiningRule
from medi_build.ledger import Ledger
from medi_build.mine import negatives
from tests.mine.conftest import embed, examples, mined_table, text_id
from tests.mine.test_false_negatives import hidden_positives
from tests.mine.test_filters import CIRCLE, QUERY, angles, names, run


def test_a_row_that_fails_both_ways_is_dropped_once():
    rows = [{"query": f"q{i}@{i * 5}", "positives": [f"p{i}@{i * 5}"]} for i in range(12)]
    rows.append({"query": "stray@180", "positives": ["astray@30"]})
    got, ledger = run(rows, MiningRule(consistency_top=1, round_trip_top=4), embed=angles(0))
    assert [row["row"] for row in got] == list(range(12))
    assert dict(ledger.dropped["mine"]) == {"inconsistent_positive": 1}


def test_documents_that_are_no_positive_are_no_candidates_if_the_rule_says_so():
    """The nearest text is nobody's positive; a given negative that is one of these keeps its id and its page's ban."""
    rows = [
        {"query": "a@0", "positives": ["pa@1"], "negatives": ["d9@9", "page@8"], "groups": ["page"]},
        {"query": "b@50", "positives": ["pb@20"]},
    ]
    docs = [("d2", "d2@2", []), ("d9", "d9@9", []), ("of the page", "page@8", ["page"]), ("its own id", "pb@20", [])]
    got, ledger = run(rows, MiningRule(num_negatives=3, candidates="positives"), docs, embed=angles(0))
    assert (got[0]["neg"], got[0]["neg_id"]) == ("d9@9", "d9")
    assert (got[0]["hard_negatives"], got[1]["pos_id"]) == (["pb@20"], "its own id")
    assert ledger.notes["rejected_given_is_positive_or_query"] == 1
    everything, _ = run(rows, MiningRule(num_negatives=3), docs, embed=angles(0))
    assert everything[0]["hard_negatives"] == ["d2@2", "pb@20"]


@pytest.mark.parametrize("instructions", [("Q: ", "D: "), ("Q: ", None), (None, None)])
def test_further_encoders_take_the_instructions_and_the_guide_has_its_own(instructions):
    seen = {}

    def spy(name, texts, instruction=None, side=None):
        seen.setdefault(name, []).append((instruction, side))
        return embed(texts)

    mined_table(
        examples([{"query": "what is tea", "positives": ["a drink"]}, {"query": "fox", "positives": ["an animal"]}]),
        None,
        kind="pairs",
        rule=MiningRule(encoders=("further",), guide="guide"),
        embed=partial(spy, "first"),
        others={"further": partial(spy, "further"), "guide": partial(spy, "guide")},
        instructions=instructions,
        seed=0,
        ledger=Ledger("toy"),
    )
    query, document = instructions
    assert seen["first"] == seen["further"] == [(query, "query"), (document, "document")]
    assert seen["guide"] == [(None, "query"), (None, "document")]


@pytest.mark.parametrize("count", [1, 2, 4, 9])
def test_the_cross_encoder_scores_the_first_allowed_candidates_and_no_other(monkeypatch, count):
    asked = []

    def scores(pairs):
        asked.append([text.split("@")[0] for _, text in pairs])
        return np.arange(len(pairs), dtype=np.float32)

    monkeypatch.setattr(negatives, "load_cross_encoder", lambda *_: scores)
    rule = MiningRule(
        num_negatives=9, max_score=0.98, cross_encoder="any", cross_encoder_scores=True, cross_encoder_candidates=count
    )
    got, _ = run([QUERY], rule, CIRCLE, embed=angles(0))
    wanted = ["n1", "n2", "n3", "n4", "n5"][:count]  # n0 scores above 0.98
    assert asked == [["p", *wanted]]
    assert names(got[0]) == wanted
    assert got[0]["pos_score"] == 0
    assert [got[0]["neg_score"], *got[0]["hard_negative_scores"]] == list(range(1, 1 + len(wanted)))


def test_relax_takes_the_candidate_that_is_least_likely_a_false_negative():
    """Limits on the probability fall until nothing is left but what relax lifts: the last that a limit had let in."""
    rows, docs, _ = hidden_positives(np.random.default_rng(2), 60)
    knobs = {"num_negatives": 50, "range_max": 50}
    relaxed, ledger = run(rows, MiningRule(**knobs, max_false_negative_probability=1e-30, relax=True), docs)
    assert ledger.notes["least_likely_false_negative_taken"] == len(rows)
    last = {}
    for limit in np.geomspace(0.3, 1e-5, 30):
        for row in run(rows, MiningRule(**knobs, max_false_negative_probability=float(limit)), docs)[0]:
            last[row["row"]] = [row["neg"], *row["hard_negatives"]]
    alone = {row: texts for row, texts in last.items() if len(texts) == 1}
    assert len(alone) > 10
    taken = {row["row"]: row["neg"] for row in relaxed}
    assert {row: [taken[row]] for row in alone} == alone


def test_a_window_further_down_takes_the_probabilities_of_what_stands_there():
    rows, docs, _ = hidden_positives(np.random.default_rng(2), 60)
    knobs = {"range_max": 30, "max_false_negative_probability": 0.3}
    whole, _ = run(rows, MiningRule(**knobs, num_negatives=30), docs)
    further, _ = run(rows, MiningRule(**knobs, num_negatives=25, range_min=5), docs)

    def ranks(row):
        return [row["neg_rank"], *row["hard_negative_ranks"]]

    wanted = {row["row"]: [rank for rank in ranks(row) if rank >= 5] for row in whole}
    assert {row["row"]: ranks(row) for row in further} == {row: found for row, found in wanted.items() if found}


def test_a_near_duplicate_of_any_positive_of_the_query_is_rejected():
    rows = [{"query": "q@0", "positives": ["p@20"]}, {"query": "q@0", "positives": ["other@60"]}]
    got, ledger = run(rows, MiningRule(num_negatives=9, near_duplicate=0.99), CIRCLE, embed=angles(0))
    assert [names(row) for row in got] == [["n0", "n3", "n5"]] * 2  # n1 and n2 are near p, n4 is near other
    assert ledger.notes["rejected_near_duplicate"] == 6


def test_at_most_sixteen_possible_false_negatives_are_listed():
    rows = [{"query": "a@0", "positives": ["b@80"]}]
    rows += [{"query": f"c{i}@90", "positives": [f"d{i}@{i + 1}"]} for i in range(20)]
    got, _ = run(rows, MiningRule(range_max=50, near_duplicate=1.0), embed=angles(0))
    assert got[0]["possible_false_negative_ids"] == [text_id(f"d{i}@{i + 1}") for i in range(16)]
