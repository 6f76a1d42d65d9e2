"""A corpus in parts gives what the whole gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medi_build.errors import MiningError
from medi_build.search import dense, parts
from medi_build.search.exclusions import Exclusions, Labels, incidence, label_bits
from medi_build.search.parts import LIST_CELLS, queries_at_once
from medi_build.share import WHOLE, Split
from tests.search.test_dense import unit
from tests.shares import pickled


def collection(seed, n_queries, n_corpus, copies, density, n_labels, mode):
    """Queries, a corpus of which ``copies`` texts have one vector, and what is excluded: pairs and by label."""
    rng = np.random.default_rng(seed)
    corpus = unit(rng, n_corpus)[rng.integers(0, max(1, n_corpus // copies), n_corpus)]
    pairs = incidence(*np.nonzero(rng.random((n_queries, n_corpus + 2)) < density), (n_queries, n_corpus + 2))
    labels = None
    if n_labels:
        sides = (label_bits(np.arange(n), rng.integers(0, n_labels, n), n, n_labels) for n in (n_queries, n_corpus))
        labels = Labels(*sides, mode)
    return unit(rng, n_queries), corpus, Exclusions(pairs, labels)


@settings(max_examples=120)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_queries=st.integers(1, 9),
    n_corpus=st.integers(1, 40),
    k=st.integers(1, 50),
    copies=st.integers(1, 8),
    density=st.floats(0, 1),
    n_labels=st.sampled_from([0, 2, 70]),
    mode=st.sampled_from(["share", "disjoint"]),
    part=st.integers(1, 45),
    at_once=st.integers(1, 10),
)
def test_parts_equal_the_whole(seed, n_queries, n_corpus, k, copies, density, n_labels, mode, part, at_once):
    queries, corpus, exclusions = collection(seed, n_queries, n_corpus, copies, density, n_labels, mode)
    whole = dense.topk(queries, corpus, k, exclusions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "QUERIES_AT_ONCE", at_once)
        found = parts.topk(queries, corpus, k, exclusions, split=Split(pickled, part))
    assert found.ids.tobytes() == whole.ids.tobytes()
    assert found.scores.tobytes() == whole.scores.tobytes()


def test_parts_of_a_size_that_takes_coarse_passes(monkeypatch):
    monkeypatch.setattr(dense, "SMALL_CELLS", 0)
    queries, corpus, exclusions = collection(1, 60, 3000, 3, 0.02, 0, "share")
    whole = dense.topk(queries, corpus, 7, exclusions)
    found = parts.topk(queries, corpus, 7, exclusions, split=Split(map, 999))
    assert (found.ids == whole.ids).all() and (found.scores == whole.scores).all()


def test_what_float32_takes_for_a_tie_is_none_between_parts():
    """The better of the two stands behind, and both are the same once rounded."""
    queries, corpus = np.zeros((1, 2), np.float16), np.zeros((2, 2), np.float16)
    queries[0] = (1.0, 2.0**-14)
    corpus[:, 0], corpus[1, 1] = 0.75, 2.0**-14
    assert dense.pair_scores(queries, corpus, np.array([0, 0]), np.array([0, 1])).tolist() == [0.75, 0.75]
    assert parts.topk(queries, corpus, 2, split=Split(map, 1)).ids.tolist() == [[1, 0]]
    assert parts.topk(queries, corpus[::-1], 2, split=Split(map, 1)).ids.tolist() == [[0, 1]]


def test_equal_scores_go_by_id_over_all_parts():
    vectors = unit(np.random.default_rng(0), 1)
    found = parts.topk(vectors, np.repeat(vectors, 9, axis=0), 5, split=Split(map, 2))
    assert found.ids.tolist() == [[0, 1, 2, 3, 4]]


def test_a_part_is_one_array_for_all_queries(monkeypatch):
    monkeypatch.setattr(parts, "QUERIES_AT_ONCE", 4)
    queries, corpus, exclusions = collection(3, 10, 50, 2, 0.3, 0, "share")
    seen = []

    def noted(function, items):
        seen.extend(items)
        return map(function, seen)

    found = parts.topk(queries, corpus, 6, exclusions, split=Split(noted, 20))
    assert (found.ids == dense.topk(queries, corpus, 6, exclusions).ids).all()
    assert [(len(one.queries), one.first) for one in seen] == [(n, f) for n in (4, 4, 2) for f in (0, 20, 40)]
    assert len({id(one.corpus) for one in seen}) == len({id(one.queries) for one in seen}) == 3


def test_pieces_are_taken_as_results_are_asked_for():
    taken = []

    def counted(function, items):
        for item in items:
            taken.append(item)
            yield function(item)

    queries, corpus, exclusions = collection(4, 3, 6, 1, 0, 0, "share")
    blocks = ((queries, exclusions) for _ in range(2))
    found = parts.topk_of_blocks(blocks, corpus, 2, split=Split(counted, 3))
    next(found)
    assert len(taken) == 2
    next(found)
    assert len(taken) == 4
    assert next(found, None) is None


def test_an_empty_corpus_is_refused_and_no_queries_are_no_work():
    vectors = unit(np.random.default_rng(0), 3)
    with pytest.raises(MiningError, match="corpus is empty"):
        parts.topk(vectors, vectors[:0], 1, split=Split(map, 2))
    assert parts.topk(vectors[:0], vectors, 4, split=Split(map, 2)).ids.shape == (0, 4)
    with pytest.raises(MiningError, match="exclusions have shape"):
        parts.topk(vectors, vectors, 1, Exclusions(incidence(np.array([0]), np.array([0]), (3, 2))))


def test_a_corpus_is_searched_for_many_queries_at_a_time():
    assert queries_at_once(100, 10**6, "cpu", WHOLE) is None
    assert queries_at_once(100, 10**6, "cuda", WHOLE) >= 64_000
    assert queries_at_once(10**9, 10**6, "cuda", WHOLE) == 1
    split = Split(rows=10**5)
    assert queries_at_once(1, 10**6, "cuda", split) == parts.QUERIES_AT_ONCE
    assert queries_at_once(1000, 10**6, "cpu", split) == LIST_CELLS // 1000
    assert queries_at_once(10**9, 10**6, "cpu", split) == 1
