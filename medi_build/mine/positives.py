"""Which of its given positives a row takes, and whether that one can be believed."""

import numpy as np

from medi_build.arrays import Bools, Hashes, Ints
from medi_build.ledger import Ledger
from medi_build.mine.context import MiningContext
from medi_build.mine.pair_texts import Pairs
from medi_build.search.exclusions import Exclusions
from medi_build.search.parts import topk


def choose_positives(pairs: Pairs, keys: Hashes, given_rows: Ints, ledger: Ledger) -> tuple[Ints, Ints]:
    """Draw one usable positive per row, by the row's seeded hash.

    Args:
        pairs: the dataset.
        keys: uint64 [rows], seeded hash of each row's id.
        given_rows: the rows of all given positives, usable or not.
        ledger: rows without a usable positive are dropped in stage "mine".

    Returns:
        The rows that have one, and its place in ``pairs.positives``.
    """
    total = len(pairs.query_of_row)
    counts = np.bincount(pairs.positives[:, 0], minlength=total)
    given = np.bincount(given_rows, minlength=total)
    ledger.drop("mine", "no_positive", int((given == 0).sum()))
    ledger.drop("mine", "positive_equals_query", int(((given > 0) & (counts == 0)).sum()))
    rows = np.flatnonzero(counts)
    starts = np.cumsum(counts) - counts
    return rows, starts[rows] + (keys[rows] % counts[rows].astype(np.uint64)).astype(np.int64)


def inconsistent(context: MiningContext, rows: Ints, chosen: Ints) -> Bools:
    """Rows to drop because query and positive do not find each other among random texts.

    Consistency (Dai et al. 2023, Promptagator, section 3.2): fewer than ``consistency_top`` of
    ``consistency_pool`` random candidates score above the positive. Round trip: the same from the positive's
    side, among random queries. Candidates excluded for the query do not count. Drops are counted as
    ``inconsistent_positive`` and ``positive_fails_round_trip``.

    Args:
        context: the dataset; the seed of its run draws the random texts.
        rows: [r] rows of the examples.
        chosen: [r] places of their positives in ``pairs.positives``.
    """
    pairs, run, (queries, corpus) = context.pairs, context.run, context.vectors
    rule, generator = run.rule, np.random.default_rng(run.seed)
    bad = np.zeros(len(rows), dtype=bool)
    of_query, texts, scores = pairs.query_of_row[rows], pairs.positives[chosen, 1], context.positives.scores[chosen]
    if rule.consistency_top is not None:
        sample = _sample(generator, pairs.pool, rule.consistency_pool)
        excluded = pairs.excluded[:, sample]
        best = topk(
            queries, corpus[sample], rule.consistency_top, Exclusions(excluded), device=run.device, split=run.split
        )
        bad |= scores < best.scores[of_query, -1]
        run.ledger.drop("mine", "inconsistent_positive", int(bad.sum()))
    if rule.round_trip_top is not None:
        sample = _sample(generator, len(queries), rule.consistency_pool)
        wanted, local = np.unique(texts, return_inverse=True)
        excluded = pairs.excluded[sample].tocsc()[:, wanted].T.tocsr()
        best = topk(
            corpus[wanted],
            queries[sample],
            rule.round_trip_top,
            Exclusions(excluded),
            device=run.device,
            split=run.split,
        )
        lost = (scores < best.scores[local, -1]) & ~bad
        run.ledger.drop("mine", "positive_fails_round_trip", int(lost.sum()))
        bad |= lost
    return bad


def _sample(generator: np.random.Generator, total: int, size: int) -> Ints:
    return np.sort(generator.choice(total, min(size, total), replace=False)).astype(np.int64)
