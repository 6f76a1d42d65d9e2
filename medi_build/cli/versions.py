"""``medi versions``."""

import typer

from medi_build.cli.console import CONSOLE, OUT
from medi_build.cli.options import WarehouseOption
from medi_build.progress import for_console


def commands() -> typer.Typer:
    """The commands below ``medi versions``."""
    commands = typer.Typer(help="Care for a warehouse.", no_args_is_help=True)
    commands.callback()(_callback)
    commands.command("relocate")(versions_relocate)
    return commands


def _callback() -> None:
    """Care for a warehouse."""


def versions_relocate(warehouse: WarehouseOption = None) -> None:
    """After the folder of a warehouse was moved or copied: write its paths anew.

    Example: `medi versions relocate --warehouse /data/warehouse`
    """
    from medi_build.dataset.versions.relocate import relocate

    found = relocate(warehouse, for_console(CONSOLE))
    if found.before == found.after:
        OUT.print(f"{found.after}: is where its catalog says; nothing to do")
    else:
        OUT.print(f"{found.versions} versions moved from {found.before} to {found.after}")
