"""Exact top-k by inner product: queries resident, corpus streamed in blocks, nothing of size queries x corpus.

A first pass takes, block by block, a few more candidates than asked for from a float32 (GPU: float16) product. The
survivors are scored again in float64. For float16 vectors of norm near one that sum is exact in any order: every
product is a multiple of 2**-48, and partial sums below 8 need no more than 51 of float64's 53 bits. So the result
does not depend on block sizes, threads or device. A list is final once its k-th exact score is above anything the
first pass can have left out, by the error bound of the product; the few others are searched again, deeper. A small
corpus is multiplied in float64 from the start.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from medi_build.errors import MiningError
from medi_build.mine.exclusions import Exclusions, Labels

Vectors = npt.NDArray[np.float16]
Device = str
NOTHING = -1
"""The id that stands where a list is shorter than k."""

RESCORE_BYTES = 64 << 20
RETRY_CELLS = 1 << 22
EXACT_FROM_START = 40
"""Below so many candidates per place of the list, a float64 product is cheaper than gathering the survivors again."""


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
        corpus: float16 [n, d], an array or a memory map; read once per call in blocks of rows.
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
    ids = np.full((len(queries), k), NOTHING, dtype=np.int64)
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    open_rows = np.arange(len(queries))
    depth = min(len(corpus), k + max(16, k // 4))
    while len(open_rows):
        unsettled = []
        rows_at_once = max(1, RETRY_CELLS // depth) if len(open_rows) < len(queries) else len(open_rows)
        for start in range(0, len(open_rows), rows_at_once):
            rows = open_rows[start : start + rows_at_once]
            all_rows = len(rows) == len(queries)
            part = queries if all_rows else queries[rows]
            kept = exclusions if all_rows else exclusions.rows(rows)
            found, final = _search(part, corpus, k, depth, kept, device, blocks)
            ids[rows], scores[rows] = found
            unsettled.append(rows[~final])
        open_rows = np.concatenate(unsettled)
        depth = min(len(corpus), 4 * depth)
    return Ranking(ids, scores)


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


def _search(
    queries: Vectors, corpus: Vectors, k: int, depth: int, exclusions: Exclusions, device: Device, blocks: Blocks
) -> tuple[Ranking, npt.NDArray[np.bool_]]:
    """One pass at one depth: the rankings, and which of them are proven to be exact."""
    import torch

    resident = _to_device(queries, device, "queries", 0)
    at_once = len(corpus) <= EXACT_FROM_START * depth
    if at_once:
        resident = resident.double()
    ids, approximate, corpus_norm = _survivors(resident, corpus, depth, exclusions, device, blocks)
    exact = approximate if at_once else _exact_scores(resident, corpus, ids)
    order = torch.sort(ids, dim=1).indices
    ids, exact = ids.gather(1, order), exact.gather(1, order)
    order = torch.sort(exact, dim=1, descending=True, stable=True).indices[:, :k]
    ids, exact = ids.gather(1, order), exact.gather(1, order)
    ids[exact == -torch.inf] = NOTHING

    # What the first pass left out scored at most `cut` there, so at most cut + error in truth.
    cut = approximate.amin(dim=1).double()
    error = _error_bound(queries.shape[1], device) * corpus_norm * resident.double().norm(dim=1)
    error = torch.zeros_like(error) if at_once else error
    complete = (cut == -torch.inf) | torch.tensor(depth >= len(corpus), device=cut.device)
    final = complete | (exact[:, -1] > cut + error)
    ranking = Ranking(*_pad(ids.cpu().numpy(), exact.float().cpu().numpy(), k))
    return ranking, final.cpu().numpy()


def _error_bound(dimensions: int, device: Device) -> float:
    """Bound of |computed - true inner product| / (norms), for any order of summation (Higham 2002, section 3.1).

    On a GPU the float32 sum is rounded to float16 at the end, which adds half a unit of its 11 bits.
    """
    unit = 2.0**-24
    bound = dimensions * unit / (1 - dimensions * unit)
    return bound if device == "cpu" else bound + 2.0**-11


def _to_device(vectors: Vectors, device: Device, name: str, first_row: int) -> Any:
    """Rows as a tensor in the device's working type; refuses NaN and infinity."""
    import torch

    # Never a view: a memory map is read-only, and torch would warn or write through it.
    tensor = torch.from_numpy(np.array(vectors)).to(device)
    bad = torch.nonzero(~torch.isfinite(tensor).all(dim=1))
    if len(bad):
        raise MiningError(
            f"vector {first_row + int(bad[0])} of the {name} holds NaN or infinity ({len(bad)} such rows here); "
            "the encoder gave unusable vectors, try dtype float32"
        )
    return tensor.float() if device == "cpu" else tensor


