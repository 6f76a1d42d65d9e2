"""``medi contamination``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medi_build.cli.console import CONSOLE, OUT, as_json, new_table, print_json, print_table, shorten
from medi_build.cli.options import json_alone
from medi_build.progress import for_console

if TYPE_CHECKING:
    from rich.table import Table

    from medi_build.evaluate.contamination.report import Report

SHOWN = 3
"""Examples that are printed; the JSON file has more."""


def contamination_command(
    source: Annotated[
        Path, typer.Argument(help="Folder of a build, or a file of records (medi-data.json, JSON lines, CSV, Parquet).")
    ],
    against: Annotated[
        list[str],
        typer.Option(
            help="Evaluation texts, any number of times: mteb:TASK (or a benchmark), the folder of an evaluation set, "
            "or a file with a text a line or JSON lines with `text`."
        ),
    ],
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", help="Write the whole report, with examples, here; - prints it, and nothing for people."
        ),
    ] = None,
) -> None:
    """Find records whose query, positive or negative holds text of an evaluation.

    A text is a hit where it is the same (case, punctuation and white space apart), nearly the same, or shares long runs
    of words; see docs/contamination.md. `medi build --exclude-eval` keeps such texts out. The exit code is 0 whatever
    is found, 1 on an error.

    Example: `medi contamination out/medi --against mteb:NFCorpus --against my-questions.txt --json hits.json`
    """
    from medi_build.evaluate.contamination.report import contamination
    from medi_build.files import write_bytes

    progress = for_console(CONSOLE)
    progress.start(1)
    now = ""

    def stage(name: str, done: int, total: int | None) -> None:
        nonlocal now
        if name != now:
            progress.stage(source.name, now := name)
        progress.advance(done, total)

    try:
        report = contamination(source, against, stage)
    finally:
        progress.close()
    json_alone(json_file == Path("-"))
    if json_file == Path("-"):
        print_json(report.to_dict())
    elif json_file is not None:
        write_bytes(json_file, as_json(report.to_dict()).encode() + b"\n", json_file.parent)
    _tell(report, json_file)


def _tell(report: "Report", json_file: Path | None) -> None:
    found = report.found
    total, hit = (sum(getattr(one, name) for one in found.datasets.values()) for name in ("records", "hit"))
    if hit:
        print_table(_table(report))
        _print_examples(report)
    texts = sum(one.texts for one in report.against)
    share = f" ({hit / total:.2%})" if hit else ""
    sets = ", ".join(one.name for one in report.against)
    OUT.print(
        f"{hit:,} of {total:,} records{share} hold one of {texts:,} evaluation texts of {sets}; "
        f"{found.different_texts:,} different texts were looked at",
    )  # fmt: skip
    if json_file is not None:
        OUT.print(f"  {json_file}  the whole report")


def _table(report: "Report") -> "Table":
    """A line for each dataset and evaluation set with hits: records by kind of match, and by side."""
    numbers = ("hit", "share", "exact", "near", "overlap", "query", "pos", "neg")
    table = new_table("dataset", "evaluation", *numbers, numbers=numbers, title="Records that hold evaluation text")
    for name, one in report.found.datasets.items():
        for number, counts in sorted(one.by_set.items()):
            figures = [counts.records, *(counts.kinds[kind] for kind in ("exact", "near", "overlap"))]
            cells = [f"{count:,}" for count in (*figures, *(counts.sides[side] for side in ("query", "pos", "neg")))]
            table.add_row(
                name, report.against[number].name, cells[0], f"{counts.records / one.records:.2%}", *cells[1:]
            )
    return table


def _print_examples(report: "Report") -> None:
    told = 0
    for name, one in report.found.datasets.items():
        for number, counts in sorted(one.by_set.items()):
            for kind, examples in counts.examples.items():
                if told == SHOWN:
                    return
                example, told = examples[0], told + 1
                lines = (
                    f"{kind} {example.similarity:.2f}: {name}, record {example.record}, {example.side}",
                    f"  {shorten(example.text)}",
                    f"  {report.against[number].name}, {example.role} {example.id}: {shorten(example.evaluation)}",
                )
                for line in lines:
                    OUT.print(line)
