"""The whole history written anew with other data files: the same snapshots, ids, times, messages, tags and branches.

``relocate`` and ``purge`` share it. Nothing that is there is changed: new files are written beside the old ones, and
`swap` makes the catalog name them, in one step.
"""

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pyiceberg.avro.codecs import AvroCompressionCodec
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.io import FileIO
from pyiceberg.manifest import (
    DATA_FILE_TYPE,
    DEFAULT_READ_VERSION,
    MANIFEST_LIST_FILE_SCHEMAS,
    DataFile,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    read_manifest_list,
    write_manifest,
    write_manifest_list,
)
from pyiceberg.serializers import ToOutputFile
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot, Summary
from sqlalchemy import update

from medi_build.dataset.versions.log import reachable
from medi_build.dataset.versions.place import sync
from medi_build.dataset.versions.warehouse import TABLE, Warehouse

COMPRESSION: AvroCompressionCodec = "deflate"


class Change(NamedTuple):
    """What is other in the new history.

    Attributes:
        here: path of a file of the table, as the history has it, to where it can be read now.
        data_file: a data file to the one in its place (the same object: it stays); None where it goes.
        properties: of a snapshot that are other.
    """

    here: Callable[[str], str]
    data_file: Callable[[DataFile], DataFile | None]
    properties: Callable[[Snapshot], dict[str, str]]


def with_path(data_file: DataFile, path: str) -> DataFile:
    """The same data file at another place."""
    copy = DataFile(*_values(data_file, len(data_file)))
    names = [field.name for field in DATA_FILE_TYPE[DEFAULT_READ_VERSION].fields]
    copy[names.index("file_path")] = path
    copy.spec_id = data_file.spec_id
    return copy


def rewrite(warehouse: Warehouse, io: FileIO, metadata: TableMetadata, change: Change, version: int) -> Path:
    """Write the history with a change, without snapshots that no tag or branch reaches.

    Args:
        warehouse: in whose folder the new files lie.
        io: reads and writes them.
        metadata: of the table.
        change: what is other.
        version: number of the new metadata file.

    Returns:
        The new metadata file; the catalog does not name it yet.
    """
    writer = _Writer(warehouse, io, metadata, change)
    snapshots = [writer.snapshot(one) for one in reachable(metadata).values()]
    kept = {one.snapshot_id for one in snapshots}
    path = writer.new_path(f"{version:05d}-{uuid.uuid4()}.metadata.json")
    new = metadata.model_copy(
        update={
            "location": str(warehouse.records),
            "snapshots": snapshots,
            "snapshot_log": [one for one in metadata.snapshot_log if one.snapshot_id in kept],
            "metadata_log": [],
            "last_updated_ms": max(metadata.last_updated_ms, int(time.time() * 1000)),
        }
    )
    ToOutputFile.table_metadata(new, io.new_output(str(path)))
    sync([*writer.written, path, path.parent])
    return path


