"""Cross-encoder scores for the final candidates, in one batched pass."""

from collections.abc import Callable, Sequence

import numpy as np

from medi_build.arrays import Bools, Floats32, Ints
from medi_build.errors import EncoderError
from medi_build.mine.texts import UniqueTexts
from medi_build.search.ranking import NOTHING

PairScorer = Callable[[Sequence[tuple[str, str]]], Floats32]
"""Scores of (query, text) pairs; higher is more relevant."""


def load_cross_encoder(name: str) -> PairScorer:
    """A sentence-transformers cross-encoder, from the hub or a folder.

    Raises:
        EncoderError: it cannot be loaded, or gives more than one number per pair.
    """
    from sentence_transformers import CrossEncoder

    try:
        model = CrossEncoder(name, num_labels=1)
    except (OSError, ValueError, RuntimeError) as error:
        raise EncoderError(
            f"cross-encoder {name!r} cannot be loaded ({error}); name a hub id or folder of a model with one output"
        ) from error

    def score(pairs: Sequence[tuple[str, str]]) -> Floats32:
        return np.asarray(model.predict(list(pairs), show_progress_bar=False), dtype=np.float32)

    return score


def first_allowed(allowed: Bools, count: int) -> Bools:
    """Keep the first ``count`` allowed candidates of each row."""
    kept: Bools = allowed & (np.cumsum(allowed, axis=1) <= count)
    return kept


def cross_scores(scorer: PairScorer, texts: UniqueTexts, queries: Ints, ids: Ints) -> Floats32:
    """Scores [r, c] of candidates, NaN where there is none.

    Args:
        scorer: the cross-encoder.
        texts: those that all numbers stand for.
        queries: int64 [r], each row's query.
        ids: int64 [r, c], its candidates, -1 where there is none.
    """
    scores = np.full(ids.shape, np.nan, dtype=np.float32)
    rows, columns = np.nonzero(ids != NOTHING)
    if len(rows):
        pairs = zip(texts.text(queries[rows]), texts.text(ids[rows, columns]), strict=True)
        scores[rows, columns] = scorer(list(pairs))
    return scores
