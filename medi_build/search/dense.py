"""Exact top-k by inner product: queries resident, corpus streamed in blocks, nothing of size queries x corpus.

A first pass multiplies in the fastest format of the device (bfloat16 or float32 on the CPU, float16 on a GPU) and
keeps, block by block, whatever can be among the best by the error bound of that product: the k-th best score so far,
less twice the error, is a limit that most blocks hardly reach. What is kept is scored again in float64. For float16
vectors of norm near one that sum is exact in any order: every product is a multiple of 2**-48, and partial sums below
8 need no more than 51 of float64's 53 bits. So the result does not depend on block sizes, threads, device or format.
Where the lists have no room for all that the limit lets in, some are not proven to be exact; those are searched again,
more finely and deeper. Where there is little to search it is multiplied in float64 from the start (`dense_small.py`).
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from medi_build.arrays import Bools, Floats32, Floats64, Ints, Vectors
from medi_build.devices import Device, devices, has_fast_bfloat16
from medi_build.errors import MiningError
from medi_build.search.dense_cuda import free_memory, search, sizes_for
from medi_build.search.dense_lists import Blocks, SearchPass
from medi_build.search.dense_pass import candidate_lists, to_tensor
from medi_build.search.dense_small import small_topk
from medi_build.search.exclusions import Exclusions
from medi_build.search.ranking import NOTHING, Exact, Ranking, nothing_found
from medi_build.search.settle import settled, wanted

RESCORE_BYTES = 64 << 20
RESIDENT_CELLS = 1 << 23
"""Places of the running lists held at a time; twice as many may be filled, which takes 200 MB."""
RESIDENT_ROWS = 65536
EXACT_FROM_START = 8
"""Below so many candidates per place of the list, a float64 product is cheaper than scoring candidates again."""
SMALL_CELLS = 1 << 20
"""Below so many scores in all, it is cheaper as well."""
_FULL_PRECISION = {
    "allow_fp16_accumulation": False,
    "allow_fp16_reduced_precision_reduction": False,
    "allow_bf16_reduced_precision_reduction": False,
    "fp32_precision": "ieee",
}
"""Of torch's matrix products on GPUs."""


def topk(
    queries: Vectors,
    corpus: Vectors,
    k: int,
    exclusions: Exclusions | None = None,
    *,
    device: Device = "cpu",
    blocks: Blocks | None = None,
) -> Ranking:
    """The k best allowed candidates of each query by inner product, exactly.

    Args:
        queries: float16 [q, d].
        corpus: float16 [n, d], an array or a memory map; read in blocks of rows.
        k: length of the lists; where fewer candidates are allowed, the rest is -1 and -inf.
        exclusions: pairs that must not be ranked, shapes [q, n].
        device: "cpu", "cuda" (the queries are dealt out to all GPUs) or "cuda:1".
        blocks: tile sizes on the CPU.

    Raises:
        MiningError: k below 1, an empty corpus, shapes that do not fit, or vectors with NaN or infinity.
        OptionError: there is no such device.
    """
    return exact_topk(queries, corpus, k, exclusions or Exclusions(), device=device, blocks=blocks).rounded()


def exact_topk(
    queries: Vectors,
    corpus: Vectors,
    k: int,
    exclusions: Exclusions,
    *,
    device: Device = "cpu",
    blocks: Blocks | None = None,
) -> Exact:
    """What `topk` gives, before scores are rounded to float32."""
    _check(queries, corpus, k)
    exclusions.check(len(queries), len(corpus))
    names = devices(device)
    found = nothing_found(len(queries), k)
    if not len(queries):
        return found
    if _is_small(len(queries), len(corpus), k, on_gpu=_on_gpu(names[0])):
        return small_topk(queries, corpus, k, exclusions)
    with _settings():
        if _on_gpu(names[0]):
            words = 0 if exclusions.labels is None else exclusions.labels.corpus.shape[1]
            given = [(name, sizes_for(free_memory(name), len(corpus), corpus.shape[1], words)) for name in names]
            search(queries, corpus, exclusions, found, given, lambda count, tile: _passes(k, count, names[0], tile))
            return found
        passes, open_rows = _passes(k, len(corpus), "cpu", blocks or Blocks()), np.arange(len(queries))
        while len(open_rows):
            open_rows = _search_rows(open_rows, queries, corpus, exclusions, found, next(passes))
    return found


