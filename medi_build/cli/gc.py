"""``medi gc``."""

from typing import Annotated

import typer

from medi_build.cli.console import CONSOLE, OUT, print_json
from medi_build.cli.options import JsonOption, WarehouseOption
from medi_build.progress import for_console


def gc_command(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would go, and remove nothing.")] = False,
    older_than: Annotated[
        float | None,
        typer.Option(min=0, help="Keep files of fewer days.  [default: 0; 1 with a catalog that machines share]"),
    ] = None,
    warehouse: WarehouseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove versions that no tag or branch reaches, and files that no version needs.

    Example: `medi gc --dry-run`
    """
    from medi_build.dataset.versions.gc import DAY, gc

    seconds = None if older_than is None else older_than * DAY
    found = gc(warehouse, dry_run, seconds, for_console(CONSOLE))
    if as_json:
        ids, files = map(str, found.snapshots), map(str, found.files)
        print_json({"dry_run": dry_run, "commits": list(ids), "files": list(files), "bytes": found.size})
    would = "would go" if dry_run else "are gone"
    OUT.print(
        f"{len(found.snapshots)} versions that nothing reached and {len(found.files):,} files that no version needs "
        f"{would}; {found.size:,} bytes{' would be' if dry_run else ''} freed",
    )
