"""Exact top-k by inner product: queries resident, corpus streamed in blocks, nothing of size queries x corpus.

A first pass multiplies in the fastest format of the device (bfloat16 or float32 on the CPU, float16 on a GPU) and
keeps, block by block, whatever can be among the best by the error bound of that product: the k-th best score so far,
less twice the error, is a limit that most blocks hardly reach. What is kept is scored again in float64. For float16
vectors of norm near one that sum is exact in any order: every product is a multiple of 2**-48, and partial sums below
8 need no more than 51 of float64's 53 bits. So the result does not depend on block sizes, threads, device or format.
Where the lists have no room for all that the limit lets in, some are not proven to be exact; those are searched again,
more finely and deeper. A small corpus is multiplied in float64 from the start.
"""

import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from medi_build.devices import Device, devices
from medi_build.errors import MiningError
from medi_build.mine.exclusions import Exclusions, Labels, TiledPairs

Vectors = npt.NDArray[np.float16]
NOTHING = -1
"""The id that stands where a list is shorter than k."""

RESCORE_BYTES = 64 << 20
RESIDENT_CELLS = 1 << 23
"""Places of the running lists held at a time; twice as many may be filled, which takes 200 MB."""
RESIDENT_ROWS = 65536
EXACT_FROM_START = 8
"""Below so many candidates per place of the list, a float64 product is cheaper than scoring survivors again."""
GROUP = 16
"""Scores of a tile of which only the largest is looked at first."""


class Ranking(NamedTuple):
    """Ranked candidates of each query.

    Attributes:
        ids: int64 [q, k], best first, ties by lower id; -1 where fewer than k candidates are allowed.
        scores: float32 [q, k], inner products; -inf where there is no candidate.
    """

    ids: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]

    def rows(self, index: npt.NDArray[np.int64]) -> "Ranking":
        """The rankings of some queries, in the given order."""
        return Ranking(self.ids[index], self.scores[index])


class Blocks(NamedTuple):
    """Sizes of the tiles that are multiplied at a time; they change speed and memory, never the result."""

    queries: int = 1024
    corpus: int = 8192


class _Pass(NamedTuple):
    """How one pass over the corpus is made: ``depth`` is the room of a list between two blocks."""

    k: int
    depth: int
    dtype: Any
    device: Device
    blocks: Blocks


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
    blocks = blocks or (Blocks() if names == ["cpu"] else Blocks(8192, 65536))
    ranking = Ranking(
        np.full((len(queries), k), NOTHING, dtype=np.int64), np.full((len(queries), k), -np.inf, dtype=np.float32)
    )

    def settle(plan: _Pass, parts: Iterable[npt.NDArray[np.int64]]) -> list[npt.NDArray[np.int64]]:
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


