"""BM25 in bulk, as a product of two sparse matrices.

The definition is rank-bm25's ``BM25Okapi``: same formula, same floor under negative idf, every repeat of a query
term counts again. What a term adds to a document's score does not depend on the rest of the query, so the scores of
a block of queries are [queries, terms] x [terms, documents].
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

from medi_build.errors import MiningError
from medi_build.mine.exclusions import BoolMatrix, contains
from medi_build.mine.pool import Ints
from medi_build.mine.search import NOTHING, Ranking, best_per_row

QUERIES_PER_BLOCK = 64
GROUP = 16
SparseMatrix = BoolMatrix


def tokenize(texts: pl.Series) -> pl.Series:
    """Lower-cased runs of word characters, one list per text."""
    return texts.str.to_lowercase().str.extract_all(r"\w+")


@dataclass(frozen=True)
class BM25:
    """An index of a corpus.

    Attributes:
        terms: uint64 [terms], hashes of the distinct terms, ascending.
        weights: float64 CSR [terms, documents], what one occurrence of the term in a query adds to the score.
    """

    terms: pl.Series
    weights: SparseMatrix

    @classmethod
    def build(cls, documents: pl.Series, k1: float = 1.5, b: float = 0.75, epsilon: float = 0.25) -> "BM25":
        """Index tokenised documents (a series of lists of strings); the parameters are those of ``BM25Okapi``.

        Raises:
            MiningError: there is no token in any document.
        """
        lengths = documents.list.len().to_numpy().astype(np.int64)
        count = len(lengths)
        if not lengths.sum():
            raise MiningError(f"{count} documents hold no word at all; there is nothing to rank by BM25")
        rows, hashes = _flat(documents)
        terms = hashes.unique().sort()
        weights = sparse.coo_matrix(
            (np.ones(len(rows)), (_codes(hashes, terms), rows)), shape=(len(terms), count)
        ).tocsr()
        frequency = np.diff(weights.indptr)
        idf = np.log(count - frequency + 0.5) - np.log(frequency + 0.5)
        idf = np.where(idf < 0, epsilon * idf.mean(), idf)
        saturation = k1 * (1 - b + b * lengths / lengths.mean())
        weights.data *= (k1 + 1) / (weights.data + saturation[weights.indices])
        weights.data *= np.repeat(idf, frequency)
        return cls(terms, weights)

    def scores(self, queries: pl.Series) -> SparseMatrix:
        """Scores of tokenised queries, float64 CSR [queries, documents]; what is not stored is zero."""
        return self._counts(queries) @ self.weights

    def _counts(self, queries: pl.Series) -> SparseMatrix:
        """How often each term stands in each query, float64 CSR [queries, terms]."""
        rows, hashes = _flat(queries)
        codes = _codes(hashes, self.terms)
        known = codes != NOTHING
        counts = (np.ones(int(known.sum())), (rows[known], codes[known]))
        return sparse.coo_matrix(counts, shape=(len(queries), len(self.terms))).tocsr()

    def topk(self, queries: pl.Series, k: int, excluded: BoolMatrix | None = None) -> Ranking:
        """The k best documents of each tokenised query, ties by id; documents without a term of it are not ranked.

        Args:
            queries: series of lists of strings, [q].
            k: length of the lists, padded with -1 and -inf.
            excluded: bool CSR [q, at least documents], pairs that must not be ranked.

        Raises:
            MiningError: k below 1.
        """
        if k < 1:
            raise MiningError(f"k is {k}; ask for at least 1 candidate")
        starts = range(0, max(1, len(queries)), QUERIES_PER_BLOCK)
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
            blocks = list(threads.map(partial(self._block, self._counts(queries), k, excluded), starts))
        return Ranking(np.concatenate([b.ids for b in blocks]), np.concatenate([b.scores for b in blocks]))

    def _block(self, counts: SparseMatrix, k: int, excluded: BoolMatrix | None, start: int) -> Ranking:
        """The best documents of one block of queries."""
        block = counts[start : start + QUERIES_PER_BLOCK] @ self.weights
        if excluded is None:
            barred = sparse.csr_matrix(block.shape, dtype=bool)
        else:
            barred = excluded[start : start + QUERIES_PER_BLOCK]
        places = np.flatnonzero(_above_threshold(block, k + np.diff(barred.indptr)))
        rows = np.searchsorted(block.indptr, places, side="right") - 1
        documents, values = block.indices[places].astype(np.int64), block.data[places]
        free = ~contains(barred, rows, documents)
        return best_per_row(rows[free], documents[free], values[free], block.shape[0], k)


def fuse(rankings: list[Ranking], k: int, constant: float = 60.0) -> Ranking:
    """Reciprocal rank fusion: score(d) = sum over rankings of 1 / (constant + rank), ranks from 1.

    Cormack, Clarke and Buettcher 2009, section 2, with their constant 60.

    Args:
        rankings: each [q, c], c may differ.
        k: length of the fused lists; ties by lower id.
        constant: larger values flatten the difference between ranks.

    Raises:
        MiningError: k below 1, or no ranking.
    """
    if k < 1 or not rankings:
        raise MiningError(f"fusion of {len(rankings)} rankings to length {k}; give at least 1 ranking and k of 1")
    count = len(rankings[0].ids)
    rows = np.concatenate([np.repeat(np.arange(count), r.ids.shape[1]) for r in rankings])
    ids = np.concatenate([r.ids.ravel() for r in rankings])
    gains = np.concatenate([np.tile(1 / (constant + 1 + np.arange(r.ids.shape[1])), count) for r in rankings])
    present = ids != NOTHING
    rows, ids, gains = rows[present], ids[present], gains[present]
    pairs, which = np.unique(np.stack([rows, ids]), axis=1, return_inverse=True)
    return best_per_row(
        pairs[0], pairs[1], np.bincount(which.ravel(), gains, pairs.shape[1]).astype(np.float64), count, k
    )


def _flat(lists: pl.Series) -> tuple[Ints, pl.Series]:
    """The row and the hash of each token."""
    lengths = lists.list.len().to_numpy().astype(np.int64)
    full = lists.filter(pl.Series(lengths > 0))
    return np.repeat(np.arange(len(lengths), dtype=np.int64), lengths), full.explode().hash(seed=0)


def _codes(hashes: pl.Series, terms: pl.Series) -> Ints:
    """The place of each hash among the sorted terms, -1 if it is none of them."""
    numbered = pl.DataFrame({"hash": terms}).with_row_index("code")
    found = pl.DataFrame({"hash": hashes}).join(numbered, on="hash", how="left", maintain_order="left")
    return found["code"].cast(pl.Int64).fill_null(NOTHING).to_numpy()


def _above_threshold(block: SparseMatrix, wanted: Ints) -> npt.NDArray[np.bool_]:
    """Which stored scores may be among the ``wanted[i]`` best of their row i, a few more included.

    The k-th largest maximum of groups of scores is a lower bound of the k-th largest score, and far cheaper.
    """
    sizes = np.diff(block.indptr)
    groups = -(-sizes // GROUP)
    rows = np.repeat(np.arange(len(sizes)), groups)
    places = np.arange(len(rows)) - np.repeat(np.cumsum(groups) - groups, groups)
    maxima = np.full((len(sizes), int(groups.max(initial=0)) + 1), -np.inf)
    if len(rows):
        maxima[rows, places] = np.maximum.reduceat(block.data, block.indptr[rows] + GROUP * places)
    limits = np.full(len(sizes), -np.inf)
    for size in np.unique(wanted[wanted < maxima.shape[1]]):
        some = wanted == size
        limits[some] = -np.partition(-maxima[some], size - 1, axis=1)[:, size - 1]
    above: npt.NDArray[np.bool_] = block.data >= np.repeat(limits, sizes)
    return above
