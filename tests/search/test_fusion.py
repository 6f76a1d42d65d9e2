"""Reciprocal rank fusion against its formula, alone and inside mining."""

import json
from fractions import Fraction

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medi_build.content.mining_rule import MiningRule
from medi_build.embedding import Embedded
from medi_build.errors import MiningError
from medi_build.search.fusion import fuse
from medi_build.search.ranking import Ranking
from tests.mine.conftest import embed
from tests.mine.test_filters import angles, names, run
from tests.pipeline.own_files import mined_file


def fused(rankings, k):
    """The definition, in fractions: sorted by (-sum of 1 / (60 + rank), id)."""
    gains = {}
    for ranking in rankings:
        for rank, document in enumerate(ranking, 1):
            gains[document] = gains.get(document, 0) + Fraction(1, 60 + rank)
    return [(document, float(gains[document])) for document in sorted(gains, key=lambda d: (-gains[d], d))[:k]]


@settings(max_examples=100)
@given(
    lists=st.lists(
        st.lists(st.lists(st.integers(0, 9), unique=True, max_size=6), min_size=2, max_size=2), min_size=1, max_size=4
    ),
    k=st.integers(1, 12),
)
def test_fusion_is_the_sum_of_reciprocal_ranks(lists, k):
    def ranking(rows):
        width = max(map(len, rows))
        ids = np.array([row + [-1] * (width - len(row)) for row in rows], dtype=np.int64).reshape(2, width)
        return Ranking(ids, np.zeros(ids.shape, dtype=np.float32))

    found = fuse([ranking(rows) for rows in lists], k)
    for row in range(2):
        best = fused([rows[row] for rows in lists], k)
        assert found.ids[row].tolist() == [document for document, _ in best] + [-1] * (k - len(best))
        np.testing.assert_allclose(found.scores[row, : len(best)], [gain for _, gain in best], rtol=1e-6)


def test_no_ranking_cannot_be_fused():
    with pytest.raises(MiningError, match="0 rankings"):
        fuse([], 3)


def turned(places):
    """An encoder that puts the i-th text of the toy dataset at an angle of its own."""

    def at(texts, instruction=None, side=None):
        turn = np.radians([places[text] for text in texts])
        return Embedded(np.stack([np.cos(turn), np.sin(turn)], axis=1).astype(np.float16), 0)

    return at


@pytest.mark.parametrize("lexical", [False, True])
def test_rankings_of_several_encoders_are_fused_and_scores_stay_those_of_the_first(lexical):
    rng = np.random.default_rng(4)
    texts = [f"n{i}" for i in range(40)]
    places = [
        {"question": 0.0, "p": 3.0, **dict(zip(texts, map(float, rng.permutation(40) + 5), strict=True))}
        for _ in range(3)
    ]
    rankings = [sorted(range(40), key=lambda i, at=at: at[texts[i]]) for at in places]
    first, *others = map(turned, places)
    rule = MiningRule(num_negatives=6, encoders=("b", "c"), lexical=lexical)  # no text shares a word with the query
    docs = [(text, text, []) for text in texts]
    row = {"query": "question", "positives": ["p"]}
    got, _ = run([row], rule, docs, embed=first, others=dict(zip("bc", others, strict=True)))
    assert names(got[0]) == [texts[i] for i, _ in fused(rankings, 6)]
    scores = [got[0]["neg_score"], *got[0]["hard_negative_scores"]]
    np.testing.assert_allclose(scores, np.cos(np.radians([places[0][name] for name in names(got[0])])), atol=1e-3)
    assert got[0]["miner"] == ("dense+dense+dense+bm25" if lexical else "dense+dense+dense")


def test_a_candidate_that_both_encoders_like_beats_the_favourite_of_one():
    """Lists of one text each could not tell: fusion looks as far down the rankings as the rule allows."""
    docs = [(name, f"{name}@{angle}", []) for name, angle in (("a", 10), ("b", 20), ("c", 30), ("d", 80))]
    other = turned({"q@0": 0.0, "p@1": 1.0, "a@10": 80.0, "b@20": 20.0, "c@30": 30.0, "d@80": 10.0})
    row = {"query": "q@0", "positives": ["p@1"]}
    got, _ = run([row], MiningRule(encoders=("other",)), docs, embed=angles(0), others={"other": other})
    assert names(got[0]) == ["b"]


def test_the_same_encoder_twice_changes_nothing():
    rng = np.random.default_rng(5)
    words = ["".join(rng.choice(list("abcdefgh"), 4)) for _ in range(60)]
    asked = [[*rng.choice(words, 4)] for _ in range(150)]
    rows = [{"query": " ".join(own), "positives": [" ".join([*own[1:], *rng.choice(words, 2)])]} for own in asked]
    rule = {"num_negatives": 3, "range_max": 40, "max_false_negative_probability": 0.4, "relax": True}
    alone, notes = run(rows, MiningRule(**rule))
    twice, again = run(rows, MiningRule(**rule, encoders=("same",)), others={"same": embed})
    assert "false_negative_model_mostly_prior" not in notes.notes
    assert {**again.notes} == {**notes.notes}
    assert [{**row, "miner": ""} for row in twice] == [{**row, "miner": ""} for row in alone]


def test_an_encoder_that_was_not_passed_is_named():
    with pytest.raises(MiningError, match="names the encoders some/encoder, which were not passed"):
        run([{"query": "q@0", "positives": ["p@1"]}], MiningRule(encoders=("some/encoder",)), embed=angles(0))


def test_a_file_of_pairs_is_mined_with_two_encoders(tmp_path):
    lines = [{"q": f"question {i}", "p": f"passage {i} of many"} for i in range(6)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    rule, out = MiningRule(encoders=("second",)), tmp_path / "out"
    options = {"embed": embed, "rule": rule, "query_column": "q", "positive_column": "p"}
    ledger = mined_file(tmp_path / "pairs.jsonl", out, others={"second": embed}, **options)
    assert ledger.written == pq.read_table(out / "triplet.parquet").num_rows == 6
