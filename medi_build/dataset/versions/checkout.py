"""A version as an ordinary folder again.

Order of what lasts: a mark that says which version the folder will be, shards and small files, ``medi-data.json``, the
manifest, and then the mark goes. As long as there is no manifest no command takes the folder for a dataset.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from medi_build.dataset.reader import BuiltDataset
from medi_build.dataset.schema import MANIFEST
from medi_build.dataset.shards import write_json_array
from medi_build.dataset.versions.log import Commit, commit_at
from medi_build.dataset.versions.place import MADE_AGAIN, Placing, json_parts, place_all, sync
from medi_build.dataset.versions.refs import find, version_of
from medi_build.dataset.versions.warehouse import reading
from medi_build.errors import OutputError, VersionError
from medi_build.files import FileEntry, atomic_file, file_digest, write_bytes

MARK = Path(".medi") / "checkout"
"""In a folder that is being checked out: sha256 of the manifest that it will have."""


def checkout(warehouse: Path | None, ref: str, out: Path, copy: bool = False) -> Commit:
    """Write a version as a built folder, byte for byte as it was committed.

    Args:
        warehouse: its folder; None for the usual one.
        ref: the version.
        out: a folder that is new or empty, or holds the beginning of a checkout, which is gone on with.
        copy: make copies of the shards, where hard links to the warehouse's own could be made.

    Raises:
        VersionError: REF is unknown or the version is damaged.
        OutputError: ``out`` holds something else or cannot be written.
        DatasetError: a file of the version is damaged.
    """
    with reading(warehouse) as opened:
        table = opened.table()
        commit = commit_at(table.metadata, find(table.metadata, ref))
        dataset = version_of(opened, table, commit)
    if _is_there(out, commit, dataset):
        return commit
    try:
        with _taken(out, commit.manifest) as went_on:
            if went_on:
                _remove_others(out, dataset)
            _write(out, dataset, copy)
    except OSError as error:
        raise OutputError(
            f"--out {out}: cannot be written ({error.strerror or error}); make room or choose another folder, the same "
            "command goes on from here"
        ) from error
    return commit


def _is_there(out: Path, commit: Commit, dataset: BuiltDataset) -> bool:
    """Whether a finished folder is this version. Raises `OutputError`: it is another one, or damaged."""
    if not (out / MANIFEST).is_file() or (out / MARK).is_file():
        return False
    if hashlib.sha256((out / MANIFEST).read_bytes()).hexdigest() != commit.manifest:
        raise OutputError(f"--out {out}: holds another dataset; give a new or an empty folder")
    for file in _listed(dataset):
        path = out / file.path
        if not path.is_file() or file_digest(path) != file.sha256:
            raise OutputError(f"{path}: is missing or damaged; give a new or an empty folder")
    with suppress(OSError):
        (out / MARK).parent.rmdir()  # empty where a checkout was killed at its very end
    return True


def _listed(dataset: BuiltDataset) -> list[FileEntry]:
    return [*(shard for one in dataset.manifest.datasets for shard in one.shards), *dataset.manifest.files]


@contextmanager
def _taken(out: Path, manifest: str) -> Iterator[bool]:
    """Take a folder; the value says whether a checkout had begun in it."""
    went_on = (out / MARK).is_file()
    if out.exists() and not went_on and (not out.is_dir() or any(_files_beside(out))):
        raise OutputError(f"--out {out}: holds something else; give a new or an empty folder")
    (out / MARK).parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / ".medi" / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise OutputError(f"--out {out}: another checkout is running in it; wait for it") from error
    try:
        write_bytes(out / MARK, manifest.encode(), out)
        yield went_on
        for path in (out / MARK).parent.iterdir():
            if path != out / MARK:
                path.unlink()
        (out / MARK).unlink()
        (out / MARK).parent.rmdir()
    finally:
        lock.release()


def _files_beside(out: Path) -> Iterator[Path]:
    """The files of a folder but for the mark and the lock of a checkout."""
    return (path for path in out.rglob("*") if not path.is_dir() and path.parent != (out / MARK).parent)


def _remove_others(out: Path, dataset: BuiltDataset) -> None:
    """Remove what a checkout of another version, or one that was killed while it wrote a file, has left."""
    ours = {out / file.path for file in _listed(dataset)}
    for path in _files_beside(out):
        if path not in ours:
            path.unlink()


def _write(out: Path, dataset: BuiltDataset, copy: bool) -> None:
    manifest = dataset.manifest
    shards = (shard for one in manifest.datasets for shard in one.shards)
    files = [Placing(path, out / shard.path, shard.sha256) for path, shard in zip(dataset.shards, shards, strict=True)]
    for file in files:
        file.target.parent.mkdir(parents=True, exist_ok=True)
    place_all(files, link=not copy)
    small = [Placing(dataset.root / one.path, out / one.path, one.sha256) for one in manifest.files]
    place_all([one for one in small if one.target != out / MADE_AGAIN], link=False)
    for one in manifest.files:
        if one.path == MADE_AGAIN:
            _write_json(out, dataset, one)
    write_bytes(out / MANIFEST, (dataset.root / MANIFEST).read_bytes(), out)
    sync([out])


def _write_json(out: Path, dataset: BuiltDataset, wanted: FileEntry) -> None:
    """Make ``medi-data.json`` from the shards. Raises `VersionError`: it is not as it was."""
    with atomic_file(out / MADE_AGAIN) as file:
        write_json_array(file, json_parts(dataset))
        if file.sha256 != wanted.sha256:
            from importlib.metadata import version

            wrote = ", ".join(f"{name} {number}" for name, number in dataset.manifest.writers.items())
            raise VersionError(
                f"{out / MADE_AGAIN}: would have the sha256 {file.sha256}, the manifest says {wanted.sha256}; it was "
                f"written with {wrote or 'other libraries'}, here is polars {version('polars')}: install that version "
                "and run the same command again"
            )
