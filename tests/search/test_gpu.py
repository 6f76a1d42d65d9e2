"""What GPUs are searched with: sizes, uploads, lists of fixed width; on the CPU where that shows it, else on a GPU."""

import threading

import numpy as np
import pytest
import torch

from medi_build.errors import MiningError
from medi_build.search import dense, dense_cuda, fixed_lists
from medi_build.search.dense import topk
from medi_build.search.dense_cuda import Sizes, sizes_for
from medi_build.search.dense_lists import GROUP, Blocks, Lists, SearchPass
from medi_build.search.dense_pass import Excluded
from medi_build.search.fixed_lists import ROOM, FixedLists
from medi_build.search.settle import wanted
from medi_build.search.transfer import Upload
from tests.search.test_dense import as_on_a_gpu, unit
from tests.search.test_devices import a_search, same

GB = 10**9


@pytest.mark.parametrize("free", [3 * GB, 8 * GB, 24 * GB, 80 * GB, 190 * GB])
@pytest.mark.parametrize("dimensions", [384, 768, 4096])
@pytest.mark.parametrize("candidates", [20, 70_000, 3_000_000, 36_000_000])
@pytest.mark.parametrize("words", [0, 3])
def test_sizes_keep_to_the_memory(free, dimensions, candidates, words):
    try:
        sizes = sizes_for(free, candidates, dimensions, words)
    except MiningError as error:
        assert free < 24 * GB, "enough for anything"
        assert "GB of memory free, too little to search with vectors of" in str(error)
        return
    parts = 1 if candidates <= sizes.texts else 2
    vectors = parts * sizes.texts * (2 * dimensions + 8 * words)
    blocks = 2 * dense_cuda.QUERIES * dimensions * 2
    rescored, labels = 10 * dense_cuda.RESCORED_CELLS, 9 * dense_cuda.LABEL_CELLS
    assert vectors + blocks + rescored + labels + sizes.tile_bytes <= 0.8 * free
    assert sizes.tile.corpus % GROUP == sizes.texts % GROUP == 0
    for depth in (34, 232, 20_000):
        assert 1 <= sizes.height(depth) <= sizes.tile.queries


