"""Texts to vectors through the boundary of `medi_build.embedding`."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from medi_build.arrays import Floats32, Ints, Vectors
from medi_build.embedding import Embed, Prompt
from medi_build.errors import MiningError
from medi_build.ledger import Ledger
from medi_build.search.dense import pair_scores

ROWS_PER_CHECK = 65536


class Sides(NamedTuple):
    """What one encoder makes of both sides of a dataset.

    Attributes:
        queries: float16 [q, d] vectors of the distinct queries.
        corpus: float16 [n, d] vectors of the texts of the document side.
    """

    queries: Vectors
    corpus: Vectors

    def cosines(self, queries: Ints, ids: Ints) -> Floats32:
        """Scores [r, c] of the queries [r] with their candidates [r, c]; NaN where the id is -1."""
        flat = pair_scores(self.queries, self.corpus, np.repeat(queries, ids.shape[1]), ids.ravel())
        return flat.reshape(ids.shape)


def encode(embed: Embed, texts: Sequence[str], prompt: Prompt, ledger: Ledger) -> Vectors:
    """Vectors [n, d] of the texts; what the encoder had to cut or misaligned is counted in the notes.

    Raises:
        MiningError: the encoder did not give one finite float16 vector per text.
    """
    embedded = embed(texts, *prompt)
    vectors = embedded.vectors
    if vectors.ndim != 2 or len(vectors) != len(texts) or vectors.dtype != np.float16:
        raise MiningError(
            f"the encoder gave {vectors.dtype} vectors of shape {vectors.shape} for {len(texts)} texts; "
            "one float16 vector per text is needed"
        )
    for start in range(0, len(vectors), ROWS_PER_CHECK):
        bad = np.flatnonzero(~np.isfinite(vectors[start : start + ROWS_PER_CHECK]).all(axis=1))
        if len(bad):
            raise MiningError(
                f"the encoder gave NaN or infinity for {texts[start + int(bad[0])][:80]!r} "
                f"(and {len(bad) - 1} more nearby); try dtype float32"
            )
    ledger.note("truncated_texts", embedded.truncated)
    ledger.note("unaligned_instructions", embedded.unaligned)
    return vectors
