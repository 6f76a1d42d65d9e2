"""Texts that say nearly the same as another one of them, in nearly the same words."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa

from medi_build.arrays import Bools, Ints
from medi_build.evaluate.contamination.compare import likeness
from medi_build.evaluate.contamination.match import LEAST_LIKE, LEAST_WORDS, LEAST_WORDS_LIKE
from medi_build.evaluate.contamination.minhash import BANDS, bands, signatures
from medi_build.evaluate.contamination.prints import SHINGLE
from medi_build.evaluate.contamination.words import normal_forms, runs_of, take, words_of

_PAIRS_AT_ONCE = 1 << 16


def near_copies(texts: Sequence[str]) -> Bools:
    """Which texts are nearly the same as another, differently written one.

    Nearly the same is what `medi contamination` calls so: 8 words or more on both sides, of which the sets are alike
    to 0.9 and those of pairs of neighbours to 0.7 (Jaccard); or the same words, whatever their number, where case,
    punctuation and white space differ. Candidates share a band of MinHash; of many that share one, each is compared
    with the one before it and the first.

    Args:
        texts: any number.

    Returns:
        bool [n]. Texts that are the same letter by letter are one text.
    """
    different, places = np.unique(np.array(texts, dtype=object), return_inverse=True)
    if len(different) < 2:
        return np.zeros(len(texts), bool)
    normal = normal_forms(pa.array(different.tolist(), pa.large_string()))
    found = normal.is_duplicated().to_numpy() & (normal != "").to_numpy()
    words = words_of(normal)
    long = np.flatnonzero(words.counts >= LEAST_WORDS)
    if len(long) > 1:
        shingles = runs_of(words, SHINGLE)
        pairs = long[_candidates(bands(signatures(take(shingles, long))))]
        for start, stop in pairwise([*range(0, len(pairs), _PAIRS_AT_ONCE), len(pairs)]):
            left, right = pairs[start:stop].T
            alike = likeness(take(words, left), take(words, right)) >= LEAST_WORDS_LIKE
            left, right = left[alike], right[alike]
            alike = likeness(take(shingles, left), take(shingles, right)) >= LEAST_LIKE
            found[left[alike]] = found[right[alike]] = True
    near: Bools = found[places.reshape(-1)]
    return near


def _candidates(of: np.ndarray[tuple[int, int], np.dtype[np.uint64]]) -> Ints:
    """Pairs [m, 2] of rows of [n, BANDS] hashes that share one: each with the row before that has it, and the first."""
    rows = np.repeat(np.arange(len(of)), BANDS)
    order = np.argsort(of.reshape(-1), kind="stable")
    hashes, rows = of.reshape(-1)[order], rows[order]
    same = np.r_[False, hashes[1:] == hashes[:-1]]
    first = np.maximum.accumulate(np.where(same, 0, np.arange(len(hashes))))
    later = np.flatnonzero(same)
    pairs = np.concatenate([np.stack([rows[before], rows[later]], axis=1) for before in (later - 1, first[later])])
    return np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)
