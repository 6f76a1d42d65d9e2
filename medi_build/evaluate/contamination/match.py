"""Training texts against an index: candidates by hashes, then each pair word by word."""

from itertools import pairwise
from typing import Literal, NamedTuple, get_args

import numpy as np
import pyarrow as pa

from medi_build.arrays import Bools, Floats64, Ints
from medi_build.evaluate.contamination.compare import covered, likeness, shared
from medi_build.evaluate.contamination.index import EvaluationIndex
from medi_build.evaluate.contamination.packed import PackedMap
from medi_build.evaluate.contamination.prints import RUN, SEED, SHINGLE, Prints, prints_of
from medi_build.evaluate.contamination.words import Runs, joined, normal_forms, runs_of, take, words_of

VERSION = 1
"""Raised whenever another text becomes a match, or one no longer is."""
Match = Literal["exact", "near", "overlap"]
KINDS: tuple[Match, ...] = get_args(Match)
"""From the strongest to the weakest; a pair of texts is of the first kind that holds for it."""
LEAST_SHARE = 1 / 2
"""Of the words of one of the texts, that shared runs have to cover."""
ENOUGH_WORDS = 50
"""So many covered words are enough, whatever their share."""
LEAST_LIKE = 0.7
"""Jaccard similarity of near copies by their shingles."""
LEAST_WORDS_LIKE = 0.9
"""The same by their words, so that no word of a short text may be another one."""
LEAST_WORDS = 8
"""Of both texts of a near copy: of fewer words another order makes another meaning."""
MOST_PER_HASH = 32
"""Entries that are looked at for one hash."""
MOST_TEXTS = 10
"""Runs of ``SEED`` words that are seeds of more entries are boilerplate; runs of ``RUN`` words with one count not."""
MOST_CANDIDATES = 8
"""Entries of one set that are compared with a text for one kind, those that share most hashes with it."""
_NO_RUN = np.uint64(0)
_WORDS_AT_ONCE = 1 << 19


class Matches(NamedTuple):
    """What was found, the best entry of each set for each text; all of length m, by text and set.

    Attributes:
        texts: rows of the texts, int64.
        entries: of the index, int64.
        kinds: places in ``KINDS``, int64.
        similarities: 1 for exact copies, Jaccard by shingles of near ones, share of words covered by shared runs.
    """

    texts: Ints
    entries: Ints
    kinds: Ints
    similarities: Floats64


def find_matches(index: EvaluationIndex, texts: pa.Array) -> Matches:
    """Which of some different texts (``large_string`` [n]) hold text of an evaluation."""
    prints = prints_of(texts)
    pairs = np.unique(
        np.concatenate([_candidates(index, name, getattr(prints, name)) for name in ("whole", "seeds", "bands")])
    )
    rows, entries = np.divmod(pairs, max(len(index.sets), 1))
    parts = [
        _compared(index, prints, rows[start:end], entries[start:end]) for start, end in _pieces(prints.words, rows)
    ]
    found = Matches(*(np.concatenate(part) for part in zip(*parts, strict=True))) if parts else _NOTHING
    return _best(index, found)


_NOTHING = Matches(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


def _candidates(index: EvaluationIndex, name: str, runs: Runs) -> Ints:
    """Pairs of a text and an entry that share a hash, as ``text * m + entry``."""
    found: PackedMap = index.maps[name]
    whole = name == "whole"
    hits = found.hits(runs.hashes, len(index.sets) if whole else MOST_PER_HASH)
    size = max(len(index.sets), 1)
    pairs: Ints
    counts: Ints
    pairs, counts = np.unique(runs.texts[hits.probes] * size + hits.entries, return_counts=True)
    if whole:
        return pairs
    texts, entries = np.divmod(pairs, size)
    sets = index.sets[entries]
    order = np.lexsort((entries, -counts, sets, texts))
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(texts[order]) != 0) | (np.diff(sets[order]) != 0)
    rank = np.arange(len(order)) - np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
    chosen: Ints = pairs[order[rank < MOST_CANDIDATES]]
    return chosen


