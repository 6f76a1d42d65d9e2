"""The group that all commands stand in: it gives each of them ``--quiet``, and its first sentence to lists, whole."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from medi_build.cli.console import hush

HELP = "No progress, notes and tables; errors are told, and what --json prints."


class Root(TyperGroup):
    """A group whose commands, and those below them, all have ``--quiet``; so has the group itself."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        _give(self, _option(_from_here))
        quiet = _option(_also_here)
        for command in self.commands.values():
            _give_all(command, quiet)


def _from_here(quiet: bool) -> None:
    hush(quiet)


def _also_here(quiet: bool) -> None:
    if quiet:
        hush(quiet)


def _option(callback: Any) -> Any:
    """The option, as typer makes it of an annotation."""

    def holder(
        quiet: Annotated[bool, typer.Option("--quiet", help=HELP, callback=callback, expose_value=False)] = False,
    ) -> None:
        """Has the option."""

    app = typer.Typer(add_completion=False)
    app.command()(holder)
    return next(one for one in typer.main.get_command(app).params if one.name == "quiet")


def _first_sentence(text: str) -> str:
    sentence, stop, _ = " ".join(text.split("\n\n", maxsplit=1)[0].split()).partition(". ")
    return sentence + stop.rstrip()


def _give(command: Any, option: Any) -> None:
    if not any(one.name == option.name for one in command.params):
        command.params.append(option)


def _give_all(command: Any, option: Any) -> None:
    _give(command, option)
    command.short_help = command.short_help or _first_sentence(command.help or "")
    for below in getattr(command, "commands", {}).values():
        _give_all(below, option)
