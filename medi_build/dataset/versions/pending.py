"""A history that is being exchanged: a journal in the warehouse, so that a kill at any moment loses nothing.

Order of what lasts: all new files, the journal, the catalog's row, the tombstone, the old files' end, the journal's
end. Who opens the warehouse to write next finishes what a journal tells.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from pyiceberg.exceptions import CommitFailedException

from medi_build.dataset.versions.history import swap
from medi_build.dataset.versions.place import remove
from medi_build.dataset.versions.tombstones import Tombstone, add_tombstone
from medi_build.dataset.versions.warehouse import Warehouse, create_table, locked, metadata_location
from medi_build.errors import VersionError
from medi_build.files import remove_left_behind, write_bytes
from medi_build.progress import Silent

JOURNAL = "journal.json"


class Exchange(BaseModel):
    """What has to be done.

    Attributes:
        old: name of the metadata file that the catalog names.
        new: of the one that it shall name.
        gone: files that go then, relative to the warehouse.
        tombstone: that comes then.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    old: str
    new: str
    gone: list[str]
    tombstone: Tombstone | None


@contextmanager
def writing(folder: Path | None, progress: Silent | None = None, create: bool = False) -> Iterator[Warehouse]:
    """Open a warehouse to change it, alone among the processes of this machine; finish what a killed one began.

    Args:
        folder: None for the usual one.
        progress: hears of waiting.
        create: make the warehouse if there is none.

    Raises:
        VersionError: there is none, it cannot be written, or another process writes it for too long.
    """
    with locked(folder, progress, create) as warehouse:
        if warehouse.embedded:  # else processes of other machines may be writing these
            for place in (warehouse.root, warehouse.root / "manifests"):
                remove_left_behind(place)
        finish(warehouse)
        if create:
            create_table(warehouse)
        yield warehouse


def begin(warehouse: Warehouse, exchange: Exchange) -> None:
    """Write the journal and do what it says.

    Raises:
        VersionError: another machine changed the table meanwhile; nothing was exchanged.
    """
    write_bytes(warehouse.root / JOURNAL, exchange.model_dump_json(indent=1).encode() + b"\n", warehouse.root)
    finish(warehouse)


def finish(warehouse: Warehouse) -> None:
    """Do what a journal says, if there is one.

    Raises:
        VersionError: another machine changed the table meanwhile; nothing was exchanged.
    """
    journal = warehouse.root / JOURNAL
    if not journal.is_file():
        return
    exchange = Exchange.model_validate_json(journal.read_bytes())
    now = metadata_location(warehouse.catalog)
    try:
        if now is None or Path(now).name == exchange.old:
            swap(warehouse, now or "", str(warehouse.records / "metadata" / exchange.new))
        elif Path(now).name != exchange.new:
            raise CommitFailedException("changed meanwhile")
    except CommitFailedException as error:
        journal.unlink()
        raise VersionError(
            f"{warehouse.root}: another machine changed the table meanwhile, so the purge or relocation that was under "
            "way was not made; run it again"
        ) from error
    if exchange.tombstone is not None:
        add_tombstone(warehouse.root, exchange.tombstone)
    remove(warehouse.root, [warehouse.root / path for path in exchange.gone])
    journal.unlink()
