"""Whose negatives: random ones, and those of somebody who knows what is relevant. All int64 [train, count]."""

import numpy as np

from teach.domains import Domain


def at_random(domain: Domain, count: int, seed: int) -> np.ndarray:
    """Any documents but the known one."""
    drawn = np.random.default_rng(seed).integers(0, len(domain.documents) - 1, (len(domain.train), count))
    return drawn + (drawn >= domain.known[domain.train][:, None])


def oracle(
    domain: Domain, scores: np.ndarray, ranks: tuple[int, int], count: int, seed: int, *, positives: bool
) -> np.ndarray:
    """Draws from a window of ranks, counted without what is relevant in truth.

    Args:
        domain: knows what that is.
        scores: float32 [train, documents] cosines.
        ranks: first rank, from 0, and the one behind the last.
        count: negatives a row.
        seed: of the draws.
        positives: rank only documents that are the known positive of some training query.
    """
    generator = np.random.default_rng(seed)
    taught = np.isin(np.arange(len(domain.documents)), domain.known[domain.train])
    chosen = np.empty((len(domain.train), count), dtype=np.int64)
    for place, query in enumerate(domain.train):
        left = scores[place].copy()
        left[domain.relevant[query]] = -np.inf
        if positives:
            left[~taught] = -np.inf
        best = np.argpartition(-left, ranks[1])[: ranks[1]]
        best = best[np.argsort(-left[best], kind="stable")][ranks[0] :]
        chosen[place] = generator.choice(best[np.isfinite(left[best])], count, replace=False)
    return chosen


def false_share(domain: Domain, negatives: np.ndarray) -> float:
    """Share of the negatives that are relevant in truth."""
    pairs = zip(domain.train, negatives, strict=True)
    return float(np.mean([np.isin(found, domain.relevant[query]).mean() for query, found in pairs]))
