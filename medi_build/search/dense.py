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
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from medi_build.arrays import Bools, Floats32, Floats64, Ints, Vectors
from medi_build.devices import Device, devices, has_fast_bfloat16
from medi_build.errors import MiningError
from medi_build.search.dense_lists import Blocks, SearchPass, relative_rounding
from medi_build.search.dense_pass import candidate_lists, to_device
from medi_build.search.dense_small import small_topk
from medi_build.search.exclusions import Exclusions
from medi_build.search.ranking import NOTHING, Exact, Ranking, nothing_found

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
    if len(queries) and _is_small(len(queries), len(corpus), k):
        return small_topk(queries, corpus, k, exclusions)
    blocks = blocks or (Blocks() if names == ["cpu"] else Blocks(8192, 65536))
    search = _Search(queries, corpus, exclusions, nothing_found(len(queries), k))
    passes = _passes(k, len(corpus), names[0], blocks)
    open_rows = np.arange(len(queries))
    with _settings():
        while len(open_rows):
            open_rows = search.on_devices(names, open_rows, next(passes))
    return search.ranking


@dataclass(frozen=True)
class _Search:
    """What is searched, and what has been found so far.

    Attributes:
        queries: float16 [q, d].
        corpus: float16 [n, d].
        exclusions: of all queries.
        ranking: of all queries; rows are written once they have been searched.
    """

    queries: Vectors
    corpus: Vectors
    exclusions: Exclusions
    ranking: Exact

    def on_devices(self, names: Sequence[Device], rows: Ints, plan: SearchPass) -> Ints:
        """Rank some queries, dealt out to the devices; gives those that are not proven to be exact.

        A device gets no more at a time than its memory holds, and where there are several, each its share.
        """
        at_once = min(RESIDENT_ROWS, max(1, RESIDENT_CELLS // plan.depth), -(-len(rows) // len(names)))
        parts = [rows[start : start + at_once] for start in range(0, len(rows), at_once)]
        if len(names) == 1:  # the calling thread has its own number of kernel threads
            return self.settle(names[0], parts, plan)
        hands = [parts[start :: len(names)] for start in range(len(names))]
        with ThreadPoolExecutor(len(names)) as threads:
            return np.concatenate([*threads.map(lambda name, hand: self.settle(name, hand, plan), names, hands)])

    def settle(self, device: Device, parts: Sequence[Ints], plan: SearchPass) -> Ints:
        """Rank some queries on one device, part by part; gives those that are not proven to be exact."""
        open_parts = [np.empty(0, dtype=np.int64)]
        for rows in parts:
            queries = to_device(self.queries[rows], device, "queries", rows)
            found, proven = _search(queries, self.corpus, self.exclusions.rows(rows), plan)
            self.ranking.ids[rows], self.ranking.scores[rows] = found
            open_parts.append(rows[~proven])
        return np.concatenate(open_parts)


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


def _passes(k: int, candidates: int, device: Device, blocks: Blocks) -> Iterator[SearchPass]:
    """The passes to make until all lists are proven: first fast and coarse, then in float32, each four times deeper.

    Devices that search side by side are of one kind, so that what suits the first suits all.
    """
    import torch

    if _has_fast_half(device):
        half = torch.bfloat16 if device == "cpu" else torch.float16
        yield SearchPass(k, min(candidates, _first_depth(k)), half, blocks)
    depth = k + max(16, k // 4)
    while True:
        yield SearchPass(k, min(candidates, depth), torch.float32, blocks)
        depth *= 4


def _has_fast_half(device: Device) -> bool:
    """Whether the device multiplies a 16-bit format natively: any GPU, and CPUs with AVX512-BF16 or AMX."""
    return device != "cpu" or has_fast_bfloat16()


def _search(queries: Any, corpus: Vectors, exclusions: Exclusions, plan: SearchPass) -> tuple[Exact, Bools]:
    """One pass: the rankings of the queries, float16 [q, d] on a device, and which are proven to be exact."""
    import torch

    lists, error = candidate_lists(queries, corpus, exclusions, plan)
    wanted = (lists.ids != NOTHING) & (lists.scores >= lists.limit[:, None])
    width = int(wanted.sum(dim=1).max())  # scores fall from left to right: what is wanted stands in the first columns
    ids, wanted = lists.ids[:, :width], wanted[:, :width]
    exact = _exact_scores(queries, corpus, ids, wanted)

    by_id = torch.sort(ids, dim=1).indices
    ids, exact = ids.gather(1, by_id), exact.gather(1, by_id)
    by_score = torch.sort(exact, dim=1, descending=True, stable=True).indices[:, : plan.k]
    ids, exact = ids.gather(1, by_score), exact.gather(1, by_score)
    ids[exact == -torch.inf] = NOTHING

    proven = lists.cut == -torch.inf  # nothing was left out
    if exact.shape[1] == plan.k:  # or nothing that could have taken the last place
        proven |= exact[:, -1] > lists.cut + relative_rounding(plan.dtype) * lists.cut.abs() + error
    return _padded(ids.cpu().numpy(), exact.cpu().numpy(), plan.k), proven.cpu().numpy()


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
