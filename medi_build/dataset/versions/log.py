"""What the table's history says: every snapshot as a `Commit`."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Snapshot

from medi_build.errors import VersionError

MANIFEST = "medi.manifest"
"""Property of a snapshot: sha256 of the manifest.json that was committed."""
MESSAGE = "medi.message"
ROWS = "medi.rows"
DATASETS = "medi.datasets"
DIGEST = "medi.digest"
CHANGED = "medi.changed"
KEY = "medi.key"
"""Sha256 over the parent's key and the manifest's: what was committed after what, the same on every machine."""
PURGED = "medi.purged"


@dataclass(frozen=True)
class Changed:
    """Names of the datasets in which a commit differs from its parent."""

    added: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Commit:
    """One version.

    Attributes:
        id: of the snapshot.
        parent: id of the one before; None for the first, and where it is gone.
        time: when it was made, UTC.
        message: of who made it.
        manifest: sha256 of its manifest.json; once purged, of the one without the records.
        digest: over its rows, as the manifest has it.
        rows: records.
        datasets: how many.
        changed: against the parent.
        purged: records that were in it and were purged since.
        tags: that name it, sorted.
        branches: whose head it is, sorted.
        key: names the folder of the shards that it brought.
    """

    id: int
    parent: int | None
    time: datetime
    message: str
    manifest: str
    digest: str
    rows: int
    datasets: int
    changed: Changed
    purged: int
    tags: tuple[str, ...]
    branches: tuple[str, ...]
    key: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data for ``--json``; the id is a string, as a double cannot hold it."""
        parent = None if self.parent is None else str(self.parent)
        changed = {name: list(getattr(self.changed, name)) for name in ("added", "replaced", "removed")}
        names = {"tags": list(self.tags), "branches": list(self.branches)}
        facts = {name: getattr(self, name) for name in ("message", "manifest", "digest", "rows", "datasets", "purged")}
        return {"id": str(self.id), "parent": parent, "time": self.time.isoformat(), **names, **facts} | {
            "changed": changed
        }


def commit_at(metadata: TableMetadata, snapshot_id: int) -> Commit:
    """The commit of an id. Raises `VersionError`: it is gone, or another program made it."""
    snapshot = metadata.snapshot_by_id(snapshot_id)
    if snapshot is None:
        raise VersionError(f"commit {snapshot_id}: gone from the table's history; `medi log` tells what there is")
    return commit_of(metadata, snapshot)


def commit_of(metadata: TableMetadata, snapshot: Snapshot) -> Commit:
    """A snapshot as a commit.

    Raises:
        VersionError: another program made it.
    """
    about = snapshot.summary.additional_properties if snapshot.summary else {}
    if MANIFEST not in about:
        raise VersionError(
            f"snapshot {snapshot.snapshot_id}: not made by `medi commit`, so there is no manifest for it; move the "
            "branch back with `medi branch NAME REF`"
        )
    return Commit(
        id=snapshot.snapshot_id,
        parent=snapshot.parent_snapshot_id,
        time=datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC),
        message=about[MESSAGE],
        manifest=about[MANIFEST],
        digest=about[DIGEST],
        rows=int(about[ROWS]),
        datasets=int(about[DATASETS]),
        changed=Changed(**{name: tuple(names) for name, names in orjson.loads(about[CHANGED]).items()}),
        purged=int(about.get(PURGED, 0)),
        tags=names_of(metadata, snapshot.snapshot_id, SnapshotRefType.TAG),
        branches=names_of(metadata, snapshot.snapshot_id, SnapshotRefType.BRANCH),
        key=about[KEY],
    )


def names_of(metadata: TableMetadata, snapshot_id: int, kind: SnapshotRefType) -> tuple[str, ...]:
    """The tags, or the branches, that name a snapshot."""
    refs = metadata.refs.items()
    return tuple(sorted(name for name, ref in refs if ref.snapshot_id == snapshot_id and ref.snapshot_ref_type == kind))


def ancestors(metadata: TableMetadata, snapshot_id: int) -> Iterator[Snapshot]:
    """A snapshot and those before it, newest first."""
    snapshot = metadata.snapshot_by_id(snapshot_id)
    while snapshot is not None:
        yield snapshot
        parent = snapshot.parent_snapshot_id
        snapshot = None if parent is None else metadata.snapshot_by_id(parent)


def reachable(metadata: TableMetadata) -> dict[int, Snapshot]:
    """The snapshots that some tag or branch reaches, by id, in the order in which they were made."""
    ids = {one.snapshot_id for ref in metadata.refs.values() for one in ancestors(metadata, ref.snapshot_id)}
    return {one.snapshot_id: one for one in metadata.snapshots if one.snapshot_id in ids}


def history(metadata: TableMetadata, snapshot_id: int) -> list[Commit]:
    """A commit and those before it, newest first. Raises `VersionError` as `commit_of`."""
    return [commit_of(metadata, snapshot) for snapshot in ancestors(metadata, snapshot_id)]
