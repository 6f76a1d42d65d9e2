"""A takedown: records go from every version, for good.

New shards, manifests and Iceberg files are written beside the old ones, then the history is exchanged (`pending`), and
then the old files are deleted at once. Ids of versions, times, messages, tags and branches stay.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from pyiceberg.manifest import DataFile
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from medi_build.dataset.manifest import manifest_bytes
from medi_build.dataset.reader import BuiltDataset
from medi_build.dataset.versions.data_files import data_files_of
from medi_build.dataset.versions.gc import needed_by
from medi_build.dataset.versions.history import Change, rewrite
from medi_build.dataset.versions.log import DIGEST, MANIFEST, PURGED, ROWS, Commit, commit_of, reachable
from medi_build.dataset.versions.pending import Exchange, begin, writing
from medi_build.dataset.versions.place import files_of, store_manifest
from medi_build.dataset.versions.purge_files import (
    Hits,
    NewShard,
    Target,
    find_records,
    holders,
    shard_without,
    version_without,
)
from medi_build.dataset.versions.refs import version_of
from medi_build.dataset.versions.tombstones import Tombstone, read_tombstones
from medi_build.dataset.versions.warehouse import Warehouse
from medi_build.errors import VersionError
from medi_build.files import text_digest
from medi_build.progress import Silent


class Purged(NamedTuple):
    """What went, or would go.

    Attributes:
        records: dataset to the number of different records.
        shards: how many were written anew.
        commits: the versions that had some, the oldest first.
        holders: other records, in any version, that have the query or the positive of one as one of their own texts;
            they stay.
        before: the tombstone, where all went in an earlier purge; then there is nothing left to do.
    """

    records: dict[str, int]
    shards: int
    commits: list[Commit]
    holders: int
    before: Tombstone | None = None


class _Version(NamedTuple):
    commit: Commit
    dataset: BuiltDataset


def purge(
    warehouse: Path | None, target: Target, reason: str, dry_run: bool = False, progress: Silent | None = None
) -> Purged:
    """Take records out of every version.

    Args:
        warehouse: its folder; None for the usual one.
        target: which.
        reason: for the tombstone; it must not hold what was taken out.
        dry_run: tell, and change nothing.
        progress: hears what is under way.

    Raises:
        VersionError: nothing is found, a version is damaged, or the reason is empty or has the text.
        DatasetError: a shard cannot be read.
        OutputError: a shard cannot be written.
    """
    if not target.wanted.strip():
        raise VersionError("nothing to look for; give the id of a record, or --matching with a text")
    if not reason.strip():
        raise VersionError("--reason: empty; say in a few words why, for the tombstone")
    if target.by == "text" and target.wanted in reason:
        raise VersionError("--reason: holds the text that shall go; tombstones stay for good, word it another way")
    progress = progress or Silent()
    with writing(warehouse, progress) as opened:
        table = opened.table()
        commits = [commit_of(table.metadata, one) for one in reachable(table.metadata).values()]
        versions = [_Version(one, version_of(opened, table, one)) for one in commits]
        owners = {
            path: entry.name
            for _, built in versions
            for entry in built.manifest.datasets
            for path in built.shards_of(entry)
        }
        progress.say(f"looking through {len(owners):,} shards of {len(versions)} versions")
        hits = {path: found for path in owners if (found := find_records(path, target)).ids}
        if not hits:
            for stone in reversed(read_tombstones(opened.root)):
                if (stone.by, stone.sha256) == (target.by, text_digest(target.wanted)):
                    return Purged(records=stone.records, shards=0, commits=[], holders=0, before=stone)
            what = f"the id {target.wanted!r}" if target.by == "id" else "this text in its query, positive or negative"
            raise VersionError(
                f"{opened.root}: none of {len(versions):,} versions has a record with {what}; nothing was changed"
            )
        affected = [one for one in versions if hits.keys() & set(one.dataset.shards)]
        purged = Purged(
            records=_count(hits, owners),
            shards=len(hits),
            commits=[one.commit for one in affected],
            holders=_count_holders(set(owners), hits, target),
        )
        if not dry_run:
            _exchange(opened, table, affected, hits, target, _tombstone(purged, hits, target, reason), progress)
        return purged


def _count(hits: Mapping[Path, Hits], owners: Mapping[Path, str]) -> dict[str, int]:
    """Different records of each dataset; a version after the other has the same ones."""
    different = {(owners[path], one) for path, found in hits.items() for one in found.ids}
    return dict(sorted(Counter(name for name, _ in different).items()))


def _count_holders(paths: set[Path], hits: Mapping[Path, Hits], target: Target) -> int:
    texts = set().union(*(found.texts for found in hits.values()))
    return len(set().union(*(holders(path, texts, target) for path in sorted(paths))))


def _tombstone(purged: Purged, hits: Mapping[Path, Hits], target: Target, reason: str) -> Tombstone:
    return Tombstone(
        time=datetime.now(UTC),
        reason=reason,
        by=target.by,
        sha256=text_digest(target.wanted),
        records=purged.records,
        commits=[str(one.id) for one in purged.commits],
        ids=sorted({text_digest(one) for found in hits.values() for one in found.ids}),
    )


def _exchange(
    warehouse: Warehouse,
    table: Table,
    affected: list[_Version],
    hits: Mapping[Path, Hits],
    target: Target,
    tombstone: Tombstone,
    progress: Silent,
) -> None:
    """Write everything new, and exchange the history for it."""
    new = _new_shards(warehouse, affected, hits, target)
    progress.say(f"{len(new):,} shards are written anew; now {len(affected)} versions")
    properties = _new_manifests(warehouse, affected, new, hits)
    places = {str(old): shard for old, shard in new.items()}

    def data_file(old: DataFile) -> DataFile | None:
        if old.file_path not in places:
            return old
        shard = places[old.file_path]
        return None if shard is None else data_files_of(table.metadata, [shard.path])[0]

    def changed(snapshot: Snapshot) -> dict[str, str]:
        return properties.get(snapshot.snapshot_id, {})

    old = Path(table.metadata_location)
    change = Change(lambda path: path, data_file, changed)
    path = rewrite(warehouse, table.io, table.metadata, change, int(old.name.split("-")[0]) + 1)
    gone = [one.relative_to(warehouse.root).as_posix() for one in sorted(_gone(warehouse, table, path))]
    begin(warehouse, Exchange(old=old.name, new=path.name, gone=gone, tombstone=tombstone))


def _new_shards(
    warehouse: Warehouse, affected: list[_Version], hits: Mapping[Path, Hits], target: Target
) -> dict[Path, NewShard | None]:
    """Each affected shard written once, under a path that follows from its own and the target."""
    new: dict[Path, NewShard | None] = {}
    for _, built in affected:
        for entry, old in zip((s for one in built.manifest.datasets for s in one.shards), built.shards, strict=True):
            if old in hits and old not in new:
                key = hashlib.sha256(f"purge {text_digest(target.wanted)} {old.parent.name}".encode()).hexdigest()[:16]
                path = warehouse.records / "data" / key / old.name
                empty = len(hits[old].ids) == hits[old].rows
                new[old] = None if empty else shard_without(old, path, entry, target)
    return new


def _new_manifests(
    warehouse: Warehouse,
    affected: list[_Version],
    new: Mapping[Path, NewShard | None],
    hits: Mapping[Path, Hits],
) -> dict[int, dict[str, str]]:
    """Store a manifest for each affected version, and return what its snapshot says of itself now."""
    known: dict[str, dict[str, str]] = {}
    properties = {}
    for commit, built in affected:
        if commit.manifest not in known:
            manifest, files = version_without(built, new)
            text = manifest_bytes(manifest)
            digest = hashlib.sha256(text).hexdigest()
            store_manifest(warehouse.manifest_folder(digest), text, files)
            known[commit.manifest] = {MANIFEST: digest, ROWS: str(manifest.rows), DIGEST: manifest.digest}
        count = sum(len(hits[path].ids) for path in built.shards if path in hits)
        properties[commit.id] = {**known[commit.manifest], PURGED: str(commit.purged + count)}
    return properties


def _gone(warehouse: Warehouse, table: Table, new: Path) -> set[Path]:
    """The files that no version needs in the new history.

    With the embedded catalog nobody else is writing, so files that a kill has left go, too.
    """
    metadata = FromInputFile.table_metadata(table.io.new_input(str(new)))
    after = Table(table.name(), metadata, str(new), table.io, warehouse.catalog)
    needed = {new, *needed_by(warehouse, after, {one.snapshot_id for one in metadata.snapshots})}
    if warehouse.embedded:
        return set(files_of(warehouse.root)) - needed
    before = set(needed_by(warehouse, table, {one.snapshot_id for one in table.metadata.snapshots}))
    log = {Path(one.metadata_file) for one in table.metadata.metadata_log}
    return (before | log | {Path(table.metadata_location)}) - needed
