"""A pulled folder: gathered beside its place, each file compared with its digest, whole or not there."""

import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from medi_build.dataset.reader import open_dataset
from medi_build.dataset.remote.again import at_once
from medi_build.dataset.remote.listing import read_manifest, remote_files
from medi_build.dataset.schema import MANIFEST
from medi_build.errors import OutputError, PublishError
from medi_build.files import FileEntry, file_digest, put_in_place, write_bytes
from medi_build.progress import Silent

Fetch = Callable[[FileEntry, Path], None]
"""Brings a file to a path, whose folder is there; may go on from what a stopped run left. From several threads."""


def receive(manifest: bytes, where: str, out: Path, fetch: Fetch, watcher: Silent) -> bool:
    """Make the folder ``out`` of a manifest; False if it holds exactly this already.

    What a stopped run has fetched lies in ``.NAME.pull`` beside it, and is gone on with.

    Raises:
        PublishError: what arrives is not what the manifest says, even the second time.
        OutputError: ``out`` holds something else, cannot be written, or another pull fills it.
    """
    files = remote_files(read_manifest(manifest, where))
    staging = out.with_name(f".{out.name}.pull")
    lock = staging.with_name(staging.name + ".lock")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        _check_same(manifest, files, out)
        lock.unlink(missing_ok=True)  # there where a pull was killed at its very end
        return False
    try:
        staging.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=0):
            staging.mkdir(exist_ok=True)
            _fill(staging, files, where, fetch, watcher)
            write_bytes(staging / MANIFEST, manifest, staging)
            open_dataset(staging)
            put_in_place(staging, out)
    except Timeout as error:
        raise OutputError(f"--out {out}: another pull fills it; wait for it or choose another folder") from error
    except OSError as error:
        raise OutputError(
            f"--out {out}: cannot be written ({error.strerror or error}); make room, then run the same command again: "
            "it goes on from there"
        ) from error
    lock.unlink(missing_ok=True)
    return True


def _check_same(manifest: bytes, files: list[FileEntry], out: Path) -> None:
    if not (out / MANIFEST).is_file() or (out / MANIFEST).read_bytes() != manifest:
        raise OutputError(f"--out {out}: holds something else; give a folder that is new or empty")
    for entry in files:
        path = out / entry.path
        if not path.is_file() or file_digest(path) != entry.sha256:
            raise OutputError(f"{path}: is missing, was changed or damaged; remove the folder and pull it again")


def _fill(staging: Path, files: list[FileEntry], where: str, fetch: Fetch, watcher: Silent) -> None:
    """Every file, and nothing else. The first error stops what has not begun."""
    wanted = {staging / entry.path for entry in files}
    for path in staging.rglob("*"):
        if path.is_file() and path not in wanted and not path.relative_to(staging).parts[0].startswith("."):
            path.unlink()  # of another version, which a stopped run fetched
    watcher.start(len(files))

    def one(entry: FileEntry) -> None:
        _get(staging / entry.path, entry, where, fetch)
        watcher.done(f"{entry.path}: {entry.size / 1e6:,.1f} MB")

    at_once(one, files)
    for path in staging.iterdir():
        if path.name.startswith(".") and path.is_dir():
            shutil.rmtree(path)
        elif path.name.startswith(".") and path not in wanted:
            path.unlink()  # a manifest that a killed run was writing


def _get(path: Path, entry: FileEntry, where: str, fetch: Fetch) -> None:
    """One file, unless it is there; wrong bytes are fetched once more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = file_digest(path) if path.is_file() else ""
    for _ in range(2):
        if digest == entry.sha256:
            return
        path.unlink(missing_ok=True)
        fetch(entry, path)
        digest = file_digest(path)
    if digest != entry.sha256:
        path.unlink()
        raise PublishError(
            f"{where}: {entry.path} arrives with sha256 {digest}, the manifest says {entry.sha256}; it was damaged "
            "there or on the way: push it again"
        )
