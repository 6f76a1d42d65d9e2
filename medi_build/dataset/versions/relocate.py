"""After a warehouse was moved or copied: the absolute paths that Iceberg wants, written anew."""

from pathlib import Path
from typing import NamedTuple

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io import FileIO, load_file_io
from pyiceberg.manifest import DataFile
from pyiceberg.serializers import FromInputFile

from medi_build.dataset.versions.history import Change, rewrite, with_path
from medi_build.dataset.versions.pending import Exchange, begin, writing
from medi_build.dataset.versions.place import files_of
from medi_build.dataset.versions.warehouse import Warehouse, metadata_location
from medi_build.errors import VersionError
from medi_build.progress import Silent


class Relocated(NamedTuple):
    """What was written.

    Attributes:
        before: where the warehouse's table lay.
        after: where it lies; the same if nothing had to be done.
        versions: how many were written anew.
    """

    before: Path
    after: Path
    versions: int


def relocate(warehouse: Path | None, progress: Silent | None = None) -> Relocated:
    """Write the paths of a warehouse as they are now.

    Raises:
        VersionError: there is no warehouse, or its catalog does not tell where its metadata lay.
    """
    with writing(warehouse, progress) as opened:
        if not isinstance(opened.catalog, SqlCatalog):
            raise VersionError(
                f"{opened.root}: its catalog is not kept in SQL, and cannot be asked where metadata lay that is not at "
                "its place; move the warehouse back, or register its newest metadata file with the catalog's own tools"
            )
        old = metadata_location(opened.catalog)
        if old is None:
            raise VersionError(f"{opened.root}: the catalog has no table; the first `medi commit` makes it")
        here = opened.records / "metadata" / Path(old).name
        io = load_file_io(opened.catalog.properties, str(here))
        try:
            metadata = FromInputFile.table_metadata(io.new_input(str(here)))
        except FileNotFoundError as error:
            raise VersionError(f"{here}: not there; the whole folder has to be moved, `records` with it") from error
        before = Path(metadata.location)
        if before == opened.records and Path(old) == here:
            return Relocated(before, before, 0)
        _relocate(opened, io, here, before)
        return Relocated(before, opened.records, len(metadata.snapshots))


def _relocate(warehouse: Warehouse, io: FileIO, here: Path, before: Path) -> None:
    metadata = FromInputFile.table_metadata(io.new_input(str(here)))

    def moved(path: str) -> str:
        return str(warehouse.records / Path(path).relative_to(before))

    def data_file(old: DataFile) -> DataFile:
        return with_path(old, moved(old.file_path))

    version = int(here.name.split("-")[0]) + 1
    old_files = [path for path in files_of(warehouse.root) if path.is_relative_to(warehouse.records / "metadata")]
    new = rewrite(warehouse, io, metadata, Change(moved, data_file, lambda _: {}), version)
    gone = [path.relative_to(warehouse.root).as_posix() for path in old_files]
    begin(warehouse, Exchange(old=here.name, new=new.name, gone=gone, tombstone=None))
