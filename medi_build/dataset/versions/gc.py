"""What no version needs any more: marked from the table's metadata, the rest swept.

Snapshots that no tag or branch reaches are taken out of the metadata first. A process that is killed while it sweeps
has removed only files that nothing names; the next `gc` removes the others.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pyiceberg.manifest import ManifestFile
from pyiceberg.table import Table

from medi_build.dataset.versions.log import MANIFEST, reachable
from medi_build.dataset.versions.pending import writing
from medi_build.dataset.versions.place import files_of, remove
from medi_build.dataset.versions.warehouse import Warehouse
from medi_build.errors import VersionError
from medi_build.progress import Silent

DAY = 24 * 3600.0
"""Another machine's commit may be so old and not yet in the catalog."""


class Swept(NamedTuple):
    """What went, or would go.

    Attributes:
        snapshots: ids of the versions that nothing reached.
        files: removed.
        size: of them, in bytes.
    """

    snapshots: list[int]
    files: list[Path]
    size: int


def gc(
    warehouse: Path | None, dry_run: bool = False, older_than: float | None = None, progress: Silent | None = None
) -> Swept:
    """Remove versions that no tag or branch reaches, and files that no version needs.

    Args:
        warehouse: its folder; None for the usual one.
        dry_run: tell, and remove nothing.
        older_than: seconds; younger files stay. None for 0 with the embedded catalog, where the lock keeps others
            out, and a day with any other, whose writers may be on other machines.
        progress: hears of waiting.

    Raises:
        VersionError: there is no warehouse, or its metadata cannot be read, and then nothing is removed.
    """
    with writing(warehouse, progress) as opened:
        table = opened.table()
        keep = reachable(table.metadata)
        lost = [one.snapshot_id for one in table.metadata.snapshots if one.snapshot_id not in keep]
        needed = set(needed_by(opened, table, set(keep)))  # raises before anything is changed
        if lost and not dry_run:
            with table.maintenance.expire_snapshots() as expire:
                expire.by_ids(lost)
            table = opened.table()
        age = older_than if older_than is not None else 0.0 if opened.embedded else DAY
        youngest = time.time() - age if age else float("inf")
        needed |= {Path(table.metadata_location), *(Path(one.metadata_file) for one in table.metadata.metadata_log)}
        unneeded = [path for path in files_of(opened.root) if path not in needed and _changed(path) < youngest]
        size = sum(path.stat().st_size for path in unneeded if path.stat().st_nlink == 1)
        if not dry_run:
            remove(opened.root, unneeded)
        return Swept(lost, unneeded, size)


def _changed(path: Path) -> float:
    """When a file came; one that is a link to an old file has its second name since its last change of state."""
    state = path.stat(follow_symlinks=False)
    return max(state.st_mtime, state.st_ctime)


def needed_by(warehouse: Warehouse, table: Table, snapshot_ids: set[int]) -> Iterator[Path]:
    """The files of some snapshots. Raises `VersionError`: Iceberg's own cannot be read."""
    seen: set[str] = set()
    for snapshot in table.metadata.snapshots:
        if snapshot.snapshot_id in snapshot_ids:
            yield Path(snapshot.manifest_list)
            for manifest in _manifests(table, snapshot.snapshot_id):
                if manifest.manifest_path not in seen:
                    seen.add(manifest.manifest_path)
                    yield Path(manifest.manifest_path)
                    yield from _data_files(table, manifest)
            about = snapshot.summary.additional_properties if snapshot.summary else {}
            if MANIFEST in about:
                yield from warehouse.manifest_folder(about[MANIFEST]).rglob("*")


def _manifests(table: Table, snapshot_id: int) -> list[ManifestFile]:
    snapshot = table.metadata.snapshot_by_id(snapshot_id)
    assert snapshot is not None
    try:
        return snapshot.manifests(table.io)
    except Exception as error:  # the Avro reader has no class of its own for what it cannot read
        raise _unreadable(snapshot.manifest_list, error) from error


def _data_files(table: Table, manifest: ManifestFile) -> Iterator[Path]:
    try:
        entries = manifest.fetch_manifest_entry(table.io, discard_deleted=True)
    except Exception as error:
        raise _unreadable(manifest.manifest_path, error) from error
    yield from (Path(entry.data_file.file_path) for entry in entries)


def _unreadable(path: str, error: Exception) -> VersionError:
    return VersionError(f"{path}: cannot be read ({error or type(error).__name__}); restore it, nothing was removed")
