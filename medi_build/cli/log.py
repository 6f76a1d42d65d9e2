"""``medi log``."""

from typing import Annotated

import typer

from medi_build.cli.console import OUT, print_entry
from medi_build.cli.options import WarehouseOption


def log_command(
    ref: Annotated[str, typer.Argument(metavar="REF", help="Tag, branch or id; its history is told.")] = "main",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array, ids as strings.")] = False,
    warehouse: WarehouseOption = None,
) -> None:
    """List versions, newest first: id, names, date, message, records, what changed.

    Example: `medi log v1.2 --json`
    """
    import orjson

    from medi_build.dataset.versions.refs import log

    commits = log(warehouse, ref)
    if as_json:
        text = orjson.dumps([one.to_dict() for one in commits], option=orjson.OPT_INDENT_2).decode()
        OUT.print(text, markup=False, highlight=False, soft_wrap=True)
        return
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
