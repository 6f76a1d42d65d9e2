"""One dataset's files: Parquet shards, and its part of ``medi-data.json``."""

import io
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from medi_build.dataset.schema import RECORDS
from medi_build.files import FileEntry, HashingFile, atomic_file, entry

JSON_COLUMNS = ("query", "pos", "neg", "task_id")


class Written(NamedTuple):
    """The files of one dataset."""

    shards: list[FileEntry]
    fragment: FileEntry


def shard_path(out: Path, task_id: int, name: str, number: int) -> Path:
    """``data/00042-kilt--nq-0000.parquet``: sorted by task id, readable, one level deep."""
    return out / "data" / f"{task_id:05d}-{name.replace('/', '--')}-{number:04d}.parquet"


def fragment_path(out: Path, task_id: int) -> Path:
    """Where a dataset's part of ``medi-data.json`` waits until the datasets are joined."""
    return out / ".medi" / "json" / f"{task_id:05d}.json"


def write_dataset(out: Path, task_id: int, name: str, tables: Iterable[pa.Table], rows_per_shard: int) -> Written:
    """Write all records of one dataset; nothing appears under its final name before it is whole.

    Args:
        out: the output folder.
        task_id: id of the dataset, leads the shards' names.
        name: of the dataset.
        tables: of schema ``RECORDS``, streamed.
        rows_per_shard: a new shard begins after that many rows; which rows are written does not depend on it.

    Raises:
        OutputError: the files cannot be written.
    """
    shards: list[FileEntry] = []
    fragment = fragment_path(out, task_id)
    with atomic_file(fragment) as json_file:
        for number, group in groupby(_cut(tables, rows_per_shard), key=itemgetter(0)):
            path = shard_path(out, task_id, name, number)
            shards.append(_write_shard(path, out, (table for _, table in group), json_file))
    return Written(shards, entry(fragment, out, json_file, sum(shard.rows for shard in shards)))


def _cut(tables: Iterable[pa.Table], rows_per_shard: int) -> Iterator[tuple[int, pa.Table]]:
    """Slice a stream of tables at shard boundaries: ``(shard number, rows)``."""
    done = 0
    for table in tables:
        start = 0
        while start < table.num_rows:
            room = rows_per_shard - done % rows_per_shard
            piece = table.slice(start, room)
            yield done // rows_per_shard, piece
            done += piece.num_rows
            start += piece.num_rows


def _write_shard(path: Path, out: Path, tables: Iterable[pa.Table], json_file: HashingFile) -> FileEntry:
    def written() -> Iterator[pa.Table]:
        for table in tables:
            append_json(json_file, table)
            yield table

    return write_shard(path, out, written())


def write_shard(path: Path, out: Path, tables: Iterable[pa.Table]) -> FileEntry:
    """Write one Parquet file, a row group for each table, and return its entry relative to ``out``.

    Raises:
        OutputError: it cannot be written.
    """
    rows = 0
    with (
        atomic_file(path) as file,
        pq.ParquetWriter(
            pa.PythonFile(file, "w"), RECORDS, version="2.6", compression="zstd", compression_level=3
        ) as writer,
    ):
        for table in tables:
            writer.write_table(table.combine_chunks(), row_group_size=table.num_rows)
            rows += table.num_rows
    return entry(path, out, file, rows)


def append_json(file: HashingFile, table: pa.Table) -> None:
    """Add rows to a dataset's part of ``medi-data.json``."""
    rows = json_rows(table)
    file.write(b",\n" + rows if file.size else rows)


def json_rows(table: pa.Table) -> bytes:
    """Rows as ``medi-data.json`` has them, a comma and a newline between them.

    A newline inside a text is escaped, so a bare one ends a record.
    """
    buffer = io.BytesIO()
    frame = pl.from_arrow(table.select(JSON_COLUMNS))
    assert isinstance(frame, pl.DataFrame)
    frame.write_ndjson(buffer)
    return buffer.getvalue().removesuffix(b"\n").replace(b"\n", b",\n")


def write_json_array(file: HashingFile, parts: Iterable[Iterable[bytes]]) -> None:
    """Write ``medi-data.json``: one array, a record on each line.

    Args:
        file: an empty one.
        parts: rows as `json_rows` gives them, each part in pieces; no part is empty.
    """
    file.write(b"[")
    for number, part in enumerate(parts):
        file.write(b",\n" if number else b"\n")
        for piece in part:
            file.write(piece)
    file.write(b"\n]\n")
