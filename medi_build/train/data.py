"""Training data on disk: read once as a stream, checked, kept as a memory-mapped Arrow file with its row hashes.

A batch needs random rows, which compressed Parquet and JSON cannot give; the Arrow file can, with the memory of one
batch. It is made beside the output, and again only if the source changes.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from medi_build.arrays import Hashes, Ints
from medi_build.dataset.schema import LISTS
from medi_build.errors import TrainError
from medi_build.files import file_digest, remove_left_behind, replacing
from medi_build.ingest.mined_forms import Instructions
from medi_build.ingest.triplets import NO_INSTRUCTIONS, SIDES, read_triplets
from medi_build.train.keys import Ragged, RowKeys

FORMAT = 5
"""To be raised by hand whenever the files that `prepare` writes change."""

STORED = pa.schema(
    [
        *((f"{side}_instruction", pa.int32()) for side in SIDES),  # index into the table of instructions
        *((f"{side}_text", pa.string()) for side in SIDES),
        ("hard_negatives", pa.list_(pa.string())),  # texts under the instruction of ``neg``
    ]
)


class Rows(NamedTuple):
    """Some rows, column-wise: for each side the instructions and the texts, and the texts of further negatives.

    ``numbers`` count the rows over all files of the source, from 0, bad ones left out.
    """

    numbers: list[int]
    instructions: dict[str, list[str]]
    texts: dict[str, list[str]]
    hard_negatives: list[list[str]]


@dataclass(frozen=True)
class TrainingData:
    """Prepared records in a folder; `__getitems__` is what a DataLoader calls with a batch's rows.

    Attributes:
        folder: holds rows.arrow, keys.npz and info.json.
    """

    folder: Path

    @cached_property
    def info(self) -> dict[str, Any]:
        """Digest, instructions, tasks (names by number), rows and counts of skipped rows."""
        info: dict[str, Any] = json.loads((self.folder / "info.json").read_text(encoding="utf-8"))
        return info

    @cached_property
    def keys(self) -> RowKeys:
        """Hashes of every row, for the planner; ``task`` counts in the order of first appearance in old files."""
        with np.load(self.folder / "keys.npz") as saved:
            return RowKeys(
                task=saved["task"],
                query=saved["query"],
                pos=saved["pos"],
                neg=saved["neg"],
                **{name: Ragged(saved[f"{name}_offsets"], saved[name]) for name in LISTS},
            )

    @cached_property
    def _batches(self) -> list[pa.RecordBatch]:
        reader = pa.ipc.open_file(pa.memory_map(str(self.folder / "rows.arrow")))
        return [reader.get_batch(index) for index in range(reader.num_record_batches)]

    @cached_property
    def _ends(self) -> Ints:
        return np.cumsum([len(batch) for batch in self._batches])

    def __len__(self) -> int:
        return int(self.info["rows"])

    def __getitems__(self, rows: Sequence[int]) -> list[tuple[int, Rows]]:
        """All rows of a batch as one item, with their task."""
        task = int(self.keys.task[rows[0]])
        return [(task, self.rows(rows))]

    def rows(self, rows: Sequence[int]) -> Rows:
        """Instructions and texts of some rows, in their order."""
        instructions: dict[str, list[str]] = {side: [] for side in SIDES}
        texts: dict[str, list[str]] = {side: [] for side in SIDES}
        hard_negatives: list[list[str]] = []
        known = self.info["instructions"]
        where = np.searchsorted(self._ends, rows, side="right")
        for row, index in zip(rows, where.tolist(), strict=True):
            batch = self._batches[index]
            at = row - int(self._ends[index]) + len(batch)
            for number, side in enumerate(SIDES):
                instructions[side].append(known[batch.column(number)[at].as_py()])
                texts[side].append(batch.column(len(SIDES) + number)[at].as_py())
            hard_negatives.append(batch.column(2 * len(SIDES))[at].as_py())
        return Rows(list(rows), instructions, texts, hard_negatives)

    def rows_with_instructions(self, instructions: Iterable[str]) -> Ints:
        """Ascending rows that have one of the instructions on any side."""
        known = {text: number for number, text in enumerate(self.info["instructions"])}
        wanted = pa.array([known[text] for text in instructions], pa.int32())
        found = np.zeros(len(self), bool)
        for batch, end in zip(self._batches, self._ends, strict=True):
            for number in range(len(SIDES)):
                found[end - len(batch) : end] |= pc.is_in(batch.column(number), wanted).to_numpy(zero_copy_only=False)
        return np.flatnonzero(found)

    def __getstate__(self) -> dict[str, Any]:
        """A worker process opens the files anew."""
        return {"folder": self.folder}


def prepare(
    source: Path | str,
    files: Sequence[Path],
    cache: Path,
    *,
    skip_bad_rows: bool = False,
    instructions: Instructions = NO_INSTRUCTIONS,
) -> TrainingData:
    """Read and check all records of a source, or find them prepared already.

    Args:
        source: what the user named; only told in messages.
        files: its files, as `medi_build.ingest.triplets.open_source` finds them.
        cache: folder that keeps the prepared data; one folder per content is made in it.
        skip_bad_rows: count rows with an empty text instead of refusing them.
        instructions: for records that have none of their own.

    Raises:
        TrainError: something cannot be read, a row is not a record, or a text is empty; names the row.
    """
    digest = _digest(files, f"{FORMAT}/{skip_bad_rows}" + (f"/{tuple(instructions)}" if any(instructions) else ""))
    folder = cache / digest
    if (folder / "info.json").is_file():
        return TrainingData(folder)
    remove_left_behind(folder)
    store = _Store(skip_bad_rows)
    with _whole_file(folder / "rows.arrow") as part:
        with pa.OSFile(str(part), "wb") as sink, pa.ipc.new_file(sink, STORED) as writer:
            for batch in read_triplets(files, instructions):
                writer.write_batch(store.add(batch))
        if not store.rows:
            raise TrainError(f"{source}: holds no records to train on")
    with _whole_file(folder / "keys.npz") as part:
        _save_keys(part, store)
    info = {
        "digest": digest,
        "source": str(source),
        "rows": store.rows,
        "instructions": list(store.instructions),
        "tasks": {number: name for name, number in store.tasks.items()},
        "skipped": dict(store.skipped),
    }
    with _whole_file(folder / "info.json") as part:
        part.write_text(json.dumps(info, ensure_ascii=False), encoding="utf-8")
    return TrainingData(folder)


@contextmanager
def _whole_file(path: Path) -> Iterator[Path]:
    """A name to write under; the file appears as ``path`` if the block ends without an error, else nothing stays.

    Raises:
        TrainError: the folder cannot be made, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            yield part
    except OSError as error:
        raise TrainError(
            f"{path}: cannot be written ({error.strerror or error}); make room, or name another output folder"
        ) from error


