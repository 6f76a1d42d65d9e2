"""What a name on the command line stands for: a built folder, or a version in the warehouse."""

from pathlib import Path

from medi_build.dataset.reader import BuiltDataset, open_dataset
from medi_build.dataset.versions.names import NAME, is_warehouse, warehouse_folder
from medi_build.errors import VersionError


def open_any(name: str, warehouse: Path | None) -> BuiltDataset:
    """Open a built folder, or the version that a REF names.

    Raises:
        VersionError: the name is that of a folder and of a version, or of none.
        DatasetError: the folder holds no whole dataset.
    """
    if is_folder(name, warehouse):
        return open_dataset(Path(name))
    from medi_build.dataset.versions.refs import open_version  # takes a second

    return open_version(warehouse, name)


def is_folder(name: str, warehouse: Path | None) -> bool:
    """Whether a name is that of a folder; else it may be that of a version.

    Raises:
        VersionError: it is both, or a folder that is not there.
    """
    root = warehouse_folder(warehouse)
    can_be_ref = NAME.fullmatch(name) is not None
    if Path(name).is_dir():
        if can_be_ref and is_warehouse(root) and _is_ref(root, name):
            raise VersionError(
                f"{name}: is a folder, and a version in {root}; write ./{name} for the folder, or the id of the commit "
                f"(`medi log {name}`) for the version"
            )
        return True
    if can_be_ref and is_warehouse(root):
        return False
    more = f", and there is no warehouse at {root} that could have a version of this name" if can_be_ref else ""
    raise VersionError(f"{name}: no such folder{more}; give the --out of a `medi build`, or a tag, branch or commit")


def _is_ref(root: Path, name: str) -> bool:
    from medi_build.dataset.versions.warehouse import reading  # takes a second

    with reading(root) as opened:
        metadata = opened.table().metadata
    return name in metadata.refs or any(str(one.snapshot_id) == name for one in metadata.snapshots)
