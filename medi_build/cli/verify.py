"""``medi verify``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medi_build.cli.console import CONSOLE, OUT
from medi_build.cli.options import WarehouseOption
from medi_build.errors import VersionError

if TYPE_CHECKING:
    from medi_build.dataset.versions.log import Commit


def verify_command(
    name: Annotated[str, typer.Argument(metavar="REF|DIR", help="Output folder of a build, or a version.")],
    batch_size: Annotated[
        int, typer.Option(min=1, help="Also check that windows of this many rows never mix two tasks; a folder's.")
    ] = 1,
    warehouse: WarehouseOption = None,
) -> None:
    """Check a built dataset: digests, counts, ledger, records. Exit code 1 on the first fault.

    Of a version every file is read, and all that are damaged are told, with the versions that have them.

    Example: `medi verify out/quickstart --batch-size 4`
    """
    from medi_build.dataset.versions.which import is_folder

    if is_folder(name, warehouse):
        from medi_build.dataset.verify import verify

        found = verify(Path(name), batch_size)
        OUT.print(f"{name}: {found.rows:,} records of {found.datasets} datasets in {found.shards} shards hold together")
        return
    _verify_version(name, batch_size, warehouse)


def _verify_version(ref: str, batch_size: int, warehouse: Path | None) -> None:
    from medi_build.dataset.versions.verify import verify_version

    if batch_size > 1:
        raise VersionError(
            f"--batch-size {batch_size}: looks at medi-data.json, which a version gets when it is checked out; "
            f"`medi checkout {ref} --out DIR` first"
        )
    found = verify_version(warehouse, ref)
    for one in found.damaged:
        versions = ", ".join(map(_named, one.commits))
        CONSOLE.print(f"{one.path}: {one.what}; it belongs to {versions}", markup=False, soft_wrap=True)
    if found.damaged:
        raise VersionError(
            f"{ref}: {len(found.damaged)} of {found.files} files are damaged; put back files with the right sha256 "
            "(a folder that was committed or checked out has the same), or build and commit again"
        )
    OUT.print(f"{ref}: commit {found.commit.id}, {found.files} files, {found.size:,} bytes, all as committed")


def _named(commit: "Commit") -> str:
    names = ", ".join([*(f"branch {name}" for name in commit.branches), *(f"tag {name}" for name in commit.tags)])
    return f"commit {commit.id}{f' ({names})' if names else ''}"
