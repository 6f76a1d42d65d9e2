"""``medi compare-release``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medi_build.cli.console import CONSOLE, OUT, print_entry, print_json
from medi_build.cli.options import ContentOption, JsonOption

if TYPE_CHECKING:
    from medi_build.content.release_overlay import ReleasedTask
    from medi_build.dataset.release import Comparison, Match, Shared, Task


def compare_release_command(
    folder: Annotated[Path, typer.Argument(help="Output folder of a build.")],
    release: Annotated[
        str, typer.Option("--with", help="The release: a JSON or Parquet file, a folder of them, or its id on the hub.")
    ],
    as_json: JsonOption = False,
    write_content: Annotated[
        Path | None,
        typer.Option(help="Write the release's tasks, rows and instructions here, for `medi build --content`."),
    ] = None,
    content: ContentOption = None,
) -> None:
    """Compare a build with a public release of MEDI: tasks, rows, instructions, shared queries and negatives.

    A task of the release is the dataset of its name, else the one whose queries it shares, else it is unresolved.

    Example: `medi compare-release out/medi --with medi-data.json --write-content release-content`
    """
    from medi_build.content.load import load_content
    from medi_build.content.release_overlay import PIPELINE, write_overlay
    from medi_build.dataset.reader import open_dataset
    from medi_build.dataset.release import compare, side_of_build, side_of_release
    from medi_build.ingest.release_rows import release_rows

    dataset = open_dataset(folder)
    loaded = load_content(content)
    found = compare(side_of_build(dataset), side_of_release(release_rows(release)))
    if as_json:
        print_json(found)
    else:
        _print_comparison(found)
    if write_content is not None:
        taken, left = write_overlay(write_content, _tasks(found), dataset.manifest.pipeline, loaded)
        CONSOLE.print(
            f"{write_content}: {taken} datasets; {left} lines in {write_content / 'not_taken.tsv'}; next: "
            f"medi build --content {write_content} --pipeline {PIPELINE} --data DIR",
        )  # fmt: skip


def _tasks(found: "Comparison") -> "list[ReleasedTask]":
    """All tasks of the release as the overlay takes them."""
    from medi_build.content.release_overlay import ReleasedTask

    known = [
        ReleasedTask(
            one.released.name,
            one.built.name,
            one.released.rows,
            (one.released.query_instruction, one.released.document_instruction),
            (one.built.query_instruction, one.built.document_instruction),
        )
        for one in found.matches
    ]
    return known + [ReleasedTask(task.name, None, task.rows, ("", ""), ("", "")) for task in found.unresolved]


def _print_comparison(found: "Comparison") -> None:
    OUT.print("on both sides: task of the release = dataset here", style="bold")
    for one in found.matches:
        print_entry(f"{one.released.name} = {one.built.name}", *_facts(one))
    for title, tasks in (
        ("unresolved: in the release, and not known which dataset here", found.unresolved),
        ("only here: no task of the release was found to be it", found.only_built),
    ):
        if tasks:
            OUT.print(f"\n{title}", style="bold")
            for task in tasks:
                print_entry(task.name, f"{task.rows:,} rows; {_said(task)}")
    counts = (len(found.matches), len(found.unresolved), len(found.only_built))
    OUT.print(
        "\n{:,} tasks on both sides, {:,} unresolved, {:,} only here; ".format(*counts)
        + f"{found.released_rows:,} rows there, {found.built_rows:,} here. Of ours stand there "
        + f"{_share(found.queries)} queries and {_share(found.negatives)} negatives.",
    )


def _share(texts: "Shared") -> str:
    return f"{texts.there:,} of {texts.ours:,} ({texts.share:.1%})"


def _facts(one: "Match") -> list[str]:
    """How it was found, rows, what of ours stands there, and the instructions of both sides if they differ."""
    counts = f"by {one.by}; rows: {one.released.rows:,} there, {one.built.rows:,} here"
    shared = f"of ours stand there: {_share(one.queries)} queries, {_share(one.negatives)} negatives"
    there, here = _said(one.released), _said(one.built)
    return [counts, shared, *([f"both say: {here}"] if there == here else [f"there: {there}", f"here: {here}"])]


def _said(task: "Task") -> str:
    more = f" (and {task.phrasings - 1:,} more)" if task.phrasings > 1 else ""
    sides = [task.query_instruction or "(no instruction)", task.document_instruction or "(no instruction)"]
    return " / ".join(dict.fromkeys(sides)) + more
