"""BM25 in bulk, from weights that are worked out once.

The definition is rank-bm25's ``BM25Okapi``: same formula, same floor under negative idf, every repeat of a query
term counts again. What a term adds to a document's score does not depend on the rest of the query, so the score of a
document is a sum over the query's terms, always taken from the rarest term to the most common one.
"""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import sparse

from medi_build.arrays import Floats64, Ints, places_within
from medi_build.devices import cores
from medi_build.errors import MiningError
from medi_build.search.bm25_steps import Asked, Room, Steps, Terms, lower_bounds
from medi_build.search.exclusions import BoolMatrix
from medi_build.search.ranking import NOTHING, Ranking, nothing_ranked
from medi_build.search.sparse_add import add_product

COMMON = 0.25
"""Share of the documents above which a term's weights are added for all documents, which is faster than for some."""
CELLS = 1 << 20
"""Scores held at a time by each thread, which in steps takes 2 MB; more would not fit a processor's cache."""
MOST_QUERIES = 64
"""Queries scored at a time where the documents are few."""
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # kana and marks of repetition
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"  # Chinese characters
)
"""Letters of scripts that put no blanks between words, as ranges of a regular expression."""
SparseMatrix = BoolMatrix
_UNSPACED = re.compile(f"[{UNSPACED}]")


def tokenize(texts: pl.Series) -> pl.Series:
    """Lower-cased runs of word characters, one list per text.

    Chinese, Japanese, Thai, Lao, Khmer and Burmese put no blanks between words: a run of their letters gives each two
    letters that stand side by side, or the letter if it stands alone (Lucene's CJK analyser does so). Letters of
    other scripts are untouched.
    """
    lowered = texts.str.to_lowercase()
    words = lowered.str.extract_all(r"\w+")
    unspaced = lowered.str.contains(f"[{UNSPACED}]").fill_null(False)
    if not unspaced.any():
        return words
    runs = lowered.filter(unspaced).str.extract_all(rf"[{UNSPACED}&&\w]+|[\w--{UNSPACED}]+").to_list()
    pairs = pl.Series([[term for run in text for term in _terms(run)] for text in runs], dtype=pl.List(pl.String))
    places = np.arange(len(words))
    places[unspaced.to_numpy()] = len(words) + np.arange(len(pairs))
    return pl.concat([words, pairs.rename(words.name)]).gather(places)


def _terms(run: str) -> list[str]:
    if len(run) < 2 or not _UNSPACED.match(run):
        return [run]
    return [run[at : at + 2] for at in range(len(run) - 1)]


