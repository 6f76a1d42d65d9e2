"""``medi checkout``."""

from pathlib import Path
from typing import Annotated

import typer

from medi_build.cli import complete
from medi_build.cli.console import OUT
from medi_build.cli.options import WarehouseOption


def checkout_command(
    ref: Annotated[
        str, typer.Argument(metavar="REF", help="Tag, branch or id of the version.", autocompletion=complete.refs)
    ],
    out: Annotated[Path, typer.Option(help="Folder to write; new or empty.")],
    copy: Annotated[bool, typer.Option("--copy", help="Copy the shards where they could be hard links.")] = False,
    warehouse: WarehouseOption = None,
) -> None:
    """Write a version as a built folder again, byte for byte.

    Its shards are hard links to those of the warehouse where the disk is the same: replace them, never write into
    them, or give --copy. A checkout that was killed is gone on with by the same command.

    Example: `medi checkout v1.2 --out out/v1.2`
    """
    from medi_build.dataset.versions.checkout import checkout

    commit = checkout(warehouse, ref, out, copy)
    OUT.print(f"{out}: {commit.rows:,} records of {commit.datasets} datasets, commit {commit.id}")
