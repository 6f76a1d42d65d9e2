"""``medi tag``."""

from typing import Annotated

import typer

from medi_build.cli import complete
from medi_build.cli.console import CONSOLE, OUT, print_json
from medi_build.cli.options import JsonOption, WarehouseOption
from medi_build.errors import VersionError
from medi_build.progress import for_console


def tag_command(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Of the tag; without one, all are listed.")] = None,
    ref: Annotated[
        str, typer.Argument(metavar="REF", help="What it names: a tag, branch or id.", autocompletion=complete.refs)
    ] = "main",
    delete: Annotated[bool, typer.Option("--delete", help="Take the tag away; the version stays.")] = False,
    warehouse: WarehouseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Name a version for good, or list the names. A tag never moves; delete it to use its name again.

    Example: `medi tag v1.2 main`
    """
    from medi_build.dataset.versions import refs

    if name is None:
        if delete:
            raise VersionError("--delete: give the tag to take away, e.g. `medi tag v1.2 --delete`")
        found = refs.tags(warehouse)
        if as_json:
            print_json([{"name": one.name, "commit": one.commit.to_dict()} for one in found])
        for tag in found:
            OUT.print(f"{tag.name}  {tag.commit.id}  {tag.commit.message}")
    elif delete:
        OUT.print(f"tag {name} is gone; it named commit {refs.delete_tag(warehouse, name, for_console(CONSOLE))}")
    else:
        commit = refs.set_tag(warehouse, name, ref, for_console(CONSOLE))
        OUT.print(f"tag {name} names commit {commit.id}: {commit.message}")