def _pieces(words: Runs, rows: Ints) -> list[tuple[int, int]]:
    """Spans of pairs, which ascend by text, whose texts have about ``_WORDS_AT_ONCE`` words."""
    total = np.cumsum(words.counts[rows])
    cuts = np.flatnonzero(np.diff(total // _WORDS_AT_ONCE)) + 1 if len(rows) else np.zeros(0, np.int64)
    bounds = [0, *cuts.tolist(), len(rows)]
    return [(start, end) for start, end in pairwise(bounds) if end > start]


def _compared(index: EvaluationIndex, prints: Prints, rows: Ints, entries: Ints) -> Matches:
    """The pairs that are of a kind."""
    different, place = np.unique(entries, return_inverse=True)
    normal = normal_forms(pa.array([entry.text for entry in index.entries(different)], pa.large_string()))
    words = words_of(normal)
    left, right = take(prints.words, rows), take(words, place)
    exact = prints.joined.gather(rows).to_numpy() == joined(normal).gather(place).to_numpy()
    near, like = _near(left, right)
    overlap, share = _overlap(left, right, take(_telling_runs(index, words), place))
    kinds = np.select([exact, near, overlap], range(len(KINDS)), len(KINDS))
    values = np.select([exact, near, overlap], [np.ones(len(rows)), like, share])
    kept = kinds < len(KINDS)
    return Matches(rows[kept], entries[kept], kinds[kept], values[kept])


def _near(left: Runs, right: Runs) -> tuple[Bools, Floats64]:
    """Whether texts are near copies, and how alike they are by shingles (0 where one of them is too short)."""
    like = np.zeros(len(left.starts) - 1)
    pairs = [runs_of(side, SHINGLE) for side in (left, right)]
    some = np.flatnonzero((left.counts >= LEAST_WORDS) & (right.counts >= LEAST_WORDS))
    like[some] = likeness(*(take(side, some) for side in pairs))
    near = like >= LEAST_LIKE
    rest = np.flatnonzero(near)
    near[rest] = likeness(take(left, rest), take(right, rest)) >= LEAST_WORDS_LIKE
    return near, like


def _telling_runs(index: EvaluationIndex, words: Runs) -> Runs:
    """Every run of ``RUN`` words of entries; in place of the hash of boilerplate stands one that no run has."""
    runs, short = runs_of(words, RUN), runs_of(words, SEED)
    common = np.r_[0, np.cumsum(index.maps["seeds"].counts(short.hashes) > MOST_TEXTS)]
    first = np.arange(len(runs.hashes)) + np.repeat(short.starts[:-1] - runs.starts[:-1], runs.counts)
    boilerplate = common[first + RUN - SEED + 1] > common[first]
    return Runs(np.where(boilerplate, _NO_RUN, runs.hashes), runs.starts)


def _overlap(left: Runs, right: Runs, right_runs: Runs) -> tuple[Bools, Floats64]:
    """Whether texts share long runs of words, and the larger of the two shares of their words in them."""
    runs = [runs_of(left, RUN), right_runs]
    both = [
        covered(side, own, shared(other, own), RUN)
        for side, own, other in ((left, runs[0], runs[1]), (right, runs[1], runs[0]))
    ]
    share = np.maximum(both[0] / np.maximum(left.counts, 1), both[1] / np.maximum(right.counts, 1))
    words = np.maximum(*both)
    return (words > 0) & ((share >= LEAST_SHARE) | (words >= ENOUGH_WORDS)), share


def _best(index: EvaluationIndex, found: Matches) -> Matches:
    """The strongest match of each text with each set."""
    sets = index.sets[found.entries]
    order = np.lexsort((found.entries, -found.similarities, found.kinds, sets, found.texts))
    texts, sets = found.texts[order], sets[order]
    first = np.ones(len(order), bool)
    first[1:] = (np.diff(texts) != 0) | (np.diff(sets) != 0)
    rows = order[first]
    return Matches(found.texts[rows], found.entries[rows], found.kinds[rows], found.similarities[rows])
