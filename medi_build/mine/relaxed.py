"""What is taken for rows of which the filters left nothing.

Not what scores above the positive, while there is anything else: where a known positive is far from its query, a text
that is nearer teaches an encoder to leave what is near for what is not, and an easy one does no harm (docs/results.md).
FlagEmbedding's ``hn_mine`` fills its lists from the corpus at random as well.
"""

from collections.abc import Sequence

import numpy as np

from medi_build.arrays import Hashes, Ints
from medi_build.ledger import Ledger
from medi_build.mine.context import MiningContext
from medi_build.mine.filters import Block, Lifted, Ready, Sifted, filtered, those
from medi_build.mine.select import UNRANKED, Candidates, Verdicts, repeated, uniform
from medi_build.search.exclusions import contains
from medi_build.search.ranking import NOTHING

DRAWN = 16
"""Texts that are drawn for a row: so many that some score below a positive hardly above what random texts score."""


def relaxed(sifted: Sifted, context: MiningContext, filters: Sequence[Ready], row_keys: Hashes) -> Sifted:
    """The same with something allowed for rows of which nothing was, if there is anything.

    That is the ranked candidate below the margin that is least likely a false negative; where there is none, and where
    no probability is known, texts drawn at random that lie below the margin; and where none of these does, the one that
    scores lowest. Noted are the rows: ``least_likely_false_negative_taken``, ``random_text_taken``, and of the latter
    ``random_text_above_margin``.

    Args:
        sifted: [r, c], what was ranked.
        context: the dataset.
        filters: all that the rule asks for.
        row_keys: uint64 [rows], seeded hashes of the rows' ids.

    Returns:
        [r, c], or with `DRAWN` columns behind for what was drawn.
    """
    ledger, allowed, probability = context.run.ledger, sifted.allowed.copy(), sifted.block.probability
    if probability is not None:
        rows = np.flatnonzero(~allowed.any(axis=1) & sifted.held.any(axis=1))
        allowed[rows, np.where(sifted.held[rows], probability[rows], np.inf).argmin(axis=1)] = True
        ledger.note("least_likely_false_negative_taken", len(rows))
    sifted, bare = sifted._replace(allowed=allowed), np.flatnonzero(~allowed.any(axis=1))
    return sifted.beside(_drawn_for(sifted, bare, context, filters, row_keys), bare) if len(bare) else sifted


def _drawn_for(
    sifted: Sifted, bare: Ints, context: MiningContext, filters: Sequence[Ready], row_keys: Hashes
) -> Sifted:
    """Drawn texts [m, `DRAWN`] of the rows ``bare`` [m], and which of them may be taken."""
    rows, queries = sifted.block.rows[bare], sifted.block.queries[bare]
    texts = drawn(context, queries, row_keys[rows])
    block = Block(rows, queries, sifted.block.positives[bare], *texts, None)
    verdicts, none = Verdicts(texts.ids.shape, sifted.verdicts.names), np.zeros(texts.ids.shape, dtype=bool)
    uncounted = Ledger("")
    sound = filtered(those(filters, Lifted.NEVER), block, texts.ids != NOTHING, none, uncounted, verdicts)
    allowed = filtered(those(filters, Lifted.LAST), block, sound, none, uncounted, verdicts).copy()
    short = np.flatnonzero(~allowed.any(axis=1) & sound.any(axis=1))
    allowed[short, np.where(sound[short], block.scores[short], np.inf).argmin(axis=1)] = True
    context.run.ledger.note("random_text_taken", int(allowed.any(axis=1).sum()))
    context.run.ledger.note("random_text_above_margin", len(short))
    return Sifted(block, allowed, allowed, verdicts)


def drawn(context: MiningContext, queries: Ints, row_keys: Hashes) -> Candidates:
    """`DRAWN` texts of the pool for each row, less those that are excluded for its query.

    Args:
        context: the dataset.
        queries: int64 [r], numbers of distinct queries.
        row_keys: [r], seeded hashes of the rows' ids; these and the size of the pool alone decide.
    """
    shares = uniform(row_keys, np.arange(DRAWN, dtype=np.uint64)[None, :])
    ids = (shares * context.pairs.pool).astype(np.int64)
    excluded = contains(context.pairs.excluded, np.repeat(queries, DRAWN), ids.ravel()).reshape(ids.shape)
    ids = np.where(excluded | repeated(ids), NOTHING, ids)
    return Candidates(ids, context.vectors.cosines(queries, ids), np.full(ids.shape, UNRANKED, dtype=np.int32))
