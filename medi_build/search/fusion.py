"""Rankings of several searches as one: by encoders of different kinds, by an encoder and by BM25."""

from collections.abc import Sequence

import numpy as np

from medi_build.errors import MiningError
from medi_build.search.ranking import NOTHING, Ranking, best_per_row


def fuse(rankings: Sequence[Ranking], k: int, constant: float = 60.0) -> Ranking:
    """Reciprocal rank fusion: score(d) = sum over rankings of 1 / (constant + rank), ranks from 1.

    Cormack, Clarke and Buettcher 2009, section 2, with their constant 60. A candidate that a ranking does not list
    gains nothing from it, so the rankings should be longer than what is taken of the result.

    Args:
        rankings: each [q, c], c may differ.
        k: length of the fused lists; ties by lower id.
        constant: larger values flatten the difference between ranks.

    Raises:
        MiningError: k below 1, or no ranking.
    """
    if k < 1 or not rankings:
        raise MiningError(f"fusion of {len(rankings)} rankings to length {k}; give at least 1 ranking and k of 1")
    count = len(rankings[0].ids)
    rows = np.concatenate([np.repeat(np.arange(count), r.ids.shape[1]) for r in rankings])
    ids = np.concatenate([r.ids.ravel() for r in rankings])
    # Multiples of 2**-52, whose sums are exact in any order: equal ranks are ties, whichever ranking gave them.
    gains = [np.rint(2.0**52 / (constant + 1 + np.arange(r.ids.shape[1]))) * 2.0**-52 for r in rankings]
    gain = np.concatenate([np.tile(one, count) for one in gains])
    present = ids != NOTHING
    span = int(ids.max(initial=0)) + 1
    pairs, which = np.unique(rows[present] * span + ids[present], return_inverse=True)
    scores = np.bincount(which, gain[present], len(pairs)).astype(np.float64)
    return best_per_row(pairs // span, pairs % span, scores, count, k).rounded()
