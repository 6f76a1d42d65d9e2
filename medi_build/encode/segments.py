"""One immutable file of vectors: written whole or not at all, sorted by key, checked before it is believed.

Layout, little-endian: header (64 bytes) | keys uint64 [2, n], ascending | flags uint8 [n] | padding to 64 bytes |
vectors float16 [n, d]. The header holds a checksum of keys and flags, verified when the file is opened, and one
of the vectors, verified before the first of them is used.
"""

import os
import struct
import uuid
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xxhash

from medi_build.errors import StoreError
from medi_build.files import sync_folder

FORMAT_VERSION = 1
SUFFIX = ".vectors"
_MAGIC = b"MEDIVEC\0"
_HEADER = struct.Struct("<8sIIQ16s16s8x")

Keys = npt.NDArray[np.uint64]
"""uint64 [n, 2]: the two halves of a 128-bit hash."""


class CorruptSegmentError(Exception):
    """A segment's bytes are not what was written; the store leaves it aside and says so."""


class Segment:
    """A memory-mapped segment.

    Attributes:
        high: uint64 [n], first halves of the keys; ascending, ties by ``low``.
        low: uint64 [n], second halves; no two keys are the same.
        flags: uint8 [n].
        dimension: d.
    """

    def __init__(self, path: Path) -> None:
        """Open and check all but the vectors.

        Raises:
            CorruptSegmentError: cut short or altered.
            StoreError: written by another version of medi.
            FileNotFoundError: compacted away in the meantime.
        """
        self.path = path
        data = np.memmap(path, dtype=np.uint8, mode="r") if path.stat().st_size else np.empty(0, dtype=np.uint8)
        if len(data) < _HEADER.size:
            raise CorruptSegmentError("the header is cut short")
        magic, version, self.dimension, count, index_sum, self._vectors_sum = _HEADER.unpack(
            data[: _HEADER.size].tobytes()
        )
        if magic != _MAGIC:
            raise CorruptSegmentError("it does not begin like a segment")
        if version != FORMAT_VERSION:
            raise StoreError(
                f"{path}: was written in store format {version}, this medi reads {FORMAT_VERSION}; use the medi "
                "that wrote it, or name another store folder"
            )
        flags_at = _HEADER.size + 16 * count
        vectors_at = _aligned(flags_at + count)
        end = vectors_at + 2 * count * self.dimension
        if len(data) != end:
            raise CorruptSegmentError(f"it has {len(data)} bytes instead of {end}")
        if xxhash.xxh3_128_digest(data[_HEADER.size : vectors_at].data) != index_sum:
            raise CorruptSegmentError("its keys have changed")
        self.high, self.low = data[_HEADER.size : flags_at].view("<u8").reshape(2, count)
        self.flags: npt.NDArray[np.uint8] = data[flags_at : flags_at + count]
        self._raw = data[vectors_at:end]
        self._checked = False

    def __len__(self) -> int:
        return len(self.flags)

    def vectors(self) -> npt.NDArray[np.float16]:
        """float16 [n, d], memory-mapped; checked the first time.

        Raises:
            CorruptSegmentError: the vectors have changed on disk.
        """
        if not self._checked and xxhash.xxh3_128_digest(self._raw.data) != self._vectors_sum:
            raise CorruptSegmentError("its vectors have changed")
        self._checked = True
        return self._raw.view("<f2").reshape(len(self), self.dimension)


def write_segment(folder: Path, keys: Keys, vectors: npt.NDArray[np.float16], flags: npt.NDArray[np.uint8]) -> Path:
    """Write a segment under a new name; it appears only once it is whole and on disk.

    Args:
        folder: must exist.
        keys: uint64 [n, 2], in any order, no two the same.
        vectors: float16 [n, d].
        flags: uint8 [n].

    Raises:
        OSError: the disk is full or the folder not writable; nothing stays behind.
    """
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    count, dimension = vectors.shape
    index = keys[order].T.astype("<u8").tobytes() + flags[order].tobytes()
    index += bytes(_aligned(_HEADER.size + len(index)) - _HEADER.size - len(index))
    body = np.ascontiguousarray(vectors[order], dtype="<f2").view(np.uint8).reshape(-1)
    index_sum, vectors_sum = xxhash.xxh3_128_digest(index), xxhash.xxh3_128_digest(body.data)
    header = _HEADER.pack(_MAGIC, FORMAT_VERSION, dimension, count, index_sum, vectors_sum)
    name = uuid.uuid4().hex
    temporary, path = folder / f".{name}.tmp", folder / f"{name}{SUFFIX}"
    try:
        with temporary.open("wb") as file:
            file.write(header)
            file.write(index)
            file.write(body.data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(folder)
    return path


def find(high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64], wanted: Keys) -> npt.NDArray[np.int64]:
    """Place of each wanted key among ascending keys, -1 where absent.

    Args:
        high: uint64 [n], first halves of the keys, ascending.
        low: uint64 [n], second halves, ascending where the first are equal.
        wanted: uint64 [m, 2], best in ascending order: neighbouring searches then touch neighbouring memory.

    Returns:
        int64 [m].
    """
    found = np.full(len(wanted), -1, dtype=np.int64)
    at = np.searchsorted(high, wanted[:, 0])
    rows = np.arange(len(wanted))
    while len(rows):  # more than once only where keys share their first half
        same = at < len(high)
        same[same] = high[at[same]] == wanted[rows[same], 0]
        rows, at = rows[same], at[same]
        hit = low[at] == wanted[rows, 1]
        found[rows[hit]] = at[hit]
        rows, at = rows[~hit], at[~hit] + 1
    return found


def _aligned(size: int) -> int:
    return -(-size // 64) * 64
