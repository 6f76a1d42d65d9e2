"""``medi commit``."""

from pathlib import Path
from typing import Annotated

import typer

from medi_build.cli.console import CONSOLE, OUT
from medi_build.cli.options import WarehouseOption
from medi_build.progress import for_console


def commit_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Output folder of a finished build.")],
    message: Annotated[str, typer.Option("--message", "-m", help="What is new, for the log.")],
    tag: Annotated[str | None, typer.Option(help="Name this version, too; a tag never moves.")] = None,
    branch: Annotated[str, typer.Option(help="The branch that goes on.")] = "main",
    warehouse: WarehouseOption = None,
) -> None:
    """Make a built folder a version: in one step that is either made or not.

    Its shards are stored as they are, by hard links where the disk is the same; of a dataset that did not change
    nothing is stored again.

    Example: `medi commit out/quickstart -m "the samples" --tag v1`
    """
    from medi_build.dataset.versions.commit import commit

    commit_, new = commit(warehouse, folder, message, tag, branch, for_console(CONSOLE))
    if not new:
        OUT.print(f"{folder}: is the head of {branch} already, commit {commit_.id}; nothing to commit")
    else:
        counts = ", ".join(
            f"{len(names)} {what}"
            for what in ("added", "replaced", "removed")
            if (names := getattr(commit_.changed, what))
        )
        OUT.print(
            f"commit {commit_.id} on {branch}: {commit_.rows:,} records of {commit_.datasets} datasets; "
            f"{counts or 'no dataset changed'}",
        )
    if commit_.tags:
        OUT.print(f"tags: {', '.join(commit_.tags)}")
