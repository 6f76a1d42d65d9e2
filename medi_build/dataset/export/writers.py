"""One writer for each format: the records of a dataset, streamed, to the file that its tool reads."""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, cast

import polars as pl
import pyarrow as pa

from medi_build.dataset.export.forms import InText, instructions_of, most_negatives, to_tuples
from medi_build.dataset.formats import form_file
from medi_build.dataset.reader import DatasetEntry, shard_batches, shard_tables
from medi_build.dataset.schema import RECORDS
from medi_build.dataset.shards import json_rows, write_json_array
from medi_build.errors import DatasetError
from medi_build.files import FileEntry, atomic_file, entry, file_digest

ExportFormat = Literal["medi-json", "sentence-transformers", "flagembedding", "tevatron", "jsonl"]
FORMATS: tuple[ExportFormat, ...] = ("medi-json", "sentence-transformers", "flagembedding", "tevatron", "jsonl")


@dataclass(frozen=True)
class Subset:
    """One dataset on its way out.

    Attributes:
        name: its folder or file, and its configuration.
        entry: what the manifest says of it.
        shards: its Parquet files.
        prompts: whether any dataset beside it has an instruction on its query side.
    """

    name: str
    entry: DatasetEntry
    shards: list[Path]
    prompts: bool

    def tables(self) -> Iterator[pa.Table]:
        """Its records, a table for each row group.

        Raises:
            DatasetError: a shard cannot be read, has other columns, or instructions that the manifest does not know.
        """
        known = {(query, document) for query, document in self.entry.instructions}
        for path in self.shards:
            for table in shard_tables(path):
                if not table.schema.equals(RECORDS):
                    raise DatasetError(f"{path}: its columns are not those of this version of medi; build it again")
                if other := instructions_of(table) - known:
                    raise DatasetError(
                        f"{path}: holds the instructions {min(other)}, the manifest knows {len(known)} others of "
                        f"{self.entry.name}; it was changed: build it again"
                    )
                yield table


@dataclass
class Notes:
    """What a reader of an export has to know of one subset.

    Attributes:
        prompts: column -> what a tool has to put in front of its texts; empty where nothing, or where it stands there.
        in_text: the sides whose instructions stand in front of their texts.
        negatives: of each row, 0 where rows have as many as they have.
        filled: rows that had fewer and repeat theirs.
    """

    prompts: dict[str, str] = field(default_factory=dict)
    in_text: InText = "nothing"
    negatives: int = 0
    filled: int = 0


class Exported(NamedTuple):
    """The file of one subset."""

    file: FileEntry
    notes: Notes


Watch = Callable[[int], None]
"""Told of how many rows are done."""


def write_subset(form: ExportFormat, subset: Subset, out: Path, watch: Watch) -> Exported:
    """Write one dataset below ``out`` in any format but ``medi-json``, whose one file is `medi_json`'s.

    Raises:
        DatasetError: a shard cannot be read.
        OutputError: the file cannot be written.
    """
    if form == "jsonl":
        return _json_lines(subset, out, watch)
    notes = _notes(form, subset)
    path = out / (f"{subset.name}/train.parquet" if form == "sentence-transformers" else f"data/{subset.name}.jsonl")
    kind = "n-tuple" if form == "sentence-transformers" else form
    rows = 0
    with form_file(path, cast("Literal['n-tuple']", kind), negatives=notes.negatives, prompts=subset.prompts) as add:
        for table in subset.tables():
            made = to_tuples(table, notes.in_text, notes.negatives or None)
            notes.filled += made.filled
            rows += add(made.table)
            watch(rows)
    return Exported(_entry(path, out, rows), notes)


def _notes(form: ExportFormat, subset: Subset) -> Notes:
    """How instructions go out, and how many negatives a row has.

    sentence-transformers takes a prompt for each column of a subset: where its records have several phrasings, both
    sides have theirs in the text. FlagEmbedding takes one for each row, for the query alone. Tevatron takes none.
    """
    query, document = subset.entry.instructions[0]
    several = len(subset.entry.instructions) > 1
    documents = any(one[1] for one in subset.entry.instructions)
    if form == "flagembedding":
        return Notes(in_text="documents" if documents else "nothing")
    if form == "tevatron":
        return Notes(in_text="all" if documents or any(one[0] for one in subset.entry.instructions) else "nothing")
    ranks = (pa.Table.from_batches([batch]) for path in subset.shards for batch in _ranks(path))
    negatives = max(map(most_negatives, ranks))
    if several:
        return Notes(in_text="all", negatives=negatives)
    columns = ["anchor", "positive", *(f"negative_{place + 1}" for place in range(negatives))]
    prompts = {column: query if column == "anchor" else document for column in columns}
    return Notes({column: text for column, text in prompts.items() if text}, "nothing", negatives)


def _ranks(path: Path) -> Iterator[pa.RecordBatch]:
    return shard_batches(path, ["hard_negative_ranks"])


def _json_lines(subset: Subset, out: Path, watch: Watch) -> Exported:
    path, rows = out / "data" / f"{subset.name}.jsonl", 0
    with atomic_file(path) as file:
        for table in subset.tables():
            buffer = io.BytesIO()
            cast(pl.DataFrame, pl.from_arrow(table)).write_ndjson(buffer)
            file.write(buffer.getvalue())
            rows += table.num_rows
            watch(rows)
    return Exported(_entry(path, out, rows), Notes())


def _entry(path: Path, out: Path, rows: int) -> FileEntry:
    name = path.relative_to(out).as_posix()
    return FileEntry(path=name, rows=rows, size=path.stat().st_size, sha256=file_digest(path))


def medi_json(subsets: Sequence[Subset], out: Path, watch: Callable[[Subset], Watch]) -> FileEntry:
    """The one file that the public INSTRUCTOR trainer reads, byte for byte what a build writes.

    Raises as `write_subset`.
    """

    def parts() -> Iterator[list[bytes]]:
        for subset in subsets:
            done, tell = 0, watch(subset)
            for table in subset.tables():
                if table.num_rows:
                    yield [json_rows(table)]
                done += table.num_rows
                tell(done)

    path = out / "medi-data.json"
    with atomic_file(path) as file:
        write_json_array(file, parts())
    return entry(path, out, file, sum(subset.entry.rows for subset in subsets))
