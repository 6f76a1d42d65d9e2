"""A dataset by the name that a user gives: a folder, or a version."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medi_build.dataset.reader import BuiltDataset


def open_either(name: str, warehouse: Path | None) -> "tuple[BuiltDataset, bool]":
    """A built folder, or the version that a REF names, and whether it is a version; pyiceberg is imported only then.

    Raises:
        VersionError: the name is that of a folder and of a version, or of none.
        DatasetError: the folder holds no whole dataset.
    """
    from medi_build.dataset.reader import open_dataset
    from medi_build.dataset.versions.which import is_folder

    if is_folder(name, warehouse):
        return open_dataset(Path(name)), False
    from medi_build.dataset.versions.refs import open_version

    return open_version(warehouse, name), True
