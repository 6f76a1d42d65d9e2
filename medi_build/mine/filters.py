"""Filters on candidates: each gives a bool matrix [r, c] of those to reject, or the scores it is decided by."""

import numpy as np
import numpy.typing as npt
import polars as pl

from medi_build.mine.exclusions import BoolMatrix, contains
from medi_build.mine.search import NOTHING, Vectors, pair_scores

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
GATHER_BYTES = 64 << 20


def above_margin(scores: Floats, lowest_positive: Floats, relative: float | None, absolute: float | None) -> Bools:
    """Candidates that come too near the query's lowest-scoring positive.

    Relative: score > p - relative * abs(p), which for positive p is NV-Retriever's (1 - margin) x p
    (arXiv 2407.15831, section 3.2) and for negative p still lies below it. Absolute: score > p - absolute.

    Args:
        scores: [r, c].
        lowest_positive: [r].
        relative: margin as a share of the positive's score, or None.
        absolute: margin as a difference, or None.
    """
    limit = np.full(len(scores), np.inf, dtype=np.float32)
    if relative is not None:
        limit = np.minimum(limit, lowest_positive - np.float32(relative) * np.abs(lowest_positive))
    if absolute is not None:
        limit = np.minimum(limit, lowest_positive - np.float32(absolute))
    return scores > limit[:, None]


def bad_lengths(positive_lengths: Ints, lengths: Ints, ratio: float) -> Bools:
    """Candidates longer or shorter than the positive by more than the factor ``ratio``.

    Args:
        positive_lengths: [r], characters.
        lengths: [r, c], characters.
        ratio: above 1.
    """
    positive = positive_lengths[:, None]
    return (lengths > ratio * positive) | (positive > ratio * lengths)


def nearest_positive(corpus: Vectors, ids: Ints, positives: Ints, weights: Floats | None = None) -> Floats:
    """The highest cosine of each candidate with any known positive of its row; -inf where there is none.

    Args:
        corpus: float16 [n, d].
        ids: int64 [r, c] candidates, -1 where there is none.
        positives: int64 [r, p] known positives, -1 where there are fewer.
        weights: float32 [r, p] by which the cosines are multiplied, or None.

    Returns:
        float32 [r, c], exact before rounding, as in `medi_build.mine.search`.
    """
    import torch

    best = np.full(ids.shape, -np.inf, dtype=np.float32)
    step = max(1, GATHER_BYTES // (8 * corpus.shape[1] * (ids.shape[1] + positives.shape[1] + 1)))
    for start in range(0, len(ids), step):
        both = np.concatenate([ids[start : start + step], positives[start : start + step]], axis=1)
        rows, places = np.unique(np.maximum(both, 0), return_inverse=True)
        vectors = torch.from_numpy(corpus[rows].astype(np.float64))[torch.from_numpy(places.reshape(both.shape))]
        left, right = vectors[:, : ids.shape[1]], vectors[:, ids.shape[1] :]
        scores = torch.bmm(left, right.transpose(1, 2)).numpy()
        if weights is not None:
            scores = scores * weights[start : start + step, None, :]
        missing = (both[:, : ids.shape[1], None] == NOTHING) | (both[:, None, ids.shape[1] :] == NOTHING)
        best[start : start + step] = np.where(missing, -np.inf, scores).max(axis=2, initial=-np.inf)
    return best


def normalized(texts: pl.Series) -> pl.Series:
    """Lower case, words only, one space between and around them: `` in the red box ``."""
    words = texts.str.to_lowercase().str.replace_all(r"[^\w]+", " ").str.strip_chars(" ")
    return " " + words + " "


def with_answer(passages: pl.Series, answers: pl.Series) -> Bools:
    """Whether each passage [m] has its answer [m] as a run of whole words; both come from `normalized`.

    An answer without a word character is in no passage.
    """
    frame = pl.DataFrame({"passage": passages.rename("passage"), "answer": answers.rename("answer")})
    found = frame.select(
        pl.col("passage").str.contains(pl.col("answer"), literal=True) & (pl.col("answer").str.strip_chars(" ") != "")
    )
    return found.to_series().to_numpy()


def random_pair_scores(queries: Vectors, corpus: Vectors, barred: BoolMatrix, pairs: int, seed: int) -> Floats:
    """Cosines of random query-candidate pairs that are not barred, ascending: what unrelated texts score here.

    Cosines of some encoders, the T5 family above all, are squeezed upward, so no fixed threshold fits all. Empty where
    every drawn pair is barred.
    """
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, len(queries), pairs)
    columns = generator.integers(0, len(corpus), pairs)
    free = ~contains(barred, rows, columns)
    return np.sort(pair_scores(queries, corpus, rows[free], columns[free]))
