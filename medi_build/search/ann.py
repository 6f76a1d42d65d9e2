"""Approximate top-k for corpora too large to multiply whole: FAISS's inverted file, checked against an exact sample.

FAISS is an extra (``pip install 'medi-build[ann]'``). The candidates come from the index; their scores are computed
again from the vectors, so they are as exact as those of `medi_build.search.dense`; only some candidates may be missing.
"""

from typing import Any, NamedTuple

import numpy as np

from medi_build.arrays import Vectors
from medi_build.errors import MiningError
from medi_build.search.dense import pair_scores, topk
from medi_build.search.exclusions import Exclusions, contains
from medi_build.search.ranking import NOTHING, Ranking, best_per_row

ROWS_AT_ONCE = 65536
QUERIES_AT_ONCE = 4096
TRAINING_ROWS_PER_LIST = 64
SAMPLE = 200


class Approximate(NamedTuple):
    """An approximate ranking.

    Attributes:
        ranking: as from an exact search.
        recall: share of the exact lists of a seeded sample of queries that it found, 1.0 for no queries.
    """

    ranking: Ranking
    recall: float


def ann_topk(
    queries: Vectors,
    corpus: Vectors,
    k: int,
    exclusions: Exclusions | None = None,
    *,
    probes: int = 64,
    seed: int = 0,
) -> Approximate:
    """Nearly the k best allowed candidates of each query by inner product.

    Args:
        queries: float16 [q, d].
        corpus: float16 [n, d]; read in blocks.
        k: length of the lists.
        exclusions: listed pairs only; lists are searched deeper by the most that any query excludes.
        probes: inverted lists searched per query; more find more and take longer.
        seed: draws the training rows and the sample for the recall.

    Raises:
        MiningError: FAISS is not installed, exclusions by label, k below 1 or an empty corpus.
    """
    exclusions = exclusions or Exclusions()
    exclusions.check(len(queries), len(corpus))
    if exclusions.labels is not None:
        raise MiningError("an approximate search knows no exclusions by label; use topk, which does")
    if k < 1 or not len(corpus):
        raise MiningError(f"k is {k} and the corpus has {len(corpus)} rows; both have to be at least 1")
    index = _index(corpus, probes, seed)
    excluded = exclusions.rows(np.arange(len(queries))).pairs
    most = 0 if excluded is None else int(np.diff(excluded.indptr).max(initial=0))
    parts = []
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        rows = np.arange(start, min(start + QUERIES_AT_ONCE, len(queries)))
        _, ids = index.search(queries[rows].astype(np.float32), min(len(corpus), k + most))
        row, column = np.nonzero(ids != NOTHING)
        found = ids[row, column]
        if excluded is not None:
            free = ~contains(excluded[rows], row, found)
            row, found = row[free], found[free]
        scores = pair_scores(queries, corpus, rows[row], found)
        parts.append(best_per_row(row, found, scores.astype(np.float64), len(rows), k))
    ranking = Ranking(
        np.concatenate([part.ids for part in parts] or [np.empty((0, k), dtype=np.int64)]),
        np.concatenate([part.scores for part in parts] or [np.empty((0, k), dtype=np.float32)]),
    )
    return Approximate(ranking, _recall(queries, corpus, exclusions, ranking, seed))


def _index(corpus: Vectors, probes: int, seed: int) -> Any:
    try:
        import faiss
    except ImportError as error:
        raise MiningError(
            "approximate search needs FAISS, which is not installed; pip install 'medi-build[ann]', or leave out "
            "ann_above to search exactly"
        ) from error
    lists = max(1, min(int(4 * len(corpus) ** 0.5), len(corpus) // TRAINING_ROWS_PER_LIST))
    dimensions = corpus.shape[1]
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(dimensions), dimensions, lists, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.seed, index.nprobe = seed + 1, probes
    wanted = min(len(corpus), lists * TRAINING_ROWS_PER_LIST)
    sample = np.sort(np.random.default_rng(seed).choice(len(corpus), wanted, replace=False))
    index.train(corpus[sample].astype(np.float32))
    for start in range(0, len(corpus), ROWS_AT_ONCE):
        index.add(corpus[start : start + ROWS_AT_ONCE].astype(np.float32))
    return index


def _recall(queries: Vectors, corpus: Vectors, exclusions: Exclusions, ranking: Ranking, seed: int) -> float:
    size = min(SAMPLE, len(queries))
    sample = np.sort(np.random.default_rng(seed).choice(len(queries), size, replace=False))
    exact = topk(queries[sample], corpus, ranking.ids.shape[1], exclusions.rows(sample))
    wanted = exact.ids != NOTHING
    found = (exact.ids[:, :, None] == ranking.ids[sample][:, None, :]).any(axis=2) & wanted
    return float(found.sum() / wanted.sum()) if wanted.any() else 1.0
