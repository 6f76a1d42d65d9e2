"""A map from hashes to entries that holds hundreds of millions of them: sorted numbers, and a bitmap before them."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from medi_build.arrays import Bools, Hashes, Ints

BITS_PER_ENTRY = 16
"""Of the bitmap: one probe in as many passes without cause."""
LEAST_BITS = 1 << 16


class Hits(NamedTuple):
    """Which probes have which entries, both int64 [h], sorted by probe and entry."""

    probes: Ints
    entries: Ints


class PackedMap(NamedTuple):
    """Hashes and their entries.

    Attributes:
        keys: the upper bits of a hash and, in the others, the entry: sorted uint64 [k].
        bitmap: a bit for each value of a hash's first bits, uint8.
        width: bits that an entry takes.
    """

    keys: Hashes
    bitmap: npt.NDArray[np.uint8]
    width: int

    def hits(self, hashes: Hashes, most: int) -> Hits:
        """The entries of each hash, at most the ``most`` lowest of one; hashes count by their upper bits."""
        probes = np.flatnonzero(_marked(self.bitmap, hashes))
        first, last = self._span(hashes[probes])
        counts = np.minimum(last - first, most)
        starts = np.cumsum(counts) - counts
        places = np.arange(counts.sum()) + np.repeat(first - starts, counts)
        entries = self.keys[places] & np.uint64((1 << self.width) - 1)
        return Hits(np.repeat(probes, counts), entries.astype(np.int64))

    def counts(self, hashes: Hashes) -> Ints:
        """How many entries each hash has, [n]."""
        first, last = self._span(hashes)
        found: Ints = last - first
        return found

    def _span(self, hashes: Hashes) -> tuple[Ints, Ints]:
        """Where the keys of each hash begin and end."""
        low = hashes >> np.uint64(self.width) << np.uint64(self.width)
        high = low | np.uint64((1 << self.width) - 1)
        return np.searchsorted(self.keys, low), np.searchsorted(self.keys, high, side="right")


def pack(hashes: Hashes, entries: npt.NDArray[np.integer], width: int) -> Hashes:
    """Hash and entry in one number each."""
    return hashes >> np.uint64(width) << np.uint64(width) | entries.astype(np.uint64)


def packed_map(keys: Hashes, width: int) -> PackedMap:
    """A map of `pack`ed keys, which are sorted where they are."""
    keys.sort()
    bits = max(LEAST_BITS, 1 << (BITS_PER_ENTRY * len(keys) - 1).bit_length() if len(keys) else 0)
    bitmap = np.zeros(bits // 8, np.uint8)
    for start in range(0, len(keys), 1 << 20):
        places = _places(keys[start : start + (1 << 20)], bitmap)
        np.bitwise_or.at(bitmap, places >> 3, np.left_shift(1, places & 7).astype(np.uint8))
    return PackedMap(keys, bitmap, width)


def _places(hashes: Hashes, bitmap: npt.NDArray[np.uint8]) -> Ints:
    """The bit of each hash."""
    return (hashes >> np.uint64(64 - (len(bitmap) * 8).bit_length() + 1)).astype(np.int64)


def _marked(bitmap: npt.NDArray[np.uint8], hashes: Hashes) -> Bools:
    places = _places(hashes, bitmap)
    marked: Bools = (bitmap[places >> 3] >> (places & 7).astype(np.uint8)) & 1 != 0
    return marked