def test_a_gpu_of_80_gb_holds_the_corpus_of_medi_whole_and_that_of_kilt_in_parts():
    assert sizes_for(79 * GB, 20_000_000, 768, 0).texts == 20_000_000
    kilt = sizes_for(79 * GB, 36_000_000, 768, 0)
    assert 2 <= -(-36_000_000 // kilt.texts) <= 3
    assert kilt.height(232) == 8192


@pytest.mark.parametrize("stop_after", [1, 2, 4])
def test_the_next_stretch_is_uploaded_while_one_is_searched_and_none_is_left_open(stop_after):
    begun, closed, rows = [], [], [np.array([number]) for number in range(4)]

    class Sent:
        def __init__(self, some):
            self.number = int(some[0])
            begun.append(self.number)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.close()

        def close(self):
            closed.append(self.number)

    ahead = dense_cuda._one_ahead(rows, Sent)
    for place in range(stop_after):
        some, sent = next(ahead)
        assert (some is rows[place], sent.number) == (True, place)
        assert begun == list(range(min(place + 2, 4)))
        assert closed == list(range(place))
    ahead.close()
    assert sorted(closed) == begun


@pytest.mark.parametrize("order", ["all", "some", "none twice"])
@pytest.mark.parametrize("mapped", [False, True])
def test_an_upload_brings_rows_in_their_order(tmp_path, order, mapped):
    vectors = unit(np.random.default_rng(0), 1000, 24)
    np.save(tmp_path / "v.npy", vectors)
    rows = {"all": np.arange(1000), "some": np.arange(3, 900, 7), "none twice": np.arange(1000)[::-1]}[order]
    source = np.load(tmp_path / "v.npy", mmap_mode="r") if mapped else vectors
    with Upload(source, rows, "cpu", "corpus", block=160, multiple=16) as upload:
        for block in upload:
            np.testing.assert_array_equal(block.vectors[: block.count], vectors[rows[block.first :][: block.count]])
            assert len(block.vectors) % 16 == 0 and not block.vectors[block.count :].any()
            assert block.norm >= np.linalg.norm(vectors[rows].astype(np.float64), axis=1).max() * 0.999
        np.testing.assert_array_equal(upload.whole(), vectors[rows])


def test_a_search_that_fails_leaves_no_thread_behind(monkeypatch):
    as_on_a_gpu(monkeypatch, in_parts=True)
    monkeypatch.setattr(dense, "SMALL_CELLS", 0)
    before = threading.active_count()
    vectors = unit(np.random.default_rng(0), 3000, 24)
    vectors[2500, 3] = np.inf
    with pytest.raises(MiningError, match="vector 2500 of the corpus holds NaN or infinity"):
        topk(vectors[:100], vectors, 3)
    assert threading.active_count() == before


def test_out_of_memory_is_told_with_what_to_do(monkeypatch):
    as_on_a_gpu(monkeypatch, in_parts=False)

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 5.00 GiB.")

    monkeypatch.setattr(dense, "SMALL_CELLS", 0)
    monkeypatch.setattr(dense_cuda, "_best_of_tile", full)
    with pytest.raises(
        MiningError, match=r"cpu ran out of memory in a search over 3,000 .* or search with --device cpu"
    ):
        topk(*a_search())


@pytest.mark.parametrize("order", ["mixed", "rising", "falling", "equal"])
@pytest.mark.parametrize(("k", "depth"), [(1, 3), (4, 9), (20, 21), (20, 700)])
def test_lists_of_fixed_width_keep_what_the_others_keep(order, k, depth):
    """All that is wanted of either is in both, unless it is at or below what they tell to have left out."""
    rng = np.random.default_rng(k)
    scores = rng.standard_normal((6, 5 * 144)).astype(np.float32)
    if order != "mixed":
        scores = np.round(np.sort(scores, axis=1), 1 if order == "equal" else 6)
    scores = torch.from_numpy(scores if order != "falling" else scores[:, ::-1].copy())
    plan, error = SearchPass(k, depth, torch.float32, Blocks(6, 144)), torch.full((6,), 1e-4, dtype=torch.float64)
    plain, fixed = Lists(6, plan, "cpu"), FixedLists(6, scores.shape[1], plan, "cpu")
    for first in range(0, scores.shape[1], 144):
        plain.add(scores[:, first : first + 144], first, error)
        fixed.take(fixed.look(scores[:, first : first + 144], first), error)
        assert int(fixed._filled.max()) <= min(ROOM * depth, scores.shape[1])
    for lists in (plain, fixed):
        lists.keep_best(error)
    for row in range(6):
        left_out = max(float(plain.cut[row]), float(fixed.cut[row]))
        kept = [
            {
                int(i)
                for i, good in zip(one.ids[row], wanted(one)[row], strict=True)
                if good and scores[row, i] > left_out
            }
            for one in (plain, fixed)
        ]
        best = {int(i) for i in torch.argsort(scores[row], descending=True)[:k] if scores[row, i] > left_out}
        assert best <= kept[0] & kept[1]
        for i, score in zip(fixed.ids[row].tolist(), fixed.scores[row].tolist(), strict=True):
            assert i < 0 or float(scores[row, i]) == score


def test_a_candidate_without_a_place_is_remembered_by_its_score():
    """One group after another is crowded with scores near the limit, more than a list has places for."""
    plan, error = SearchPass(1, 2, torch.float32, Blocks()), torch.full((1,), 1.0, dtype=torch.float64)
    lists = FixedLists(1, 1000, plan, "cpu")
    tile = torch.arange(2.0 * GROUP)[None] / 1000
    lists.take(lists.look(tile, 0), error)
    assert int(lists._filled[0]) == ROOM * 2
    missing = set(range(2 * GROUP)) - set(lists.ids[0].tolist())
    assert float(lists.cut[0]) == pytest.approx(max(missing) / 1000)


@pytest.mark.parametrize("spare", [0, 5, 40])
def test_what_a_tile_adds_beyond_the_room_for_it_is_searched_for_again(monkeypatch, spare):
    """Whole groups of equal texts near the limit: 16 candidates where there is room for two."""
    monkeypatch.setattr(fixed_lists, "SPARE", spare)
    as_on_a_gpu(monkeypatch, in_parts=False)
    monkeypatch.setattr(dense, "SMALL_CELLS", 0)
    monkeypatch.setattr(dense, "_has_fast_half", lambda device: True)
    rng = np.random.default_rng(spare)
    corpus = np.tile(unit(rng, 40, 32), (20, 1))  # a tile is a multiple of 40 wide: members of a group are alike
    monkeypatch.setattr(dense, "sizes_for", lambda *_: Sizes(len(corpus), Blocks(7, 640), 10**9))
    found = topk(corpus[:40], corpus, 30)
    scores = corpus[:40].astype(np.float64) @ corpus.astype(np.float64).T
    wanted = np.argsort(-scores, axis=1, kind="stable")[:, :30]
    np.testing.assert_array_equal(found.ids, wanted)


@pytest.mark.gpu
@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("in_parts", [False, True])
@pytest.mark.parametrize("tile", [Blocks(7, 64), Blocks(64, 1024), Blocks(8192, 65536)])
def test_a_gpu_ranks_as_the_cpu_does(monkeypatch, fast, in_parts, tile):
    """Several tiles and blocks of either side, lists that go on from block to block and part to part."""
    monkeypatch.setattr(dense, "EXACT_FROM_START", 0)
    monkeypatch.setattr(dense, "SMALL_CELLS", 0)
    monkeypatch.setattr(dense, "_has_fast_half", lambda device: fast)
    monkeypatch.setattr(dense_cuda, "QUERIES", 40)
    monkeypatch.setattr(dense_cuda, "RESCORED_CELLS", 5000)
    texts = 1024 if in_parts else 3008
    monkeypatch.setattr(dense, "sizes_for", lambda *_: Sizes(texts, tile, 10**9))
    same(topk(*a_search(), device="cuda:0"), topk(*a_search()))


@pytest.mark.gpu
def test_a_gpu_ranks_near_ties_and_copies_as_the_cpu_does(monkeypatch):
    """Scores closer than float16 can tell, which deeper passes settle, and texts that are there many times."""
    rng = np.random.default_rng(7)
    near = (unit(rng, 1, 64).astype(np.float32) + 2e-3 * rng.standard_normal((9000, 64))).astype(np.float16)
    near[5000:] = near[rng.integers(0, 300, 4000)]
    monkeypatch.setattr(dense, "sizes_for", lambda *_: Sizes(3072, Blocks(64, 512), 10**9))
    same(topk(near[:200], near, 12, device="cuda:0"), topk(near[:200], near, 12))


@pytest.mark.gpu
def test_a_gpu_ranks_as_the_cpu_does_by_its_own_sizes():
    rng = np.random.default_rng(8)
    queries, corpus = unit(rng, 9000, 96), unit(rng, 140_000, 96)
    same(topk(queries, corpus, 30, device="cuda:0"), topk(queries, corpus, 30))


@pytest.mark.gpu
def test_a_tile_makes_the_host_wait_for_nothing_but_what_it_fetches(monkeypatch):
    queries, corpus, k, exclusions = a_search()
    plan = SearchPass(k, 56, torch.float16, Blocks(100, 256))
    with Upload(corpus, np.arange(3000), "cuda:0", "corpus", block=256, multiple=GROUP) as texts:
        texts.whole()
        tensor = torch.from_numpy(queries).to("cuda:0")
        excluded = Excluded(exclusions, 3000, plan, tensor.device)
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            ids, exact, proven = dense_cuda._best_of_tile(tensor, texts, excluded, 0, plan)
        finally:
            torch.cuda.set_sync_debug_mode(before)
    assert proven.all()
    expected = topk(queries, corpus, k, exclusions)
    np.testing.assert_array_equal(ids.cpu().numpy(), expected.ids)
    np.testing.assert_array_equal(exact.float().cpu().numpy(), expected.scores)


@pytest.mark.gpu
def test_a_gpu_that_is_full_is_told_before_the_search():
    with pytest.raises(MiningError, match="too little to search"):
        sizes_for(dense_cuda.free_memory("cuda:0") // 1000, 1000, 768, 0)
