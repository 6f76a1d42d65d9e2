"""Search: the whole of it against a plain tiled top-k of torch and FAISS, and where its time goes."""

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.gpu_parts.measure import Line, has, line, passed, seconds, skipped, wait
from medi_build.search import dense, dense_cuda
from medi_build.search.dense import topk
from medi_build.search.dense_cuda import Sizes, free_memory, sizes_for
from medi_build.search.dense_lists import GROUP, Blocks, SearchPass
from medi_build.search.dense_pass import Excluded
from medi_build.search.exclusions import Exclusions
from medi_build.search.fixed_lists import FixedLists
from medi_build.search.ranking import Exact, nothing_found
from medi_build.search.settle import settled, wanted
from medi_build.search.transfer import Upload

CHECKED = 256
"""Queries whose lists are held against all their inner products in float64."""


def run(device: str, small: bool) -> Iterator[Line]:
    count, dimensions = (1500, 32) if small else (200_000, 768)
    device = "cuda:0" if device == "cuda" else device
    queries, corpus = vectors(count, dimensions, device, 1), vectors(count, dimensions, device, 2)
    sizes = Sizes(count, Blocks(512, 1024), 10**9)
    if device != "cpu":
        sizes = sizes_for(free_memory(device), count, dimensions, 0)
    what = f"{count:,} x {count:,} x {dimensions}"
    for k in (1, 10) if small else (1, 100):
        yield from whole(device, queries, corpus, k, sizes, f"{what}, k = {k}")
        yield from split(device, queries, corpus, k, sizes, f"{what}, k = {k}")
    yield from in_parts(device, queries, corpus, sizes, what)
    if device != "cpu" and torch.cuda.device_count() > 1:
        took = seconds("cuda", lambda: topk(queries, corpus, 100, device="cuda"))
        yield line(f"{what}, k = 100, on all {torch.cuda.device_count()} GPUs", took, "s")


def vectors(count: int, dimensions: int, device: str, seed: int) -> np.ndarray[Any, np.dtype[np.float16]]:
    """Unit vectors in a thousand clusters, as texts lie: float16 [count, dimensions]."""
    generator = torch.Generator(device).manual_seed(seed)
    about = torch.Generator(device).manual_seed(0)
    centres = torch.randn(1000, dimensions, generator=about, device=device)
    found = torch.randn(count, dimensions, generator=generator, device=device)
    found += centres[torch.randint(0, 1000, (count,), generator=generator, device=device)]
    return torch.nn.functional.normalize(found, dim=1).half().cpu().numpy()


def ours(queries: Any, corpus: Any, k: int, device: str, sizes: Sizes) -> Exact:
    """What GPUs are searched with; on the CPU, too, where the small form shows that it runs."""
    found = nothing_found(len(queries), k)
    with dense._settings():
        dense_cuda.search(
            queries, corpus, Exclusions(), found, [(device, sizes)], lambda n, tile: dense._passes(k, n, device, tile)
        )
    return found


def whole(device: str, queries: Any, corpus: Any, k: int, sizes: Sizes, what: str) -> Iterator[Line]:
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats(device)
    took = seconds(device, lambda: ours(queries, corpus, k, device, sizes))
    rate = 2 * queries.shape[1] * len(queries) * len(corpus) / took
    yield line(f"{what}: medi", took, "s", note=f"{rate / 1e12:.1f} TFLOP/s, host to host")
    if device != "cpu":
        yield line(f"{what}: medi, memory at its peak", torch.cuda.max_memory_allocated(device) / 1e9, "GB")
    found = ours(queries, corpus, k, device, sizes)
    yield exact(device, queries, corpus, found, what)
    plain: list[Any] = []
    at = seconds(device, lambda: plain.append(tiled(queries, corpus, k, device)), rounds=1)
    yield line(f"{what}: plain tiled torch.topk", at, "s", ratio=at / took, to="medi", note=agreement(plain[-1], found))
    yield from faiss_flat(device, queries, corpus, k, took, found, what)


def exact(device: str, queries: Any, corpus: Any, found: Exact, what: str) -> Line:
    """Whether the lists of some queries are those of all inner products in float64, ties by id."""
    rows = np.linspace(0, len(queries) - 1, CHECKED).astype(int)
    left, right = (torch.from_numpy(part).to(device).double() for part in (queries[rows], corpus))
    scores = left @ right.T
    best = torch.sort(scores, dim=1, descending=True, stable=True)
    k = found.ids.shape[1]
    ids, values = best.indices[:, :k].cpu().numpy(), best.values[:, :k].cpu().numpy()
    good = bool((ids == found.ids[rows]).all() and (values == found.scores[rows]).all())
    return passed(f"{what}: lists of {CHECKED} queries equal those in float64, to the bit", good)


