"""Committing a built folder: its shards become the newest version of a branch, in one atomic step.

Order of what lasts: shards that are new (under a path that no version had), the manifest's folder, what Iceberg writes,
and at last one row of the catalog. A process that is killed before that has committed nothing; the same command, run
again, finds the same paths, for they follow from the parent and the manifest.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import orjson
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.update.snapshot import ManageSnapshots

from medi_build.dataset.reader import BuiltDataset, DatasetEntry, Manifest, open_dataset
from medi_build.dataset.schema import MANIFEST as MANIFEST_FILE
from medi_build.dataset.versions.data_files import data_files_of
from medi_build.dataset.versions.log import (
    CHANGED,
    DATASETS,
    DIGEST,
    KEY,
    MANIFEST,
    MESSAGE,
    ROWS,
    Changed,
    Commit,
    commit_at,
)
from medi_build.dataset.versions.pending import writing
from medi_build.dataset.versions.place import MADE_AGAIN, Placing, place_all, store_manifest, sync
from medi_build.dataset.versions.refs import MAIN, check_name, is_tagged, live_files, manifest_of
from medi_build.dataset.versions.tombstones import check_not_purged
from medi_build.dataset.versions.warehouse import Warehouse
from medi_build.errors import DatasetError, VersionError, did_you_mean
from medi_build.files import FileEntry
from medi_build.progress import Silent

ATTEMPTS = 20
"""So often a commit begins anew because another machine was faster."""


class Committed(NamedTuple):
    """What a commit came to.

    Attributes:
        commit: the head of the branch now.
        new: False: the head was this dataset already.
    """

    commit: Commit
    new: bool


class Step(NamedTuple):
    """A commit on top of a head: what goes, what comes."""

    key: str
    changed: Changed
    gone: set[str]
    come: list[FileEntry]


def commit(
    warehouse: Path | None,
    folder: Path,
    message: str,
    tag: str | None = None,
    branch: str = MAIN,
    progress: Silent | None = None,
) -> Committed:
    """Make a built folder the newest version of a branch; the warehouse is made if there is none.

    Args:
        warehouse: its folder; None for the usual one.
        folder: output folder of a finished build.
        message: what a reader of the log should know.
        tag: name the version, too.
        branch: that goes on.
        progress: hears of waiting.

    Raises:
        DatasetError: the folder is not whole, or a file is not as its manifest says.
        VersionError: a name may not be used, or the warehouse cannot be.
    """
    for name in (branch, *([tag] if tag is not None else [])):
        check_name(name)
    if not message.strip():
        raise VersionError("-m: empty; say in a few words what is new in this version")
    dataset = open_dataset(folder)
    text = (folder / MANIFEST_FILE).read_bytes()
    if Manifest.model_validate_json(text) != dataset.manifest:
        raise DatasetError(f"{folder}: was built again meanwhile; run the command again")
    small = _small_files(dataset)
    with writing(warehouse, progress, create=True) as opened:
        for _ in range(ATTEMPTS):
            table = opened.table()
            head = _head(table, branch)
            digest = hashlib.sha256(text).hexdigest()
            if head is not None and head.manifest == digest:
                return Committed(_tag_head(table, head, tag), new=False)
            if tag is not None:
                is_tagged(table.metadata, tag, None)
            step = _step(opened, head, dataset.manifest, digest)
            places = _place(opened, dataset, step)
            store_manifest(opened.manifest_folder(digest), text, small)
            about = _about(dataset.manifest, message.strip(), digest, step)
            try:
                return Committed(_snapshot(opened, table, branch, tag, about, step, places), new=True)
            except CommitFailedException:
                continue
    raise VersionError(f"branch {branch}: other machines were faster {ATTEMPTS} times; run the command again")


def _head(table: Table, branch: str) -> Commit | None:
    """The newest commit of a branch; None if there is no commit at all."""
    ref = table.metadata.refs.get(branch)
    if ref is None:
        if branch == MAIN and not table.metadata.refs:
            return None
        near = did_you_mean(branch, table.metadata.refs)
        raise VersionError(f"{branch!r}: no branch of this name{near}; `medi branch {branch} {MAIN}` makes it")
    if ref.snapshot_ref_type == SnapshotRefType.TAG:
        raise VersionError(f"{branch!r}: is a tag, and tags do not move; give a branch")
    return commit_at(table.metadata, ref.snapshot_id)


def _tag_head(table: Table, head: Commit, tag: str | None) -> Commit:
    if tag is not None and not is_tagged(table.metadata, tag, head.id):
        with table.manage_snapshots() as change:
            change.create_tag(head.id, tag)
    return commit_at(table.metadata, head.id)


def _step(warehouse: Warehouse, head: Commit | None, manifest: Manifest, digest: str) -> Step:
    """What a manifest changes against the head of the branch, dataset by dataset."""
    before = manifest_of(warehouse, head).datasets if head is not None else []
    old, new = _by_name(before), _by_name(manifest.datasets)
    same = {name for name in old.keys() & new.keys() if _files(old[name]) == _files(new[name])}
    changed = Changed(
        added=tuple(name for name in new if name not in old),
        replaced=tuple(name for name in new if name in old and name not in same),
        removed=tuple(name for name in old if name not in new),
    )
    gone = {Path(shard.path).name for name, one in old.items() if name not in same for shard in one.shards}
    come = [shard for name, one in new.items() if name not in same for shard in one.shards]
    key = hashlib.sha256(f"{head.key if head is not None else ''} {digest}".encode()).hexdigest()
    return Step(key, changed, gone, come)


def _by_name(datasets: Sequence[DatasetEntry]) -> dict[str, DatasetEntry]:
    return {one.name: one for one in datasets}


def _files(dataset: DatasetEntry) -> list[tuple[str, str]]:
    return [(shard.path, shard.sha256) for shard in dataset.shards]


def _place(warehouse: Warehouse, dataset: BuiltDataset, step: Step) -> list[Path]:
    """Bring the new shards into the warehouse, checked. Raises `VersionError`: one has a record that was purged."""
    folder = warehouse.records / "data" / step.key[:16]
    folder.mkdir(parents=True, exist_ok=True)
    sources = dict(zip((s.path for one in dataset.manifest.datasets for s in one.shards), dataset.shards, strict=True))
    check_not_purged(warehouse.root, [sources[shard.path] for shard in step.come])
    files = [Placing(sources[shard.path], folder / Path(shard.path).name, shard.sha256) for shard in step.come]
    place_all(files)
    sync([folder.parent])
    return [one.target for one in files]


def _small_files(dataset: BuiltDataset) -> dict[str, bytes]:
    """Path to content of the small files that are stored with the manifest."""
    contents = {file.path: (dataset.root / file.path).read_bytes() for file in dataset.manifest.files if _stored(file)}
    for file in filter(_stored, dataset.manifest.files):
        digest = hashlib.sha256(contents[file.path]).hexdigest()
        if digest != file.sha256:
            raise DatasetError(
                f"{dataset.root / file.path}: sha256 is {digest}, the manifest says {file.sha256}; it was changed or "
                "damaged: build again"
            )
    return contents


def _stored(file: FileEntry) -> bool:
    return file.path != MADE_AGAIN


def _about(manifest: Manifest, message: str, digest: str, step: Step) -> dict[str, str]:
    """What the snapshot says of itself."""
    return {
        MANIFEST: digest,
        MESSAGE: message,
        ROWS: str(manifest.rows),
        DATASETS: str(len(manifest.datasets)),
        DIGEST: manifest.digest,
        CHANGED: orjson.dumps(step.changed).decode(),
        KEY: step.key,
    }


def _snapshot(
    warehouse: Warehouse,
    table: Table,
    branch: str,
    tag: str | None,
    about: dict[str, str],
    step: Step,
    places: Iterable[Path],
) -> Commit:
    """One snapshot in place of the branch's head, and the tag with it. Raises CommitFailedException."""
    come = data_files_of(table.metadata, places)
    with table.transaction() as transaction:
        producer = transaction.update_snapshot(snapshot_properties=about, branch=branch).overwrite()
        head = table.metadata.snapshot_by_name(branch)
        for data_file in live_files(table, head.snapshot_id) if head is not None else []:
            if Path(data_file.file_path).name in step.gone:
                producer.delete_data_file(data_file)
        for data_file in come:
            producer.append_data_file(data_file)
        snapshot_id = producer.snapshot_id
        producer.commit()
        if tag is not None:
            ManageSnapshots(transaction).create_tag(snapshot_id, tag).commit()
    snapshot = table.metadata.snapshot_by_id(snapshot_id)
    assert snapshot is not None
    written = [Path(snapshot.manifest_list), *(Path(one.manifest_path) for one in snapshot.manifests(table.io))]
    sync([*written, Path(table.metadata_location), warehouse.records / "metadata"])
    return commit_at(table.metadata, snapshot_id)
