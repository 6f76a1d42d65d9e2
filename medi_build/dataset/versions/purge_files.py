"""Files without some records: shards, and what is said of them in a version's manifest and small files."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Literal, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from medi_build.arrays import Bools
from medi_build.dataset.card import dataset_card
from medi_build.dataset.manifest import content_digest, tasks_table
from medi_build.dataset.overlap import overlaps_of
from medi_build.dataset.reader import BuiltDataset, DatasetEntry, Manifest, shard_tables
from medi_build.dataset.shards import append_json, write_json_array, write_shard
from medi_build.dataset.versions.place import MADE_AGAIN, json_parts
from medi_build.files import FileEntry, HashingFile
from medi_build.ledger import Ledger

SIDES = ("query", "pos", "neg")


class Target(NamedTuple):
    """What goes.

    Attributes:
        by: whether ``wanted`` is the id of a record, or stands in one of its texts.
        wanted: itself.
    """

    by: Literal["id", "text"]
    wanted: str


class Hits(NamedTuple):
    """What a shard has of the target.

    Attributes:
        rows: of the shard.
        ids: of the records that go.
        texts: their queries and positives.
    """

    rows: int
    ids: list[str]
    texts: set[str]


class NewShard(NamedTuple):
    """A shard without the records.

    Attributes:
        path: where it lies.
        entry: as the manifest lists it.
    """

    path: Path
    entry: FileEntry


def find_records(path: Path, target: Target) -> Hits:
    """The records of a shard that go. Raises `DatasetError`: it cannot be read."""
    rows, ids, texts = 0, [], set()
    for table in shard_tables(path):
        rows += table.num_rows
        mask = goes(table, target)
        if mask.any():
            hit = table.filter(pa.array(mask))
            ids += hit["id"].to_pylist()
            for side in ("query", "pos"):
                texts |= set(pc.list_element(hit[side], 1).to_pylist())
    return Hits(rows, ids, texts)


def goes(table: pa.Table, target: Target) -> Bools:
    """Whether each record goes, [rows]."""
    if target.by == "id":
        return _numpy(pc.equal(table["id"], target.wanted))
    mask = np.zeros(table.num_rows, bool)
    for side in SIDES:
        mask |= _numpy(pc.match_substring(pc.list_element(table[side], 1), target.wanted))
    return mask | _in_lists(table["hard_negatives"], lambda texts: pc.match_substring(texts, target.wanted))


def holders(path: Path, texts: set[str], target: Target) -> set[str]:
    """Ids of the records that stay and have one of some texts, on any side. Raises `DatasetError`."""
    known = pa.array(sorted(texts), pa.string())
    found: set[str] = set()
    for table in shard_tables(path):
        mask = _in_lists(table["hard_negatives"], lambda column: pc.is_in(column, value_set=known))
        for side in SIDES:
            mask |= _numpy(pc.is_in(pc.list_element(table[side], 1), value_set=known))
        found |= set(table["id"].filter(pa.array(mask & ~goes(table, target))).to_pylist())
    return found


def _numpy(mask: pa.ChunkedArray) -> Bools:
    return cast(Bools, mask.combine_chunks().to_numpy(zero_copy_only=False))


def _in_lists(column: pa.ChunkedArray, hits: Callable[[pa.Array], pa.Array]) -> Bools:
    """Whether something in each list hits, [rows]."""
    lists = column.combine_chunks()
    mask = np.zeros(len(lists), bool)
    mask[pc.list_parent_indices(lists).filter(hits(pc.list_flatten(lists))).to_numpy()] = True
    return mask


def shard_without(old: Path, new: Path, entry: FileEntry, target: Target) -> NewShard:
    """Write a shard without the records, with the settings and row groups of a build.

    Raises:
        DatasetError: the old one cannot be read.
        OutputError: the new one cannot be written.
    """

    def kept() -> Iterator[pa.Table]:
        for table in shard_tables(old):
            left = table.filter(pa.array(~goes(table, target)))
            if left.num_rows:
                yield left

    written = write_shard(new, new.parent, kept())
    return NewShard(new, written.model_copy(update={"path": entry.path}))


def version_without(dataset: BuiltDataset, new: Mapping[Path, NewShard | None]) -> tuple[Manifest, dict[str, bytes]]:
    """A version's manifest and small files without the records.

    Args:
        dataset: the version.
        new: a shard to the one in its place, None where no record is left; the others stay.

    Returns:
        The manifest, and path to content of the small files.

    Raises:
        DatasetError: a shard cannot be read.
    """
    datasets, places = [], []
    for one in dataset.manifest.datasets:
        old = dataset.shards_of(one)
        entries = dict(zip(old, one.shards, strict=True))
        left = [new.get(path, NewShard(path, entries[path])) for path in old]
        shards = [shard for shard in left if shard is not None]
        paths = [shard.path for shard in shards]
        datasets.append(_entry(one, shards, paths) if new.keys() & set(old) else one)
        places.append((one.name, paths))
    manifest = dataset.manifest.model_copy(
        update={
            "rows": sum(one.rows for one in datasets),
            "digest": content_digest((one.task_id, one.rows, one.rows_sha256) for one in datasets),
            "datasets": datasets,
            "overlaps": overlaps_of(places),
        }
    )
    built = BuiltDataset(dataset.root, manifest, [path for _, paths in places for path in paths])
    return _with_files(built)


def _entry(old: DatasetEntry, shards: list[NewShard], paths: list[Path]) -> DatasetEntry:
    rows = sum(shard.entry.rows for shard in shards)
    ledger = Ledger.from_dict(old.ledger)
    ledger.drop("purge", "purged", ledger.written - rows)
    ledger.written = rows
    ledger.check()
    file = HashingFile(cast(IO[bytes], _Nowhere()))
    for path in paths:
        for table in shard_tables(path):
            append_json(file, table)
    update = {"rows": rows, "shards": [one.entry for one in shards], "ledger": ledger.to_dict()}
    return old.model_copy(update={**update, "rows_sha256": file.sha256})


def _with_files(built: BuiltDataset) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest with its files as they are now, and their contents but for the one that is not stored."""
    manifest = built.manifest
    contents, entries = {}, []
    for old in manifest.files:
        if old.path == MADE_AGAIN:
            file = HashingFile(cast(IO[bytes], _Nowhere()))
            write_json_array(file, json_parts(built))
            entries.append(FileEntry(path=old.path, rows=manifest.rows, size=file.size, sha256=file.sha256))
            continue
        if old.path == "README.md":
            text = dataset_card(manifest).encode()
        elif old.path == "tasks.csv":
            text = tasks_table(manifest)
        else:
            text = (built.root / old.path).read_bytes()
        contents[old.path] = text
        digest = hashlib.sha256(text).hexdigest()
        entries.append(FileEntry(path=old.path, rows=old.rows, size=len(text), sha256=digest))
    return manifest.model_copy(update={"files": entries}), contents


class _Nowhere:
    """A file whose bytes are only hashed and counted."""

    def write(self, data: Iterable[int]) -> None:
        pass
