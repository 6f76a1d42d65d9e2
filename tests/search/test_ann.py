"""Approximate search: what it finds is exact, what it misses is measured, and without FAISS it says so."""

import sys

import numpy as np
import pytest

from medi_build.content.mining_rule import MiningRule
from medi_build.errors import MiningError
from medi_build.ledger import Ledger
from medi_build.search.ann import ann_topk
from medi_build.search.dense import topk
from medi_build.search.exclusions import Exclusions, Labels, incidence
from tests.mine.conftest import embed, examples, mined_table
from tests.search.test_dense import unit


@pytest.fixture
def vectors():
    pytest.importorskip("faiss")
    rng = np.random.default_rng(0)
    return unit(rng, 40, 32), unit(rng, 5000, 32)


def test_searching_every_list_is_exact(vectors):
    queries, corpus = vectors
    excluded = np.random.default_rng(1).random((40, 5000)) < 0.01
    exclusions = Exclusions(incidence(*np.nonzero(excluded), excluded.shape))
    found = ann_topk(queries, corpus, 10, exclusions, probes=10_000)
    exact = topk(queries, corpus, 10, exclusions)
    np.testing.assert_array_equal(found.ranking.ids, exact.ids)
    np.testing.assert_array_equal(found.ranking.scores, exact.scores)
    assert found.recall == 1.0


def test_searching_few_lists_misses_some_and_says_how_many(vectors):
    queries, corpus = vectors
    found = ann_topk(queries, corpus, 10, probes=1)
    exact = topk(queries, corpus, 10)
    share = np.mean([np.isin(a, b).mean() for a, b in zip(exact.ids, found.ranking.ids, strict=True)])
    assert found.recall == pytest.approx(share)
    assert 0 < found.recall < 1


def test_of_many_queries_a_sample_tells_the_recall(vectors):
    queries, corpus = unit(np.random.default_rng(2), 1000, 32), vectors[1]
    found = ann_topk(queries, corpus, 10, probes=1)
    exact = topk(queries, corpus, 10)
    shares = [np.isin(a, b).mean() for a, b in zip(exact.ids, found.ranking.ids, strict=True)]
    assert found.recall != np.mean(shares)
    assert found.recall == pytest.approx(np.mean(shares), abs=0.1)


def test_what_is_missed_depends_on_the_seed_alone(vectors):
    first, again, other = (ann_topk(*vectors, 10, probes=1, seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.ranking.ids, again.ranking.ids)
    assert first.recall == again.recall
    assert not np.array_equal(first.ranking.ids, other.ranking.ids)


def test_a_corpus_smaller_than_k_and_no_queries(vectors):
    queries, corpus = vectors
    found = ann_topk(queries, corpus[:3], 5)
    assert (found.ranking.ids[:, 3:] == -1).all()
    assert ann_topk(queries[:0], corpus, 5).recall == 1.0


def test_mining_above_the_stated_size_notes_its_recall():
    pytest.importorskip("faiss")
    rows = [{"query": f"question {i} {i % 7}", "positives": [f"reply {i} {i % 5}"]} for i in range(30)]
    exact, near = Ledger("t"), Ledger("t")
    tables = [
        mined_table(examples(rows), None, kind="pairs", rule=rule, embed=embed, seed=0, ledger=ledger)
        for rule, ledger in ((MiningRule(), exact), (MiningRule(ann_above=10), near))
    ]
    assert tables[0].equals(tables[1])
    assert near.measures["ann_recall"] == 1.0
    assert "ann_recall" not in exact.measures


def test_without_faiss_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    corpus = unit(np.random.default_rng(0), 4)
    with pytest.raises(MiningError, match=r"medi-build\[ann\]"):
        ann_topk(corpus, corpus, 1)


def test_impossible_requests_are_refused():
    corpus = unit(np.random.default_rng(0), 4)
    bits = np.ones((4, 1), dtype=np.int64)
    with pytest.raises(MiningError, match="by label"):
        ann_topk(corpus, corpus, 1, Exclusions(labels=Labels(bits, bits, "share")))
    with pytest.raises(MiningError, match="k is 0"):
        ann_topk(corpus, corpus, 0)
