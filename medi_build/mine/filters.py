"""Filters on candidates: each is a bool matrix [r, c] of those to reject, from arrays alone."""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


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
