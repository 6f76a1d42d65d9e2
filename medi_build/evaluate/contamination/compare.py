"""Pairs of texts word by word: what a candidate has to pass."""

import numpy as np

from medi_build.arrays import Bools, Floats64, Hashes, Ints
from medi_build.evaluate.contamination.words import Runs


def shared(left: Runs, right: Runs) -> Bools:
    """Whether each hash of ``right`` is one of the same text's of ``left``: both of n texts, [w] of ``right``."""
    return _among(np.sort(_salted(left)), _salted(right))


def likeness(left: Runs, right: Runs) -> Floats64:
    """Jaccard similarity of the sets of hashes of n texts and n others; each text has one: [n]."""
    count = len(left.starts) - 1
    (ours, our_texts), (theirs, their_texts) = _set(left), _set(right)
    both = np.bincount(their_texts[_among(ours, theirs)], minlength=count)
    either = np.bincount(our_texts, minlength=count) + np.bincount(their_texts, minlength=count) - both
    found: Floats64 = both / either
    return found


def _salted(runs: Runs) -> Hashes:
    """Hashes that differ from text to text."""
    salt = np.arange(len(runs.starts) - 1, dtype=np.uint64) * np.uint64(0xD6E8FEB86659FD93)
    return runs.hashes ^ np.repeat(salt, runs.counts)


def _set(runs: Runs) -> tuple[Hashes, Ints]:
    """The different hashes of all texts, salted and ascending, and the text of each."""
    keys = _salted(runs)
    order = np.argsort(keys)
    keys = keys[order]
    new = np.ones(len(keys), bool)
    new[1:] = keys[1:] != keys[:-1]
    return keys[new], runs.texts[order][new]


def _among(known: Hashes, hashes: Hashes) -> Bools:
    """Whether each hash is one of those known, which ascend."""
    if not len(known):
        return np.zeros(len(hashes), bool)
    found: Bools = known[np.minimum(np.searchsorted(known, hashes), len(known) - 1)] == hashes
    return found


def covered(words: Runs, runs: Runs, common: Bools, size: int) -> Ints:
    """How many words of each text lie in one of its runs of ``size`` words that is ``common``: [n]."""
    begins = np.flatnonzero(common)
    begins = begins + (words.starts[:-1] - runs.starts[:-1])[runs.texts[begins]]
    change = np.zeros(len(words.hashes) + 1, np.int64)
    change[begins] += 1
    change[begins + size] -= 1
    inside = np.cumsum(change)[:-1] > 0
    total = np.r_[0, np.cumsum(inside)]
    found: Ints = total[words.starts[1:]] - total[words.starts[:-1]]
    return found
