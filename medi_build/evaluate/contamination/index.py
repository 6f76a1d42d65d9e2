"""The texts of evaluations on disk, and the maps by which training texts find them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from medi_build.arrays import Ints
from medi_build.devices import cores
from medi_build.evaluate.contamination.packed import PackedMap, pack, packed_map
from medi_build.evaluate.contamination.prints import Prints, prints_of
from medi_build.evaluate.contamination.seen import SeenHashes
from medi_build.evaluate.contamination.words import Runs, take

MAPS = ("whole", "seeds", "bands")
_ROWS = 1 << 20
_STEP = np.uint64(0x9E3779B97F4A7C15)
_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Entry(NamedTuple):
    """One text of an evaluation.

    Attributes:
        role: what it is there (query, document, sentence1, ...).
        id: its id in its set.
        text: the text.
    """

    role: str
    id: str
    text: str


class SetBatch(NamedTuple):
    """Some texts of one evaluation set, ``number`` in the order of the sets."""

    number: int
    entries: Sequence[Entry]


@dataclass(frozen=True)
class EvaluationIndex:
    """Texts of evaluation sets; each text stands once for each set.

    Attributes:
        sets: the number of the set of each entry, int32 [m].
        maps: from hashes to entries, by name.
    """

    sets: npt.NDArray[np.int32]
    maps: dict[str, PackedMap]
    _lines: Path
    _ends: Ints

    def entries(self, numbers: Ints) -> list[Entry]:
        """The entries with these numbers."""
        with self._lines.open("rb") as file:
            return [Entry(*orjson.loads(self._line(file, int(number)))) for number in numbers]

    def _line(self, file: BinaryIO, number: int) -> bytes:
        file.seek(self._ends[number])
        return file.read(int(self._ends[number + 1] - self._ends[number]))


def write_index(batches: Iterable[SetBatch], folder: Path, progress: Callable[[int], None] = lambda _: None) -> None:
    """Write the index of all texts into a folder, which takes about as much room as they do, twice over.

    Args:
        batches: texts, set after set; those without a word are passed over.
        folder: new or empty.
        progress: called with the number of texts done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    seen = SeenHashes()
    ends, done = [0], 0
    sets: list[int] = []
    with ExitStack() as stack:
        lines = stack.enter_context((folder / "texts").open("wb"))
        spools = {name: _Spool(folder / name, stack) for name in MAPS}
        for batch, prints in mapped(_batch_prints, batches):
            rows = _new_rows(batch, prints, seen)
            first = len(sets)
            for name in MAPS:
                spools[name].add(getattr(prints, name), rows, first)
            for row in rows:
                ends.append(ends[-1] + lines.write(orjson.dumps(list(batch.entries[row]))))
            sets += [batch.number] * len(rows)
            done += len(batch.entries)
            progress(done)
    width = max(1, len(sets).bit_length())
    np.save(folder / "ends.npy", np.array(ends, np.int64))
    np.save(folder / "sets.npy", np.array(sets, np.int32))
    np.save(folder / "width.npy", np.array(width))
    for spool in spools.values():
        spool.finish(width)


def open_index(folder: Path) -> EvaluationIndex:
    """Open what `write_index` wrote; the maps are memory-mapped, so that processes share them."""
    width = int(np.load(folder / "width.npy"))

    def load(name: str) -> Any:
        return np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r"))

    maps = {name: PackedMap(load(f"{name}.keys"), load(f"{name}.bitmap"), width) for name in MAPS}
    return EvaluationIndex(load("sets"), maps, folder / "texts", load("ends"))


def mapped(function: Callable[[_In], _Out], values: Iterable[_In]) -> Iterator[tuple[_In, _Out]]:
    """``(value, function(value))`` in order, computed on a thread for each core, a few values ahead."""
    workers = cores()
    waiting: deque[tuple[_In, Future[_Out]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for value in values:
                waiting.append((value, pool.submit(function, value)))
                if len(waiting) > workers + 1:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def _batch_prints(batch: SetBatch) -> Prints:
    return prints_of(pa.array([entry.text for entry in batch.entries], pa.large_string()))


def _new_rows(batch: SetBatch, prints: Prints, seen: SeenHashes) -> Ints:
    """Rows of the texts that have a word and did not yet stand in their set."""
    some = np.flatnonzero(prints.whole.counts)
    keys = prints.whole.hashes ^ (np.array([batch.number], np.uint64) * _STEP)
    return some[seen.add(keys)]


class _Spool:
    """Hashes and entries of one map, gathered in two files until all are there."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self._path = path
        self._files = [stack.enter_context(self._part(name).open("wb")) for name in ("hashes", "entries")]

    def _part(self, name: str) -> Path:
        return self._path.with_name(f"{self._path.name}.{name}")

    def add(self, runs: Runs, rows: Ints, first: int) -> None:
        """Add the hashes of some texts, whose entries are numbered from ``first``."""
        own = take(runs, rows)
        own.hashes.tofile(self._files[0])
        (own.texts + first).astype(np.uint32).tofile(self._files[1])

    def finish(self, width: int) -> None:
        """Make the map of them."""
        hashes, entries = self._part("hashes"), self._part("entries")
        keys = np.empty(hashes.stat().st_size // 8, np.uint64)
        for start in range(0, len(keys), _ROWS):
            part = np.fromfile(hashes, np.uint64, _ROWS, offset=start * 8)
            numbers = np.fromfile(entries, np.uint32, _ROWS, offset=start * 4)
            keys[start : start + len(part)] = pack(part, numbers, width)
        made = packed_map(keys, width)
        np.save(self._part("keys.npy"), made.keys)
        np.save(self._part("bitmap.npy"), made.bitmap)
        hashes.unlink()
        entries.unlink()
