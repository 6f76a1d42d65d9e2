"""One immutable file of vectors: written whole or not at all, sorted by key, checked before it is believed.

An Arrow IPC file of one uncompressed record batch, so that it is used where it lies and other tools read it: columns
``key_high`` and ``key_low`` (uint64, ascending), ``flags`` (uint8) and ``vector`` (fixed_size_list<float16>[d]). The
schema's metadata names the format, the encoder and two checksums: that of keys and flags, verified when the file is
opened, and that of the vectors, verified before the first of them is used.
"""

import contextlib
import errno
import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from medi_build.files import replacing

FORMAT_VERSION = 2
SUFFIX = ".arrow"
ASIDE = ".corrupt"
_SPILL_BYTES = 1 << 29
"""Size from which vectors that are gathered lie in a file instead of in memory."""
_ZEROS = 1 << 22
"""Bytes at a time where the system cannot give a file room by itself."""

Keys = npt.NDArray[np.uint64]
"""uint64 [n, 2]: the two halves of a 128-bit hash."""


class CorruptSegmentError(Exception):
    """A segment's bytes are not what was written; the store leaves it aside and says so."""


class SegmentFile:
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
            OSError: cannot be read; FileNotFoundError if it was merged away in the meantime.
        """
        self.path = path
        try:
            with pa.memory_map(str(path)) as file:  # what is read stays mapped when the file is closed
                reader = pa.ipc.open_file(file)
                told = reader.schema.metadata
                version, index_sum, self._vectors_sum = (told[key] for key in (b"format", b"index_sum", b"vectors_sum"))
                if version != b"%d" % FORMAT_VERSION:
                    raise CorruptSegmentError(f"it has store format {version.decode()} instead of {FORMAT_VERSION}")
                self.dimension: int = reader.schema.field("vector").type.list_size
                if not reader.schema.equals(_schema(self.dimension)):
                    raise CorruptSegmentError(f"its columns are {reader.schema.names}")
                batch = reader.get_batch(0)
                batch.validate(full=True)
            self.high, self.low, self.flags = (batch.column(n).to_numpy() for n in range(3))
            self._vectors: npt.NDArray[np.float16] = batch.column(3).values.to_numpy().reshape(-1, self.dimension)
        except OSError as error:
            if error.errno is not None:
                raise
            raise CorruptSegmentError(f"it is cut short or altered ({error})") from error
        except (pa.ArrowException, ValueError, TypeError, LookupError, AttributeError) as error:
            raise CorruptSegmentError(f"it is cut short or altered ({error})") from error
        if _digest(self.high, self.low, self.flags) != index_sum:
            raise CorruptSegmentError("its keys have changed")
        self._checked = False

    def __len__(self) -> int:
        return len(self.flags)

    def vectors(self) -> npt.NDArray[np.float16]:
        """float16 [n, d], memory-mapped; checked the first time.

        Raises:
            CorruptSegmentError: the vectors have changed on disk.
        """
        if not self._checked and _digest(self._vectors) != self._vectors_sum:
            raise CorruptSegmentError("its vectors have changed")
        self._checked = True
        return self._vectors


def write_segment(
    folder: Path, keys: Keys, vectors: Sequence[npt.NDArray[np.float16]], flags: npt.NDArray[np.uint8]
) -> Path:
    """Write a segment under a new name; it appears only once it is whole and on disk.

    Args:
        folder: the encoder's, named like its identity; must exist.
        keys: uint64 [n, 2], in any order; of those that are the same the last is written.
        vectors: float16 [?, d] each, together n.
        flags: uint8 [n].

    Raises:
        OSError: the disk is full or the folder not writable; nothing stays behind.
    """
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    high, low = keys[order, 0], keys[order, 1]
    distinct = np.append(True, (high[1:] != high[:-1]) | (low[1:] != low[:-1]))
    high, low = high[distinct], low[distinct]
    place = np.empty_like(order)
    place[order] = np.cumsum(distinct) - 1
    flags_there = np.empty(len(high), np.uint8)
    flags_there[place] = flags
    body, start = room(folder, len(high), vectors[0].shape[1]), 0
    for part in vectors:
        body[place[start : start + len(part)]] = part
        start += len(part)
    told = {"format": b"%d" % FORMAT_VERSION, "encoder": folder.name.encode()}
    told |= {"index_sum": _digest(high, low, flags_there), "vectors_sum": _digest(body)}
    columns = [*map(pa.array, (high, low, flags_there))]
    columns.append(pa.FixedSizeListArray.from_arrays(pa.array(body.reshape(-1)), body.shape[1]))
    batch = pa.record_batch(columns, schema=_schema(body.shape[1]).with_metadata(told))
    path = folder / f"{uuid.uuid4().hex}{SUFFIX}"
    with replacing(path) as temporary, temporary.open("wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)
    return path


def put_aside(path: Path, error: CorruptSegmentError) -> None:
    """Give a damaged segment another name, and say so; its texts count as unknown from now on."""
    with contextlib.suppress(OSError):  # somebody else did, or the store may only be read
        path.replace(path.with_suffix(ASIDE))
    warnings.warn(f"{path}: left aside, {error}; its texts are encoded again", stacklevel=3)


def room(folder: Path, count: int, dimension: int) -> npt.NDArray[np.float16]:
    """Zeros, float16 [count, dimension]; large ones in an unnamed file in a folder, which must exist.

    Raises:
        OSError: the disk has no room for it.
    """
    shape, size = (count, dimension), 2 * count * dimension
    if size < _SPILL_BYTES:
        return np.zeros(shape, dtype=np.float16)
    with tempfile.TemporaryFile(dir=folder) as file:
        _claim(file, size, folder)
        return np.memmap(file, dtype=np.float16, mode="r+", shape=shape)


def _claim(file: IO[bytes], size: int, folder: Path) -> None:
    """Give an empty file its size in zeros, on disk: a full disk now is an error, later a crash. Raises OSError."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    if size > shutil.disk_usage(folder).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    zeros = memoryview(bytes(_ZEROS))
    for start in range(0, size, _ZEROS):  # written, as a file that is only made longer has no room yet
        file.write(zeros[: size - start])
    file.flush()


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


def _schema(dimension: int) -> pa.Schema:
    kinds = {"key_high": pa.uint64(), "key_low": pa.uint64(), "flags": pa.uint8()}
    return pa.schema({**kinds, "vector": pa.list_(pa.float16(), dimension)})


def _digest(*arrays: npt.NDArray[np.generic]) -> bytes:
    """Hex XXH3-128 of the arrays' bytes, one after the other."""
    digest = xxhash.xxh3_128()
    for array in arrays:
        digest.update(array.data)
    return digest.hexdigest().encode()
