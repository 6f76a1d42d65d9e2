"""``medi verify``."""

from pathlib import Path
from typing import Annotated

import typer

from medi_build.cli.console import OUT


def verify_command(
    folder: Annotated[Path, typer.Argument(help="Output folder of a build.")],
    batch_size: Annotated[
        int, typer.Option(min=1, help="Also check that windows of this many rows never mix two tasks.")
    ] = 1,
) -> None:
    """Check a built dataset: digests, counts, ledger, records. Exit code 1 on the first fault.

    Example: `medi verify out/quickstart --batch-size 4`
    """
    from medi_build.dataset.verify import verify

    found = verify(folder, batch_size)
    OUT.print(f"{folder}: {found.rows:,} records of {found.datasets} datasets in {found.shards} shards hold together")
