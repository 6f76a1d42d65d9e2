"""``medi eval``: how good a model is, a command for each suite."""

import typer


def commands() -> typer.Typer:
    """The commands below `medi eval`."""
    return typer.Typer(help="Evaluate a model: a command for each suite.", no_args_is_help=True)
