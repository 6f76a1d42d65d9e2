"""Exact top-k by inner product: queries resident, corpus streamed in blocks, nothing of size queries x corpus.

A first pass takes, block by block, some more candidates than asked for from a product in the fastest format of the
device (bfloat16 or float32 on the CPU, float16 on a GPU). Those that can be among the best are scored again in
float64. For float16 vectors of norm near one that sum is exact in any order: every product is a multiple of 2**-48,
and partial sums below 8 need no more than 51 of float64's 53 bits. So the result does not depend on block sizes,
threads, device or format. A list is final once its k-th exact score is above anything the first pass can have left
out, by the error bound of that product; the others are searched again, more finely and deeper. A small corpus is
multiplied in float64 from the start.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from medi_build.errors import MiningError
from medi_build.mine.exclusions import Exclusions, Labels, TiledPairs

Vectors = npt.NDArray[np.float16]
Device = str
NOTHING = -1
"""The id that stands where a list is shorter than k."""

RESCORE_BYTES = 64 << 20
RESIDENT_CELLS = 1 << 24
"""Places of the running lists held at a time: 16M of them take 200 MB."""
RESIDENT_ROWS = 65536
EXACT_FROM_START = 40
"""Below so many candidates per place of the list, a float64 product is cheaper than scoring survivors again."""
GROUP = 16
"""Neighbouring scores of which only the largest is looked at first."""


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
    """How one pass over the corpus is made."""

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
        device: "cpu", "cuda" or "cuda:1".
        blocks: tile sizes; the default suits the device.

    Raises:
        MiningError: k below 1, an empty corpus, shapes that do not fit, or vectors with NaN or infinity.
    """
    _check(queries, corpus, k)
    exclusions = exclusions or Exclusions()
    exclusions.check(len(queries), len(corpus))
    blocks = blocks or (Blocks() if device == "cpu" else Blocks(8192, 65536))
    ranking = Ranking(
        np.full((len(queries), k), NOTHING, dtype=np.int64), np.full((len(queries), k), -np.inf, dtype=np.float32)
    )
    open_rows, attempt = np.arange(len(queries)), 0
    while len(open_rows):
        plan = _plan(k, len(corpus), device, blocks, attempt)
        at_once = min(RESIDENT_ROWS, max(1, RESIDENT_CELLS // plan.depth))
        unsettled = []
        for start in range(0, len(open_rows), at_once):
            rows = open_rows[start : start + at_once]
            found, final = _search(queries[rows], corpus, exclusions.rows(rows), plan)
            ranking.ids[rows], ranking.scores[rows] = found
            unsettled.append(rows[~final])
        open_rows, attempt = np.concatenate(unsettled), attempt + 1
    return ranking


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
    ids, approximate, error = _survivors(original, corpus, exclusions, plan)
    error = error.double() + _rounding(plan.dtype) * approximate.abs().nan_to_num(posinf=0).amax(dim=1)
    exact = approximate
    if plan.dtype != torch.float64:
        # A candidate more than twice the error below the k-th cannot be among the k best.
        place = min(plan.k, plan.depth)
        bar = torch.topk(approximate, place, dim=1).values[:, -1] - 2 * error
        exact = _exact_scores(original, corpus, ids, (approximate >= bar[:, None]) & (ids != NOTHING))
    order = torch.sort(ids, dim=1).indices
    ids, exact = ids.gather(1, order), exact.gather(1, order)
    order = torch.sort(exact, dim=1, descending=True, stable=True).indices[:, : plan.k]
    ids, exact = ids.gather(1, order), exact.gather(1, order)
    ids[exact == -torch.inf] = NOTHING

    # What the pass left out scored at most `cut` in it, so at most cut + error in truth.
    cut = approximate.amin(dim=1)
    complete = (cut == -torch.inf) | torch.tensor(plan.depth >= len(corpus), device=cut.device)
    final = complete | (exact[:, -1] > cut + error)
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


def _norms(original: Any, dtype: Any) -> tuple[Any, Any]:
    """Norm of each row, and norm of what it loses in ``dtype``, a little enlarged for their own rounding."""
    wide = original.float()
    return 1.001 * wide.norm(dim=1), 1.001 * (wide - original.to(dtype).float()).norm(dim=1)


def _survivors(original: Any, corpus: Vectors, exclusions: Exclusions, plan: _Pass) -> tuple[Any, Any, Any]:
    """The best of a pass.

    Returns:
        Their ids [q, depth], unordered, their scores in the pass, float64 [q, depth], and a bound [q] of the
        scores' error before rounding: |q.c - q'.c'| <= |q - q'| |c| + |q'| |c - c'|, and twice the bound of a sum of
        d products in float32, in any order (Higham 2002, section 3.1).
    """
    import torch

    count, depth, device = len(original), plan.depth, plan.device
    ids = torch.full((count, depth), NOTHING, dtype=torch.int64, device=device)
    wide = torch.float64 if plan.dtype == torch.float64 else torch.float32
    best = torch.full((count, depth), -torch.inf, dtype=wide, device=device)
    queries = original.to(plan.dtype)
    excluded = TiledPairs(exclusions.pairs, len(corpus), *plan.blocks)
    labels = _on_device(exclusions.labels, device)
    norm, lost = 0.0, 0.0
    for first in range(0, len(corpus), plan.blocks.corpus):
        block = _to_device(corpus[first : first + plan.blocks.corpus], device, "corpus", first)
        norms, losses = _norms(block, plan.dtype)
        norm, lost = max(norm, float(norms.max())), max(lost, float(losses.max()))
        block = block.to(plan.dtype)
        for start in range(0, count, plan.blocks.queries):
            rows = slice(start, min(start + plan.blocks.queries, count))
            tile = queries[rows] @ block.T
            if labels is not None:
                tile.masked_fill_(_forbidden(labels, rows, first, first + len(block)), -torch.inf)
            row, column = excluded.tile(start, first)
            if len(row):
                tile[torch.from_numpy(row).to(device), torch.from_numpy(column).to(device)] = -torch.inf
            values, columns = _largest(tile, depth)
            merged = torch.cat([best[rows], values.to(wide)], dim=1)
            chosen = torch.topk(merged, depth, dim=1, sorted=False)
            best[rows] = chosen.values
            ids[rows] = torch.cat([ids[rows], columns + first], dim=1).gather(1, chosen.indices)
    ids[best == -torch.inf] = NOTHING
    query_norm, query_lost = _norms(original, plan.dtype)
    summing = 0.0 if plan.dtype == torch.float64 else corpus.shape[1] * 2.0**-23
    error = query_lost * norm + (query_norm + query_lost) * (lost + summing * (norm + lost))
    return ids, best.double(), error


def _largest(tile: Any, depth: int) -> tuple[Any, Any]:
    """The ``depth`` largest scores of each row of a tile, or all if it has fewer, with their columns; unordered.

    The groups with the largest maxima hold the largest scores, and there are far fewer groups than scores.
    """
    import torch

    rows, columns = tile.shape
    groups = columns // GROUP
    if groups < 2 * depth:
        all_at_once = torch.topk(tile, min(depth, columns), dim=1, sorted=False)
        return all_at_once.values, all_at_once.indices
    grouped = tile[:, : GROUP * groups].unflatten(1, (GROUP, groups))
    best = torch.topk(grouped.amax(dim=1), depth, dim=1, sorted=False).indices
    members = grouped.gather(2, best[:, None, :].expand(rows, GROUP, depth)).flatten(1)
    rest = tile[:, GROUP * groups :]
    top = torch.topk(torch.cat([members, rest], dim=1), depth, dim=1, sorted=False)
    column = best.gather(1, top.indices % depth) + top.indices // depth * groups
    inside = top.indices < GROUP * depth
    return top.values, torch.where(inside, column, top.indices - GROUP * depth + GROUP * groups)


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


def _exact_scores(queries: Any, corpus: Vectors, ids: Any, wanted: Any) -> Any:
    """float64 [q, depth] inner products of the wanted candidates; -inf for the others."""
    import torch

    exact = torch.full(ids.shape, -torch.inf, dtype=torch.float64, device=ids.device)
    first = torch.sort(wanted, dim=1, descending=True, stable=True).indices
    counts = wanted.sum(dim=1).tolist()
    step = max(1, RESCORE_BYTES // (8 * corpus.shape[1] * max(counts, default=1) + 1))
    for start in range(0, len(ids), step):
        rows = slice(start, min(start + step, len(ids)))
        places = first[rows, : max(counts[rows])]
        # Read in the order of the file: each row once, and a memory map from front to back.
        numbers, back = np.unique(ids[rows].gather(1, places).clamp(min=0).cpu().numpy(), return_inverse=True)
        where = torch.from_numpy(back.reshape(places.shape)).to(ids.device)
        vectors = torch.from_numpy(corpus[numbers]).to(ids.device)[where].double()
        exact[rows] = exact[rows].scatter(1, places, torch.bmm(vectors, queries[rows].double()[:, :, None])[..., 0])
    exact[~wanted] = -torch.inf
    return exact


def _pad(
    ids: npt.NDArray[np.int64], scores: npt.NDArray[np.float32], k: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Widen to k columns where the corpus is smaller than k."""
    missing = ((0, 0), (0, max(0, k - ids.shape[1])))
    return np.pad(ids, missing, constant_values=NOTHING), np.pad(scores, missing, constant_values=-np.inf)
