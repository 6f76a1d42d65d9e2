"""Which documents can be among the best by BM25, told by scores in whole steps of 16 bits.

Such scores take a quarter of the memory of float64, and moving memory is what takes the time. A weight is off by half a
step at most, so a document that is further below the k-th best than all terms of the query can be off is not among the
best. The few others are scored in float64, in the same order of terms as by `medi_build.search.bm25`.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from medi_build.arrays import Bools, Floats64, Ints
from medi_build.search.exclusions import BoolMatrix
from medi_build.search.sparse_add import add_product

LARGEST = 1023
"""Steps of an index's largest weight, so that the scores of a query of 32 such terms fit 16 bits."""
SMALLEST = 1e-100
"""Where no weight is larger, all of them are no step at all."""
MOST_STEPS = int(np.iinfo(np.int16).max)
GROUPS = 16
"""Groups of scores per place of the list, of which only the largest score is looked at first."""
SparseMatrix = BoolMatrix
Shorts = npt.NDArray[np.int16]
Places = tuple[Ints, Ints]
"""Rows and columns."""


class Asked(NamedTuple):
    """Queries, as how often each term stands in each.

    Attributes:
        rare: float64 CSR [queries, rare terms].
        common: float64 CSR [queries, common terms].
    """

    rare: SparseMatrix
    common: SparseMatrix

    def rows(self, rows: Ints) -> "Asked":
        """Some of the queries."""
        return Asked(self.rare[rows], self.common[rows])

    def off(self, largest: Floats64) -> Ints:
        """By how many steps the scores of two documents can be off together, int64 [queries].

        Where scores may not fit 16 bits it is more than any score.

        Args:
            largest: float64 [terms], the largest number of steps of each.
        """
        rare = self.rare.shape[1]
        fits = self.rare @ largest[:rare] + self.common @ largest[rare:] <= MOST_STEPS
        occurrences = self.rare.sum(axis=1) + self.common.sum(axis=1)
        # One more covers what float64 rounds.
        return np.where(fits, np.asarray(occurrences).ravel() + 1, MOST_STEPS).astype(np.int64)


