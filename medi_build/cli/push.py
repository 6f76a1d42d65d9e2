"""``medi push``."""

from typing import Annotated

import typer

from medi_build.cli import complete
from medi_build.cli.console import CONSOLE, OUT
from medi_build.cli.options import WarehouseOption
from medi_build.progress import for_console


def push_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="REF|DIR", help="Output folder of a build, or a version.", autocompletion=complete.folders_and_refs
        ),
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="REPO|URL",
            help="OWNER/NAME on the Hugging Face Hub (also hf://datasets/OWNER/NAME), or s3://bucket/folder, "
            "gs://bucket/folder.",
        ),
    ],
    revision: Annotated[
        str | None, typer.Option(help="Branch of the repository; made if it is not there.  [default: its main one]")
    ] = None,
    tag: Annotated[str | None, typer.Option(help="A name for what is pushed, e.g. v1.2; it never moves.")] = None,
    private: Annotated[bool, typer.Option("--private", help="A repository that is made is private.")] = False,
    warehouse: WarehouseOption = None,
) -> None:
    """Publish a dataset. Readers see the old one or the new one, never a mixture; of two writers one is refused.

    A push that broke off goes on where it was. The hub's token comes from HF_TOKEN or `hf auth login`, the keys of
    a store from its own variables or files.

    Example: `medi push out/medi our-team/medi --tag v1.2 --private`
    """
    from medi_build.dataset.remote.hub import Wanted
    from medi_build.dataset.remote.push import push
    from medi_build.dataset.versions.which import open_any

    progress = for_console(CONSOLE)
    try:
        told = push(open_any(source, warehouse), target, Wanted(revision, tag, private), progress)
    finally:
        progress.close()
    OUT.print(told)
