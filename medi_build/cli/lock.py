"""``medi lock``."""

from pathlib import Path
from typing import Annotated

import typer

from medi_build.cli.console import OUT


def lock_command(
    source: Annotated[Path, typer.Argument(help="Output folder of a build.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The lock file.")] = Path("medi.lock"),
) -> None:
    """Write down what a build resolved to: revisions, digests, encoder, seed, settings, versions.

    `medi build --locked FILE` makes the same records again, or says what has moved since.

    Example: `medi lock out/quickstart -o medi.lock`
    """
    from medi_build.dataset.reader import open_dataset
    from medi_build.pipeline.lock import lock_of, write_lock

    lock = lock_of(open_dataset(source).manifest)
    write_lock(lock, out)
    OUT.print(
        f"{out}: {len(lock.datasets):,} datasets locked; build them with `medi build --locked {out}`", markup=False
    )
