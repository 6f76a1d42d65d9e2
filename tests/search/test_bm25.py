"""BM25 against rank-bm25, and its top-k against a plain sort."""

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rank_bm25 import BM25Okapi
from scipy import sparse

from medi_build.errors import MiningError
from medi_build.search import sparse_add
from medi_build.search.bm25 import BM25, tokenize
from medi_build.search.bm25_steps import Room, Terms
from medi_build.search.exclusions import incidence
from medi_build.search.ranking import NOTHING

TOKENS = st.lists(st.sampled_from("abcdefgh"), max_size=9)
LISTS = pl.List(pl.String)


def series(lists):
    return pl.Series(lists, dtype=LISTS)


@settings(max_examples=60)
@example(corpus=[[], ["a"]], queries=[["a"]], k1=1.0, b=1.0, epsilon=0.25)
@given(
    corpus=st.lists(TOKENS, min_size=1, max_size=12).filter(any),
    queries=st.lists(TOKENS | st.just(["unknown", "a"]), min_size=1, max_size=5),
    k1=st.floats(0.1, 3),
    b=st.floats(0, 1),
    epsilon=st.floats(0, 1),
)
def test_scores_equal_rank_bm25(corpus, queries, k1, b, epsilon):
    ours = BM25.build(series(corpus), k1, b, epsilon).scores(series(queries))
    index = BM25Okapi(corpus, k1=k1, b=b, epsilon=epsilon)
    with np.errstate(invalid="ignore"):  # with b at 1 it divides zero by zero where a document is empty
        theirs = np.nan_to_num([index.get_scores(query) for query in queries])
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 9999),
    n=st.integers(1, 400),
    k=st.integers(1, 30),
    density=st.sampled_from([0.0, 0.1, 0.9]),
    epsilon=st.sampled_from([0.0, 0.25, -1.0]),
)
def test_topk_is_a_stable_sort_of_the_documents_that_hold_a_term(seed, n, k, density, epsilon):
    rng = np.random.default_rng(seed)
    words = list("abcdefghij") + [f"rare{i}" for i in range(20)]
    share = np.array([4.0, 2, 1, 1, 1, 1, 1, 1, 1, 1] + [0.1] * 20)
    corpus = [[*rng.choice(words, rng.integers(0, 6), p=share / share.sum())] for _ in range(n - 1)] + [["a"]]
    queries = [[*rng.choice(["a", "b", "c", "d", "x", "rare1", "rare2"], rng.integers(0, 5))] for _ in range(5)]
    excluded = rng.random((5, n + 3)) < density  # exclusions may reach beyond the documents
    index = BM25.build(series(corpus), epsilon=epsilon)
    stored = index.scores(series(queries))
    found = index.topk(series(queries), k, incidence(*np.nonzero(excluded), excluded.shape))
    for i, query in enumerate(queries):
        ranked = [j for j in range(n) if set(query) & set(corpus[j]) and not excluded[i, j]]
        best = sorted(ranked, key=lambda j: (-stored[i, j], j))[:k]
        assert found.ids[i].tolist() == best + [-1] * (k - len(best))
        np.testing.assert_array_equal(found.scores[i, : len(best)], np.float32(stored[i, best]))
        assert np.isneginf(found.scores[i, len(best) :]).all()


def test_a_query_is_ranked_alike_in_any_company():
    rng = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(2000)])
    share = 1 / np.arange(1, 2001)
    corpus = [[*rng.choice(words, 12, p=share / share.sum())] for _ in range(3000)]
    queries = [[*rng.choice(words, 6, p=share / share.sum())] for _ in range(150)]
    index = BM25.build(series(corpus))
    assert 0 < len(index.common) < len(index.terms)
    together = index.topk(series(queries), 20)
    for i in range(0, 150, 7):
        alone = index.topk(series(queries[i : i + 1]), 20)
        np.testing.assert_array_equal(alone.ids[0], together.ids[i])
        np.testing.assert_array_equal(alone.scores[0], together.scores[i])


def test_without_what_scipy_keeps_private_the_scores_are_the_same(monkeypatch):
    rng = np.random.default_rng(1)
    corpus = [[*rng.choice(list("abcdefghij"), 12)] for _ in range(500)]
    queries = series([[*rng.choice(list("abcdefghijx"), 9)] for _ in range(100)])  # many a term several times
    index = BM25.build(series(corpus))
    assert len(index.common) == 10
    scores, found = index.scores(queries), index.topk(queries, 7)
    monkeypatch.setattr(sparse_add, "csr_matvecs", None)
    np.testing.assert_array_equal(index.scores(queries), scores)
    np.testing.assert_array_equal(index.topk(queries, 7).ids, found.ids)


