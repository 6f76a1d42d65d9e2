"""``medi lock``."""

from pathlib import Path
from typing import Annotated

import typer

from medi_build.cli import complete
from medi_build.cli.console import OUT
from medi_build.cli.options import WarehouseOption


def lock_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="REF|DIR", help="Output folder of a build, or a version.", autocompletion=complete.folders_and_refs
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The lock file.")] = Path("medi.lock"),
    warehouse: WarehouseOption = None,
) -> None:
    """Write down what a build resolved to: revisions, digests, encoder, seed, settings, versions.

    `medi build --locked FILE` makes the same records again, or says what has moved since.

    Example: `medi lock out/quickstart -o medi.lock`
    """
    from medi_build.dataset.versions.which import open_any
    from medi_build.pipeline.lock import lock_of, write_lock

    lock = lock_of(open_any(source, warehouse).manifest)
    write_lock(lock, out)
    OUT.print(f"{out}: {len(lock.datasets):,} datasets locked; build them with `medi build --locked {out}`")
