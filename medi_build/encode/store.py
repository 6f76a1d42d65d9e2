"""The vector store: what was encoded once is never encoded again.

One folder per encoder identity, holding immutable segments. Adding vectors adds a segment, so builds that run side
by side never touch each other's files, and a process killed at any moment leaves at most a temporary file. Only
merging small segments and throwing old ones away take a lock.
"""

import contextlib
import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash
from filelock import FileLock, Timeout

from medi_build.encode.segments import (
    FORMAT_VERSION,
    SUFFIX,
    CorruptSegmentError,
    Keys,
    Segment,
    find,
    write_segment,
)
from medi_build.errors import StoreError
from medi_build.files import sync_folder

_ABOUT = "encoder.json"
_MERGE_ABOVE = 16
"""Segments of one encoder that make it worth merging the small ones."""
_SMALL = 1 << 17
"""Vectors up to which a segment counts as small."""
_STALE_SECONDS = 24 * 3600.0
"""Age at which a temporary file belongs to nobody alive."""
_ASIDE = ".corrupt"
_GATHER = 1 << 15
"""Rows copied at once."""
_SPILL_BYTES = 1 << 29
"""Size from which looked-up vectors lie in a file instead of in memory."""


class Found(NamedTuple):
    """What the store knows of some keys.

    Attributes:
        mask: bool [n], which keys are known.
        vectors: float16 [n, d], writable, rows of unknown keys are zero; d is 0 while the store is empty. Large ones
            lie in an unnamed file, so that they need no memory of their own.
        flags: uint8 [n].
    """

    mask: npt.NDArray[np.bool_]
    vectors: npt.NDArray[np.float16]
    flags: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class EncoderUsage:
    """One encoder's share of a store.

    Attributes:
        identity: the encoder's identity.
        about: what the identity stands for (model, revision, dtype, window, ...).
        vectors: how many (a vector written twice by concurrent builds counts twice until segments merge).
        size_bytes: on disk.
        last_used: seconds since the epoch.
    """

    identity: str
    about: dict[str, Any]
    vectors: int
    size_bytes: int
    last_used: float


def keys_of(identity: str, instruction: str, texts: Iterable[str]) -> Keys:
    """128-bit keys of texts under one instruction, as uint64 [n, 2]."""
    prefix = b"\0".join((identity.encode(), instruction.encode("utf-8", "surrogatepass"), b""))
    digests = (xxhash.xxh3_128_digest(prefix + text.encode("utf-8", "surrogatepass")) for text in texts)
    return np.frombuffer(b"".join(digests), dtype="<u8").reshape(-1, 2).astype(np.uint64)


