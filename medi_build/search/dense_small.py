"""Exact top-k where there is little to search: one float64 product a block, without a pass in a coarser format.

For float16 vectors of norm near one that product is exact (see `medi_build.search.dense`), so the result is the same.
"""

import numpy as np

from medi_build.arrays import Floats64, Vectors
from medi_build.errors import MiningError
from medi_build.search.exclusions import Exclusions, forbidden
from medi_build.search.ranking import Exact, best_per_row

CELLS = 1 << 20
"""Scores held at a time."""


def small_topk(queries: Vectors, corpus: Vectors, k: int, exclusions: Exclusions) -> Exact:
    """What `medi_build.search.dense.exact_topk` gives, with all scores of a block of queries in memory.

    Raises:
        MiningError: a vector holds NaN or infinity.
    """
    import torch  # its product keeps to the threads that this process may use

    texts, parts = torch.from_numpy(_float64(corpus, "corpus")).T, []
    step = max(1, CELLS // len(corpus))
    for start in range(0, len(queries), step):
        rows = np.arange(start, min(start + step, len(queries)))
        scores = (torch.from_numpy(_float64(queries[rows], "queries", start)) @ texts).numpy()
        some = exclusions.rows(rows)
        if some.pairs is not None:
            row, column = some.pairs.nonzero()
            inside = column < len(corpus)
            scores[row[inside], column[inside]] = -np.inf
        if some.labels is not None:
            scores[forbidden(some.labels.query, some.labels.corpus, some.labels.mode)] = -np.inf
        # No score below the k-th largest of a row is among its k best; ties with it are told apart by id.
        limits = -np.partition(-scores, k - 1, axis=1)[:, k - 1 : k] if k < len(corpus) else -np.inf
        row, column = np.nonzero((scores >= limits) & (scores > -np.inf))
        parts.append(best_per_row(row, column, scores[row, column], len(rows), k))
    return Exact(np.concatenate([part.ids for part in parts]), np.concatenate([part.scores for part in parts]))


def _float64(vectors: Vectors, name: str, first_row: int = 0) -> Floats64:
    wide = vectors.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(wide).all(axis=1))
    if len(bad):
        raise MiningError(
            f"vector {first_row + int(bad[0])} of the {name} holds NaN or infinity ({len(bad)} such rows here); "
            "the encoder gave unusable vectors, try dtype float32"
        )
    return wide
