"""Exact search against a brute-force oracle."""

from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from medi_build.errors import MiningError
from medi_build.search import dense, dense_cuda
from medi_build.search.dense import pair_scores, topk
from medi_build.search.dense_cuda import Sizes
from medi_build.search.dense_lists import Blocks, relative_rounding
from medi_build.search.dense_pass import ErrorBound
from medi_build.search.exclusions import Exclusions, Labels, contains, incidence, label_bits

TINY = Blocks(queries=3, corpus=5)


@pytest.fixture(params=["small", "bfloat16", "float32", "gpu", "gpu, in parts"])
def first_pass(request, monkeypatch):
    """Search as where there is little to search, with a first pass in each of the CPU's formats, or as on a GPU."""
    monkeypatch.setattr(dense, "EXACT_FROM_START", 0)
    monkeypatch.setattr(dense, "SMALL_CELLS", 10**9 if request.param == "small" else 0)
    monkeypatch.setattr(dense, "_has_fast_half", lambda device: request.param not in ("small", "float32"))
    if request.param.startswith("gpu"):
        as_on_a_gpu(monkeypatch, in_parts="parts" in request.param)


def as_on_a_gpu(monkeypatch, *, in_parts):
    """Search by what GPUs are searched with, on the CPU, in small tiles; and in parts of the corpus."""
    monkeypatch.setattr(dense, "_on_gpu", lambda device: True)
    monkeypatch.setattr(dense, "free_memory", lambda device: 8 << 30)
    monkeypatch.setattr(dense_cuda, "QUERIES", 50)
    monkeypatch.setattr(dense_cuda, "RESCORED_CELLS", 5000)

    def small(free, candidates, dimensions, words):
        tile = Blocks(7, max(32, candidates // 80 * 16))
        return Sizes(2 * tile.corpus if in_parts else candidates, tile, tile_bytes=10**9)

    monkeypatch.setattr(dense, "sizes_for", small)


def unit(rng, n, d=16):
    v = rng.standard_normal((n, d)).astype(np.float32)
    return (v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float16)


def oracle(queries, corpus, k, allowed):
    """The definition: score everything exactly, sort by (-score, id), cut."""
    scores = queries.astype(np.float64) @ corpus.astype(np.float64).T
    ids = np.full((len(queries), k), -1)
    values = np.full((len(queries), k), -np.inf, dtype=np.float32)
    for i in range(len(queries)):
        best = sorted((j for j in range(len(corpus)) if allowed(i, j)), key=lambda j: (-scores[i, j], j))[:k]
        ids[i, : len(best)] = best
        values[i, : len(best)] = scores[i, best]
    return ids, values


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    n_queries=st.integers(1, 9),
    n_corpus=st.integers(1, 40),
    k=st.integers(1, 50),
    copies=st.integers(1, 8),
    density=st.floats(0, 1),
    n_labels=st.sampled_from([0, 2, 70]),
    mode=st.sampled_from(["share", "disjoint"]),
)
@example(seed=0, n_queries=1, n_corpus=2, k=2, copies=1, density=0.5, n_labels=0, mode="share")
def test_equals_brute_force(first_pass, seed, n_queries, n_corpus, k, copies, density, n_labels, mode):
    rng = np.random.default_rng(seed)
    corpus = unit(rng, n_corpus)[rng.integers(0, max(1, n_corpus // copies), n_corpus)]  # equal vectors tie
    queries = np.concatenate([unit(rng, n_queries), corpus[:1]])
    pairs = rng.random((len(queries), n_corpus)) < density
    labels = None
    if n_labels:
        bits = [rng.random((n, n_labels)) < 0.3 for n in (len(queries), n_corpus)]
        words = [label_bits(*np.nonzero(b), len(b), n_labels) for b in bits]
        labels = Labels(words[0], words[1], mode)
    # What is excluded may be wider than the corpus: the first texts of all.
    wider = np.pad(pairs, ((0, 0), (0, 3)), constant_values=True)
    exclusions = Exclusions(incidence(*np.nonzero(wider), wider.shape), labels)

    def allowed(i, j):
        if pairs[i, j]:
            return False
        return labels is None or bool((bits[0][i] & bits[1][j]).any()) == (mode == "share")

    found = topk(queries, corpus, k, exclusions, blocks=TINY)
    ids, scores = oracle(queries, corpus, k, allowed)
    np.testing.assert_array_equal(found.ids, ids)
    np.testing.assert_array_equal(found.scores, scores)


def test_sizes_are_those_of_this_corpus_and_its_labels(monkeypatch):
    asked, rng = [], np.random.default_rng(0)
    as_on_a_gpu(monkeypatch, in_parts=False)
    monkeypatch.setattr(dense, "sizes_for", lambda *size: asked.append(size) or Sizes(600, Blocks(7, 640), 10**9))
    monkeypatch.setattr(dense, "EXACT_FROM_START", 0)
    monkeypatch.setattr(dense, "SMALL_CELLS", 0)
    queries, corpus = unit(rng, 5), unit(rng, 600)
    labels = Labels(np.ones((5, 2), dtype=np.int64), np.ones((600, 2), dtype=np.int64), "share")
    topk(queries, corpus, 3)
    topk(queries, corpus, 3, Exclusions(None, labels))
    assert asked == [(8 << 30, 600, 16, 0), (8 << 30, 600, 16, 2)]


def test_same_bytes_for_any_block_size_and_thread_count(first_pass):
    rng = np.random.default_rng(0)
    queries, corpus = unit(rng, 90, 64), unit(rng, 700, 64)
    corpus[350:] = corpus[:350]
    threads = torch.get_num_threads()
    try:
        results = []
        for n, blocks in ((1, Blocks(90, 700)), (2, Blocks(7, 64)), (1, Blocks(1, 33)), (2, Blocks(1000, 10_000))):
            torch.set_num_threads(n)
            results.append(topk(queries, corpus, 20, blocks=blocks))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert other.ids.tobytes() == results[0].ids.tobytes()
        assert other.scores.tobytes() == results[0].scores.tobytes()


def test_one_vector_many_times_over_ties_by_id(first_pass):
    corpus = np.repeat(unit(np.random.default_rng(1), 1), 500, axis=0)
    found = topk(corpus[:2], corpus, 30, blocks=Blocks(2, 64))
    np.testing.assert_array_equal(found.ids, np.tile(np.arange(30), (2, 1)))


def test_a_corpus_of_near_ties_is_settled_by_deeper_passes(first_pass):
    """Scores closer than a 16-bit format can tell: the first pass proves nothing, the result is exact all the same."""
    rng = np.random.default_rng(7)
    corpus = (unit(rng, 1, 64).astype(np.float32) + 2e-3 * rng.standard_normal((900, 64))).astype(np.float16)
    queries = corpus[:6]
    found = topk(queries, corpus, 12, blocks=Blocks(4, 300))
    ids, scores = oracle(queries, corpus, 12, lambda i, j: True)
    np.testing.assert_array_equal(found.ids, ids)
    np.testing.assert_array_equal(found.scores, scores)


def test_wide_tiles_take_groups(first_pass):
    rng = np.random.default_rng(8)
    queries, corpus = unit(rng, 20, 32), unit(rng, 4011, 32)
    found = topk(queries, corpus, 3)
    ids, scores = oracle(queries, corpus, 3, lambda i, j: True)
    np.testing.assert_array_equal(found.ids, ids)
    np.testing.assert_array_equal(found.scores, scores)


@pytest.mark.parametrize("order", ["falling", "rising", "mixed"])
def test_limits_carry_from_tile_to_tile(first_pass, order):
    """Equal vectors, in tiles of more groups than places: the limit starts low, starts high, or there is no room."""
    rng = np.random.default_rng(9)
    queries, corpus = unit(rng, 5, 32), unit(rng, 1200, 32)[rng.integers(0, 1200, 5000)]
    corpus[rng.integers(0, 5000, 700)] = corpus[17]
    by_score = np.argsort(corpus.astype(np.float32) @ queries[0], kind="stable")
    corpus = corpus[{"falling": by_score[::-1], "rising": by_score, "mixed": np.arange(5000)}[order]]
    queries[1] = corpus[np.flatnonzero((corpus == corpus[17]).all(axis=1))[0]]
    found = topk(queries, corpus, 4, blocks=Blocks(2, 1024))
    ids, scores = oracle(queries, corpus, 4, lambda i, j: True)
    np.testing.assert_array_equal(found.ids, ids)
    np.testing.assert_array_equal(found.scores, scores)


def test_a_score_beyond_the_room_is_not_lost(first_pass):
    """More texts than a list holds are as near as can be told in 16 bits, the nearest of them last."""
    near = np.ones((3000, 16), dtype=np.float32)
    near[:, 1] += 2**-10 * (np.arange(3000) % 3)
    near[2999, 1] += 2**-9
    corpus = (near / 4).astype(np.float16)
    found = topk(corpus[:1], corpus, 2, blocks=Blocks(1, 1024))
    ids, scores = oracle(corpus[:1], corpus, 2, lambda i, j: True)
    np.testing.assert_array_equal(found.ids, ids)
    np.testing.assert_array_equal(found.scores, scores)


def test_passes_get_deeper_until_a_list_holds_the_whole_corpus(monkeypatch):
    for fast, formats, depths in (
        (True, [torch.bfloat16] + [torch.float32] * 4, [52, 26, 104, 416, 500]),
        (False, [torch.float32] * 5, [26, 104, 416, 500, 500]),
    ):
        monkeypatch.setattr(dense, "_has_fast_half", lambda device, fast=fast: fast)
        passes = list(islice(dense._passes(10, 500, "cpu", TINY), 5))
        assert [one.dtype for one in passes] == formats
        assert [one.depth for one in passes] == depths


def test_an_ordinary_search_is_settled_by_its_first_pass(first_pass, monkeypatch):
    made, passes = [], dense._passes

    def counted(*args):
        made.append(0)
        for one in passes(*args):
            made[-1] += 1
            yield one

    monkeypatch.setattr(dense, "_passes", counted)
    rng = np.random.default_rng(11)
    topk(unit(rng, 100, 64), unit(rng, 4000, 64), 20)
    assert set(made) == (set() if dense.SMALL_CELLS else {1})


def test_the_bound_of_a_score_holds_for_all_blocks_and_is_not_far_off():
    rng = np.random.default_rng(12)
    queries, corpus = (torch.from_numpy(unit(rng, n, 64)) for n in (50, 600))
    corpus[:300] *= 2  # the later block has the smaller errors
    bound = ErrorBound(queries, torch.bfloat16)
    for block in corpus.split(300):
        error = bound.with_block(block)
    found = queries.to(torch.bfloat16).double() @ corpus.to(torch.bfloat16).double().T
    off = (found - queries.double() @ corpus.double().T).abs()
    assert (off <= error[:, None]).all()
    assert off.max() > error.max() / 8


def test_the_bound_of_rounding_is_that_of_the_format():
    """Half the distance of two neighbours, as a share of the number: reached at most, and nearly."""
    for dtype in (torch.bfloat16, torch.float16):
        exact = torch.rand(100_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1
        worst = float(((exact - exact.to(dtype).double()).abs() / exact).max())
        assert 0.9 * relative_rounding(dtype) < worst <= relative_rounding(dtype)
    assert relative_rounding(torch.float32) == 0


def test_reads_a_memory_map(tmp_path):
    rng = np.random.default_rng(2)
    corpus = unit(rng, 50)
    np.save(tmp_path / "v.npy", corpus)
    mapped = np.load(tmp_path / "v.npy", mmap_mode="r")
    np.testing.assert_array_equal(topk(corpus[:4], mapped, 5).ids, topk(corpus[:4], corpus, 5).ids)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("side", ["queries", "corpus"])
def test_unusable_vectors_are_named(first_pass, bad, side):
    rng = np.random.default_rng(3)
    vectors = {"queries": unit(rng, 4), "corpus": unit(rng, 20)}
    vectors[side][3, 2] = bad
    with pytest.raises(MiningError, match=f"vector 3 of the {side} holds NaN or infinity"):
        topk(vectors["queries"], vectors["corpus"], 2, blocks=TINY)


def test_impossible_requests_are_refused():
    rng = np.random.default_rng(4)
    good = unit(rng, 4)
    with pytest.raises(MiningError, match="k is 0"):
        topk(good, good, 0)
    with pytest.raises(MiningError, match="corpus is empty"):
        topk(good, good[:0], 1)
    with pytest.raises(MiningError, match="16 dimensions, the corpus 8"):
        topk(good, unit(rng, 4, 8), 1)
    with pytest.raises(MiningError, match="float32"):
        topk(good.astype(np.float32), good, 1)
    with pytest.raises(MiningError, match=r"shape \(2, 4\)"):
        topk(good, good, 1, Exclusions(incidence(np.array([0]), np.array([0]), (2, 4))))


def test_no_queries_is_no_work():
    good = unit(np.random.default_rng(5), 4)
    assert topk(good[:0], good, 3).ids.shape == (0, 3)


def test_pair_scores_and_contains():
    rng = np.random.default_rng(6)
    a, b = unit(rng, 5), unit(rng, 6)
    got = pair_scores(a, b, np.array([0, 4, -1]), np.array([5, 0, 2]))
    want = a.astype(np.float64) @ b.astype(np.float64).T
    np.testing.assert_array_equal(got, np.array([want[0, 5], want[4, 0], np.nan], dtype=np.float32))
    matrix = incidence(np.array([0, 0, 2]), np.array([1, 1, 3]), (3, 4))
    np.testing.assert_array_equal(
        contains(matrix, np.array([0, 0, 2, 2, 1]), np.array([1, 2, 3, 0, 3])), [True, False, True, False, False]
    )


def test_pairs_are_contained_or_not_whatever_is_asked_for():
    rng = np.random.default_rng(13)
    stored = rng.random((40, 70)) < 0.1
    matrix = incidence(*np.nonzero(stored), stored.shape)
    for count in (0, 1, 500):
        rows, columns = rng.integers(0, 40, count), rng.integers(0, 70, count)
        np.testing.assert_array_equal(contains(matrix, rows, columns), stored[rows, columns])


@pytest.mark.parametrize(("labels", "words"), [(0, 1), (1, 1), (63, 1), (64, 2), (126, 2), (127, 3)])
def test_label_bits_take_a_word_for_63_labels(labels, words):
    every = np.arange(labels)
    bits = label_bits(every % 2, every, 2, labels)
    assert bits.shape == (2, words)
    assert sum(int(word).bit_count() for word in bits.ravel()) == labels
