"""From ranked candidates to negatives: the rank window, what was rejected and why, and the pick."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from medi_build.arrays import Bools, Floats32, Floats64, Hashes, Ints
from medi_build.content.mining_rule import MiningRule
from medi_build.ledger import Ledger
from medi_build.mine.texts import UniqueTexts, seeded_hash
from medi_build.search.ranking import NOTHING, Ranking

GIVEN = -1
"""The rank of a negative that came with the data."""
UNRANKED = -2
"""The rank of a text that no ranking gave."""
GIVEN_NAME, RANDOM_NAME = "given", "random"
"""Who found them."""


class Candidates(NamedTuple):
    """Candidates of each row, in the order in which they should be taken.

    Attributes:
        ids: int64 [r, c], -1 where there is none.
        scores: float32 [r, c], cosine with the query.
        ranks: int32 [r, c], place among the allowed candidates; -1 for a given negative, -2 for one drawn at random.
    """

    ids: Ints
    scores: Floats32
    ranks: npt.NDArray[np.int32]

    def rows(self, index: Ints | slice) -> "Candidates":
        """The candidates of some rows, in the given order."""
        return Candidates(self.ids[index], self.scores[index], self.ranks[index])


def window(ranking: Ranking, rule: MiningRule) -> Candidates:
    """Candidates with ``range_min <= rank < range_max``.

    The window is cut from the full ranking, before any filter: afterwards it would skip the hardest that are left.
    """
    ids = ranking.ids[:, rule.range_min : rule.range_max]
    scores = ranking.scores[:, rule.range_min : rule.range_max]
    ranks = np.arange(rule.range_min, rule.range_min + ids.shape[1], dtype=np.int32)
    return Candidates(ids, scores, np.broadcast_to(ranks, ids.shape).astype(np.int32))


def side_by_side(left: Candidates, right: Candidates) -> Candidates:
    """Candidates of two origins, each once in a row; the left ones are taken first."""
    ids = np.concatenate([left.ids, right.ids], axis=1)
    return Candidates(
        np.where(repeated(ids), NOTHING, ids),
        np.concatenate([left.scores, right.scores], axis=1),
        np.concatenate([left.ranks, right.ranks], axis=1),
    )


def repeated(ids: Ints) -> Bools:
    """Where a row holds an id that it already holds further left."""
    order = np.argsort(ids, axis=1, kind="stable")
    ordered = np.take_along_axis(ids, order, axis=1)
    again = np.zeros(ids.shape, dtype=bool)
    again[:, 1:] = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != NOTHING)
    result = np.empty_like(again)
    np.put_along_axis(result, order, again, axis=1)
    return result


class Verdicts:
    """What became of each candidate [r, c] of some rows; what was said last holds, and at first nothing was."""

    def __init__(self, shape: tuple[int, ...], names: list[str] | None = None) -> None:
        self.names = [""] if names is None else names
        self.codes = np.zeros(shape, dtype=np.int8)

    def say(self, which: Bools, verdict: str) -> None:
        """Give some of the candidates a verdict."""
        if verdict not in self.names:
            self.names.append(verdict)
        self.codes[which] = self.names.index(verdict)

    def rows(self, index: Ints) -> "Verdicts":
        """Those of some rows, in the given order."""
        some = Verdicts((0, 0), self.names)
        some.codes = self.codes[index]
        return some


def reject(
    allowed: Bools,
    bad: Bools,
    reason: str,
    ledger: Ledger,
    protected: Bools | None = None,
    verdicts: Verdicts | None = None,
) -> Bools:
    """Take the bad ones out of the allowed ones and count what that removed as ``rejected_{reason}``.

    Args:
        allowed: [r, c].
        bad: [r, c].
        reason: why they are bad.
        ledger: where they are counted.
        protected: [r, c], candidates that stay although they are bad, or None.
        verdicts: told the reason for each that is removed, or None.
    """
    hit = allowed & bad if protected is None else allowed & bad & ~protected
    if verdicts is not None:
        verdicts.say(hit, reason)
    ledger.note(f"rejected_{reason}", int(hit.sum()))
    return allowed & ~hit


def pick(
    candidates: Candidates, allowed: Bools, rule: MiningRule, row_keys: Hashes, text_keys: Hashes | None
) -> Candidates:
    """Take ``rule.num_negatives`` of the allowed candidates of each row.

    Given negatives come first; mined ones by rank, or with ``random`` as strategy by a seeded draw, then by rank.

    Args:
        candidates: [r, c], c at least ``rule.num_negatives``.
        allowed: [r, c].
        rule: ``num_negatives`` and ``sampling_strategy``.
        row_keys: [r], seeded hashes of the rows' ids.
        text_keys: [texts], those of the texts that ``candidates.ids`` number, for the draw; what is drawn depends on
            the two alone, and not on which other rows and texts there are. None where nothing is drawn.

    Returns:
        [r, num_negatives]; id -1, score NaN where a row has fewer.
    """
    order = candidates.ranks.astype(np.float64)  # `GIVEN` is below every rank
    if text_keys is not None:
        order = np.where(candidates.ranks == GIVEN, -1.0, uniform(row_keys, text_keys[candidates.ids]))
    order = np.where(allowed, order, np.inf)
    taken = np.argsort(order, axis=1, kind="stable")[:, : rule.num_negatives]
    if text_keys is not None:
        taken = np.sort(taken, axis=1)  # columns stand in order of rank
    kept = np.take_along_axis(allowed, taken, axis=1)
    hardest_first = np.argsort(~kept, axis=1, kind="stable")
    taken, kept = np.take_along_axis(taken, hardest_first, axis=1), np.take_along_axis(kept, hardest_first, axis=1)
    ids = np.where(kept, np.take_along_axis(candidates.ids, taken, axis=1), NOTHING)
    scores = np.where(kept, np.take_along_axis(candidates.scores, taken, axis=1), np.float32(np.nan))
    return Candidates(ids, scores, np.take_along_axis(candidates.ranks, taken, axis=1))


def draw_keys(unique_texts: UniqueTexts, count: int, rule: MiningRule, seed: int) -> Hashes | None:
    """Seeded hashes of the first ``count`` texts for `pick`, if the rule draws among them."""
    return seeded_hash(unique_texts.text(np.arange(count)), seed) if rule.sampling_strategy == "random" else None


def uniform(row_keys: Hashes, text_keys: Hashes) -> Floats64:
    """Uniform in [0, 1), [r, c], from keys of rows [r] and of texts [r, c]: splitmix64's end (Steele et al. 2014)."""
    z = row_keys[:, None] + text_keys * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    shares: Floats64 = (z ^ (z >> np.uint64(31))) / 2.0**64
    return shares
