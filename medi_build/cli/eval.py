"""``medi eval``: how good a model is, a command for each suite."""

import typer

from medi_build.cli.eval_billboard import billboard_command
from medi_build.cli.eval_compare import compare_command
from medi_build.cli.eval_mteb import mteb_command
from medi_build.cli.eval_prompt_retrieval import prompt_retrieval_command
from medi_build.cli.eval_robustness import robustness_command
from medi_build.cli.eval_triplets import triplets_command


def commands() -> typer.Typer:
    """The commands below `medi eval`."""
    commands = typer.Typer(help="Evaluate a model: a command for each suite.", no_args_is_help=True)
    commands.command("mteb")(mteb_command)
    commands.command("billboard")(billboard_command)
    commands.command("prompt-retrieval")(prompt_retrieval_command)
    commands.command("triplets")(triplets_command)
    commands.command("robustness")(robustness_command)
    commands.command("compare")(compare_command)
    return commands
