"""A warehouse: a folder with the shards of every version, and a catalog that names the table's newest metadata.

::

    catalog.db                  the catalog (sqlite), unless pyiceberg's own configuration has one named ``medi``
    records/data/KEY/*.parquet  shards as they were built; KEY tells the commit that brought them
    records/metadata/           what Iceberg writes: metadata, manifest lists, manifests
    manifests/SHA256/           manifest.json of a version, and the small files that it lists
    tombstones.jsonl            what was purged
    journal.json                there while `purge` or `relocate` exchange the history
    lock                        held by who writes
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.exceptions import NoSuchTableError, NotInstalledError, RESTError
from pyiceberg.table import Table
from pyiceberg.utils.config import Config
from sqlalchemy import select
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from medi_build.dataset.schema import RECORDS
from medi_build.dataset.versions.names import is_warehouse, warehouse_folder
from medi_build.errors import VersionError
from medi_build.progress import Silent

CATALOG = "medi"
"""Name of the catalog, in pyiceberg's configuration, too."""
TABLE = ("medi", "records")
LOCK_SECONDS = 900.0
"""So long a writer waits for another one; a commit takes as long as hashing its files."""
BUSY_SECONDS = 120
"""So long sqlite waits for another process that is writing its one row."""
PROPERTIES = {
    "format-version": "2",
    # A metrics default of "counts" keeps pieces of texts out of the metadata; the partition needs its bounds.
    "write.metadata.metrics.default": "counts",
    "write.metadata.metrics.column.task_id": "full",
    # A conflict is ours to solve: pyiceberg would lay our files over a head that our manifest does not know.
    "commit.retry.num-retries": "0",
}


@dataclass(frozen=True)
class Warehouse:
    """An open warehouse.

    Attributes:
        root: its folder, absolute.
        catalog: where its table is registered.
        embedded: whether the catalog is the sqlite file in the folder.
    """

    root: Path
    catalog: Catalog
    embedded: bool

    @property
    def records(self) -> Path:
        """The table's folder."""
        return self.root / "records"

    def manifest_folder(self, sha256: str) -> Path:
        """Where the manifest with this digest lies, and the small files that it lists."""
        return self.root / "manifests" / sha256

    def table(self) -> Table:
        """The table as the catalog has it now.

        Raises:
            VersionError: there is none, or it lies elsewhere.
        """
        moved = VersionError(
            f"{self.root}: its catalog names files in another folder, so it was moved or copied; "
            f"`medi versions relocate --warehouse {self.root}` writes the new paths"
        )
        if isinstance(self.catalog, SqlCatalog):
            location = metadata_location(self.catalog)
            if location is not None and not Path(location).is_relative_to(self.records):
                raise moved
        try:
            table = self.catalog.load_table(TABLE)
        except NoSuchTableError as error:
            raise VersionError(
                f"{self.root}: the catalog has no table {'.'.join(TABLE)}; the first `medi commit` makes it"
            ) from error
        except FileNotFoundError as error:
            raise VersionError(f"{self.root}: {error}; metadata of the table is gone, restore it") from error
        if Path(table.metadata.location) != self.records:
            raise moved
        return table


def metadata_location(catalog: Catalog) -> str | None:
    """Where a catalog says that the table's metadata lies; None if it has no table.

    Of a catalog in SQL the row is read, for a table whose metadata is gone cannot be loaded.
    """
    if not isinstance(catalog, SqlCatalog):
        return catalog.load_table(TABLE).metadata_location if catalog.table_exists(TABLE) else None
    namespace, name = TABLE
    row = (IcebergTables.catalog_name == catalog.name, IcebergTables.table_namespace == namespace)
    with catalog.engine.connect() as connection:
        found: str | None = connection.scalar(
            select(IcebergTables.metadata_location).where(*row, IcebergTables.table_name == name)
        )
    return found