def _survivors(
    queries: Any, corpus: Vectors, depth: int, exclusions: Exclusions, device: Device, blocks: Blocks
) -> tuple[Any, Any, float]:
    """Ids and first-pass scores [q, depth] of the best candidates, unordered, and the largest corpus norm."""
    import torch

    ids = torch.zeros((len(queries), depth), dtype=torch.int64, device=device)
    best = torch.full(
        (len(queries), depth), -torch.inf, dtype=torch.promote_types(queries.dtype, torch.float32), device=device
    )
    excluded = _TiledPairs(exclusions.pairs, len(corpus), blocks)
    labels = _on_device(exclusions.labels, device)
    norm = 0.0
    for first in range(0, len(corpus), blocks.corpus):
        block = _to_device(corpus[first : first + blocks.corpus], device, "corpus", first).to(queries.dtype)
        norm = max(norm, float(block.float().norm(dim=1).max()))
        for start in range(0, len(queries), blocks.queries):
            stop = min(start + blocks.queries, len(queries))
            tile = (queries[start:stop] @ block.T).to(best.dtype)
            if labels is not None:
                tile.masked_fill_(_forbidden(labels, slice(start, stop), first, first + len(block)), -torch.inf)
            rows, columns = excluded.tile(start, first)
            if len(rows):
                tile[torch.from_numpy(rows).to(device), torch.from_numpy(columns).to(device)] = -torch.inf
            top = torch.topk(tile, min(depth, tile.shape[1]), dim=1, sorted=False)
            merged = torch.cat([best[start:stop], top.values], dim=1)
            chosen = torch.topk(merged, depth, dim=1, sorted=False)
            best[start:stop] = chosen.values
            ids[start:stop] = torch.cat([ids[start:stop], top.indices + first], dim=1).gather(1, chosen.indices)
    ids[best == -torch.inf] = NOTHING
    return ids, best, norm


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


class _TiledPairs:
    """The excluded pairs sorted by tile, so that each tile finds its own in one slice."""

    def __init__(self, pairs: Any, candidates: int, blocks: Blocks) -> None:
        self._blocks = blocks
        self._across = -(-candidates // blocks.corpus)
        if pairs is None or pairs.nnz == 0:
            self._keys = np.empty(0, dtype=np.int64)
            return
        rows = np.repeat(np.arange(pairs.shape[0]), np.diff(pairs.indptr))
        columns = pairs.indices
        inside = columns < candidates
        rows, columns = rows[inside], columns[inside]
        keys = rows // blocks.queries * self._across + columns // blocks.corpus
        order = np.argsort(keys, kind="stable")
        self._keys, self._rows, self._columns = keys[order], rows[order], columns[order]

    def tile(self, row: int, column: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Excluded (row, column) within the tile that starts at the given row and column."""
        if not len(self._keys):
            return self._keys, self._keys
        key = row // self._blocks.queries * self._across + column // self._blocks.corpus
        low, high = np.searchsorted(self._keys, (key, key + 1))
        return self._rows[low:high] - row, self._columns[low:high].astype(np.int64) - column


def _exact_scores(queries: Any, corpus: Vectors, ids: Any) -> Any:
    """float64 [q, depth] inner products with the surviving candidates; -inf where there is none."""
    import torch

    exact = torch.empty(ids.shape, dtype=torch.float64, device=ids.device)
    step = max(1, RESCORE_BYTES // (8 * ids.shape[1] * corpus.shape[1]))
    for start in range(0, len(ids), step):
        part = ids[start : start + step]
        # Read in the order of the file: each row once, and a memory map from front to back.
        rows, where = np.unique(part.clamp(min=0).cpu().numpy(), return_inverse=True)
        places = torch.from_numpy(where.reshape(part.shape)).to(ids.device)
        vectors = torch.from_numpy(corpus[rows]).to(ids.device)[places].double()
        exact[start : start + step] = torch.bmm(vectors, queries[start : start + step].double()[:, :, None])[..., 0]
    exact[ids == NOTHING] = -torch.inf
    return exact


def _pad(
    ids: npt.NDArray[np.int64], scores: npt.NDArray[np.float32], k: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Widen to k columns where the corpus is smaller than k."""
    missing = ((0, 0), (0, max(0, k - ids.shape[1])))
    return np.pad(ids, missing, constant_values=NOTHING), np.pad(scores, missing, constant_values=-np.inf)
