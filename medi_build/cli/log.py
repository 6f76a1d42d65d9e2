"""``medi log``."""

from typing import Annotated

import typer

from medi_build.cli import complete
from medi_build.cli.console import print_entry, print_json
from medi_build.cli.options import JsonOption, WarehouseOption


def log_command(
    ref: Annotated[
        str, typer.Argument(metavar="REF", help="Tag, branch or id; its history is told.", autocompletion=complete.refs)
    ] = "main",
    as_json: JsonOption = False,
    warehouse: WarehouseOption = None,
) -> None:
    """List versions, newest first: id, names, date, message, records, what changed.

    Example: `medi log v1.2 --json`
    """
    from medi_build.dataset.versions.refs import log

    commits = log(warehouse, ref)
    if as_json:
        print_json([one.to_dict() for one in commits])
    for one in commits:
        names = ", ".join([*(f"branch {name}" for name in one.branches), *(f"tag {name}" for name in one.tags)])
        purged = f"; {one.purged:,} purged since" if one.purged else ""
        facts = [one.message, f"{one.time:%Y-%m-%d %H:%M} UTC; {one.rows:,} records of {one.datasets} datasets{purged}"]
        facts += [
            f"{what}: {', '.join(found[:5])}{f' and {len(found) - 5} more' if len(found) > 5 else ''}"
            for what in ("added", "replaced", "removed")
            if (found := getattr(one.changed, what))
        ]
        print_entry(f"{one.id}{f'  ({names})' if names else ''}", *facts)