@contextmanager
def reading(folder: Path | None) -> Iterator[Warehouse]:
    """Open a warehouse to read it; readers wait for nobody.

    Raises:
        VersionError: there is none.
    """
    root = warehouse_folder(folder)
    if not is_warehouse(root):
        raise VersionError(
            f"{root}: no warehouse; `medi commit DIR -m TEXT` makes one, --warehouse or MEDI_WAREHOUSE names another"
        )
    try:
        with _catalog(root) as warehouse:
            yield warehouse
    except (OSError, SQLAlchemyError, RESTError) as error:
        raise _unusable(root, error) from error


@contextmanager
def locked(folder: Path | None, progress: Silent | None = None, create: bool = False) -> Iterator[Warehouse]:
    """Open a warehouse alone among the processes of this machine; see `pending.writing`, which also finishes things.

    Args:
        folder: as for `warehouse_folder`.
        progress: hears of waiting.
        create: make the warehouse if there is none.

    Raises:
        VersionError: there is none, it cannot be written, or another process writes it for too long.
    """
    root = warehouse_folder(folder)
    if not create and not is_warehouse(root):
        with reading(root):
            pass  # raises
    try:
        if create:
            _check_contents(root)
            root.mkdir(parents=True, exist_ok=True)
        with _locked(root, progress or Silent()), _catalog(root) as warehouse:
            yield warehouse
    except (OSError, SQLAlchemyError, RESTError) as error:
        raise _unusable(root, error) from error


def _unusable(root: Path, error: Exception) -> VersionError:
    """What to say of a disk, a database or a server that does not do what it was asked."""
    place, why = root, str(getattr(error, "orig", error))
    if isinstance(error, OSError):
        place, why = error.filename or root, error.strerror or why
    return VersionError(f"{place}: cannot be used ({why}); make room or get access, then run the same command again")


@contextmanager
def _locked(root: Path, progress: Silent) -> Iterator[None]:
    lock = FileLock(root / "lock")
    try:
        try:
            lock.acquire(timeout=0.5)
        except Timeout:
            progress.say(f"{root}: another process is writing; waiting for it")
            lock.acquire(timeout=LOCK_SECONDS)
    except Timeout as error:
        raise VersionError(
            f"{root}: another process has been writing for {LOCK_SECONDS / 60:.0f} minutes; run this again when it "
            "has ended"
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _catalog(root: Path) -> Iterator[Warehouse]:
    configured: Any = Config().get_catalog_config(CATALOG)
    if configured is not None:
        try:
            catalog = load_catalog(CATALOG, **configured)
        except (ValueError, NotInstalledError) as error:
            raise VersionError(
                f"the catalog {CATALOG!r} of pyiceberg's configuration (~/.pyiceberg.yaml, "
                f"PYICEBERG_CATALOG__{CATALOG.upper()}__...) cannot be used: {error}"
            ) from error
    else:
        where = URL.create("sqlite", database=str(root / "catalog.db"), query={"timeout": str(BUSY_SECONDS)})
        catalog = SqlCatalog(CATALOG, uri=where.render_as_string())
    try:
        yield Warehouse(root, catalog, embedded=configured is None)
    finally:
        catalog.close()


def _check_contents(root: Path) -> None:
    """Raise `VersionError` where a new warehouse would lie among other things."""
    ours = {"lock", "catalog.db", "catalog.db-journal", "records", "manifests"}
    if root.is_dir() and not is_warehouse(root) and (others := sorted({one.name for one in root.iterdir()} - ours)):
        raise VersionError(f"{root}: holds something else ({others[0]}); --warehouse takes a new or an empty folder")


def create_table(warehouse: Warehouse) -> None:
    """Make the table, if there is none."""
    catalog = warehouse.catalog
    catalog.create_namespace_if_not_exists(TABLE[0])
    if metadata_location(catalog) is not None:
        return
    warehouse.records.mkdir(exist_ok=True)
    made = catalog.create_table_transaction(TABLE, RECORDS, location=str(warehouse.records), properties=PROPERTIES)
    with made as transaction:
        with transaction.update_spec() as spec:
            spec.add_identity("task_id")
        names = transaction.table_metadata.schema().name_mapping  # our shards have no field ids
        transaction.set_properties({"schema.name-mapping.default": names.model_dump_json()})
