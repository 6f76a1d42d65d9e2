"""The one door to a built folder: manifest, datasets and shards as the manifest lists them, never by glob.

What is opened here is whole: the manifest is there and of this version, each file it lists is there with the size it
had, and no shard lies beside them. `medi_build.dataset.verify` looks further, into every byte.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from medi_build.dataset.schema import MANIFEST, RECORDS, SCHEMA_VERSION, Kind
from medi_build.errors import DatasetError
from medi_build.files import FileEntry

ROWS_PER_BATCH = 1024
"""So few that they never have 2 GiB of text."""


class DatasetEntry(BaseModel):
    """One dataset of a build, as its manifest tells it.

    Attributes:
        name: of the dataset, ``task_name`` in its records.
        task_id: its id in the records.
        kind: the pair rule.
        rows: records.
        licence: SPDX id, as its card says.
        commercial_use: what the licence says of it.
        instructions: every phrasing as ``[query side, document side]``.
        rows_sha256: digest of its rows in ``medi-data.json``.
        shards: its Parquet files.
        ledger: `medi_build.ledger.Ledger.to_dict`.
        fingerprint: digest of everything that decided its files (`medi_build.dataset.receipt.Basis`).
        basis: what of that it has of its own beside its card: template, cap, name and sha256 of each raw file.
        card: its card as it was, as plain data (`medi_build.content.cards.Card`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    task_id: int
    kind: Kind
    rows: int
    licence: str
    commercial_use: Literal["allowed", "not-allowed", "unknown"]
    instructions: list[tuple[str, str]]
    rows_sha256: str
    shards: list[FileEntry]
    ledger: dict[str, Any]
    fingerprint: str
    basis: dict[str, Any]
    card: dict[str, Any]


class Overlap(BaseModel):
    """What a dataset has in common with the others of a build; white space around texts does not count.

    Attributes:
        name: of the dataset.
        shared_queries: different queries that stand in another dataset, too.
        repeated_pairs: records whose query and positive stand in an earlier dataset, too.
        shares_with: the datasets that share most queries with it, name -> how many.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    shared_queries: int
    repeated_pairs: int
    shares_with: dict[str, int]


class ExcludedSet(BaseModel):
    """An evaluation set whose texts were kept out of a build.

    Attributes:
        name: of the set.
        texts: how many it has.
        sha256: digest over its texts.
        dropped: examples that were dropped because their query or a positive holds one of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    texts: int
    sha256: str
    dropped: int


class MarksUsed(BaseModel):
    """The file of marks that a build honoured.

    Attributes:
        sha256: of the file.
        marks: how many it has.
        without_effect: those of a record or a text that is not in the build.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str
    marks: int
    without_effect: int


class SidePrompts(BaseModel):
    """What stood in front of texts when an encoder mined.

    Attributes:
        query: in front of queries, and of documents that are like queries (symmetric sets, inputs of one task); None
            for the instruction of the dataset.
        document: in front of documents, likewise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    query: str | None
    document: str | None


class Manifest(BaseModel):
    """What ``manifest.json`` says of a build.

    Attributes:
        schema_version: of the manifest and the shards' columns.
        medi_version: the version of medi that built it.
        writers: versions of the libraries that wrote the files.
        environment: versions of Python and of the libraries that vectors depend on.
        pipeline: as it was run, overrides included.
        basis: what decided the files of all datasets alike (`medi_build.dataset.receipt.Basis`).
        encoder: identity of the mining encoder.
        prompts: of each encoder of the pipeline, by its name.
        rows: records of all datasets.
        digest: over the rows of all datasets.
        datasets: in the order of task ids.
        overlaps: of the datasets that share a query with another one, in the same order.
        excluded: evaluation sets whose texts were kept out.
        marks: the file of marks that was honoured; None for none.
        explanations: files that tell what was looked at for each record. They are beside the dataset: no version and no
            pushed copy has them.
        files: those of the whole dataset: ``medi-data.json``, ``tasks.csv``, ``README.md``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int
    medi_version: str
    writers: dict[str, str]
    environment: dict[str, str]
    pipeline: dict[str, Any]
    basis: dict[str, Any]
    encoder: str
    prompts: dict[str, SidePrompts]
    rows: int
    digest: str
    datasets: list[DatasetEntry]
    overlaps: list[Overlap]
    excluded: list[ExcludedSet] = []
    marks: MarksUsed | None = None
    explanations: list[FileEntry] = []
    files: list[FileEntry]


@dataclass(frozen=True)
class BuiltDataset:
    """A whole dataset on disk.

    Attributes:
        root: its folder.
        manifest: what it holds.
        shards: the Parquet files in the order of the records.
    """

    root: Path
    manifest: Manifest
    shards: list[Path]

    @cached_property
    def _shards_by_dataset(self) -> dict[str, list[Path]]:
        places = iter(self.shards)
        return {dataset.name: list(islice(places, len(dataset.shards))) for dataset in self.manifest.datasets}

    def shards_of(self, dataset: DatasetEntry) -> list[Path]:
        """The Parquet files of one of its datasets."""
        return self._shards_by_dataset[dataset.name]

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Stream the records, or some columns of them, in their order.

        Raises:
            DatasetError: a shard cannot be read, or its columns are not those of this version.
        """
        for path in self.shards:
            yield from shard_batches(path, columns)

    def sample(self, count: int) -> list[dict[str, Any]]:
        """``count`` records spread evenly over all of them.

        Raises:
            DatasetError: as `batches`.
        """
        total = self.manifest.rows
        wanted = iter(sorted({total * (2 * number + 1) // (2 * count) for number in range(count)} if total else ()))
        records, start, row = [], 0, next(wanted, None)
        for dataset in self.manifest.datasets:
            for shard, path in zip(dataset.shards, self.shards_of(dataset), strict=True):
                if row is not None and row < start + shard.rows:
                    table = pa.Table.from_batches(shard_batches(path, None), RECORDS)
                    while row is not None and row < start + shard.rows:
                        records += table.slice(row - start, 1).to_pylist()
                        row = next(wanted, None)
                start += shard.rows
        return records


def shard_batches(path: Path, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    """The records of one shard. Raises `DatasetError` as `BuiltDataset.batches`."""
    try:
        with pq.ParquetFile(path) as file:
            if not file.schema_arrow.equals(RECORDS):
                raise DatasetError(f"{path}: its columns are not those of this version of medi; build it again")
            yield from file.iter_batches(ROWS_PER_BATCH, columns=list(columns) if columns is not None else None)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{path}: cannot be read to its end ({error}); build or copy it again") from error


def shard_tables(path: Path) -> Iterator[pa.Table]:
    """The records of one shard, a table for each row group as it was written. Raises `DatasetError` likewise."""
    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{path}: cannot be read to its end ({error}); build or copy it again") from error


def open_dataset(folder: Path) -> BuiltDataset:
    """Open the output folder of a finished build.

    Raises:
        DatasetError: there is no such folder, its build is not finished, another version of medi built it, a file that
            the manifest lists is missing or of another size, or there is a shard that it does not list.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; give the --out of a `medi build`")
    manifest = read_manifest(folder / MANIFEST)
    shards = [folder / shard.path for dataset in manifest.datasets for shard in dataset.shards]
    for file in [*(shard for one in manifest.datasets for shard in one.shards), *manifest.files]:
        path = folder / file.path
        size = path.stat().st_size if path.is_file() else None
        if size != file.size:
            state = "is missing" if size is None else f"has {size:,} bytes"
            raise DatasetError(
                f"{path}: {state}, the manifest says {file.size:,} bytes; build again, it makes what is missing, "
                "or copy the whole folder again"
            )
    listed = set(shards)
    stray = next((path for path in sorted((folder / "data").rglob("*.parquet")) if path not in listed), None)
    if stray is not None:
        raise DatasetError(f"{stray}: is no shard that the manifest lists; remove it, or build again")
    return BuiltDataset(folder, manifest, shards)


def read_manifest(path: Path) -> Manifest:
    """Read ``manifest.json``. Raises `DatasetError` where it is not there, or not as this version writes it."""
    try:
        found: Any = orjson.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DatasetError(
            f"{path}: not there; this is no output folder of medi, or its build is not finished: run it again"
        ) from error
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from error
    except orjson.JSONDecodeError as error:
        raise DatasetError(f"{path}: not valid JSON ({error}); build it again") from error
    version = found.get("schema_version", found.get("format")) if isinstance(found, dict) else None
    if version != SCHEMA_VERSION:
        raise DatasetError(
            f"{path}: schema version {version!r}, this medi reads {SCHEMA_VERSION}; the same `medi build` command with "
            f"--out {path.parent} writes it anew (stored vectors are used again)"
        )
    try:
        return Manifest.model_validate(found)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise DatasetError(f"{path}: not as medi writes it ({where}: {fault['msg']}); build it again") from error
