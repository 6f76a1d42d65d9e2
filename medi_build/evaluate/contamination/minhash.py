"""MinHash signatures of many texts at once, and their bands for locality-sensitive hashing."""

import numpy as np
import numpy.typing as npt

from medi_build.arrays import Hashes
from medi_build.evaluate.contamination.words import Runs

BANDS = 14
ROWS = 4
"""Texts whose sets are alike to 0.7 share a band with probability 0.98, to 0.8 with 0.999, to 0.3 with 0.11."""
_TEXTS_AT_ONCE = 512
"""So few that their shingles stay in the processor's cache."""

_DRAW = np.random.default_rng(13)
_FACTORS = _DRAW.integers(0, 1 << 32, BANDS * ROWS, dtype=np.uint32) | np.uint32(1)
_MASKS = _DRAW.integers(0, 1 << 32, BANDS * ROWS, dtype=np.uint32)

Signatures = npt.NDArray[np.uint32]


def signatures(shingles: Runs) -> Signatures:
    """The least of each text's hashes in each of ``BANDS * ROWS`` orders: [n, BANDS * ROWS].

    Every text has a shingle.
    """
    short = (shingles.hashes >> np.uint64(32)).astype(np.uint32)
    found = np.empty((len(shingles.starts) - 1, len(_FACTORS)), np.uint32)
    for start in range(0, len(found), _TEXTS_AT_ONCE):
        starts = shingles.starts[start : start + _TEXTS_AT_ONCE + 1]
        own, inner = short[starts[0] : starts[-1]], starts[:-1] - starts[0]
        for number, (factor, mask) in enumerate(zip(_FACTORS, _MASKS, strict=True)):
            found[start : start + len(inner), number] = np.minimum.reduceat(own * factor ^ mask, inner)
    return found


def bands(of: Signatures) -> Hashes:
    """One hash for each band of each signature: [n, BANDS]."""
    found = np.zeros((len(of), BANDS), np.uint64)
    found += np.arange(1, BANDS + 1, dtype=np.uint64) * np.uint64(0xD6E8FEB86659FD93)
    for row in range(ROWS):
        found = (found ^ of[:, row::ROWS]) * np.uint64(0x9E3779B97F4A7C15)
        found ^= found >> np.uint64(29)
    return found