class _Writer:
    """Writes manifests and manifest lists, each once however many snapshots have it."""

    def __init__(self, warehouse: Warehouse, io: FileIO, metadata: TableMetadata, change: Change) -> None:
        self.written: list[Path] = []
        self._folder = warehouse.records / "metadata"
        self._io, self._metadata, self._change = io, metadata, change
        self._manifests: dict[str, ManifestFile | None] = {}

    def new_path(self, name: str) -> Path:
        return self._folder / name

    def snapshot(self, old: Snapshot) -> Snapshot:
        """A snapshot in the new history; the same where nothing in it is other."""
        before = list(read_manifest_list(self._io.new_input(self._change.here(old.manifest_list))))
        pairs = [(one, self._manifest(one)) for one in before]
        properties = self._change.properties(old)
        if all(new is one for one, new in pairs) and not properties:
            return old
        after = [new for _, new in pairs if new is not None]
        path = self.new_path(f"snap-{old.snapshot_id}-0-{uuid.uuid4()}.avro")
        sequence = old.sequence_number
        output = self._io.new_output(str(path))
        version = self._metadata.format_version
        with write_manifest_list(
            version, output, old.snapshot_id, old.parent_snapshot_id, sequence, COMPRESSION
        ) as writer:
            writer.add_manifests(after)
        self.written.append(path)
        about: dict[str, str] = dict(old.summary.additional_properties) if old.summary else {}
        assert old.summary is not None
        counts = _counts(old.snapshot_id, list(self._entries(after)), about)
        summary = Summary(old.summary.operation, **{**about, **counts, **properties})
        return old.model_copy(update={"manifest_list": str(path), "summary": summary})

    def _entries(self, manifests: Sequence[ManifestFile]) -> Iterator[ManifestEntry]:
        for one in manifests:
            yield from one.fetch_manifest_entry(self._io, discard_deleted=False)

    def _manifest(self, old: ManifestFile) -> ManifestFile | None:
        if old.manifest_path not in self._manifests:
            self._manifests[old.manifest_path] = self._new_manifest(old)
        new = self._manifests[old.manifest_path]
        return old if new is not None and new.manifest_path == old.manifest_path else new

    def _new_manifest(self, old: ManifestFile) -> ManifestFile | None:
        """A manifest with other data files; the same object if none is other, None if none is left."""
        readable = _changed(old, manifest_path=self._change.here(old.manifest_path))
        before = readable.fetch_manifest_entry(self._io, discard_deleted=False)
        pairs = [(entry, self._change.data_file(entry.data_file)) for entry in before]
        if all(new is entry.data_file for entry, new in pairs):
            return old
        after = [(entry, new) for entry, new in pairs if new is not None]
        if not after:
            return None
        path = self.new_path(f"{uuid.uuid4()}-m0.avro")
        metadata = self._metadata
        with write_manifest(
            metadata.format_version,
            metadata.specs()[old.partition_spec_id],
            metadata.schema(),
            self._io.new_output(str(path)),
            old.added_snapshot_id or 0,
            COMPRESSION,
        ) as writer:
            for entry, data_file in after:
                writer.add_entry(
                    ManifestEntry.from_args(
                        status=entry.status,
                        snapshot_id=entry.snapshot_id,
                        sequence_number=entry.sequence_number,
                        file_sequence_number=entry.file_sequence_number,
                        data_file=data_file,
                    )
                )
        self.written.append(path)
        new = writer.to_manifest_file()
        return _changed(new, sequence_number=old.sequence_number, min_sequence_number=old.min_sequence_number)


def _values(record: Any, count: int) -> list[Any]:
    return [record[place] for place in range(count)]


def _changed(manifest: ManifestFile, **values: Any) -> ManifestFile:
    names = [field.name for field in MANIFEST_LIST_FILE_SCHEMAS[DEFAULT_READ_VERSION].fields]
    known = dict(zip(names, _values(manifest, len(manifest)), strict=False))
    return ManifestFile.from_args(**(known | values))


def _counts(snapshot_id: int, entries: Sequence[ManifestEntry], about: dict[str, str]) -> dict[str, str]:
    """Iceberg's own counts of a snapshot, those of them that it had."""
    own = [one for one in entries if one.snapshot_id == snapshot_id]
    added = [one.data_file for one in own if one.status == ManifestEntryStatus.ADDED]
    deleted = [one.data_file for one in own if one.status == ManifestEntryStatus.DELETED]
    live = [one.data_file for one in entries if one.status != ManifestEntryStatus.DELETED]
    counts = {
        "added-data-files": len(added),
        "added-records": sum(one.record_count for one in added),
        "added-files-size": sum(one.file_size_in_bytes for one in added),
        "deleted-data-files": len(deleted),
        "deleted-records": sum(one.record_count for one in deleted),
        "removed-files-size": sum(one.file_size_in_bytes for one in deleted),
        "total-data-files": len(live),
        "total-records": sum(one.record_count for one in live),
        "total-files-size": sum(one.file_size_in_bytes for one in live),
    }
    return {name: str(count) for name, count in counts.items() if name in about}


def swap(warehouse: Warehouse, old: str, new: str) -> None:
    """Make the catalog name other metadata.

    In one step where it is in SQL, or can register over what is there; else the table is gone for a moment.

    Raises:
        CommitFailedException: it does not name the old one any more.
    """
    catalog = warehouse.catalog
    if isinstance(catalog, SqlCatalog):
        namespace, name = TABLE
        with catalog.engine.begin() as connection:
            done = connection.execute(
                update(IcebergTables)
                .where(
                    IcebergTables.catalog_name == catalog.name,
                    IcebergTables.table_namespace == namespace,
                    IcebergTables.table_name == name,
                    IcebergTables.metadata_location == old,
                )
                .values(metadata_location=new, previous_metadata_location=None)
            )
        if done.rowcount != 1:
            raise CommitFailedException(f"{warehouse.root}: changed meanwhile")
        return
    try:
        catalog.register_table(TABLE, new, overwrite=True)
    except NotImplementedError:
        if catalog.table_exists(TABLE):
            catalog.drop_table(TABLE)
        catalog.register_table(TABLE, new)
