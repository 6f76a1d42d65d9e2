"""``medi verify``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medi_build.cli import complete
from medi_build.cli.console import CONSOLE, OUT, print_json
from medi_build.cli.options import JsonOption, WarehouseOption
from medi_build.errors import MediError, VersionError

if TYPE_CHECKING:
    from medi_build.dataset.versions.log import Commit


def verify_command(
    name: Annotated[
        str,
        typer.Argument(
            metavar="REF|DIR", help="Output folder of a build, or a version.", autocompletion=complete.folders_and_refs
        ),
    ],
    batch_size: Annotated[
        int, typer.Option(min=1, help="Also check that windows of this many rows never mix two tasks; a folder's.")
    ] = 1,
    warehouse: WarehouseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a built dataset: digests, counts, ledger, records. Exit code 1 on the first fault.

    Of a version every file is read, and all that are damaged are told, with the versions that have them.

    Example: `medi verify out/quickstart --batch-size 4`
    """
    from medi_build.dataset.versions.which import is_folder

    check = _verify_folder if is_folder(name, warehouse) else _verify_version
    told: dict[str, Any] = {"name": name, "whole": False, "faults": []}
    try:
        told |= {**check(name, batch_size, warehouse, told["faults"]), "whole": True}
    except MediError as error:
        told["faults"] = told["faults"] or [{"path": None, "what": str(error), "commits": []}]
        raise
    finally:
        if as_json:
            print_json(told)


def _verify_folder(name: str, batch_size: int, warehouse: Path | None, faults: list[dict[str, Any]]) -> dict[str, Any]:
    from medi_build.dataset.verify import verify

    found = verify(Path(name), batch_size)
    OUT.print(
        f"{name}: {found.rows:,} records of {found.datasets} datasets in {found.shards} shards hold together",
    )
    return found._asdict()


def _verify_version(ref: str, batch_size: int, warehouse: Path | None, faults: list[dict[str, Any]]) -> dict[str, Any]:
    from medi_build.dataset.versions.verify import verify_version

    if batch_size > 1:
        raise VersionError(
            f"--batch-size {batch_size}: looks at medi-data.json, which a version gets when it is checked out; "
            f"`medi checkout {ref} --out DIR` first"
        )
    found = verify_version(warehouse, ref)
    for one in found.damaged:
        faults.append({"path": str(one.path), "what": one.what, "commits": [str(commit.id) for commit in one.commits]})
        versions = ", ".join(map(_named, one.commits))
        CONSOLE.print(f"{one.path}: {one.what}; it belongs to {versions}")
    if found.damaged:
        raise VersionError(
            f"{ref}: {len(found.damaged)} of {found.files} files are damaged; put back files with the right sha256 "
            "(a folder that was committed or checked out has the same), or build and commit again"
        )
    OUT.print(f"{ref}: commit {found.commit.id}, {found.files} files, {found.size:,} bytes, all as committed")
    return {"commit": found.commit.to_dict(), "files": found.files, "bytes": found.size}


def _named(commit: "Commit") -> str:
    names = ", ".join([*(f"branch {name}" for name in commit.branches), *(f"tag {name}" for name in commit.tags)])
    return f"commit {commit.id}{f' ({names})' if names else ''}"