def tiled(queries: Any, corpus: Any, k: int, device: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """What one writes without more thought: float16 scores in tiles, the best of each joined to those before."""
    texts, ids = torch.from_numpy(corpus).to(device), []
    for start in range(0, len(queries), 4096):
        some = torch.from_numpy(queries[start : start + 4096]).to(device)
        best = place = None
        for first in range(0, len(texts), 65536):
            part = torch.topk(some @ texts[first : first + 65536].T, k, dim=1)
            scores, where = part.values, part.indices + first
            if best is not None:
                scores, where = torch.cat([best, scores], dim=1), torch.cat([place, where], dim=1)
            top = torch.topk(scores, k, dim=1)
            best, place = top.values, where.gather(1, top.indices)
        assert place is not None
        ids.append(place.cpu())
    return torch.cat(ids).numpy()


def faiss_flat(device: str, queries: Any, corpus: Any, k: int, took: float, found: Exact, what: str) -> Iterator[Line]:
    """FAISS's exact index, on the GPU in float16, where it is built for one."""
    name = f"{what}: FAISS flat"
    if not has("faiss"):
        yield skipped(name, "faiss is not installed")
        return
    import faiss

    if device != "cpu" and not hasattr(faiss, "StandardGpuResources"):
        yield skipped(name, "this faiss has no GPUs")
        return
    wide = [part.astype(np.float32) for part in (queries, corpus)]
    ids: list[Any] = []

    def search() -> None:
        if device == "cpu":
            index = faiss.IndexFlatIP(corpus.shape[1])
        else:
            config = faiss.GpuIndexFlatConfig()
            config.useFloat16 = True
            index = faiss.GpuIndexFlatIP(faiss.StandardGpuResources(), corpus.shape[1], config)
        index.add(wide[1])
        ids.append(index.search(wide[0], k)[1])

    at = seconds(device, search, rounds=1)
    yield line(name, at, "s", ratio=at / took, to="medi", note=agreement(ids[-1], found))


def agreement(ids: Any, found: Exact) -> str:
    """How many of the exact lists a peer finds, in any order within them."""
    same = (np.sort(ids, axis=1) == np.sort(found.ids, axis=1)).all(axis=1).mean()
    return f"{100 * same:.2f} % of its lists are exact"


def split(device: str, queries: Any, corpus: Any, k: int, sizes: Sizes, what: str) -> Iterator[Line]:
    """The stages, each alone: copying, products, selection in them, scoring again in float64."""
    everything = np.arange(len(corpus))
    multiple, width = GROUP, sizes.tile.corpus

    def stream() -> None:
        with Upload(corpus, everything, device, "corpus", block=width, multiple=multiple) as upload:
            upload.whole()

    yield line(f"{what}: copying the corpus to the device", seconds(device, stream), "s")
    plan = next(dense._passes(k, len(corpus), device, Blocks(sizes.height(2 * k + 32), width)))
    with Upload(corpus, everything, device, "corpus", block=width, multiple=multiple) as texts, dense._settings():
        texts.whole()
        tensor = torch.from_numpy(queries).to(device)
        tiles = [tensor[start : start + plan.blocks.queries] for start in range(0, len(tensor), plan.blocks.queries)]

        def products() -> None:
            for tile in tiles:
                for block in texts:
                    tile.to(plan.dtype) @ block.vectors.to(plan.dtype).T

        multiplied = seconds(device, products)
        rate = 2 * queries.shape[1] * len(queries) * len(corpus) / multiplied / 1e12
        yield line(f"{what}: products", multiplied, "s", note=f"{plan.dtype}, {rate:.1f} TFLOP/s")
        listed = seconds(device, lambda: [lists_of(tile, texts, plan) for tile in tiles])
        yield line(f"{what}: selection", listed - multiplied, "s", ratio=listed / multiplied - 1, to="products")
        yield scored_again(device, tiles, texts, plan, multiplied, what)


def lists_of(queries: Any, texts: Upload, plan: SearchPass) -> tuple[FixedLists, Any]:
    """The lists of a tile, and the bound of their error, as `dense_cuda` makes them."""
    excluded = Excluded(Exclusions(), len(texts), plan, queries.device)
    return dense_cuda._lists_of_tile(queries, texts, excluded, 0, plan)


def scored_again(device: str, tiles: list[Any], texts: Upload, plan: SearchPass, multiplied: float, what: str) -> Line:
    """Scoring again and proving, over all tiles, the lists of one in memory at a time."""
    took, pairs, left = 0.0, 0, 0
    for warm in (True, False):
        for tile in tiles[:1] if warm else tiles:
            lists, error = lists_of(tile, texts, plan)
            wait(device)
            begin = time.perf_counter()
            chosen = wanted(lists)
            again = dense_cuda._exact_scores(tile, texts.whole(), lists.ids, chosen)
            _, _, proven = settled(lists, lists.ids[:, : again.shape[1]], again, error, plan)
            wait(device)
            if not warm:
                took += time.perf_counter() - begin
                pairs, left = pairs + int(chosen.sum()), left + int((~proven).sum())
    rows = sum(len(tile) for tile in tiles)
    note = f"{pairs / rows:.1f} candidates a query; {left} lists of {rows:,} left to a second pass"
    return line(f"{what}: scoring again in float64", took, "s", ratio=took / multiplied, to="products", note=note)


def in_parts(device: str, queries: Any, corpus: Any, sizes: Sizes, what: str) -> Iterator[Line]:
    """A corpus of which a quarter fits: four parts, copied one ahead, their lists merged on the device."""
    k, part = 10, -(-len(corpus) // 4 // GROUP) * GROUP
    tile = Blocks(sizes.tile.queries, min(part, sizes.tile.corpus))
    some = queries[: len(queries) // 4]
    one, four = (
        partial(ours, some, corpus, k, device, chosen) for chosen in (sizes, Sizes(part, tile, sizes.tile_bytes))
    )
    held, found = seconds(device, one), four()
    took = seconds(device, four)
    whole_lists = one()
    good = bool((found.ids == whole_lists.ids).all() and (found.scores == whole_lists.scores).all())
    yield passed(f"{what}, a quarter of the queries, k = {k}: four parts give the lists of one, to the bit", good)
    yield line("the same in four parts", took, "s", ratio=took / held, to="in one")