def _digest(files: Iterable[Path], how: str) -> str:
    whole = xxhash.xxh3_128(how.encode())
    for path in files:
        whole.update(f"{path.name}\0{file_digest(path, xxhash.xxh3_128)}\0".encode())
    return str(whole.hexdigest())


@dataclass
class _Store:
    """What grows while the records stream by: hashes, the table of instructions, the tasks."""

    skip_bad_rows: bool
    rows: int = 0
    instructions: dict[str, int] = field(default_factory=dict)
    tasks: dict[str, int] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    columns: dict[str, list[npt.NDArray[Any]]] = field(default_factory=dict)

    def add(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Take a batch of schema `TRIPLETS` in; returns it as it is stored."""
        batch = self._without_empty_texts(batch)
        arrays = {f"{side}_instruction": self._numbers(batch[f"{side}_instruction"]) for side in SIDES}
        arrays |= {f"{side}_text": batch[f"{side}_text"] for side in SIDES}
        hashes = {side: _hashes(batch[f"{side}_text"]) for side in SIDES}
        lists = {name: batch[name] for name in LISTS}
        lists["hard_negatives"] = arrays["hard_negatives"] = self._good_hard_negatives(batch, hashes)
        for side in SIDES:
            self._keep(side, hashes[side])
        self._keep("task", np.array([self._task(name) for name in batch["task"].to_pylist()], np.int64))
        for name, values in lists.items():
            self._keep(name, _hashes(values.flatten()))
            self._keep(f"{name}_lengths", pc.list_value_length(values).to_numpy())
        self.rows += len(batch)
        return pa.RecordBatch.from_arrays([arrays[name] for name in STORED.names], schema=STORED)

    def _keep(self, name: str, values: npt.NDArray[Any]) -> None:
        self.columns.setdefault(name, []).append(values)

    def column(self, name: str) -> npt.NDArray[Any]:
        """All values of a column so far."""
        return np.concatenate(self.columns[name])

    def _numbers(self, instructions: pa.Array) -> pa.Array:
        encoded = pc.fill_null(instructions, "").dictionary_encode()
        numbers = [
            self.instructions.setdefault(text, len(self.instructions)) for text in encoded.dictionary.to_pylist()
        ]
        return pa.array(np.array(numbers, np.int32)[encoded.indices.to_numpy()])

    def _task(self, name: str) -> int:
        """The number of a task: its own if it is one that no other task has, else the next that is free."""
        if name not in self.tasks:
            used = self.tasks.values()
            own = int(name) if re.fullmatch(r"-?[0-9]{1,18}", name) else None
            self.tasks[name] = max(used, default=0) + 1 if own is None or own in used else own
        return self.tasks[name]

    def _without_empty_texts(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        keep = np.ones(len(batch), bool)
        for side in SIDES:
            empty = _blank(batch[f"{side}_text"])
            if empty.any() and not self.skip_bad_rows:
                where = batch["where"][int(np.argmax(empty))].as_py()
                raise TrainError(
                    f"{where}: the text of {side} is empty ({int(empty.sum())} such rows within {len(batch)}); mend "
                    "the file, or skip such rows with --skip-bad-rows"
                )
            self.skipped[f"empty_{side}"] += int((empty & keep).sum())
            keep &= ~empty
        self.skipped = +self.skipped
        return batch if keep.all() else batch.filter(pa.array(keep))

    def _good_hard_negatives(self, batch: pa.RecordBatch, known: dict[str, Hashes]) -> pa.Array:
        """The further negatives without those that say nothing: empty, or a text that the row has already."""
        lists = batch["hard_negatives"]
        owners = np.repeat(np.arange(len(lists)), pc.list_value_length(lists).to_numpy())
        texts = lists.flatten()
        hashes = _hashes(texts)
        empty = _blank(texts)
        if empty.any() and not self.skip_bad_rows:
            where = batch["where"][int(owners[np.argmax(empty)])].as_py()
            raise TrainError(
                f"{where}: a text of hard_negatives is empty; mend the file, or skip such texts with --skip-bad-rows"
            )
        faults = {"empty_hard_negative": empty}
        faults |= {f"hard_negative_is_{side}": hashes == known[side][owners] for side in ("pos", "query")}
        _, first = np.unique(np.stack([owners.astype(np.uint64), hashes]), axis=1, return_index=True)
        repeated = np.ones(len(hashes), bool)
        repeated[first] = False
        faults["hard_negative_repeated"] = repeated | (hashes == known["neg"][owners])
        keep = np.ones(len(hashes), bool)
        for reason, fault in faults.items():
            self.skipped[reason] += int((fault & keep).sum())
            keep &= ~fault
        self.skipped = +self.skipped
        offsets = np.concatenate([[0], np.cumsum(np.bincount(owners[keep], minlength=len(batch)))])
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), texts.filter(pa.array(keep)))


def _blank(texts: pa.Array) -> npt.NDArray[np.bool_]:
    """Which texts are missing or hold no more than white space."""
    blank = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(pc.fill_null(texts, ""))), 0)
    found: npt.NDArray[np.bool_] = blank.to_numpy(zero_copy_only=False)
    return found


def _hashes(texts: pa.Array) -> Hashes:
    values = pc.fill_null(texts, "").cast(pa.binary()).to_pylist()
    return np.fromiter((xxhash.xxh3_64_intdigest(value) for value in values), np.uint64, len(values))


def _save_keys(path: Path, store: _Store) -> None:
    columns: dict[str, Any] = {name: store.column(name) for name in ("task", *SIDES, *LISTS)}
    for name in LISTS:
        columns[f"{name}_offsets"] = np.concatenate([[0], np.cumsum(store.column(f"{name}_lengths"))])
    with path.open("wb") as file:
        np.savez(file, **columns)
