"""Merging of like-sized segments, so that a store stays a few files however often something is put.

Only segments of like size are merged, each time into one of the next size, so a vector is copied a handful of times
at most. The new segment is on disk before the old ones go: a process killed in between leaves vectors twice.
"""

import os
import time
import warnings
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from medi_build.encode.segments import ASIDE, SUFFIX, CorruptSegmentError, SegmentFile, put_aside, write_segment
from medi_build.files import sync_folder

_TOGETHER = 16
"""Segments of like size that are made one; a size class spans the same factor."""
_LARGE = 1 << 26
"""Bytes from which a segment is left as it is."""
_STALE_SECONDS = 24 * 3600.0
"""Age at which a temporary file belongs to nobody alive."""


def merge_once(folder: Path, lock: Path) -> None:
    """Make one group of like-sized segments one, if there is such a group and no other process is at it.

    Meant for a thread of its own: what goes wrong is a warning, and nothing is lost by it.
    """
    try:
        if not _group(folder):
            return
        with FileLock(lock, timeout=0):
            if group := _group(folder):
                _merge(folder, group)
    except (Timeout, FileNotFoundError):  # another process merges, or throws the folder away
        return
    except Exception as error:
        warnings.warn(f"{folder}: small segments cannot be merged ({error}); nothing is lost by it", stacklevel=2)


def _group(folder: Path) -> list[Path]:
    """The segments to be merged now, the smallest class first."""
    classes: dict[int, list[Path]] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(SUFFIX) and (size := entry.stat().st_size) < _LARGE:
                classes.setdefault((size.bit_length() + 1) // 4, []).append(Path(entry.path))
    ready = [number for number, paths in classes.items() if len(paths) >= _TOGETHER]
    return classes[min(ready)][:_TOGETHER] if ready else []


def _merge(folder: Path, group: list[Path]) -> None:
    segments, vectors = [], []
    for path in group:
        try:
            segment = SegmentFile(path)
            vectors.append(segment.vectors())
            segments.append(segment)
        except CorruptSegmentError as error:
            put_aside(path, error)
    if segments:
        keys = np.concatenate([np.stack([segment.high, segment.low], axis=1) for segment in segments])
        write_segment(folder, keys, vectors, np.concatenate([segment.flags for segment in segments]))
    for segment in segments:
        segment.path.unlink(missing_ok=True)
    limit = time.time() - _STALE_SECONDS
    for path in (*folder.glob(".*.tmp"), *folder.glob(f"*{ASIDE}")):
        if path.stat().st_mtime < limit:
            path.unlink(missing_ok=True)
    sync_folder(folder)
