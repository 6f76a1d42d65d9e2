"""``medi eval compare``: results of several models side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medi_build.cli.console import CONSOLE, OUT, as_json, new_table, print_json, print_table
from medi_build.cli.options import JsonOption
from medi_build.cli.report import page_written

if TYPE_CHECKING:
    from medi_build.evaluate.compare import Comparison, Row


def compare_command(
    results: Annotated[
        list[Path],
        typer.Argument(help="Folders that `medi eval` wrote to, or single results; the first model is the base."),
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for comparison.json, .svg and .html.")] = None,
    samples: Annotated[int, typer.Option(min=100, help="Draws of the bootstrap.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 42,
    json_: JsonOption = False,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="With --out: write comparison.html, a page, too.")
    ] = True,
) -> None:
    """Compare models by their results: scores times 100, differences to the first model with 95 % intervals.

    The intervals are those of the paired bootstrap over queries, pairs or texts. Averages are over the tasks that
    all models have, one per suite and one over all.

    Example: `medi eval compare out/eval --out out/comparison`
    """
    from medi_build.evaluate.compare import compare, read_results
    from medi_build.evaluate.compare_plot import plot_comparison
    from medi_build.evaluate.page import write_results_page
    from medi_build.files import atomic_file

    models = read_results(results)
    comparison = compare(models, samples=samples, seed=seed)
    told = {"samples": samples, "seed": seed, **_plain(comparison)}
    if json_:
        print_json(told)
    _print(comparison)
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    with atomic_file(out / "comparison.json") as file:
        file.write(as_json(told).encode() + b"\n")
    plot_comparison(comparison, out / "comparison.svg")
    page, files = out / "comparison.html", "comparison.json and comparison.svg"
    if report and page_written(lambda: write_results_page("comparison", models, [], page, samples, seed), page):
        files = "comparison.json, comparison.svg and comparison.html"
    OUT.print(f"{files} are in {out}")


def _print(comparison: "Comparison") -> None:
    letters = [chr(ord("A") + number % 26) for number in range(len(comparison.labels))]
    for letter, label in zip(letters, comparison.labels, strict=True):
        OUT.print(f"{letter}: {label}")
    differences = [f"{letter} - A" for letter in letters[1:]]
    table = new_table("task", "metric", *letters, *differences, numbers=(*letters, *differences))
    for row in comparison.tasks:
        table.add_row(row.task, row.metric, *_cells(row))
    table.add_section()
    for row in comparison.averages:
        table.add_row(f"average, {row.suite}", row.task, *_cells(row), style="bold")
    print_table(table)
    for note in comparison.notes:
        CONSOLE.print(note)


def _cells(row: "Row") -> list[str]:
    scores = ["-" if score is None else f"{100 * score:.2f}" for score in row.scores]
    for difference in row.differences[1:]:
        if difference is None:
            scores.append("-")
        elif difference.low is None or difference.high is None:
            scores.append(f"{100 * difference.value:+.2f}")
        else:
            bounds = f"{100 * difference.low:+.2f}, {100 * difference.high:+.2f}"
            scores.append(f"{100 * difference.value:+.2f} [{bounds}]")
    return scores


def _plain(comparison: "Comparison") -> dict[str, object]:
    """The comparison as plain data."""

    def row_plain(row: "Row") -> dict[str, object]:
        differences = [one._asdict() if one else None for one in row.differences]
        return {**row._asdict(), "differences": differences}

    return {
        **comparison._asdict(),
        "tasks": [row_plain(row) for row in comparison.tasks],
        "averages": [row_plain(row) for row in comparison.averages],
    }