class VectorStore:
    """Vectors on disk by (encoder identity, instruction, text)."""

    def __init__(self, root: Path) -> None:
        """Use the store in ``root``; the folder is made when the first vectors are put.

        Raises:
            StoreError: ``root`` is no folder, or another version of medi wrote it.
        """
        self.root = root
        self._open: dict[Path, Segment] = {}
        self._corrupt: set[Path] = set()
        if root.exists() and not root.is_dir():
            raise StoreError(f"{root}: is a file; a vector store is a folder, name one")
        for identity in self._identities():
            self._about(identity)

    def get(self, identity: str, keys: Keys) -> Found:
        """Look keys up.

        Damaged segments are put aside with a warning; their texts are then unknown.

        Raises:
            StoreError: a segment was written by another version of medi, or cannot be read.
        """
        mask = np.zeros(len(keys), dtype=bool)
        flags = np.zeros(len(keys), dtype=np.uint8)
        vectors = np.zeros((len(keys), 0), dtype=np.float16)
        unknown = np.argsort(keys[:, 0], kind="stable")
        wanted = keys[unknown]
        for segment in self._segments(identity):
            if not vectors.shape[1]:
                vectors = self.room(len(keys), segment.dimension)
            place = find(segment.high, segment.low, wanted)
            hit = place >= 0
            if not hit.any():
                continue
            if not self._sound(segment):
                continue
            stored = segment.vectors()
            rows, place, unknown, wanted = unknown[hit], place[hit], unknown[~hit], wanted[~hit]
            forward = np.argsort(rows)
            rows, place = rows[forward], place[forward]
            flags[rows], mask[rows] = segment.flags[place], True
            for start in range(0, len(rows), _GATHER):
                block = slice(start, start + _GATHER)
                vectors[rows[block]] = stored[place[block]]
        if mask.any():
            self._touch(identity)
        return Found(mask, vectors, flags)

    def put(
        self,
        identity: str,
        about: Mapping[str, Any],
        keys: Keys,
        vectors: npt.NDArray[np.float16],
        flags: npt.NDArray[np.uint8],
    ) -> None:
        """Add vectors; they are on disk when this returns.

        Args:
            identity: the encoder's identity.
            about: what the identity stands for, kept for `describe`.
            keys: uint64 [n, 2], no two the same.
            vectors: float16 [n, d].
            flags: uint8 [n].

        Raises:
            StoreError: the disk is full or the folder not writable; what was stored before is untouched.
        """
        if not len(keys):
            return
        folder = self.root / identity
        try:
            self._prepare(folder, about)
            try:
                write_segment(folder, keys, vectors, flags)
            except FileNotFoundError:  # a gc next door has just taken the folder away
                self._prepare(folder, about)
                write_segment(folder, keys, vectors, flags)
            self._touch(identity)
        except OSError as error:
            raise StoreError(
                f"{folder}: vectors cannot be stored ({error.strerror or error}); make room or name another store "
                "folder, then run again: what was stored before is kept"
            ) from error
        self._compact(identity)

    def room(self, count: int, dimension: int) -> npt.NDArray[np.float16]:
        """Zeros, float16 [count, dimension]; large ones in an unnamed file in the store's folder.

        Raises:
            StoreError: the disk has no room for it.
        """
        shape = (count, dimension)
        size = 2 * count * dimension
        if size < _SPILL_BYTES:
            return np.zeros(shape, dtype=np.float16)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root) as file:
                os.posix_fallocate(file.fileno(), 0, size)  # a full disk now is an error, later a crash
                return np.memmap(file, dtype=np.float16, mode="r+", shape=shape)
        except OSError as error:
            raise StoreError(
                f"{self.root}: no room for {size:,} bytes of vectors ({error.strerror or error}); make room, or name "
                "another store folder"
            ) from error

    def describe(self) -> list[EncoderUsage]:
        """Each encoder's share, the most lately used first."""
        usage = []
        for identity in self._identities():
            folder = self.root / identity
            count = sum(len(segment) for segment in self._segments(identity))
            size = sum(path.stat().st_size for path in folder.iterdir())
            last = (folder / _ABOUT).stat().st_mtime
            usage.append(EncoderUsage(identity, self._about(identity), count, size, last))
        return sorted(usage, key=lambda one: (-one.last_used, one.identity))

    def gc(self, older_than_days: float | None = None, identity: str | None = None) -> list[EncoderUsage]:
        """Throw away the vectors of one encoder, or of all that were not used for some days.

        Returns:
            What was thrown away.

        Raises:
            StoreError: the number of days is negative, or a folder cannot be removed.
        """
        if older_than_days is not None and not older_than_days >= 0:
            raise StoreError(f"older than {older_than_days} days makes no sense; give 0 or more")
        now = time.time()
        gone = []
        for usage in self.describe():
            old = older_than_days is not None and now - usage.last_used >= older_than_days * 86400
            if old or usage.identity == identity:
                try:
                    with FileLock(self.root / f"{usage.identity}.lock"):
                        shutil.rmtree(self.root / usage.identity)
                except OSError as error:
                    raise StoreError(f"{self.root / usage.identity}: cannot be removed ({error})") from error
                gone.append(usage)
        return gone

    def _identities(self) -> list[str]:
        """Encoders that the store knows."""
        return sorted(path.parent.name for path in self.root.glob(f"*/{_ABOUT}"))

    def _about(self, identity: str) -> dict[str, Any]:
        path = self.root / identity / _ABOUT
        try:
            about = json.loads(path.read_bytes())
            version = about.pop("format")
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise StoreError(
                f"{path}: cannot be read ({error}); delete the folder {path.parent}, its vectors are made again"
            ) from error
        if version != FORMAT_VERSION:
            raise StoreError(
                f"{path.parent}: was written in store format {version}, this medi reads {FORMAT_VERSION}; use the "
                "medi that wrote it, or name another store folder"
            )
        return dict(about)

    def _prepare(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Make an encoder's folder and its description, atomically."""
        path = folder / _ABOUT
        if path.exists():
            return
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{_ABOUT}.{os.getpid()}.tmp"
        try:
            with temporary.open("w") as file:
                json.dump({"format": FORMAT_VERSION, **about}, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def _touch(self, identity: str) -> None:
        """Remember that this encoder was used now; a store that may only be read stays usable."""
        with contextlib.suppress(OSError):
            os.utime(self.root / identity / _ABOUT)

    def _segments(self, identity: str) -> list[Segment]:
        """The encoder's readable segments, in a fixed order."""
        for _ in range(10):
            try:
                paths = sorted((self.root / identity).glob(f"*{SUFFIX}"))
                found = [segment for path in paths if (segment := self._segment(path))]
            except FileNotFoundError:  # merged between listing and opening: list again
                continue
            for path in [path for path in self._open if path.parent.name == identity and path not in paths]:
                del self._open[path]
            return found
        raise StoreError(f"{self.root / identity}: its segments keep vanishing; is something else deleting them?")

    def _segment(self, path: Path) -> Segment | None:
        if path in self._corrupt:
            return None
        if path not in self._open:
            try:
                self._open[path] = Segment(path)
            except CorruptSegmentError as error:
                self._report(path, error)
                return None
            except FileNotFoundError:
                raise
            except OSError as error:
                raise StoreError(f"{path}: cannot be read ({error.strerror or error})") from error
        return self._open[path]

    def _report(self, path: Path, error: CorruptSegmentError) -> None:
        """Put a damaged segment aside under another name, and say so; its texts count as unknown from now on."""
        self._corrupt.add(path)
        self._open.pop(path, None)
        with contextlib.suppress(OSError):  # somebody else did, or the store may only be read
            path.replace(path.with_suffix(_ASIDE))
        warnings.warn(f"{path}: left aside, {error}; its texts are encoded again", stacklevel=3)

    def _sound(self, segment: Segment) -> bool:
        """Whether the segment's vectors are what was written; if not, it is put aside."""
        try:
            segment.vectors()
        except CorruptSegmentError as error:
            self._report(segment.path, error)
            return False
        return True

    def _compact(self, identity: str) -> None:
        """Merge the small segments once there are many; another process at it means nothing to do."""
        if sum(len(segment) <= _SMALL for segment in self._segments(identity)) <= _MERGE_ABOVE:
            return
        folder = self.root / identity
        try:
            with FileLock(self.root / f"{identity}.lock", timeout=0):
                small = [one for one in self._segments(identity) if len(one) <= _SMALL and self._sound(one)]
                keys = np.concatenate([np.stack([segment.high, segment.low], axis=1) for segment in small])
                vectors = np.concatenate([segment.vectors() for segment in small])
                flags = np.concatenate([segment.flags for segment in small])
                _, first = np.unique(keys, axis=0, return_index=True)
                write_segment(folder, keys[first], vectors[first], flags[first])
                for segment in small:
                    segment.path.unlink(missing_ok=True)
                _drop_stale(folder)
                sync_folder(folder)
        except Timeout:
            return
        except OSError as error:
            raise StoreError(
                f"{folder}: small segments cannot be merged ({error.strerror or error}); make room, nothing is lost"
            ) from error


def _drop_stale(folder: Path) -> None:
    """Remove temporary files of processes that were killed, and segments put aside."""
    limit = time.time() - _STALE_SECONDS
    for path in (*folder.glob(".*.tmp"), *folder.glob(f"*{_ASIDE}")):
        if path.stat().st_mtime < limit:
            path.unlink(missing_ok=True)
