"""How like a candidate is to the known positives of its query: the highest cosine with any of them."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from medi_build.arrays import Floats32, Floats64, Ints, Vectors
from medi_build.search.ranking import NOTHING

GATHER_BYTES = 64 << 20
ROWS_AT_ONCE = 4096
MOST_CELLS = 24 << 20
"""Cells of a product of texts that are held at a time, 200 MB."""
CELLS_PER_FETCH = 64
"""Cells of such a product that take as long as it takes to fetch one vector for one row."""
MOST_TEXTS = 128 * CELLS_PER_FETCH
"""Texts of a dataset whose product with all known positives is made: each of these is asked about some 128 texts."""


@dataclass(frozen=True)
class Likeness:
    """The cosines of a dataset's texts with its known positives, where there are few texts worked out once for all.

    Attributes:
        corpus: float16 [n, d].
        positives: int64 [p], ascending, the known positives.
    """

    corpus: Vectors
    positives: Ints

    def nearest(self, ids: Ints, positives: Ints, weights: Floats32 | None = None) -> Floats32:
        """`nearest_positive` of the corpus, for ``positives`` that are known ones."""
        if len(self.corpus) > MOST_TEXTS or len(self.corpus) * len(self.positives) > MOST_CELLS:
            return nearest_positive(self.corpus, ids, positives, weights)
        best = np.full(ids.shape, -np.inf, dtype=np.float32)
        for start in range(0, len(ids), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            places = np.where(positives[rows] == NOTHING, NOTHING, np.searchsorted(self.positives, positives[rows]))
            best[rows] = _looked_up(self._products, ids[rows], places, None if weights is None else weights[rows])
        return best

    @cached_property
    def _products(self) -> Floats64:
        texts = _float64(self.corpus, np.arange(len(self.corpus)))
        products: Floats64 = (texts[self.positives] @ texts.T).numpy()
        return products


def nearest_positive(corpus: Vectors, ids: Ints, positives: Ints, weights: Floats32 | None = None) -> Floats32:
    """The highest cosine of each candidate with any known positive of its row; -inf where there is none.

    Args:
        corpus: float16 [n, d].
        ids: int64 [r, c] candidates, -1 where there is none.
        positives: int64 [r, p] known positives, -1 where there are fewer.
        weights: float32 [r, p] by which the cosines are multiplied, or None.

    Returns:
        float32 [r, c], exact before rounding, as in `medi_build.search.dense`.
    """
    best = np.full(ids.shape, -np.inf, dtype=np.float32)
    for start in range(0, len(ids), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        some = ids[rows], positives[rows], None if weights is None else weights[rows]
        texts, others = (len(np.unique(part)) for part in some[:2])
        few = texts * others <= min(MOST_CELLS, CELLS_PER_FETCH * (some[0].size + some[1].size))
        best[rows] = (_among_all if few else _row_by_row)(corpus, *some)
    return best


def _among_all(corpus: Vectors, ids: Ints, positives: Ints, weights: Floats32 | None) -> Floats32:
    """`nearest_positive` by one product of all distinct texts of the rows."""
    (left, left_at), (right, right_at) = (
        np.unique(np.maximum(part, 0), return_inverse=True) for part in (ids, positives)
    )
    products = (_float64(corpus, right) @ _float64(corpus, left).T).numpy()
    columns = np.where(ids == NOTHING, NOTHING, left_at.reshape(ids.shape))
    rows = np.where(positives == NOTHING, NOTHING, right_at.reshape(positives.shape))
    return _looked_up(products, columns, rows, weights)


def _looked_up(products: Floats64, ids: Ints, positives: Ints, weights: Floats32 | None) -> Floats32:
    """`nearest_positive` of texts that are columns of ``products`` to positives that are its rows."""
    best, flat = np.full(ids.shape, -np.inf), products.ravel()
    columns = np.maximum(ids, 0)
    for place, row in enumerate(positives.T):
        scores = flat.take(columns + products.shape[1] * np.maximum(row, 0)[:, None])
        if weights is not None:
            scores *= weights[:, place, None]
        scores[row == NOTHING] = -np.inf
        np.maximum(best, scores, out=best)
    best[ids == NOTHING] = -np.inf
    return best.astype(np.float32)


def _row_by_row(corpus: Vectors, ids: Ints, positives: Ints, weights: Floats32 | None) -> Floats32:
    """`nearest_positive` by a product for each row."""
    import torch

    best = np.full(ids.shape, -np.inf, dtype=np.float32)
    step = max(1, GATHER_BYTES // (8 * corpus.shape[1] * (ids.shape[1] + positives.shape[1] + 1)))
    for start in range(0, len(ids), step):
        both = np.concatenate([ids[start : start + step], positives[start : start + step]], axis=1)
        rows, places = np.unique(np.maximum(both, 0), return_inverse=True)
        vectors = _float64(corpus, rows)[torch.from_numpy(places.reshape(both.shape))]
        left, right = vectors[:, : ids.shape[1]], vectors[:, ids.shape[1] :]
        scores = torch.bmm(left, right.transpose(1, 2)).numpy()
        if weights is not None:
            scores = scores * weights[start : start + step, None, :]
        missing = (both[:, : ids.shape[1], None] == NOTHING) | (both[:, None, ids.shape[1] :] == NOTHING)
        best[start : start + step] = np.where(missing, -np.inf, scores).max(axis=2, initial=-np.inf)
    return best


def _float64(corpus: Vectors, rows: Ints) -> Any:
    import torch

    return torch.from_numpy(corpus[rows].astype(np.float64))
