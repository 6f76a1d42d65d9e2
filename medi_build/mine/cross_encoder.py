"""Cross-encoder scores for the final candidates, in one batched pass."""

from collections.abc import Callable, Sequence

import numpy as np

from medi_build.arrays import Bools, Floats32, Ints
from medi_build.devices import Device, devices, has_fast_bfloat16
from medi_build.errors import EncoderError
from medi_build.mine.texts import UniqueTexts
from medi_build.search.ranking import NOTHING

PairScorer = Callable[[Sequence[tuple[str, str]]], Floats32]
"""Scores of (query, text) pairs; higher is more relevant."""


PAIRS_PER_PASS = {True: 256, False: 32}
"""On a GPU, and on the CPU."""


def load_cross_encoder(name: str, device: Device) -> PairScorer:
    """A sentence-transformers cross-encoder, from the hub or a folder.

    On the CPU it computes in what it is saved in, and in bfloat16 on a GPU that multiplies it natively.

    Args:
        name: hub id or folder.
        device: where it runs; on the first GPU for "cuda". Where a pass does not fit, half as many pairs are tried.

    Raises:
        EncoderError: it cannot be loaded, or gives more than one number per pair.
        OptionError: there is no such device.
    """
    import torch
    from sentence_transformers import CrossEncoder

    place = devices(device)[0]
    on_gpu = place != "cpu"
    narrow = {"dtype": torch.bfloat16} if on_gpu and has_fast_bfloat16(place) else None
    try:
        model = CrossEncoder(name, num_labels=1, device=place, model_kwargs=narrow)
    except (OSError, ValueError, RuntimeError) as error:
        raise EncoderError(
            f"cross-encoder {name!r} cannot be loaded ({error}); name a hub id or folder of a model with one output"
        ) from error

    at_once = PAIRS_PER_PASS[on_gpu]

    def score(pairs: Sequence[tuple[str, str]]) -> Floats32:
        nonlocal at_once
        while True:
            try:
                found = model.predict(list(pairs), batch_size=at_once, show_progress_bar=False)
                return np.asarray(found, dtype=np.float32)
            except torch.OutOfMemoryError as error:
                if at_once == 1:
                    raise EncoderError(f"cross-encoder {name!r}: a single pair takes more than the GPU has") from error
            at_once //= 2
            torch.cuda.empty_cache()

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
