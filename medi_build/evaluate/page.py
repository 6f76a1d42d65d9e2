"""The page about results: every task of every model with its interval, and models beside the first of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from medi_build.evaluate.compare import Task, put_together, read_results, results_below
from medi_build.evaluate.results import Result, items_path, load_result
from medi_build.pages.render import render, write_page

PAGE = "results.html"
TEMPLATE = Path(__file__).parent / "results.html.j2"
SAMPLES = 1000
"""Draws of the bootstrap: half of those of `medi eval compare`, as a page is written after each evaluation."""
MOST_DRAWN = 20_000_000
"""Items that are drawn for one interval; of a larger set there are fewer draws."""
FEWEST_DRAWS = 100


def page_of_folder(folder: Path) -> None:
    """Write `PAGE` about all results in a folder, where one of `medi eval`'s commands wrote them.

    Raises:
        EvaluationError: a file is no result, or a model has two for one task.
        OutputError: the page cannot be written.
    """
    results = map(load_result, results_below(folder))
    variants = [one for one in results if one.suite == "robustness"]
    models = read_results([folder]) if any(_plain_results(folder)) else {}
    write_results_page(folder.name, models, variants, folder / PAGE)


def _plain_results(folder: Path) -> Sequence[Path]:
    return [path for path in results_below(folder) if path.parent.name != "robustness"]


def write_results_page(
    name: str,
    models: Mapping[str, Mapping[Task, Path]],
    variants: Sequence[Result],
    path: Path,
    samples: int = SAMPLES,
    seed: int = 42,
) -> None:
    """Write the page about some results.

    Args:
        name: what stands at its head.
        models: results by model, as `read_results` finds them; the others are compared with the first.
        variants: results of `medi eval robustness`.
        path: of the page.
        samples: draws of the bootstrap; fewer where a set is so large that these would take minutes.
        seed: of the draws.
    """
    samples = min(samples, max(FEWEST_DRAWS, MOST_DRAWN // max(_largest(models), 1)))
    comparison = put_together(models, samples=samples, seed=seed)
    ends = [end for row in comparison.tasks for one in row.differences if one for end in one if end is not None]
    rows = [
        (
            row,
            [
                load_result(found[row.suite, row.task]) if (row.suite, row.task) in found else None
                for found in models.values()
            ],
        )
        for row in comparison.tasks
    ]
    page = render(
        TEMPLATE,
        name=name,
        models=[(_letter(number), label) for number, label in enumerate(models)],
        rows=rows,
        comparison=comparison,
        several=len(models) > 1,
        averages=comparison.averages,
        furthest=max(map(abs, ends), default=0) or 1,
        variants=variants,
        told=_told,
        samples=samples,
    )
    write_page(page, path)


def _letter(number: int) -> str:
    return chr(ord("A") + number % 26)


def _largest(models: Mapping[str, Mapping[Task, Path]]) -> int:
    """Items of the largest result."""
    paths = (items_path(path) for found in models.values() for path in found.values())
    return max((pq.read_metadata(path).num_rows for path in paths if path.is_file()), default=0)


def _told(result: Result) -> Sequence[tuple[str, Any]]:
    """What decided a result, in pairs of name and value."""
    texts = [(side, text) for side, text in result.instructions.items() if side != "source"]
    pairs = [
        ("model", _pairs(result.model)),
        ("instructions", result.instructions["source"]),
        *((f"in front of: {side}", text or "(nothing)") for side, text in texts),
        ("sizes", _pairs(result.counts)),
        ("settings", _pairs(result.settings)),
        ("versions", _pairs(result.versions)),
        ("machine", _pairs(result.hardware)),
        ("seconds", f"{result.seconds:,.1f}"),
    ]
    return [(name, value) for name, value in pairs if value != ""]


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_plain(value)}" for name, value in values.items() if value is not None)


def _plain(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