def _search_rows(
    rows: Ints, queries: Vectors, corpus: Vectors, exclusions: Exclusions, found: Exact, plan: SearchPass
) -> Ints:
    """Rank some queries, as many at a time as memory holds; gives those that are not proven to be exact."""
    at_once = min(RESIDENT_ROWS, max(1, RESIDENT_CELLS // plan.depth))
    open_parts = []
    for start in range(0, len(rows), at_once):
        some = rows[start : start + at_once]
        tensor = to_tensor(queries[some], "queries", some)
        (found.ids[some], found.scores[some]), proven = _search(tensor, corpus, exclusions.rows(some), plan)
        open_parts.append(some[~proven])
    return np.concatenate(open_parts)


@contextmanager
def _settings() -> Iterator[None]:
    """What holds for the whole process meanwhile.

    GPUs sum products in float32, as the bounds of the error assume, whatever the program allows elsewhere; and torch
    does not say that its sparse tensors are in a beta state.
    """
    import torch

    matmul = torch.backends.cuda.matmul
    before = {name: getattr(matmul, name) for name in _FULL_PRECISION}
    try:
        for name, value in _FULL_PRECISION.items():
            setattr(matmul, name, value)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support", category=UserWarning)
            yield
    finally:
        for name, value in before.items():
            setattr(matmul, name, value)


def pair_scores(left: Vectors, right: Vectors, left_rows: Ints, right_rows: Ints) -> Floats32:
    """Inner products of given pairs of rows, exact before rounding to float32; NaN where a row is -1."""
    scores = np.full(len(left_rows), np.nan, dtype=np.float32)
    known = np.flatnonzero((left_rows >= 0) & (right_rows >= 0))
    step = max(1, RESCORE_BYTES // (16 * left.shape[1]))
    for start in range(0, len(known), step):
        part = known[start : start + step]
        a = left[left_rows[part]].astype(np.float64)
        b = right[right_rows[part]].astype(np.float64)
        scores[part] = np.einsum("nd,nd->n", a, b)
    return scores


def _check(queries: Vectors, corpus: Vectors, k: int) -> None:
    if k < 1:
        raise MiningError(f"k is {k}; ask for at least 1 candidate")
    if not len(corpus):
        raise MiningError("the corpus is empty; there is nothing to search in")
    for name, vectors in (("queries", queries), ("corpus", corpus)):
        if vectors.ndim != 2 or vectors.dtype != np.float16:
            raise MiningError(
                f"{name} have dtype {vectors.dtype} and shape {vectors.shape}; vectors are float16 [rows, dimensions]"
            )
    if queries.shape[1] != corpus.shape[1]:
        raise MiningError(
            f"queries have {queries.shape[1]} dimensions, the corpus {corpus.shape[1]}; encode both with one encoder"
        )


def _on_gpu(device: Device) -> bool:
    return device != "cpu"


def _is_small(queries: int, candidates: int, k: int, *, on_gpu: bool) -> bool:
    few = not on_gpu and candidates <= EXACT_FROM_START * _first_depth(k)
    return few or queries * candidates <= SMALL_CELLS


def _first_depth(k: int) -> int:
    """Places of the lists of a first, coarse pass."""
    return 2 * k + 32


def _passes(k: int, candidates: int, device: Device, blocks: Blocks) -> Iterator[SearchPass]:
    """The passes to make until all lists are proven: first fast and coarse, then in float32, each four times deeper.

    Devices that search side by side are of one kind, so that what suits the first suits all.
    """
    import torch

    if _has_fast_half(device):
        half = torch.float16 if _on_gpu(device) else torch.bfloat16
        yield SearchPass(k, min(candidates, _first_depth(k)), half, blocks)
    depth = k + max(16, k // 4)
    while True:
        yield SearchPass(k, min(candidates, depth), torch.float32, blocks)
        depth *= 4


def _has_fast_half(device: Device) -> bool:
    """Whether the device multiplies a 16-bit format natively: any GPU, and CPUs with AVX512-BF16 or AMX."""
    return _on_gpu(device) or has_fast_bfloat16()


def _search(queries: Any, corpus: Vectors, exclusions: Exclusions, plan: SearchPass) -> tuple[Exact, Bools]:
    """One pass: the rankings of the queries, float16 [q, d], and which are proven to be exact."""
    lists, error = candidate_lists(queries, corpus, exclusions, plan)
    chosen = wanted(lists)
    width = int(chosen.sum(dim=1).max())
    ids, chosen = lists.ids[:, :width], chosen[:, :width]
    exact = _exact_scores(queries, corpus, ids, chosen)
    best, exact, proven = settled(lists, ids, exact, error, plan)
    return _padded(best.cpu().numpy(), exact.cpu().numpy(), plan.k), proven.cpu().numpy()


def _exact_scores(queries: Any, corpus: Vectors, ids: Any, wanted: Any) -> Any:
    """float64 [q, width] inner products of the wanted candidates; -inf for the others."""
    import torch

    device = queries.device
    exact = torch.full(ids.shape, -torch.inf, dtype=torch.float64, device=device)
    at_once = max(1, RESCORE_BYTES // (8 * corpus.shape[1]))
    for start in range(0, len(ids), at_once):
        rows = slice(start, start + at_once)
        left = queries[rows].double()
        row, place = torch.nonzero(wanted[rows], as_tuple=True)
        numbers = ids[rows][row, place].cpu().numpy()
        # The texts are read block by block in the order of the file: each once, a memory map from front to back.
        block = numbers // at_once
        for one in np.flatnonzero(np.bincount(block)):
            some = np.flatnonzero(block == one)
            within = numbers[some] - one * at_once
            used = np.bincount(within) > 0
            right = torch.from_numpy(corpus[one * at_once + np.flatnonzero(used)]).to(device).double()
            column = torch.from_numpy((np.cumsum(used) - 1)[within]).to(device)
            pairs = torch.from_numpy(some).to(device)
            exact[rows][row[pairs], place[pairs]] = _products(left, right, row[pairs], column)
    return exact


def _products(left: Any, right: Any, row: Any, column: Any) -> Any:
    """Inner products of the rows of two matrices at (row, column), of which the rows ascend."""
    import torch

    ends = torch.bincount(row, minlength=len(left)).cumsum(0)
    starts = torch.nn.functional.pad(ends, (1, 0))
    sample = torch.sparse_csr_tensor(
        starts, column, torch.zeros_like(column, dtype=left.dtype), (len(left), len(right)), check_invariants=False
    )
    return torch.sparse.sampled_addmm(sample, left, right.T, beta=0.0).values()


def _padded(ids: Ints, scores: Floats64, k: int) -> Exact:
    """As wide as k, where fewer candidates were found."""
    missing = ((0, 0), (0, max(0, k - ids.shape[1])))
    return Exact(np.pad(ids, missing, constant_values=NOTHING), np.pad(scores, missing, constant_values=-np.inf))