class Terms(NamedTuple):
    """Terms of some queries [q].

    Attributes:
        starts: int32 [q + 1], where those of each query begin.
        terms: int32 [n], numbers of terms.
        times: float64 [n], how often each stands in the query.
    """

    starts: Any
    terms: Any
    times: Floats64

    @classmethod
    def of(cls, matrix: SparseMatrix, start: int, stop: int) -> "Terms":
        """Those of some rows of a CSR matrix."""
        starts = matrix.indptr[start : stop + 1]
        own = slice(starts[0], starts[-1])
        return cls(starts - own.start, matrix.indices[own], matrix.data[own])

    def queries(self) -> Ints:
        """The query of each term, int64 [n]."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))


class Scored(NamedTuple):
    """Documents that can be among the best of some queries [q], with their scores.

    Attributes:
        rows: int64 [n], ascending numbers of queries.
        documents: int64 [n], ascending within a query.
        scores: float64 [n].
        certain: bool [q], of which queries the best are among them; of the others they mean nothing.
    """

    rows: Ints
    documents: Ints
    scores: Floats64
    certain: Bools


class Room(NamedTuple):
    """Memory that a thread uses again and again, for at most ``q`` queries.

    Attributes:
        scores: int16 [q, documents].
        possible: bool [q, documents].
        numbers: int32 [q * documents].
    """

    scores: Shorts
    possible: Bools
    numbers: npt.NDArray[np.int32]

    @classmethod
    def of(cls, queries: int, documents: int) -> "Room":
        """Of no particular content."""
        shape = (queries, documents)
        return cls(np.empty(shape, np.int16), np.empty(shape, bool), np.empty(queries * documents, np.int32))


@dataclass(frozen=True)
class Steps:
    """Weights of an index, also in whole steps.

    Attributes:
        weights: float64 CSR [terms, documents].
        common: float64 [c, documents], the last c rows of the weights.
        rare_steps: int16 CSR [terms - c, documents], the rows before them in steps.
        common_steps: int16 [c, documents].
        largest: float64 [terms], the largest number of steps of each term, without its sign.
    """

    weights: SparseMatrix
    common: Floats64
    rare_steps: SparseMatrix
    common_steps: Shorts
    largest: Floats64

    @classmethod
    def of(cls, weights: SparseMatrix, common: Floats64) -> "Steps":
        """Those of an index; every term stands in a document."""
        scale = LARGEST / max(np.abs(weights.data).max(), SMALLEST)
        steps = np.rint(weights.data * scale).astype(np.int16)
        rare, documents = weights.shape[0] - len(common), weights.shape[1]
        starts = weights.indptr[: rare + 1]
        own = slice(starts[-1])
        return cls(
            weights,
            common,
            sparse.csr_matrix((steps[own], weights.indices[own], starts), (rare, documents)),
            np.rint(common * scale).astype(np.int16),
            np.maximum.reduceat(np.abs(steps), weights.indptr[:-1]).astype(np.float64),
        )

    def best(self, rare: Terms, common: Terms, off: Ints, k: int, excluded: Places, room: Room) -> Scored:
        """Documents that can be among the k best of some queries [q].

        Args:
            rare: the queries' rare terms.
            common: their common ones, numbered from the first of these.
            off: int64 [q], of `Asked.off`.
            k: not above the number of documents.
            excluded: queries and documents that must not be among the best.
            room: for at least q queries.
        """
        found = self._add_up(rare, common, room.scores[: len(off)])
        scores, possible = room.scores[: len(off)], room.possible[: len(off)]
        scores[excluded] = -MOST_STEPS
        limits = lower_bounds(scores, k) - off
        # Documents without a term of the query have no score, so above a positive limit there is none of them.
        certain = limits > 0
        np.greater_equal(scores, np.where(certain, limits, MOST_STEPS).astype(np.int16)[:, None], out=possible)
        places = np.flatnonzero(possible)
        room.numbers[places] = np.arange(len(places))
        rows, documents = np.divmod(places, scores.shape[1])
        exact = self._exact(rare, found, possible, room.numbers, len(places))
        ends = np.searchsorted(rows, np.arange(len(off) + 1))
        for query, term, times in zip(common.queries(), common.terms, common.times, strict=True):
            own = slice(ends[query], ends[query + 1])
            exact[own] += times * self.common[term, documents[own]]
        return Scored(rows, documents, exact, certain)

    def _add_up(self, rare: Terms, common: Terms, scores: Shorts) -> SparseMatrix:
        """Write the scores in steps [q, documents]; gives what is stored of the rare terms, CSR [n, documents]."""
        found = self.rare_steps[rare.terms]
        if rare.times.max(initial=1) > 1:
            found.data *= np.repeat(rare.times.astype(np.int16), np.diff(found.indptr))
        # A matrix may store a place several times, which stands for the sum.
        summed = sparse.csr_matrix((found.data, found.indices, found.indptr[rare.starts]), scores.shape)
        summed.toarray(out=scores)
        add_product(common.starts, common.terms, common.times.astype(np.int16), self.common_steps, scores)
        return found

    def _exact(self, rare: Terms, found: SparseMatrix, possible: Bools, numbers: Any, count: int) -> Floats64:
        """What the rare terms add to the scores of the possible documents, float64 [count], by their ``numbers``."""
        starts = found.indptr[rare.starts]
        runs = zip(possible, starts[:-1], starts[1:], strict=True)
        hits = np.concatenate([a + np.flatnonzero(row.take(found.indices[a:b])) for row, a, b in runs])
        asked = np.searchsorted(found.indptr, hits, side="right") - 1
        stored = hits - found.indptr[asked] + self.weights.indptr[rare.terms[asked]]
        place = rare.queries()[asked] * possible.shape[1] + found.indices[hits]
        return np.bincount(numbers[place], self.weights.data[stored] * rare.times[asked], count).astype(np.float64)


def lower_bounds(scores: npt.NDArray[Any], k: int) -> npt.NDArray[Any]:
    """For each row a number that its k-th largest score is not below, nor far above.

    The k-th largest maximum of groups of scores is such a number, and far cheaper than the k-th largest score.

    Args:
        scores: [rows, columns], signed, none of them the least of its type.
        k: not above the number of columns.
    """
    rows, columns = scores.shape
    size = max(1, columns // (GROUPS * k))
    groups = columns // size
    maxima = scores[:, : groups * size].reshape(rows, size, groups).max(axis=1)
    # Negated, as numpy is slow at finding a place near the end of a row in which the lowest value comes often.
    limits: npt.NDArray[Any] = -np.partition(-maxima, k - 1, axis=1)[:, k - 1]
    return limits
