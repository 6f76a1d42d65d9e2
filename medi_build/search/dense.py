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
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

from medi_build.arrays import Bools, Floats32, Ints, Vectors
from medi_build.devices import Device, devices, has_fast_bfloat16
from medi_build.errors import MiningError
from medi_build.search.dense_pass import Blocks, SearchPass, candidate_lists, relative_rounding, to_device
from medi_build.search.dense_small import small_topk
from medi_build.search.exclusions import Exclusions
from medi_build.search.ranking import NOTHING, Ranking

RESCORE_BYTES = 64 << 20
RESIDENT_CELLS = 1 << 23
"""Places of the running lists held at a time; twice as many may be filled, which takes 200 MB."""
RESIDENT_ROWS = 65536
EXACT_FROM_START = 8
"""Below so many candidates per place of the list, a float64 product is cheaper than scoring candidates again."""
SMALL_CELLS = 1 << 20
"""Below so many scores in all, it is cheaper as well."""


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
        blocks: tile sizes; the default suits the device.

    Raises:
        MiningError: k below 1, an empty corpus, shapes that do not fit, or vectors with NaN or infinity.
        OptionError: there is no such device.
    """
    _check(queries, corpus, k)
    exclusions = exclusions or Exclusions()
    exclusions.check(len(queries), len(corpus))
    names = devices(device)
    if len(queries) and _is_small(len(queries), len(corpus), k):
        return small_topk(queries, corpus, k, exclusions)
    blocks = blocks or (Blocks() if names == ["cpu"] else Blocks(8192, 65536))
    ranking = Ranking(
        np.full((len(queries), k), NOTHING, dtype=np.int64), np.full((len(queries), k), -np.inf, dtype=np.float32)
    )

    def settle(plan: SearchPass, parts: Iterable[Ints]) -> list[Ints]:
        unsettled = []
        for rows in parts:
            found, final = _search(queries[rows], corpus, exclusions.rows(rows), plan)
            ranking.ids[rows], ranking.scores[rows] = found
            unsettled.append(rows[~final])
        return unsettled

    open_rows, attempt = np.arange(len(queries)), 0
    while len(open_rows):
        plans = [_plan(k, len(corpus), name, blocks, attempt) for name in names]
        at_once = min(RESIDENT_ROWS, max(1, RESIDENT_CELLS // plans[0].depth), -(-len(open_rows) // len(names)))
        parts = [open_rows[start : start + at_once] for start in range(0, len(open_rows), at_once)]
        dealt = [parts[i :: len(names)] for i in range(len(names))]
        with _settings(), _side_by_side(len(names)) as run:
            open_rows = np.concatenate([rows for unsettled in run(settle, plans, dealt) for rows in unsettled])
        attempt += 1
    return ranking


@contextmanager
def _side_by_side(workers: int) -> Iterator[Any]:
    """What calls a function once per worker: ``map``, on a thread each where there are several."""
    if workers == 1:  # the calling thread has its own number of kernel threads
        yield map
        return
    with ThreadPoolExecutor(workers) as threads:
        yield threads.map


@contextmanager
def _settings() -> Iterator[None]:
    """What holds for the whole process meanwhile.

    GPUs sum products in float32, as the bounds of the error assume, whatever the program allows elsewhere; and torch
    does not say that its sparse tensors are in a beta state.
    """
    import torch

    matmul = torch.backends.cuda.matmul
    before = matmul.allow_fp16_reduced_precision_reduction, matmul.fp32_precision
    matmul.allow_fp16_reduced_precision_reduction, matmul.fp32_precision = False, "ieee"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support", category=UserWarning)
            yield
    finally:
        matmul.allow_fp16_reduced_precision_reduction, matmul.fp32_precision = before


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


def _is_small(queries: int, candidates: int, k: int) -> bool:
    return candidates <= EXACT_FROM_START * _first_depth(k) or queries * candidates <= SMALL_CELLS


def _first_depth(k: int) -> int:
    """Places of the lists of a first, coarse pass."""
    return 2 * k + 32


def _plan(k: int, candidates: int, device: Device, blocks: Blocks, attempt: int) -> SearchPass:
    """The format and depth of an attempt: first fast and coarse, then in float32, then four times deeper each time."""
    import torch

    if attempt == 0 and _has_fast_half(device):
        depth, dtype = _first_depth(k), torch.bfloat16 if device == "cpu" else torch.float16
    else:
        depth, dtype = (k + max(16, k // 4)) * 4 ** max(0, attempt - 1), torch.float32
    return SearchPass(k, min(candidates, depth), dtype, device, blocks)


def _has_fast_half(device: Device) -> bool:
    """Whether the device multiplies a 16-bit format natively: any GPU, and CPUs with AVX512-BF16 or AMX."""
    return device != "cpu" or has_fast_bfloat16()


def _search(queries: Vectors, corpus: Vectors, exclusions: Exclusions, plan: SearchPass) -> tuple[Ranking, Bools]:
    """One pass: the rankings, and which of them are proven to be exact."""
    import torch

    original = to_device(queries, plan.device, "queries", 0)
    lists, error = candidate_lists(original, corpus, exclusions, plan)
    wanted = (lists.ids != NOTHING) & (lists.scores >= lists.limit[:, None])
    ids = lists.ids[:, : int(wanted.sum(dim=1).max())]  # scores fall from left to right
    exact = _exact_scores(original, corpus, ids, wanted[:, : ids.shape[1]], plan.device)
    order = torch.sort(ids, dim=1).indices
    ids, exact = ids.gather(1, order), exact.gather(1, order)
    order = torch.sort(exact, dim=1, descending=True, stable=True).indices[:, : plan.k]
    ids, exact = ids.gather(1, order), exact.gather(1, order)
    ids[exact == -torch.inf] = NOTHING

    final = lists.cut == -torch.inf
    if exact.shape[1] == plan.k:
        final |= exact[:, -1] > lists.cut + relative_rounding(plan.dtype) * lists.cut.abs() + error
    return Ranking(*_pad(ids.cpu().numpy(), exact.float().cpu().numpy(), plan.k)), final.cpu().numpy()


def _exact_scores(queries: Any, corpus: Vectors, ids: Any, wanted: Any, device: Device) -> Any:
    """float64 [q, width] inner products of the wanted candidates; -inf for the others."""
    import torch

    exact = torch.full(ids.shape, -torch.inf, dtype=torch.float64, device=device)
    at_once = max(1, RESCORE_BYTES // (8 * corpus.shape[1]))
    for start in range(0, len(ids), at_once):
        rows = slice(start, start + at_once)
        left = queries[rows].double()
        row, place = torch.nonzero(wanted[rows], as_tuple=True)
        numbers = ids[rows][row, place].cpu().numpy()
        part = numbers // at_once
        order = np.argsort(part, kind="stable")
        ends = np.flatnonzero(np.diff(part[order], append=-1)) + 1
        for low, high in zip(np.append(0, ends)[:-1], ends, strict=True):
            # Read in the order of the file: each row once, and a memory map from front to back.
            some = order[low:high]
            local = numbers[some] - part[some[0]] * at_once
            used = np.bincount(local, minlength=1) > 0
            right = torch.from_numpy(corpus[part[some[0]] * at_once + np.flatnonzero(used)]).to(device).double()
            pairs = torch.from_numpy(some).to(device)
            column = torch.from_numpy((np.cumsum(used) - 1)[local]).to(device)
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


def _pad(ids: Ints, scores: Floats32, k: int) -> tuple[Ints, Floats32]:
    """Widen to k columns where the corpus is smaller than k."""
    missing = ((0, 0), (0, max(0, k - ids.shape[1])))
    return np.pad(ids, missing, constant_values=NOTHING), np.pad(scores, missing, constant_values=-np.inf)
