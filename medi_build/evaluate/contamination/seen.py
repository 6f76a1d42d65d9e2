"""A growing set of 64-bit hashes, 8 bytes each."""

import numpy as np

from medi_build.arrays import Hashes, Ints

FEWEST = 1 << 16


class SeenHashes:
    """Hashes that came before, in sorted arrays of growing sizes."""

    def __init__(self) -> None:
        self._parts: list[Hashes] = []

    def add(self, hashes: Hashes) -> Ints:
        """Add hashes; returns the places of those that were not there yet, of equal ones the first, ascending."""
        values, places = np.unique(hashes, return_index=True)
        new = np.ones(len(values), bool)
        for part in self._parts:
            at = np.minimum(np.searchsorted(part, values), len(part) - 1)
            new &= part[at] != values
        if new.any():
            self._parts.append(values[new])
        while len(self._parts) > 1 and len(self._parts[-2]) < max(FEWEST, 2 * len(self._parts[-1])):
            last = self._parts.pop()
            self._parts[-1] = np.sort(np.concatenate([self._parts[-1], last]))
        return np.sort(places[new])