def pair_scores(
    left: Vectors, right: Vectors, left_rows: npt.NDArray[np.int64], right_rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
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


def best_per_row(
    rows: npt.NDArray[np.int64],
    ids: npt.NDArray[np.int64],
    values: npt.NDArray[np.float64],
    count: int,
    k: int,
) -> Ranking:
    """The k largest values of each of ``count`` rows, ties by lower id."""
    order = np.lexsort((ids, -values, rows))
    rows, ids, values = rows[order], ids[order], values[order]
    sizes = np.bincount(rows, minlength=count)
    ranks = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    kept = ranks < k
    ranking = Ranking(np.full((count, k), NOTHING, dtype=np.int64), np.full((count, k), -np.inf, dtype=np.float32))
    ranking.ids[rows[kept], ranks[kept]] = ids[kept]
    ranking.scores[rows[kept], ranks[kept]] = values[kept]
    return ranking


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


def _plan(k: int, candidates: int, device: Device, blocks: Blocks, attempt: int) -> _Pass:
    """The format and depth of an attempt: first fast and coarse, then in float32, then four times deeper each time."""
    import torch

    if attempt == 0 and _has_fast_half(device):
        depth, dtype = 2 * k + 32, torch.bfloat16 if device == "cpu" else torch.float16
    else:
        depth, dtype = (k + max(16, k // 4)) * 4 ** max(0, attempt - 1), torch.float32
    depth = min(candidates, depth)
    return _Pass(k, depth, torch.float64 if candidates <= EXACT_FROM_START * depth else dtype, device, blocks)


def _has_fast_half(device: Device) -> bool:
    """Whether the device multiplies a 16-bit format natively: any GPU, and CPUs with AVX512-BF16 or AMX."""
    import torch

    return device != "cpu" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _search(
    queries: Vectors, corpus: Vectors, exclusions: Exclusions, plan: _Pass
) -> tuple[Ranking, npt.NDArray[np.bool_]]:
    """One pass: the rankings, and which of them are proven to be exact."""
    import torch

    original = _to_device(queries, plan.device, "queries", 0)
    lists, error = _survivors(original, corpus, exclusions, plan)
    ids, exact = lists.ids, lists.scores
    if plan.dtype != torch.float64:
        wanted = (ids != NOTHING) & (lists.scores >= lists.limit[:, None])
        ids = ids[:, : int(wanted.sum(dim=1).max())]  # scores fall from left to right
        exact = _exact_scores(original, corpus, ids, wanted[:, : ids.shape[1]], plan.device)
    order = torch.sort(ids, dim=1).indices
    ids, exact = ids.gather(1, order), exact.gather(1, order)
    order = torch.sort(exact, dim=1, descending=True, stable=True).indices[:, : plan.k]
    ids, exact = ids.gather(1, order), exact.gather(1, order)
    ids[exact == -torch.inf] = NOTHING

    final = lists.cut == -torch.inf
    if exact.shape[1] == plan.k:
        final |= exact[:, -1] > lists.cut + _rounding(plan.dtype) * lists.cut.abs() + error
    return Ranking(*_pad(ids.cpu().numpy(), exact.float().cpu().numpy(), plan.k)), final.cpu().numpy()


def _rounding(dtype: Any) -> float:
    """Relative error of writing a sum into the product's format; float32 sums are kept as they are."""
    import torch

    return {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}.get(dtype, 0.0)


def _to_device(vectors: Vectors, device: Device, name: str, first_row: int) -> Any:
    """Rows as a float16 tensor on the device; refuses NaN and infinity."""
    import torch

    # Never a view: a memory map is read-only, and torch would warn or write through it.
    tensor = torch.from_numpy(np.array(vectors)).to(device)
    # A sum of squares in float32 is finite if and only if all of its float16 terms are.
    bad = torch.nonzero(~torch.isfinite(tensor.float().square_().sum(dim=1)))
    if len(bad):
        raise MiningError(
            f"vector {first_row + int(bad[0])} of the {name} holds NaN or infinity ({len(bad)} such rows here); "
            "the encoder gave unusable vectors, try dtype float32"
        )
    return tensor


def _least(dtype: Any) -> float:
    """Absolute error of writing a sum that is too small for the relative one to hold."""
    import torch

    return 2.0**-24 if dtype == torch.float16 else 0.0


def _norms(original: Any, dtype: Any) -> tuple[Any, Any]:
    """Norm of each row, and norm of what it loses in ``dtype``, a little enlarged for their own rounding."""
    wide = original.float()
    return 1.001 * wide.norm(dim=1), 1.001 * (wide - original.to(dtype).float()).norm(dim=1)


def _survivors(original: Any, corpus: Vectors, exclusions: Exclusions, plan: _Pass) -> tuple["_Lists", Any]:
    """The candidates of all queries that a pass leaves, and a bound, float64 [q], of the error of their scores.

    The bound is that of the sums, before they are rounded to the product's format: |q.c - q'.c'| <= |q - q'| |c| +
    |q'| |c - c'|, and twice the bound of a sum of d products in float32, in any order (Higham 2002, section 3.1).
    """
    import torch

    count, device = len(original), plan.device
    queries = original.to(plan.dtype)
    query_norm, query_lost = _norms(original, plan.dtype)
    excluded = TiledPairs(exclusions.pairs, len(corpus), *plan.blocks)
    labels = _on_device(exclusions.labels, device)
    starts = range(0, count, plan.blocks.queries)
    lists = [_Lists(min(plan.blocks.queries, count - start), plan) for start in starts]
    norm, lost = 0.0, 0.0
    for first in range(0, len(corpus), plan.blocks.corpus):
        block = _to_device(corpus[first : first + plan.blocks.corpus], device, "corpus", first)
        norms, losses = _norms(block, plan.dtype)
        norm, lost = max(norm, float(norms.max())), max(lost, float(losses.max()))
        summing = 0.0 if plan.dtype == torch.float64 else corpus.shape[1] * 2.0**-23
        error = query_lost * norm + (query_norm + query_lost) * (lost + summing * (norm + lost)) + _least(plan.dtype)
        error = error.double()
        columns = len(block)
        block = torch.nn.functional.pad(block.to(plan.dtype), (0, 0, 0, -columns % GROUP))
        for start, running in zip(starts, lists, strict=True):
            rows = slice(start, start + len(running.cut))
            tile = queries[rows] @ block.T
            tile[:, columns:] = -torch.inf
            if labels is not None:
                tile[:, :columns].masked_fill_(_forbidden(labels, rows, first, first + columns), -torch.inf)
            row, column = excluded.tile(start, first)
            if len(row):
                tile[torch.from_numpy(row).to(device), torch.from_numpy(column).to(device)] = -torch.inf
            running.add(tile, first, error[rows])
    for start, running in zip(starts, lists, strict=True):
        running.keep_best(error[start : start + len(running.cut)])
    return _joined(lists, plan), error


class _Lists:
    """The candidates of some queries that can be among their k best, as far as the corpus has been read.

    Attributes:
        scores: [rows, width], in the pass; -inf where there is no candidate.
        ids: int64 [rows, width], -1 where there is none.
        limit: [rows], what scores less in the pass is not among the k best.
        cut: float64 [rows], the highest score in the pass of what was left out for want of room, or -inf.
    """

    def __init__(self, rows: int, plan: _Pass) -> None:
        import torch

        wide = torch.float64 if plan.dtype == torch.float64 else torch.float32
        self._plan = plan
        self.scores = torch.empty((rows, 0), dtype=wide, device=plan.device)
        self.ids = torch.empty((rows, 0), dtype=torch.int64, device=plan.device)
        self.limit = torch.full((rows,), torch.finfo(wide).min, dtype=wide, device=plan.device)
        self.cut = torch.full((rows,), -torch.inf, dtype=torch.float64, device=plan.device)

    def add(self, tile: Any, first: int, error: Any) -> None:
        """Take up what a tile of scores [rows, columns] adds.

        Only groups whose largest score reaches the limit are looked into.

        Args:
            tile: scores of the texts from number ``first`` on; the columns are a multiple of `GROUP`.
            first: see above.
            error: float64 [rows], bound of the error of all scores so far.
        """
        import torch

        groups = tile.shape[1] // GROUP
        grouped = tile.unflatten(1, (GROUP, groups))
        maxima = grouped.amax(dim=1)
        near = maxima >= self.limit[:, None]
        crowded = torch.nonzero(near.sum(dim=1) > self._plan.k)[:, 0]
        if len(crowded):
            # Each group holds a score as large as its largest: the k-th largest of these is none too high a limit.
            largest = torch.topk(maxima[crowded], min(groups, self._plan.depth + 1), dim=1).values.to(self.limit.dtype)
            self._raise(crowded, largest, error[crowded])
            if groups > self._plan.depth:
                self._cut(crowded, largest[:, self._plan.depth])
            near[crowded] = maxima[crowded] >= self.limit[crowded, None]
        row, group = torch.nonzero(near, as_tuple=True)
        members = grouped[row, :, group]
        member, place = torch.nonzero(members >= self.limit[row, None], as_tuple=True)
        row = row[member]
        self._append(row, first + place * groups + group[member], members[member, place])
        if self.ids.shape[1] > 2 * self._plan.depth:
            self.keep_best(error)

    def keep_best(self, error: Any) -> None:
        """Sort the lists, best first, and keep no more than there is room for."""
        import torch

        depth = self._plan.depth
        best = torch.topk(self.scores, min(depth + 1, self.ids.shape[1]), dim=1)
        if best.values.shape[1] > depth:
            self.cut = torch.maximum(self.cut, best.values[:, depth].double())
        self.scores, self.ids = best.values[:, :depth], self.ids.gather(1, best.indices[:, :depth])
        self._raise(slice(None), self.scores, error)

    def _append(self, row: Any, ids: Any, scores: Any) -> None:
        """Put candidates, sorted by row, at the ends of the lists."""
        import torch

        counts = torch.bincount(row, minlength=len(self.cut))
        place = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
        for name, missing, values in (("scores", -torch.inf, scores), ("ids", NOTHING, ids)):
            old = getattr(self, name)
            new = torch.full((len(counts), int(counts.max())), missing, dtype=old.dtype, device=old.device)
            new[row, place] = values.to(old.dtype)
            setattr(self, name, torch.cat([old, new], dim=1))

    def _raise(self, rows: Any, falling: Any, error: Any) -> None:
        """Raise the limit of some rows to what the k-th of these scores, sorted from the largest on, allows.

        The true value of that score x is at least x - r |x| - e, with the rounding r and the error e; a score y with
        y + r |y| + e below that belongs to none of the k best.
        """
        import torch

        if falling.shape[1] < self._plan.k:
            return
        rounding = _rounding(self._plan.dtype)
        # Finite, as no rounding at all of minus infinity is no number; a list with an empty place has no limit.
        last = falling[:, self._plan.k - 1].double().clamp_min(torch.finfo(torch.float64).min)
        allowed = last - rounding * last.abs() - 2 * error
        allowed = (allowed / (1 + rounding * allowed.sign())).to(self.limit.dtype)
        below = torch.nextafter(allowed, torch.full_like(allowed, -torch.inf))  # whichever way the line above rounded
        self.limit[rows] = torch.maximum(self.limit[rows], below)

    def _cut(self, rows: Any, cut: Any) -> None:
        """Leave out from now on what scores no more than this: there would be no room for it."""
        import torch

        self.cut[rows] = torch.maximum(self.cut[rows], cut.double())
        above = torch.nextafter(cut, torch.full_like(cut, torch.inf))
        self.limit[rows] = torch.maximum(self.limit[rows], above)


def _joined(parts: list[_Lists], plan: _Pass) -> _Lists:
    """The lists of several blocks of queries, one below the other."""
    import torch

    whole = _Lists(0, plan)
    width = max(part.ids.shape[1] for part in parts)

    def below(tensors: list[Any], missing: float) -> Any:
        return torch.cat([torch.nn.functional.pad(t, (0, width - t.shape[1]), value=missing) for t in tensors])

    whole.scores = below([part.scores for part in parts], -torch.inf)
    whole.ids = below([part.ids for part in parts], NOTHING)
    whole.limit = torch.cat([part.limit for part in parts])
    whole.cut = torch.cat([part.cut for part in parts])
    return whole


def _on_device(labels: Labels | None, device: Device) -> tuple[Any, Any, bool] | None:
    import torch

    if labels is None:
        return None
    query, corpus = (torch.from_numpy(bits).to(device) for bits in (labels.query, labels.corpus))
    return query, corpus, labels.mode == "share"


def _forbidden(labels: tuple[Any, Any, bool], rows: slice, first: int, last: int) -> Any:
    """Bool tile of the pairs that the label rule forbids."""
    query, corpus, must_share = labels
    shared = (query[rows, 0, None] & corpus[None, first:last, 0]) != 0
    for word in range(1, query.shape[1]):
        shared |= (query[rows, word, None] & corpus[None, first:last, word]) != 0
    return ~shared if must_share else shared


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


def _pad(
    ids: npt.NDArray[np.int64], scores: npt.NDArray[np.float32], k: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Widen to k columns where the corpus is smaller than k."""
    missing = ((0, 0), (0, max(0, k - ids.shape[1])))
    return np.pad(ids, missing, constant_values=NOTHING), np.pad(scores, missing, constant_values=-np.inf)