@dataclass(frozen=True)
class BM25:
    """An index of a corpus.

    Attributes:
        terms: uint64 [terms], hashes of the distinct terms, by the number of documents they stand in, then by hash.
        weights: float64 CSR [terms, documents], what one occurrence of the term in a query adds to the score.
        common: float64 [c, documents], the last c rows of the weights, not sparse.
        steps: both in whole steps.
    """

    terms: pl.Series
    weights: SparseMatrix
    common: Floats64
    steps: Steps

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
        common = weights[np.searchsorted(frequency, COMMON * count, side="right") :].toarray()
        return cls(terms, weights, common, Steps.of(weights, common))

    def scores(self, queries: pl.Series) -> Floats64:
        """Scores of all documents for tokenised queries, float64 [queries, documents]."""
        return self._scores(self._asked(queries), 0, len(queries))

    def _asked(self, queries: pl.Series) -> Asked:
        """How often each term stands in each query."""
        rows, hashes = _flat(queries)
        codes = _codes(hashes, self.terms)
        known = codes != NOTHING
        counts = (np.ones(int(known.sum())), (rows[known], codes[known]))
        matrix = sparse.coo_matrix(counts, shape=(len(queries), len(self.terms))).tocsr()
        rare = len(self.terms) - len(self.common)
        return Asked(matrix[:, :rare], matrix[:, rare:])

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
        asked, ranking = self._asked(queries), nothing_ranked(len(queries), k)
        left = np.arange(len(queries))
        if k <= self.weights.shape[1]:
            left = self._by_steps(asked, k, excluded, ranking)
        some, excluded = asked.rows(left), None if excluded is None else excluded[left]

        def work(start: int, stop: int) -> None:
            best = self._block(some, k, excluded, start, stop)
            ranking.ids[left[start:stop]], ranking.scores[left[start:stop]] = best

        self._in_blocks(len(left), lambda: work)
        return ranking

    def _in_blocks(self, count: int, worker: Callable[[], Callable[[int, int], None]]) -> None:
        """Let threads do blocks of queries, each by a worker of its own."""
        step, threads = self._queries_at_once(), cores()

        def work(thread: int) -> None:
            if thread * step < count:
                do = worker()
                for start in range(thread * step, count, threads * step):
                    do(start, min(start + step, count))

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, range(threads)))

    def _queries_at_once(self) -> int:
        return min(MOST_QUERIES, max(1, CELLS // int(self.common.shape[1])))

    def _by_steps(self, asked: Asked, k: int, excluded: BoolMatrix | None, ranking: Ranking) -> Ints:
        """Rank by scores in steps first; gives the queries for which these do not tell which documents are best."""
        off, certain = asked.off(self.steps.largest), np.zeros(len(ranking.ids), dtype=bool)

        def worker() -> Callable[[int, int], None]:
            room = Room.of(self._queries_at_once(), self.weights.shape[1])

            def work(start: int, stop: int) -> None:
                rare, common = (Terms.of(matrix, start, stop) for matrix in asked)
                found = self.steps.best(rare, common, off[start:stop], k, self._excluded(excluded, start, stop), room)
                best = _sorted(found.rows, found.documents, found.scores, stop - start, k)
                ranking.ids[start:stop], ranking.scores[start:stop] = best
                certain[start:stop] = found.certain

            return work

        self._in_blocks(len(certain), worker)
        return np.flatnonzero(~certain)

    def _excluded(self, excluded: BoolMatrix | None, start: int, stop: int) -> tuple[Ints, Ints]:
        """Row, from ``start``, and number of each excluded document of some queries."""
        if excluded is None:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        rows, documents = _stored(excluded, start, stop)
        here = documents < self.weights.shape[1]
        return rows[here], documents[here]

    def _block(self, asked: Asked, k: int, excluded: BoolMatrix | None, start: int, stop: int) -> Ranking:
        """The best documents of some of the queries, by the scores of all documents."""
        scores = self._scores(asked, start, stop)
        size = scores.shape[1]
        scores[self._excluded(excluded, start, stop)] = -np.inf
        limits = lower_bounds(scores, k) if k <= size else np.zeros(len(scores))
        # Below a positive limit nothing is lost. Where there is none, a document's score does not tell whether it
        # holds a term of the query: its weight may be zero, or below.
        scarce = limits <= 0
        limits[scarce] = np.inf
        places = np.flatnonzero(scores >= limits[:, None])
        if scarce.any():
            holding = self._holding(asked, start, stop)
            places = np.union1d(places, holding[scarce[holding // size] & (scores.ravel()[holding] > -np.inf)])
        rows, documents = np.divmod(places, size)
        return _sorted(rows, documents, scores.ravel()[places], len(scores), k)

    def _scores(self, asked: Asked, start: int, stop: int) -> Floats64:
        """Scores [queries, documents] of some queries: the sum over their rare terms, then each common term's share."""
        (rare, common), size = asked, self.weights.shape[1]
        own = slice(*rare.indptr[[start, stop]])
        found = self.weights[rare.indices[own]]
        if rare.data[own].max(initial=1) > 1:
            found.data *= np.repeat(rare.data[own], np.diff(found.indptr))
        starts = found.indptr[rare.indptr[start : stop + 1] - own.start]
        # A matrix may store a place several times, which stands for the sum.
        scores: Floats64 = sparse.csr_matrix((found.data, found.indices, starts), (stop - start, size)).toarray()
        add_product(common.indptr[start : stop + 1], common.indices, common.data, self.common, scores)
        return scores

    def _holding(self, asked: Asked, start: int, stop: int) -> Ints:
        """Where in the scores of some queries there are documents that hold a term of the query."""
        size, places = self.weights.shape[1], []
        for counts, offset in zip(asked, (0, len(self.terms) - len(self.common)), strict=True):
            rows, terms = _stored(counts, start, stop)
            held = self.weights[terms + offset]
            places.append(np.repeat(rows * size, np.diff(held.indptr)) + held.indices)
        return np.concatenate(places)


def _stored(matrix: SparseMatrix, start: int, stop: int) -> tuple[Ints, Ints]:
    """Row, counted from ``start``, and column of each stored place in some rows of a matrix."""
    rows = np.repeat(np.arange(stop - start), np.diff(matrix.indptr[start : stop + 1]))
    return rows, matrix.indices[slice(*matrix.indptr[[start, stop]])]


def _flat(lists: pl.Series) -> tuple[Ints, pl.Series]:
    """The row and the hash of each token."""
    lengths = lists.list.len().to_numpy().astype(np.int64)
    full = lists.filter(pl.Series(lengths > 0))
    return np.repeat(np.arange(len(lengths), dtype=np.int64), lengths), full.explode().hash(seed=0)


def _codes(hashes: pl.Series, terms: pl.Series) -> Ints:
    """The place of each hash among the terms, -1 if it is none of them."""
    numbered = pl.DataFrame({"hash": terms}).with_row_index("code")
    found = pl.DataFrame({"hash": hashes}).join(numbered, on="hash", how="left", maintain_order="left")
    return found["code"].cast(pl.Int64).fill_null(NOTHING).to_numpy()


def _sorted(rows: Ints, ids: Ints, values: Floats64, count: int, k: int) -> Ranking:
    """The k largest values of each row; rows and, within a row, ids ascend."""
    sizes = np.bincount(rows, minlength=count)
    places = places_within(sizes)
    wide = (count, max(k, int(sizes.max(initial=0))))
    scores, documents = np.full(wide, -np.inf), np.full(wide, NOTHING, dtype=np.int64)
    scores[rows, places], documents[rows, places] = values, ids
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(scores, order, axis=1).astype(np.float32)
    return Ranking(np.take_along_axis(documents, order, axis=1), best)
