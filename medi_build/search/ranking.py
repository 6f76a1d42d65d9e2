"""Rankings: lists of candidates, best first, as every search gives them."""

from typing import NamedTuple

import numpy as np

from medi_build.arrays import Floats32, Floats64, Ints, places_within

NOTHING = -1
"""The id that stands where a list is shorter than k."""


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


def nothing_ranked(count: int, k: int) -> Ranking:
    """Lists of k for so many queries, without a candidate."""
    return Ranking(np.full((count, k), NOTHING, dtype=np.int64), np.full((count, k), -np.inf, dtype=np.float32))


def best_per_row(
    rows: Ints,
    ids: Ints,
    values: Floats64,
    count: int,
    k: int,
) -> Ranking:
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
    ranking = nothing_ranked(count, k)
    ranking.ids[rows[kept], ranks[kept]] = ids[kept]
    ranking.scores[rows[kept], ranks[kept]] = values[kept]
    return ranking
