"""BM25 in bulk, from weights that are worked out once.

The definition is rank-bm25's ``BM25Okapi``: same formula, same floor under negative idf, every repeat of a query
term counts again. What a term adds to a document's score does not depend on the rest of the query, so the score of a
document is a sum over the query's terms, always taken from the rarest term to the most common one.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse
from scipy.sparse import _sparsetools

from medi_build.errors import MiningError
from medi_build.mine.exclusions import BoolMatrix
from medi_build.mine.pool import Ints
from medi_build.mine.search import NOTHING, Ranking, best_per_row

COMMON = 0.25
"""Share of the documents above which a term's weights are added for all documents, which is faster than for some."""
CELLS = 1 << 20
"""Scores held at a time by each thread, which takes 8 MB; more would not fit a processor's cache."""
MOST_QUERIES = 64
"""Queries scored at a time where the documents are few."""
GROUPS = 16
"""Groups of scores per place of the list, of which only the largest score is looked at first."""
SparseMatrix = BoolMatrix
Floats = npt.NDArray[np.float64]


def tokenize(texts: pl.Series) -> pl.Series:
    """Lower-cased runs of word characters, one list per text."""
    return texts.str.to_lowercase().str.extract_all(r"\w+")


@dataclass(frozen=True)
class BM25:
    """An index of a corpus.

    Attributes:
        terms: uint64 [terms], hashes of the distinct terms, by the number of documents they stand in, then by hash.
        weights: float64 CSR [terms, documents], what one occurrence of the term in a query adds to the score.
        common: float64 [c, documents], the last c rows of the weights, not sparse.
    """

    terms: pl.Series
    weights: SparseMatrix
    common: Floats

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
        rarest_first = np.argsort(np.diff(weights.indptr), kind="stable")
        terms, weights = terms.gather(rarest_first), weights[rarest_first]
        frequency = np.diff(weights.indptr)
        idf = np.log(count - frequency + 0.5) - np.log(frequency + 0.5)
        idf = np.where(idf < 0, epsilon * idf.mean(), idf)
        saturation = k1 * (1 - b + b * lengths / lengths.mean())
        weights.data *= (k1 + 1) / (weights.data + saturation[weights.indices])
        weights.data *= np.repeat(idf, frequency)
        return cls(terms, weights, weights[np.searchsorted(frequency, COMMON * count, side="right") :].toarray())

    def scores(self, queries: pl.Series) -> Floats:
        """Scores of all documents for tokenised queries, float64 [queries, documents]."""
        return self._scores(self._counts(queries))

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
        counts = self._counts(queries)
        step = min(MOST_QUERIES, max(1, CELLS // self.weights.shape[1]))
        starts = range(0, max(1, len(queries)), step)
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
            blocks = list(threads.map(partial(self._block, counts, k, excluded, step), starts))
        return Ranking(np.concatenate([b.ids for b in blocks]), np.concatenate([b.scores for b in blocks]))

    def _block(self, counts: SparseMatrix, k: int, excluded: BoolMatrix | None, step: int, start: int) -> Ranking:
        """The best documents of the ``step`` queries from ``start`` on."""
        counts = counts[start : start + step]
        scores = self._scores(counts)
        if excluded is not None:
            barred = excluded[start : start + step].tocoo()
            inside = barred.col < scores.shape[1]
            scores[barred.row[inside], barred.col[inside]] = -np.inf
        limits = _lower_bounds(scores, k)
        # Below a positive limit nothing is lost. Where there is none, a document's score does not tell whether it
        # holds a term of the query: its weight may be zero, or below.
        scarce = np.flatnonzero(limits <= 0)
        limits[scarce] = np.inf
        held = counts[scarce]
        holding = self.weights[held.indices]
        rows = np.repeat(np.repeat(scarce, np.diff(held.indptr)), np.diff(holding.indptr))
        some = np.unique(rows * scores.shape[1] + holding.indices)
        places = np.concatenate([np.flatnonzero(scores >= limits[:, None]), some])
        values = scores.ravel()[places]
        rows, documents = np.divmod(places[values > -np.inf], scores.shape[1])
        return best_per_row(rows, documents, values[values > -np.inf], len(scores), k)

    def _scores(self, counts: SparseMatrix) -> Floats:
        """Scores [queries, documents] from the counts of the terms: the rare terms' sum, then each common term's."""
        (queries, terms), size = counts.shape, self.weights.shape[1]
        rare, common = counts[:, : terms - len(self.common)], counts[:, terms - len(self.common) :]
        found = self.weights[rare.indices]
        if rare.data.max(initial=1) > 1:
            found.data *= np.repeat(rare.data, np.diff(found.indptr))
        # A matrix may store a place several times, which stands for the sum.
        summed = sparse.csr_matrix((found.data, found.indices, found.indptr[rare.indptr]), (queries, size))
        scores: Floats = summed.toarray()
        # What scipy calls for a sparse times a dense matrix; called here, it adds to what is there, without a copy.
        place = (common.indptr, common.indices, common.data, self.common.ravel(), scores.ravel())
        _sparsetools.csr_matvecs(queries, len(self.common), size, *place)
        return scores


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


def _lower_bounds(scores: Floats, k: int) -> Floats:
    """For each row a number that its k-th largest score is not below, nor far above; -inf for fewer than k scores.

    The k-th largest maximum of groups of scores is such a number, and far cheaper than the k-th largest score.
    """
    rows, columns = scores.shape
    size = max(1, columns // (GROUPS * k))
    groups = columns // size
    if groups < k:
        return np.full(rows, -np.inf)
    maxima = scores[:, : groups * size].reshape(rows, size, groups).max(axis=1)
    # Negated, as numpy is slow at finding a place near the end of a row in which the lowest value comes often.
    limits: Floats = -np.partition(-maxima, k - 1, axis=1)[:, k - 1]
    return limits
