"""What a published dataset consists of: the manifest, and the files that it lists, each known by its digest."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import orjson
from pydantic import ValidationError

from medi_build.dataset.reader import BuiltDataset, Manifest
from medi_build.dataset.schema import MANIFEST, SCHEMA_VERSION
from medi_build.dataset.shards import write_json_array
from medi_build.dataset.versions.place import MADE_AGAIN, json_parts
from medi_build.errors import DatasetError, PublishError
from medi_build.files import FileEntry, atomic_file, file_digest


class Local(NamedTuple):
    """A file to send: what the manifest says of it, and where it lies."""

    entry: FileEntry
    path: Path


class Sent(NamedTuple):
    """What a push sends.

    Attributes:
        manifest: which comes last.
        files: every file that it lists.
        beside: small files for people and other tools, name -> content.
    """

    manifest: Manifest
    files: list[Local]
    beside: dict[str, bytes]


def manifest_bytes(manifest: Manifest) -> bytes:
    """``manifest.json`` as a build writes it."""
    return orjson.dumps(manifest.model_dump(mode="json"), option=orjson.OPT_INDENT_2) + b"\n"


@contextmanager
def local_files(dataset: BuiltDataset) -> Iterator[list[Local]]:
    """Every file of a dataset but the manifest, in the manifest's order.

    A version in a warehouse has no ``medi-data.json``: it is made for the time of the block, where it is to be sent.
    """
    shards = [
        Local(entry, path)
        for one in dataset.manifest.datasets
        for entry, path in zip(one.shards, dataset.shards_of(one), strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        others = []
        for entry in dataset.manifest.files:
            path = dataset.root / entry.path
            if entry.path == MADE_AGAIN and not path.is_file():
                path = Path(folder) / entry.path
                with atomic_file(path) as file:
                    write_json_array(file, json_parts(dataset))
            others.append(Local(entry, path))
        yield shards + others


def check_local(file: Local) -> None:
    """Raise `DatasetError` if a file is not what the manifest says: nothing damaged is published."""
    try:
        digest = file_digest(file.path)
    except OSError as error:
        raise DatasetError(f"{file.path}: cannot be read ({error.strerror}); build or check it out again") from error
    if digest != file.entry.sha256:
        raise DatasetError(
            f"{file.path}: sha256 is {digest}, the manifest says {file.entry.sha256}; it was changed or damaged: "
            "build or check it out again"
        )


def read_manifest(data: bytes, where: str) -> Manifest:
    """The manifest of a published dataset, which may be anybody's: its paths stay inside the folder.

    Raises:
        PublishError: it is no manifest of this version, or names a path outside.
    """
    try:
        found = orjson.loads(data)
        version = found.get("schema_version") if isinstance(found, dict) else None
        if version != SCHEMA_VERSION:
            raise PublishError(
                f"{where}: {MANIFEST} has schema version {version!r}, this medi reads {SCHEMA_VERSION}; use the "
                "version of medi that pushed it, or push it again"
            )
        manifest = Manifest.model_validate(found)
    except (orjson.JSONDecodeError, ValidationError) as error:
        raise PublishError(f"{where}: {MANIFEST} is none of medi's ({str(error).splitlines()[0]})") from error
    for entry in remote_files(manifest):
        path = PurePosixPath(entry.path)
        if path.is_absolute() or ".." in path.parts or "\\" in entry.path or ":" in entry.path or not path.parts:
            raise PublishError(f"{where}: {MANIFEST} names the file {entry.path!r}, which is not inside; not pulled")
    return manifest


def remote_files(manifest: Manifest) -> list[FileEntry]:
    """Every file but the manifest itself."""
    return [*(shard for one in manifest.datasets for shard in one.shards), *manifest.files]


def listed_paths(manifest: bytes) -> set[str]:
    """The paths that a manifest of any version lists; none where it is no manifest."""
    try:
        found = orjson.loads(manifest or b"{}")
        groups = [found.get("files", []), *(one.get("shards", []) for one in found.get("datasets", []))]
        return {str(file["path"]) for group in groups for file in group}
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
        return set()
