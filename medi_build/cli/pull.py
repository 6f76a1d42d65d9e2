"""``medi pull``."""

from pathlib import Path
from typing import Annotated

import typer

from medi_build.cli.console import CONSOLE, OUT
from medi_build.progress import for_console


def pull_command(
    source: Annotated[str, typer.Argument(metavar="REPO|URL", help="Where it was pushed to.")],
    out: Annotated[Path, typer.Option(help="A folder that is new or empty.")],
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit; in a store a tag or number.  [default: the newest]")
    ] = None,
) -> None:
    """Bring a pushed dataset back, every file compared with its digest. The folder appears whole or not at all.

    Example: `medi pull our-team/medi --revision v1.2 --out out/medi-v1.2`
    """
    from medi_build.dataset.remote.push import pull

    progress = for_console(CONSOLE)
    try:
        told = pull(source, revision, out, progress)
    finally:
        progress.close()
    OUT.print(told)
