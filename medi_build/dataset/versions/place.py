"""Files with a known digest: brought to a place by a second name or a copy, and checked there."""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from medi_build.dataset.reader import BuiltDataset, shard_tables
from medi_build.dataset.schema import MANIFEST
from medi_build.dataset.shards import json_rows
from medi_build.errors import DatasetError
from medi_build.files import file_digest, replacing, sync_folder

MADE_AGAIN = "medi-data.json"
"""The file of a dataset that is not stored: its rows are those of the shards."""


class Placing(NamedTuple):
    """A file, where it shall lie, and its digest."""

    source: Path
    target: Path
    sha256: str


def place_all(files: Sequence[Placing], link: bool = True) -> None:
    """`place` many files, several at a time: hashing leaves the interpreter alone."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        list(pool.map(lambda one: place(one.source, one.target, one.sha256, link), files))
    sync({one.target.parent for one in files})


def place(source: Path, target: Path, sha256: str, link: bool = True) -> None:
    """Give a file a second name, or copy it where that cannot or shall not be, and check what then lies there.

    Raises:
        DatasetError: it has another digest.
        OSError: it cannot be read or written.
    """
    if target.is_file() and file_digest(target) == sha256:
        return
    target.unlink(missing_ok=True)
    if not (link and _linked(source, target)):
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)
    digest = file_digest(target)
    if digest != sha256:
        target.unlink()
        raise DatasetError(
            f"{source}: sha256 is {digest}, the manifest says {sha256}; it was changed or damaged, or a build is "
            "running in that folder; let it end, or look with `medi verify` what else is, and how to mend it"
        )
    sync([target])


def _linked(source: Path, target: Path) -> bool:
    try:
        target.hardlink_to(source)
    except OSError:  # another disk, one that knows no links, or a source that is gone, which the copy will say
        return False
    return True


def store_manifest(folder: Path, manifest: bytes, files: Mapping[str, bytes]) -> None:
    """Write the folder of a manifest, named by its digest, in one step; one that is there is whole.

    Raises:
        OSError: it cannot be written.
    """
    folder.parent.mkdir(exist_ok=True)
    if not folder.is_dir():
        with replacing(folder) as temporary:
            shutil.rmtree(temporary, ignore_errors=True)
            for path, content in {**files, MANIFEST: manifest}.items():
                (temporary / path).parent.mkdir(parents=True, exist_ok=True)
                (temporary / path).write_bytes(content)
    sync([folder.parent])


def json_parts(dataset: BuiltDataset) -> Iterator[Iterator[bytes]]:
    """The rows of ``medi-data.json``, a part for each row group. Raises `DatasetError`: a shard cannot be read."""
    for path in dataset.shards:
        for table in shard_tables(path):
            if table.num_rows:
                yield iter([json_rows(table)])


def sync(paths: Iterable[Path]) -> None:
    """Make files and folders durable, as far as the system lets a reader ask for it."""
    for path in paths:
        if path.is_dir():
            sync_folder(path)
        elif os.name == "posix":
            with path.open("rb") as file:
                os.fsync(file.fileno())


def remove(root: Path, paths: list[Path]) -> None:
    """Delete files of a warehouse, and the folders that are empty then."""
    for path in paths:
        path.unlink(missing_ok=True)
    for top in (root / "records" / "data", root / "manifests"):
        for folder in sorted((one for one in top.rglob("*") if one.is_dir()), reverse=True):
            if not any(folder.iterdir()):
                folder.rmdir()


def files_of(root: Path) -> Iterator[Path]:
    """Everything that a gc may judge."""
    for top in (root / "records", root / "manifests"):
        yield from (path for path in top.rglob("*") if path.is_symlink() or not path.is_dir())
