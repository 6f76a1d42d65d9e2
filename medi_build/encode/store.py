"""The vector store: what was encoded once is never encoded again.

One folder per encoder identity, holding immutable segments. Adding vectors adds a segment, so builds that run side
by side never touch each other's files, and a process killed at any moment leaves at most a temporary file. Only
merging segments, which happens in a thread of its own, and throwing them away take a lock.
"""

import contextlib
import json
import os
import shutil
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash
from filelock import FileLock

from medi_build.encode.merge import merge_once
from medi_build.encode.segments import (
    FORMAT_VERSION,
    SUFFIX,
    CorruptSegmentError,
    Keys,
    SegmentFile,
    find,
    put_aside,
    room,
    write_segment,
)
from medi_build.errors import StoreError
from medi_build.files import replacing

_ABOUT = "encoder.json"
_GATHER = 1 << 15
"""Rows copied at once."""


class Lookup(NamedTuple):
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
        format: the store format it was written in; only the present one can be read.
        vectors: how many, 0 in another format (one written twice by concurrent builds counts twice until merged).
        size_bytes: on disk.
        last_used: seconds since the epoch.
    """

    identity: str
    about: dict[str, Any]
    format: int
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
            StoreError: ``root`` is no folder.
        """
        self.root = root
        self._open: dict[str, dict[str, SegmentFile]] = {}
        self._ours: set[str] = set()
        self._corrupt: set[Path] = set()
        self._merging: threading.Thread | None = None
        if root.exists() and not root.is_dir():
            raise StoreError(f"{root}: is a file; a vector store is a folder, name one")

    def get(self, identity: str, keys: Keys) -> Lookup:
        """Look keys up.

        Damaged segments are put aside with a warning; their texts are then unknown.

        Raises:
            StoreError: the vectors were written by another version of medi, or cannot be read.
        """
        mask = np.zeros(len(keys), dtype=bool)
        flags = np.zeros(len(keys), dtype=np.uint8)
        vectors = np.zeros((len(keys), 0), dtype=np.float16)
        unknown = np.argsort(keys[:, 0], kind="stable")
        wanted = keys[unknown]
        for segment in self._segments(identity):
            if not len(unknown):
                break
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
        return Lookup(mask, vectors, flags)

    def holds(self, identity: str, keys: Keys) -> npt.NDArray[np.bool_]:
        """Which keys are known, bool [n], without a look at their vectors."""
        known = np.zeros(len(keys), dtype=bool)
        for segment in self._segments(identity):
            known |= find(segment.high, segment.low, keys) >= 0
        return known

    def put(
        self,
        identity: str,
        about: Mapping[str, Any],
        keys: Keys,
        vectors: npt.NDArray[np.float16],
        flags: npt.NDArray[np.uint8],
    ) -> None:
        """Add vectors; they are on disk when this returns, and segments may be merging behind it.

        Args:
            identity: the encoder's identity.
            about: what the identity stands for, kept for `describe`.
            keys: uint64 [n, 2], no two the same.
            vectors: float16 [n, d].
            flags: uint8 [n].

        Raises:
            StoreError: the disk is full or the folder not writable, or another version of medi wrote it; what was
                stored before is untouched.
        """
        if not len(keys):
            return
        self._refuse_other_format(identity)
        folder = self.root / identity
        try:
            self._prepare(folder, about)
            try:
                write_segment(folder, keys, [vectors], flags)
            except FileNotFoundError:  # a gc next door has just taken the folder away
                self._prepare(folder, about)
                write_segment(folder, keys, [vectors], flags)
            self._touch(identity)
        except OSError as error:
            raise StoreError(
                f"{folder}: vectors cannot be stored ({error.strerror or error}); make room or name another store "
                "folder, then run again: what was stored before is kept"
            ) from error
        if self._merging is None or not self._merging.is_alive():
            lock = self.root / f"{identity}.lock"
            self._merging = threading.Thread(target=merge_once, args=(folder, lock), name="medi-merge", daemon=False)
            with contextlib.suppress(RuntimeError):  # no thread to be had: a later put tries again
                self._merging.start()

    def room(self, count: int, dimension: int) -> npt.NDArray[np.float16]:
        """Zeros, float16 [count, dimension]; large ones in an unnamed file in the store's folder.

        Raises:
            StoreError: the disk has no room for it.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            return room(self.root, count, dimension)
        except OSError as error:
            raise StoreError(
                f"{self.root}: no room for {2 * count * dimension:,} bytes of vectors ({error.strerror or error}); "
                "make room, or name another store folder"
            ) from error

    def describe(self) -> list[EncoderUsage]:
        """Each encoder's share, the most lately used first."""
        usage = []
        for identity in self._identities():
            folder = self.root / identity
            version, about = self._about(identity)
            count = sum(map(len, self._segments(identity))) if version == FORMAT_VERSION else 0
            size = sum(path.stat().st_size for path in folder.iterdir())
            last = (folder / _ABOUT).stat().st_mtime
            usage.append(EncoderUsage(identity, about, version, count, size, last))
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

    def _about(self, identity: str) -> tuple[int, dict[str, Any]]:
        """The store format of an encoder's folder, and what its identity stands for."""
        path = self.root / identity / _ABOUT
        try:
            about = json.loads(path.read_bytes())
            return int(about.pop("format")), dict(about)
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise StoreError(
                f"{path}: cannot be read ({error}); delete the folder {path.parent}, its vectors are made again"
            ) from error

    def _refuse_other_format(self, identity: str) -> None:
        folder = self.root / identity
        if identity in self._ours or not (folder / _ABOUT).exists():
            return
        version, _ = self._about(identity)
        if version != FORMAT_VERSION:
            raise StoreError(
                f"{folder}: was written in store format {version}, this medi reads {FORMAT_VERSION}; throw it away "
                f"with 'medi cache gc --store {self.root} --identity {identity}' (its vectors are made again), use "
                "the medi that wrote it, or name another store folder"
            )
        self._ours.add(identity)

    def _prepare(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Make an encoder's folder and its description, atomically."""
        path = folder / _ABOUT
        if path.exists():
            return
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_text(json.dumps({"format": FORMAT_VERSION, **about}, indent=1), encoding="utf-8")

    def _touch(self, identity: str) -> None:
        """Remember that this encoder was used now; a store that may only be read stays usable."""
        with contextlib.suppress(OSError):
            os.utime(self.root / identity / _ABOUT)

    def _segments(self, identity: str) -> list[SegmentFile]:
        """The encoder's readable segments, in a fixed order."""
        self._refuse_other_format(identity)
        folder = self.root / identity
        opened = self._open.setdefault(identity, {})
        for _ in range(10):
            try:
                names = sorted(path.name for path in folder.glob(f"*{SUFFIX}"))
                opened = {n: one for n in names if (one := opened.get(n) or self._segment(folder / n))}
            except FileNotFoundError:  # merged between listing and opening: list again
                continue
            self._open[identity] = opened
            return list(opened.values())
        raise StoreError(f"{folder}: its segments keep vanishing; is something else deleting them?")

    def _segment(self, path: Path) -> SegmentFile | None:
        if path in self._corrupt:
            return None
        try:
            return SegmentFile(path)
        except CorruptSegmentError as error:
            self._corrupt.add(path)
            put_aside(path, error)
            return None
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror or error})") from error

    def _sound(self, segment: SegmentFile) -> bool:
        """Whether the segment's vectors are what was written; if not, it is put aside."""
        try:
            segment.vectors()
        except CorruptSegmentError as error:
            self._corrupt.add(segment.path)
            self._open[segment.path.parent.name].pop(segment.path.name)
            put_aside(segment.path, error)
            return False
        return True
