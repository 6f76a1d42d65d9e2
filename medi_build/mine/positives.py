"""Which of its given positives a row takes, and whether that one can be believed."""

import numpy as np

from medi_build.arrays import Bools, Hashes, Ints, Vectors
from medi_build.content.mining_rule import MiningRule
from medi_build.devices import Device
from medi_build.ledger import Ledger
from medi_build.mine.pair_texts import Pairs
from medi_build.search.dense import pair_scores, topk
from medi_build.search.exclusions import Exclusions


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


def inconsistent(
    pairs: Pairs,
    rows: Ints,
    chosen: Ints,
    queries: Vectors,
    corpus: Vectors,
    rule: MiningRule,
    seed: int,
    ledger: Ledger,
    device: Device,
) -> Bools:
    """Rows to drop because query and positive do not find each other among random texts.

    Consistency (Dai et al. 2023, Promptagator, section 3.2): fewer than ``consistency_top`` of
    ``consistency_pool`` random candidates score above the positive. Round trip: the same from the positive's
    side, among random queries. Candidates excluded for the query do not count.

    Args:
        pairs: the dataset.
        rows: [r] rows of the examples.
        chosen: [r] places of their positives in ``pairs.positives``.
        queries: float16 [q, d].
        corpus: float16 [documents, d].
        rule: ``consistency_top``, ``round_trip_top`` and ``consistency_pool``.
        seed: draws the random texts.
        ledger: drops are counted as ``inconsistent_positive`` and ``positive_fails_round_trip``.
        device: where to search.
    """
    bad = np.zeros(len(rows), dtype=bool)
    of_query, texts = pairs.query_of_row[rows], pairs.positives[chosen, 1]
    scores = pair_scores(queries, corpus, of_query, texts)
    generator = np.random.default_rng(seed)
    if rule.consistency_top is not None:
        sample = _sample(generator, pairs.pool, rule.consistency_pool)
        best = topk(queries, corpus[sample], rule.consistency_top, Exclusions(pairs.excluded[:, sample]), device=device)
        bad |= scores < best.scores[of_query, -1]
        ledger.drop("mine", "inconsistent_positive", int(bad.sum()))
    if rule.round_trip_top is not None:
        sample = _sample(generator, len(queries), rule.consistency_pool)
        wanted, local = np.unique(texts, return_inverse=True)
        excluded = pairs.excluded[sample].tocsc()[:, wanted].T.tocsr()
        best = topk(corpus[wanted], queries[sample], rule.round_trip_top, Exclusions(excluded), device=device)
        lost = (scores < best.scores[local, -1]) & ~bad
        ledger.drop("mine", "positive_fails_round_trip", int(lost.sum()))
        bad |= lost
    return bad


def _sample(generator: np.random.Generator, total: int, size: int) -> Ints:
    return np.sort(generator.choice(total, min(size, total), replace=False)).astype(np.int64)
