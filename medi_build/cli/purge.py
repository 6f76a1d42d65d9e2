"""``medi purge``."""

from typing import Annotated

import typer

from medi_build.cli.console import CONSOLE, OUT
from medi_build.cli.options import WarehouseOption
from medi_build.errors import OptionError
from medi_build.progress import for_console


def purge_command(
    reason: Annotated[str, typer.Option(help="Why, for the tombstone; without the text itself.")],
    record_id: Annotated[str | None, typer.Argument(metavar="ID", help="Of a record, as `id` in the shards.")] = None,
    matching: Annotated[
        str | None, typer.Option(help="All records with this in a query, positive or negative; letter by letter.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would go, and change nothing.")] = False,
    warehouse: WarehouseOption = None,
) -> None:
    """Take records out of every version, for good (a takedown); ids, dates, tags and branches of versions stay.

    What goes is deleted at once; a tombstone keeps when, why, how many, and digests, never the text. Built folders,
    checkouts, pushed copies and other warehouses are not reached.

    Example: `medi purge kilt/nq/5328 --reason "request of 3 May"`
    """
    from medi_build.dataset.versions.purge import purge
    from medi_build.dataset.versions.purge_files import Target

    if (record_id is None) == (matching is None):
        raise OptionError("give the id of a record, or --matching TEXT; one of them")
    target = Target("id", record_id) if record_id is not None else Target("text", matching or "")
    found = purge(warehouse, target, reason, dry_run, for_console(CONSOLE))
    if found.before is not None:
        OUT.print(
            f"nothing left to purge: {sum(found.records.values()):,} records went on {found.before.time:%Y-%m-%d}",
        )
        return
    would = "would go" if dry_run else "are gone"
    OUT.print(
        f"{sum(found.records.values()):,} records {would} from {len(found.commits)} versions: "
        f"{', '.join(f'{count:,} of {name}' for name, count in found.records.items())}; "
        f"{found.shards:,} shards {'would be' if dry_run else 'were'} written anew",
    )
    if found.holders:
        OUT.print(
            f"{found.holders:,} other records have one of their queries or positives as a text of their own, and stay; "
            "`medi purge --matching TEXT` takes those, too"
        )
    OUT.print("not reached: built folders, checkouts, what was pushed, other warehouses, the raw files")
