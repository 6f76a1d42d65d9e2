"""``medi eval``: how good a model is, a command for each suite."""

import typer

from medi_build.cli.eval_mteb import mteb_command


def commands() -> typer.Typer:
    """The commands below `medi eval`."""
    commands = typer.Typer(help="Evaluate a model: a command for each suite.", no_args_is_help=True)
    commands.command("mteb")(mteb_command)
    return commands
