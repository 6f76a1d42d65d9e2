"""``medi eval``: how good a model is, a command for each suite."""

import typer

from medi_build.cli.eval_billboard import billboard_command
from medi_build.cli.eval_prompt_retrieval import prompt_retrieval_command


def commands() -> typer.Typer:
    """The commands below `medi eval`."""
    evaluate = typer.Typer(help="Evaluate a model: a command for each suite.", no_args_is_help=True)
    evaluate.command("billboard")(billboard_command)
    evaluate.command("prompt-retrieval")(prompt_retrieval_command)
    return evaluate
