"""The model of false negatives: signs against plain code, fit against an optimiser, use against hidden positives."""

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special

from medi_build.content.mining_rule import MiningRule
from medi_build.ledger import Ledger
from medi_build.mine import false_negatives, ranker
from medi_build.mine.false_negatives import PRIOR, SIGNS
from medi_build.mine.likeness import Likeness
from medi_build.search.bm25 import BM25, tokenize
from medi_build.search.dense import topk
from medi_build.search.exclusions import Exclusions, incidence
from medi_build.search.ranking import Ranking
from tests.mine.conftest import documents, embed, examples, mined_table
from tests.search.test_dense import unit

NOUNS = [
    *("tea", "fox", "sea", "box", "hat", "cat", "dog", "sun", "moon", "star"),
    *("tree", "leaf", "rock", "sand", "bird", "fish", "lamp", "door", "wall", "roof"),
]
VERBS = ["holds", "finds", "likes", "sees", "takes", "makes", "lifts", "turns"]


def topic(rng, number):
    """Five sentences about one pair of nouns; the first is the query, any other answers it."""
    a, b = NOUNS[number % 20], NOUNS[(number * 7 + number // 20 + 1) % 20]
    noise = [" ".join(rng.choice(NOUNS + VERBS, 3)) for _ in range(5)]
    return [f"{a} {VERBS[number % 8]} {b} {number // 4} {extra}" for extra in noise]


def hidden_positives(rng, topics=120):
    rows, docs, relevant = [], [], []
    for number in range(topics):
        query, marked, *hidden = topic(rng, number)
        rows.append({"query": query, "positives": [marked]})
        docs += [(f"d{number}-{i}", text, []) for i, text in enumerate(hidden)]
        relevant.append(set(hidden))
    return rows, docs, relevant


def run(rows, docs, rule):
    ledger = Ledger("toy", read=len(rows), adapted=len(rows))
    table = mined_table(
        examples(rows), documents(docs), kind="pairs", rule=rule, embed=embed, seed=0, ledger=ledger
    ).to_pylist()
    ledger.written = len(table)
    ledger.check()
    return table, ledger


def share_of_hidden(table, relevant):
    taken = [(row["row"], text) for row in table for text in [row["neg"], *row["hard_negatives"]]]
    return np.mean([text in relevant[row] for row, text in taken])


def test_fewer_hidden_positives_and_a_negative_for_every_query():
    rows, docs, relevant = hidden_positives(np.random.default_rng(0))
    plain, _ = run(rows, docs, MiningRule(num_negatives=3))
    careful, ledger = run(rows, docs, MiningRule(num_negatives=3, max_false_negative_probability=0.3, relax=True))
    assert share_of_hidden(plain, relevant) > 0.4
    assert share_of_hidden(careful, relevant) < 0.5 * share_of_hidden(plain, relevant)
    assert len(careful) == len(rows)
    assert ledger.notes["rejected_false_negative_probability"] > 0


def test_the_same_on_any_number_of_threads():
    rows, docs, _ = hidden_positives(np.random.default_rng(1), 60)
    rule = MiningRule(preset="positive-aware", num_negatives=2)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(run(rows, docs, rule)[0])
    finally:
        torch.set_num_threads(threads)
    assert results[0] == results[1]


@pytest.mark.parametrize(("topics", "thin"), [(49, 1), (50, 0)])
def test_fewer_positives_than_the_prior_is_worth_are_noted(topics, thin):
    rows, docs, _ = hidden_positives(np.random.default_rng(3), topics)
    _, ledger = run(rows, docs, MiningRule(max_false_negative_probability=0.3, range_max=500))
    assert ledger.notes["false_negative_model_mostly_prior"] == thin


def test_positives_below_the_ranking_teach_nothing():
    rows, docs, _ = hidden_positives(np.random.default_rng(3), 80)
    far = [{**row, "positives": [f"{number} zzz {number} xxx"]} for number, row in enumerate(rows)]
    for length, learned in ((500, 80), (20, 0)):
        model = fitted(far, docs, length)
        assert model.learned_from == learned
        assert np.array_equal(model.weights, PRIOR) == (learned == 0)


def fitted(rows, docs, length):
    """The model that mining fits to a toy dataset."""
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranker, "fit", lambda *args: seen.append(false_negatives.fit(*args)) or seen[0])
        run(rows, docs, MiningRule(max_false_negative_probability=0.3, range_max=length))
    return seen[0]


def at_rank(table, rank):
    return sum(text_rank == rank for row in table for text_rank in [row["neg_rank"], *row["hard_negative_ranks"]])


@pytest.mark.parametrize("topics", [3, 8, 20, 40])
def test_with_few_queries_the_top_is_left_alone(topics):
    """Where a plain rule returns hidden positives by the dozen, the preset has hardly any and serves every query."""
    shares = []
    for seed in range(5):
        rows, docs, relevant = hidden_positives(np.random.default_rng(seed), 60)
        plain, _ = run(rows[:topics], docs, MiningRule(num_negatives=3))
        careful, _ = run(rows[:topics], docs, MiningRule(preset="positive-aware", num_negatives=3))
        assert len(careful) == topics
        assert at_rank(careful, 0) <= 0.1 * topics
        shares.append((share_of_hidden(plain, relevant), share_of_hidden(careful, relevant)))
    plain, careful = np.mean(shares, axis=0)
    assert plain > 0.4
    assert careful < 0.2


def test_where_every_positive_is_out_of_reach_negatives_are_easy():
    """No candidate passes the margin, and no weight can be fitted."""
    rows, docs, relevant = hidden_positives(np.random.default_rng(3), 60)
    far = [{**row, "positives": [f"{number} zzz {number} xxx"]} for number, row in enumerate(rows[:20])]
    rule = MiningRule(preset="positive-aware", num_negatives=3, range_max=40)
    careful, ledger = run(far, docs, rule)
    assert ledger.notes["false_negative_model_mostly_prior"] == 1
    assert len(careful) == len(far)
    drawn = [row["miner"] == "random" for row in careful]
    assert sum(drawn) == ledger.notes["random_text_taken"] > 10
    assert at_rank(careful, 0) <= 2
    assert share_of_hidden(careful, relevant) < 0.1


def test_weights_leave_the_prior_as_positives_come_in():
    rng = np.random.default_rng(8)
    ours, theirs = rng.standard_normal((800, 2)) + 1.5, rng.standard_normal((4000, 2))
    prior = np.array([-2.0, 0.0, 0.0])
    at_last = false_negatives._logistic(ours, theirs, prior, 0.0)
    away = [
        np.linalg.norm(false_negatives._logistic(ours[:count], theirs, prior, 50) - at_last)
        for count in (0, 5, 20, 80, 320, 800)
    ]
    assert np.all(np.diff(away) < 0)
    assert away[0] == np.linalg.norm(prior - at_last)
    assert away[-1] < 0.2 * away[0]
    twice = np.concatenate([ours[:40], ours[:40]])
    np.testing.assert_allclose(
        false_negatives._logistic(twice, theirs, prior, 50), false_negatives._logistic(ours[:40], theirs, prior, 25)
    )


def test_likeness_to_ones_own_positive_counts_and_is_not_fitted():
    """Of two candidates that are alike in all else the one like the known positive looks more like a false negative."""
    rows, docs, _ = hidden_positives(np.random.default_rng(5), 80)
    model = fitted(rows, docs, 60)
    assert model.weights[SIGNS.index("own_positive")] == PRIOR[SIGNS.index("own_positive")] > 0
    assert not np.isclose(model.weights, PRIOR)[false_negatives.FITTED].any()


@settings(max_examples=150)
@given(seed=st.integers(0, 9999), rows=st.integers(1, 5), length=st.integers(1, 6), width=st.integers(1, 6))
def test_places_in_a_ranking_are_those_of_a_plain_search(seed, rows, length, width):
    rng = np.random.default_rng(seed)
    ranked = np.array([rng.permutation(9)[:length] for _ in range(rows)])
    ranked[np.arange(length) >= rng.integers(0, length + 1, (rows, 1))] = -1
    ranking = Ranking(ranked, rng.random(ranked.shape, dtype=np.float32))
    ids = rng.integers(-1, 9, (rows, width))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(false_negatives, "RANKS_AT_ONCE", 20)
        rank, score = false_negatives._looked_up(ranking, ids)
    for row, column in np.ndindex(ids.shape):
        own = ranked[row].tolist()
        at = own.index(ids[row, column]) if ids[row, column] >= 0 and ids[row, column] in own else None
        assert rank[row, column] == (length if at is None else at)
        assert score[row, column] == (0 if at is None else ranking.scores[row, at])


@pytest.mark.parametrize(("count", "worth"), [(40, 0.01), (40, 50), (7, 50), (400, 3)])
def test_fit_is_the_optimum_of_the_weighted_loss(count, worth):
    """The prior pulls as the curvature does that ``worth`` positives of variance one have at probability one half."""
    rng = np.random.default_rng(4)
    ours, theirs = rng.standard_normal((count, 3)) + 0.7, rng.standard_normal((300, 3))
    prior = np.array([-1.0, 0.5, 0.0, 2.0])

    def loss(weights):
        a, b = ours @ weights[:-1] + weights[-1], theirs @ weights[:-1] + weights[-1]
        pull = worth / count * 0.5 * 0.25 * ((weights - prior) ** 2).sum() / 2
        return (np.logaddexp(0, -a).mean() + np.logaddexp(0, b).mean()) / 2 + pull

    best = optimize.minimize(loss, np.zeros(4), tol=1e-12).x
    np.testing.assert_allclose(false_negatives._logistic(ours, theirs, prior, worth), best, atol=1e-4)


@settings(max_examples=150)
@given(seed=st.integers(0, 9999), count=st.integers(1, 2000), apart=st.floats(-6, 6))
def test_steps_lead_to_where_the_loss_is_flat(seed, count, apart):
    """However few there are, and where a line tells both classes apart without a fault as well."""
    rng = np.random.default_rng(seed)
    ours, theirs = rng.standard_normal((count, 5)) + apart, rng.standard_normal((200, 5))
    prior = 2 * rng.standard_normal(6)
    weights = false_negatives._logistic(ours, theirs, prior, false_negatives.PRIOR_WORTH)
    a, b = (np.c_[x, np.ones(len(x))] for x in (ours, theirs))
    slope = (special.expit(b @ weights) @ b / len(b) - special.expit(-a @ weights) @ a / len(a)) / 2
    pull = 0.125 * false_negatives.PRIOR_WORTH / count * (weights - prior)
    np.testing.assert_allclose(slope + pull, 0, atol=1e-8)


def test_signs_equal_the_plain_version():
    rng = np.random.default_rng(5)
    texts = [" ".join(rng.choice(NOUNS, 4)) for _ in range(30)]
    words = tokenize(pl.Series([" ".join(rng.choice(NOUNS, 3)) for _ in range(8)]))
    queries, corpus = unit(rng, 8), unit(rng, 30)
    positives = np.array([3, -1, 4, 9, 3, 20, 21, 22])
    excluded = incidence(np.arange(8)[positives >= 0], positives[positives >= 0], (8, 30))
    index = BM25.build(tokenize(pl.Series(texts)))
    exact_queries, exact = queries.astype(np.float64), corpus.astype(np.float64)
    own = np.float32([exact_queries[q] @ exact[p] if p >= 0 else -np.inf for q, p in enumerate(positives)])
    inputs = false_negatives.SignInputs(
        queries,
        corpus,
        30,
        excluded,
        index,
        words,
        positives,
        own,
        Likeness(corpus, np.unique(positives[positives >= 0])),
    )
    probes = np.flatnonzero(positives >= 0)
    listing = topk(queries[probes], corpus, 6, Exclusions(excluded[probes]))
    asked = np.array([1, 4])
    ranking = topk(queries[asked], corpus, 6, Exclusions(excluded[asked]))
    ids = np.concatenate([ranking.ids, [[3, -1], [0, 29]]], axis=1)
    scores = np.float32([[exact_queries[q] @ exact[i] for i in row] for q, row in zip(asked, ids, strict=True)])
    told = false_negatives._probes(inputs, 6, 0)
    np.testing.assert_array_equal(told.queries, probes)
    got = false_negatives._signs(inputs, told, false_negatives._view(inputs, told, asked, ranking), ids, scores)
    assert got.shape == (*ids.shape, len(SIGNS))
    for r, q in enumerate(asked):
        lexical = index.scores(words.gather([q]))[0]
        by_words = sorted(np.flatnonzero(lexical), key=lambda d: (-lexical[d], d))
        near = sorted((p for p in probes if p != q), key=lambda p: -(exact_queries[q] @ exact_queries[p]))[:20]
        for c, d in enumerate(ids[r]):
            if d < 0:
                continue
            in_list = d in by_words
            expected = [
                np.log1p(np.sum(ranking.scores[r] > scores[r, c])),
                np.log1p(by_words.index(d) if in_list else false_negatives.LEXICAL_DEPTH),
                lexical[d] / max(lexical.max(), 1e-9) if in_list else 0.0,
                np.log1p(np.sum((listing.ids == d) & (listing.scores > scores[r, c]))),
                max((exact_queries[q] @ exact_queries[p]) * (exact[d] @ exact[positives[p]]) for p in near),
                exact[d] @ exact[positives[q]] - own[q] * scores[r, c] if positives[q] >= 0 else 0.0,
            ]
            np.testing.assert_allclose(got[r, c], expected, rtol=1e-5, atol=1e-6)
