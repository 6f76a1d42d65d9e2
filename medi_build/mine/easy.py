"""Easy texts, for rows of which the filters left nothing: drawn from the pool at random.

What scores above a positive that is itself far from its query teaches an encoder to leave what is near for what is not;
an easy text does no harm (docs/results.md). FlagEmbedding's ``hn_mine`` fills its lists from the corpus as well.
"""

from collections.abc import Callable, Sequence

import numpy as np

from medi_build.arrays import Floats64, Hashes, Ints
from medi_build.ledger import Ledger
from medi_build.mine.context import MiningContext
from medi_build.mine.filters import Block, Lifted, Ready, Sifted, filtered
from medi_build.mine.select import UNRANKED, Candidates, Verdicts, repeated, uniform
from medi_build.search.exclusions import contains
from medi_build.search.ranking import NOTHING

DRAWN = 16
"""Texts that are drawn for a row: so many that some score below a positive hardly above what random texts score."""


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


def with_easy(
    sifted: Sifted,
    context: MiningContext,
    filters: Sequence[Ready],
    row_keys: Hashes,
    probability: Callable[[Ints, Candidates], Floats64 | None],
) -> Sifted:
    """The same with `DRAWN` columns more, in which rows without an allowed candidate have drawn texts.

    Allowed are those that pass all filters but such as want hard texts; where none does, the lowest-scoring one of
    those that may be a negative at all. Noted are the rows (``random_text_taken``), and of these the ones without a
    text below their positive or not likely right (``random_text_above_positive``).

    Args:
        sifted: [r, c], what was ranked.
        context: the dataset.
        filters: all that the rule asks for.
        row_keys: uint64 [rows], seeded hashes of the rows' ids.
        probability: how likely texts of some of the rows [r] are false negatives, if that is estimated.
    """
    ledger, bare = context.run.ledger, np.flatnonzero(~sifted.allowed.any(axis=1))
    if not len(bare):
        return sifted
    rows, queries = sifted.block.rows[bare], sifted.block.queries[bare]
    texts = drawn(context, queries, row_keys[rows])
    block = Block(rows, queries, sifted.block.positives[bare], *texts, probability(bare, texts))
    verdicts, allowed, uncounted = Verdicts(texts.ids.shape, sifted.verdicts.names), texts.ids != NOTHING, Ledger("")
    protected = np.zeros(texts.ids.shape, dtype=bool)
    left = {}
    for lifted in (Lifted.NEVER, Lifted.IF_NOTHING_IS_LEFT):
        acting = [one for one in filters if one.filter.lifted == lifted]
        left[lifted] = allowed = filtered(acting, block, allowed, protected, uncounted, verdicts)
    sound, allowed = left[Lifted.NEVER], allowed.copy()
    short = np.flatnonzero(~allowed.any(axis=1) & sound.any(axis=1))
    allowed[short, np.where(sound[short], block.scores[short], np.inf).argmin(axis=1)] = True
    ledger.note("random_text_taken", int(allowed.any(axis=1).sum()))
    ledger.note("random_text_above_positive", len(short))
    return sifted.beside(Sifted(block, allowed, verdicts), bare)
