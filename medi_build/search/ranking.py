"""Rankings: lists of candidates, best first, as every search gives them."""

from typing import NamedTuple

import numpy as np

from medi_build.arrays import Floats32, Floats64, Ints, places_within

NOTHING = -1
"""The id that stands where a list is shorter than k."""
JOINED_ROWS = 8192
"""Lists that are joined at a time."""


class Ranking(NamedTuple):
    """Ranked candidates of each query.

    Attributes:
        ids: int64 [q, k], best first, ties by lower id; -1 where fewer than k candidates are allowed.
        scores: float32 [q, k], inner products; -inf where there is no candidate.
    """

    ids: Ints
    scores: Floats32

    def rows(self, index: Ints) -> "Ranking":
        """The rankings of some queries, in the given order."""
        return Ranking(self.ids[index], self.scores[index])

    def first(self, count: int) -> "Ranking":
        """The first ``count`` of each."""
        return Ranking(self.ids[:, :count], self.scores[:, :count])


class Exact(NamedTuple):
    """Ranked candidates of each query, with scores that still tell apart what float32 takes for a tie.

    Attributes:
        ids: int64 [q, k], as in `Ranking`.
        scores: float64 [q, k], -inf where there is no candidate.
    """

    ids: Ints
    scores: Floats64

    def rounded(self) -> Ranking:
        """The same with float32 scores."""
        return Ranking(self.ids, self.scores.astype(np.float32))

    def joined(self, later: "Exact") -> "Exact":
        """The best of both, as many as here; ids of ``later`` are higher, those of one score ascend in each."""
        joined = nothing_found(*self.ids.shape)
        for start in range(0, len(self.ids), JOINED_ROWS):
            rows = slice(start, start + JOINED_ROWS)
            ids, scores = (
                np.concatenate((one[rows], other[rows]), axis=1) for one, other in zip(self, later, strict=True)
            )
            best = np.argsort(-scores, axis=1, kind="stable")[:, : self.ids.shape[1]]
            joined.ids[rows] = np.take_along_axis(ids, best, axis=1)
            joined.scores[rows] = np.take_along_axis(scores, best, axis=1)
        return joined


def nothing_ranked(count: int, k: int) -> Ranking:
    """Lists of k for so many queries, without a candidate."""
    return Ranking(np.full((count, k), NOTHING, dtype=np.int64), np.full((count, k), -np.inf, dtype=np.float32))


def nothing_found(count: int, k: int) -> Exact:
    """The same with scores that are not rounded."""
    return Exact(np.full((count, k), NOTHING, dtype=np.int64), np.full((count, k), -np.inf))


def best_per_row(
    rows: Ints,
    ids: Ints,
    values: Floats64,
    count: int,
    k: int,
) -> Exact:
    """The k largest values of each of ``count`` rows, ties by lower id.

    Args:
        rows: [m] row of each value.
        ids: [m] its candidate.
        values: [m] float64.
        count: number of rows; those without a value get an empty list.
        k: length of the lists.
    """
    order = np.lexsort((ids, -values, rows))
    rows, ids, values = rows[order], ids[order], values[order]
    sizes = np.bincount(rows, minlength=count)
    ranks = places_within(sizes)
    kept = ranks < k
    ranking = nothing_found(count, k)
    ranking.ids[rows[kept], ranks[kept]] = ids[kept]
    ranking.scores[rows[kept], ranks[kept]] = values[kept]
    return ranking
