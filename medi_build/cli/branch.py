"""``medi branch``."""

from typing import Annotated

import typer

from medi_build.cli import complete
from medi_build.cli.console import CONSOLE, OUT, print_json
from medi_build.cli.options import JsonOption, WarehouseOption
from medi_build.errors import VersionError
from medi_build.progress import for_console


def branch_command(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Of the branch; without one, all are listed.")
    ] = None,
    ref: Annotated[
        str, typer.Argument(metavar="REF", help="Its head: a tag, branch or id.", autocompletion=complete.refs)
    ] = "main",
    delete: Annotated[bool, typer.Option("--delete", help="Take the branch away.")] = False,
    warehouse: WarehouseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a branch, move it, or list all. What no tag or branch reaches any more goes with the next `medi gc`.

    Example: `medi branch trial v1.2`
    """
    from medi_build.dataset.versions import refs

    if name is None:
        if delete:
            raise VersionError("--delete: give the branch to take away, e.g. `medi branch trial --delete`")
        found = refs.branches(warehouse)
        if as_json:
            print_json([{"name": one.name, "commit": one.commit.to_dict()} for one in found])
        for branch in found:
            OUT.print(f"{branch.name}  {branch.commit.id}  {branch.commit.message}")
    elif delete:
        head = refs.delete_branch(warehouse, name, for_console(CONSOLE))
        OUT.print(f"branch {name} is gone; its head was commit {head}; `medi gc` removes what nothing reaches")
    else:
        commit = refs.set_branch(warehouse, name, ref, for_console(CONSOLE))
        OUT.print(f"the head of branch {name} is commit {commit.id}: {commit.message}")