@settings(max_examples=60)
@given(seed=st.integers(0, 9999), rows=st.integers(0, 6), columns=st.integers(1, 6), width=st.integers(1, 40))
def test_a_product_is_added_in_the_stored_order(seed, rows, columns, width):
    rng = np.random.default_rng(seed)
    whole = sparse.random(rows + 2, columns, 0.5, "csr", rng=rng)
    whole.data = rng.integers(1, 6, whole.nnz).astype(np.float64)
    dense, before = rng.normal(size=(columns, width)), rng.normal(size=(rows, width))
    some = (whole.indptr[1 : rows + 2], whole.indices, whole.data, dense)  # rows from the middle
    out = before.copy()
    sparse_add.add_product(*some, out)
    np.testing.assert_allclose(out, before + whole[1 : rows + 1] @ dense, rtol=1e-12, atol=1e-12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse_add, "csr_matvecs", None)
        again = before.copy()
        sparse_add.add_product(*some, again)
    np.testing.assert_array_equal(again, out)


def test_more_queries_than_a_block_keep_their_order():
    words = [f"w{i}" for i in range(200)]
    index = BM25.build(series([[w] for w in words]))
    assert index.topk(series([[w] for w in reversed(words)]), 1).ids[:, 0].tolist() == list(range(199, -1, -1))


def test_tokens_are_lower_cased_words():
    assert tokenize(pl.Series(["The Red-Fox, 2 été!", ""])).to_list() == [["the", "red", "fox", "2", "été"], []]


def test_impossible_requests_are_refused():
    with pytest.raises(MiningError, match="2 documents hold no word"):
        BM25.build(series([[], []]))
    with pytest.raises(MiningError, match="k is 0"):
        BM25.build(series([["a"]])).topk(series([["a"]]), 0)


@given(texts=st.lists(st.text(alphabet=st.characters(max_codepoint=0x0DFF)), max_size=5))
def test_words_of_languages_with_blanks_are_runs_of_word_characters(texts):
    column = pl.Series(texts, dtype=pl.String)
    words = column.str.to_lowercase().str.extract_all(r"\w+")
    assert tokenize(column).to_list() == words.to_list()
    mixed = tokenize(pl.concat([column, pl.Series(["東京"])])).to_list()
    assert mixed == [*words.to_list(), ["東京"]]


def test_languages_without_blanks_are_pairs_of_letters():
    texts = pl.Series(["渡轮几点开？", "iPhone手机 2台", "茶", "カメラー、東京", "เรือ ออก", "", None])
    assert tokenize(texts).to_list() == [
        ["渡轮", "轮几", "几点", "点开"],
        ["iphone", "手机", "2", "台"],
        ["茶"],
        ["カメ", "メラ", "ラー", "東京"],
        ["เร", "รื", "ือ", "ออ", "อก"],
        [],
        None,
    ]


def test_bm25_ranks_by_what_a_chinese_query_and_a_text_share():
    documents = pl.Series(["铜线可以导电。", "渡轮早上七点开，除非有大雾。", "天气很冷。"])
    ranking = BM25.build(tokenize(documents)).topk(tokenize(pl.Series(["渡轮几点开？"])), 2)
    assert ranking.ids.tolist() == [[1, NOTHING]]


@pytest.mark.parametrize("repeats", [1, 7, 40])
def test_lists_found_by_rounded_weights_are_those_of_a_full_sort(repeats):
    """Many scores are nearer than the weights are off; queries repeated 40 times have scores that fit no 16 bits."""
    rng = np.random.default_rng(repeats)
    words = np.array([f"w{i}" for i in range(400)])
    share = 1 / np.arange(1, 401)
    lengths = rng.integers(30, 90, 4000)
    corpus = series([[*rng.choice(words, length, p=share / share.sum())] for length in lengths])
    queries = series([[*rng.choice(words, 6, p=share / share.sum())] * repeats for _ in range(200)])
    excluded = rng.random((200, 4010)) < 0.05
    index = BM25.build(corpus)
    assert 0 < len(index.common) < len(index.terms)
    scores = index.scores(queries)
    scores[excluded[:, :4000]] = -np.inf
    for k in (1, 30):
        found = index.topk(queries, k, incidence(*np.nonzero(excluded), excluded.shape))
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        np.testing.assert_array_equal(found.ids, best)
        np.testing.assert_array_equal(found.scores, np.take_along_axis(scores, best, axis=1).astype(np.float32))


def test_rounded_weights_decide_most_queries_and_no_long_one():
    rng = np.random.default_rng(0)
    corpus = series([[*rng.choice([f"w{i}" for i in range(300)], 20)] for _ in range(2000)])
    usual, long = ([[*rng.choice([f"w{i}" for i in range(300)], length)] for _ in range(64)] for length in (8, 400))
    index = BM25.build(corpus)
    for queries, certain in ((usual, True), (long, False), ([["unknown"]], False)):
        asked = index._asked(series(queries))
        off = asked.off(index.steps.largest)
        room, nowhere = Room.of(len(off), 2000), np.empty(0, np.int64)
        terms = (Terms.of(matrix, 0, len(off)) for matrix in asked)
        found = index.steps.best(*terms, off, 10, (nowhere, nowhere), room)
        assert (found.certain == certain).all()
        assert not certain or 640 <= len(found.rows) <= 64 * 40
