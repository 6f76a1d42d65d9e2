"""The ``medi`` command: parse, call, print. torch is imported only inside the commands that need it."""

import sys

import typer

from medi_build.cli import build, cache, look, train, vectors
from medi_build.cli.console import CONSOLE
from medi_build.errors import MediError

app = typer.Typer(
    help="Build MEDI-style training data for instruction-tuned text embeddings, and train on it.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
build.register(app)
look.register(app)
cache.register(app)
vectors.register(app)
train.register(app)


def main() -> None:
    """Run the command; an error of ours is one clear message and exit code 1, Ctrl-C is 130."""
    try:
        app()
    except MediError as error:
        CONSOLE.print(f"[bold red]error[/]: {type(error).__name__}", highlight=False)
        CONSOLE.print(str(error), markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        CONSOLE.print("interrupted; the same command goes on where it was", markup=False)
        sys.exit(130)
