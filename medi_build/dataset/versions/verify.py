"""Every byte of a version against its digests; what is damaged is told with all versions that have it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from pyiceberg.table import Table

from medi_build.dataset.schema import MANIFEST
from medi_build.dataset.versions.log import Commit, commit_at, reachable
from medi_build.dataset.versions.place import MADE_AGAIN
from medi_build.dataset.versions.refs import data_files, find, manifest_of
from medi_build.dataset.versions.warehouse import Warehouse, reading
from medi_build.errors import VersionError
from medi_build.files import file_digest
from medi_build.ledger import Ledger


class Damage(NamedTuple):
    """A file of a version that is not as it was.

    Attributes:
        path: of the file.
        what: is wrong with it.
        commits: the versions that have it.
    """

    path: Path
    what: str
    commits: list[Commit]


class VersionVerified(NamedTuple):
    """What was found.

    Attributes:
        commit: the version.
        files: how many were read.
        size: of them, in bytes.
        damaged: those that are.
    """

    commit: Commit
    files: int
    size: int
    damaged: list[Damage]


class _File(NamedTuple):
    path: Path
    sha256: str


def verify_version(warehouse: Path | None, ref: str) -> VersionVerified:
    """Read every file of a version and compare its digest; check that the books of its rows add up.

    Raises:
        VersionError: REF is unknown, or Iceberg's own files cannot be read.
        OutputError: a ledger does not add up.
    """
    with reading(warehouse) as opened:
        table = opened.table()
        commit = commit_at(table.metadata, find(table.metadata, ref))
        files = _files(opened, table, commit)
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(_fault, files))
        faults = {one.path: fault for one, fault in zip(files, found, strict=True) if fault is not None}
        size = sum(one.path.stat().st_size for one in files if one.path.is_file())
        owners = _owners(opened, table, commit, list(faults))
        damaged = [Damage(path, what, owners[path]) for path, what in faults.items()]
        return VersionVerified(commit, len(files), size, damaged)


def _files(warehouse: Warehouse, table: Table, commit: Commit) -> list[_File]:
    """The manifest, the small files and the shards of a version, as far as they are known."""
    root = warehouse.manifest_folder(commit.manifest)
    files = [_File(root / MANIFEST, commit.manifest)]
    if _fault(files[0]) is not None:
        return files  # it alone says what the others have to be
    manifest = manifest_of(warehouse, commit)
    files += [_File(root / file.path, file.sha256) for file in manifest.files if file.path != MADE_AGAIN]
    places = data_files(table, commit.id)
    for one in manifest.datasets:
        Ledger.from_dict(one.ledger).check()
        for shard in one.shards:
            files.append(_File(places.get(Path(shard.path).name, Path(shard.path)), shard.sha256))
    return files


def _fault(file: _File) -> str | None:
    try:
        digest = file_digest(file.path)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if digest == file.sha256 else f"has the sha256 {digest}, it should be {file.sha256}"


def _owners(warehouse: Warehouse, table: Table, commit: Commit, paths: list[Path]) -> dict[Path, list[Commit]]:
    """The versions that have each of some files, the oldest first."""
    owners: dict[Path, list[Commit]] = {path: [] for path in paths}
    if not paths:
        return owners
    for snapshot_id in {commit.id: None, **reachable(table.metadata)}:
        one = commit_at(table.metadata, snapshot_id)
        try:
            has = set(data_files(table, one.id).values())
        except VersionError:  # of another version; this one could be read
            has = set()
        root = warehouse.manifest_folder(one.manifest)
        for path in paths:
            if path in has or path.is_relative_to(root) or one.id == commit.id:
                owners[path].append(one)
    return owners
