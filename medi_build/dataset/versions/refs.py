"""Names of versions: tags stay where they are, branches go on with each commit, ids are those of snapshots."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.update.snapshot import ManageSnapshots

from medi_build.dataset.reader import BuiltDataset, Manifest, read_manifest
from medi_build.dataset.schema import MANIFEST
from medi_build.dataset.versions.log import Commit, commit_at, history
from medi_build.dataset.versions.names import NAME
from medi_build.dataset.versions.pending import writing
from medi_build.dataset.versions.warehouse import Warehouse, reading
from medi_build.errors import DatasetError, VersionError, did_you_mean
from medi_build.progress import Silent

MAIN = "main"
"""The branch that there always is."""
FEWEST_DIGITS = 6
"""So many digits of an id at least name a snapshot."""


class Ref(NamedTuple):
    """A tag or a branch."""

    name: str
    commit: Commit


def check_name(name: str) -> None:
    """Raise `VersionError` unless a tag or a branch may be called so."""
    if not NAME.fullmatch(name) or name.isdecimal() or name.endswith(".lock") or ".." in name:
        raise VersionError(
            f"{name!r}: not a name for a tag or branch; letters, digits, '.', '_' and '-', at most 100, a letter or "
            "digit first, and not digits alone, as ids of commits are"
        )


def find(metadata: TableMetadata, ref: str) -> int:
    """The id of the snapshot that a tag, branch, id, or beginning of an id names.

    Raises:
        VersionError: it names none, or several.
    """
    if ref in metadata.refs:
        return metadata.refs[ref].snapshot_id
    ids = [one.snapshot_id for one in metadata.snapshots]
    if ref.isdecimal():
        found = [one for one in ids if str(one) == ref] or [one for one in ids if str(one).startswith(ref)]
        if len(found) == 1 and len(ref) >= FEWEST_DIGITS:
            return found[0]
        if found:
            few = f"at least {FEWEST_DIGITS} digits name one" if len(found) == 1 else "give more digits"
            raise VersionError(f"{ref}: begins the id of {len(found)} commit(s); {few}")
    if not ids:
        raise VersionError(f"{ref!r}: nothing was committed yet; `medi commit DIR -m TEXT` makes the first version")
    known = ", ".join(sorted(metadata.refs)[:10])
    raise VersionError(
        f"{ref!r}: no tag, branch or commit{did_you_mean(ref, metadata.refs)}; there are {known}; see `medi log`"
    )


def resolve(warehouse: Path | None, ref: str) -> Commit:
    """The commit that a REF names. Raises `VersionError`."""
    with reading(warehouse) as opened:
        metadata = opened.table().metadata
        return commit_at(metadata, find(metadata, ref))


def log(warehouse: Path | None, ref: str = MAIN) -> list[Commit]:
    """The commit that a REF names and those before it, newest first. Raises `VersionError`."""
    with reading(warehouse) as opened:
        metadata = opened.table().metadata
        return history(metadata, find(metadata, ref))


def tags(warehouse: Path | None) -> list[Ref]:
    """All tags, by their names. Raises `VersionError`."""
    return _refs(warehouse, SnapshotRefType.TAG)


def branches(warehouse: Path | None) -> list[Ref]:
    """All branches, by their names. Raises `VersionError`."""
    return _refs(warehouse, SnapshotRefType.BRANCH)


def set_tag(warehouse: Path | None, name: str, ref: str = MAIN, progress: Silent | None = None) -> Commit:
    """Name a commit; one that has the name already is left as it is.

    Raises:
        VersionError: the name may not be used, stands for another commit, or REF is unknown.
    """
    check_name(name)
    with _changing(warehouse, progress) as (table, change):
        snapshot_id = find(table.metadata, ref)
        if not is_tagged(table.metadata, name, snapshot_id):
            change.create_tag(snapshot_id, name)
        return commit_at(table.metadata, snapshot_id)


def is_tagged(metadata: TableMetadata, name: str, snapshot_id: int | None) -> bool:
    """Whether a snapshot (None: one to come) has a tag. Raises `VersionError` if the name stands for another one."""
    known = metadata.refs.get(name)
    if known is None:
        return False
    if known.snapshot_ref_type == SnapshotRefType.BRANCH:
        raise VersionError(f"{name!r}: is a branch; give the tag another name")
    if known.snapshot_id != snapshot_id:
        raise VersionError(
            f"{name!r}: is a tag already, of commit {known.snapshot_id}; tags do not move: give another name, or "
            f"`medi tag {name} --delete` first"
        )
    return True


def set_branch(warehouse: Path | None, name: str, ref: str = MAIN, progress: Silent | None = None) -> Commit:
    """Make a branch whose head is a commit, or move one there; what it leaves stays until `medi gc`.

    Raises:
        VersionError: the name may not be used, is a tag's, or REF is unknown.
    """
    check_name(name)
    with _changing(warehouse, progress) as (table, change):
        known = table.metadata.refs.get(name)
        if known is not None and known.snapshot_ref_type == SnapshotRefType.TAG:
            raise VersionError(f"{name!r}: is a tag; give the branch another name")
        snapshot_id = find(table.metadata, ref)
        if known is None or known.snapshot_id != snapshot_id:
            change.create_branch(snapshot_id, name)
        return commit_at(table.metadata, snapshot_id)


def delete_tag(warehouse: Path | None, name: str, progress: Silent | None = None) -> int:
    """Take a tag away and return the id of the commit that it named. Raises `VersionError`: there is none."""
    return _delete(warehouse, name, SnapshotRefType.TAG, progress)


def delete_branch(warehouse: Path | None, name: str, progress: Silent | None = None) -> int:
    """Take a branch away and return the id of its head. Raises `VersionError`: there is none, or it is ``main``."""
    if name == MAIN:
        raise VersionError(f"{MAIN}: stays; `medi branch {MAIN} REF` moves it")
    return _delete(warehouse, name, SnapshotRefType.BRANCH, progress)


def open_version(warehouse: Path | None, ref: str) -> BuiltDataset:
    """A committed dataset, read where it lies; its root is the folder of its manifest and small files.

    Raises:
        VersionError: REF is unknown, or files of the version are missing.
    """
    with reading(warehouse) as opened:
        table = opened.table()
        return version_of(opened, table, commit_at(table.metadata, find(table.metadata, ref)))


def version_of(warehouse: Warehouse, table: Table, commit: Commit) -> BuiltDataset:
    """The dataset of a commit. Raises `VersionError`: files are missing."""
    root = warehouse.manifest_folder(commit.manifest)
    manifest = manifest_of(warehouse, commit)
    places = data_files(table, commit.id)
    shards = []
    for shard in (shard for one in manifest.datasets for shard in one.shards):
        path = places.get(Path(shard.path).name)
        size = path.stat().st_size if path is not None and path.is_file() else None
        if path is None or size != shard.size:
            state = "is missing" if size is None else f"has {size:,} bytes in place of {shard.size:,}"
            raise VersionError(
                f"commit {commit.id}: {path or shard.path} {state}; `medi verify {commit.id}` tells all that is damaged"
            )
        shards.append(path)
    return BuiltDataset(root, manifest, shards)


def manifest_of(warehouse: Warehouse, commit: Commit) -> Manifest:
    """The manifest of a commit. Raises `VersionError`: it is missing or damaged."""
    try:
        return read_manifest(warehouse.manifest_folder(commit.manifest) / MANIFEST)
    except DatasetError as error:
        raise VersionError(f"commit {commit.id}: {error}") from error


def data_files(table: Table, snapshot_id: int) -> dict[str, Path]:
    """Where the shards of a snapshot lie, by the names that they have in a built folder.

    Raises:
        VersionError: Iceberg's own files are missing or damaged.
    """
    return {path.name: path for path in (Path(one.file_path) for one in live_files(table, snapshot_id))}


def live_files(table: Table, snapshot_id: int) -> list[DataFile]:
    """The data files of a snapshot. Raises `VersionError` as `data_files`."""
    snapshot = table.metadata.snapshot_by_id(snapshot_id)
    assert snapshot is not None
    try:
        manifests = snapshot.manifests(table.io)
        return [entry.data_file for one in manifests for entry in one.fetch_manifest_entry(table.io)]
    except Exception as error:  # the Avro reader has no class of its own for what it cannot read
        raise VersionError(
            f"commit {snapshot_id}: a file of the table's metadata cannot be read ({error or type(error).__name__}); "
            "restore records/metadata from a copy"
        ) from error


def _refs(warehouse: Path | None, kind: SnapshotRefType) -> list[Ref]:
    with reading(warehouse) as opened:
        metadata = opened.table().metadata
        named = sorted((name, one.snapshot_id) for name, one in metadata.refs.items() if one.snapshot_ref_type == kind)
        return [Ref(name, commit_at(metadata, snapshot_id)) for name, snapshot_id in named]


def _delete(warehouse: Path | None, name: str, kind: SnapshotRefType, progress: Silent | None) -> int:
    with _changing(warehouse, progress) as (table, change):
        refs = {one: ref for one, ref in table.metadata.refs.items() if ref.snapshot_ref_type == kind}
        if name not in refs:
            raise VersionError(f"{name!r}: no {kind.value} of this name{did_you_mean(name, refs)}")
        (change.remove_tag if kind == SnapshotRefType.TAG else change.remove_branch)(name)
        return refs[name].snapshot_id


@contextmanager
def _changing(warehouse: Path | None, progress: Silent | None) -> Iterator[tuple[Table, ManageSnapshots]]:
    """Change refs of the table in one step, at the end of the block.

    Raises:
        VersionError: another machine changed them at the same time.
    """
    with writing(warehouse, progress) as opened:
        table = opened.table()
        try:
            with table.transaction() as transaction:
                change = ManageSnapshots(transaction)
                yield table, change
                change.commit()
        except CommitFailedException as error:
            raise VersionError(f"{opened.root}: changed meanwhile by another machine; run the command again") from error
