"""``medi export``."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medi_build.cli import complete
from medi_build.cli.console import CONSOLE, OUT, new_table, print_json, print_table
from medi_build.cli.options import JsonOption, LicencePolicy, WarehouseOption
from medi_build.progress import for_console

if TYPE_CHECKING:
    from rich.table import Table

    from medi_build.dataset.export.run import Export


class ExportForm(StrEnum):
    """Formats of other tools."""

    medi_json = "medi-json"
    sentence_transformers = "sentence-transformers"
    flagembedding = "flagembedding"
    tevatron = "tevatron"
    jsonl = "jsonl"


def export_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="REF|DIR", help="Output folder of a build, or a version.", autocompletion=complete.folders_and_refs
        ),
    ],
    form: Annotated[
        ExportForm,
        typer.Option(
            "--format",
            help="medi-json: one array of query, pos, neg, task_id. sentence-transformers: a subset for each dataset, "
            "and its prompts. flagembedding, tevatron: JSON lines as they read them. jsonl: every column.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="A folder that is new or empty.")],
    licence_policy: Annotated[
        LicencePolicy,
        typer.Option(
            "--licence-policy",
            "--license-policy",
            help="`commercial` leaves out what is not known to allow commercial use, and says what went.",
        ),
    ] = LicencePolicy.any,
    warehouse: WarehouseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a dataset as another tool reads it. The folder appears whole or not at all; README.md says how to load it.

    Example: `medi export out/medi --format sentence-transformers --out out/for-st --licence-policy commercial`
    """
    from medi_build.dataset.export.run import export
    from medi_build.dataset.versions.which import open_any

    progress = for_console(CONSOLE)
    try:
        done = export(open_any(source, warehouse), form.value, out, licence_policy.value, progress)
    finally:
        progress.close()
    if as_json:
        print_json({**done._asdict(), "left_out": [one.name for one in done.left_out], "out": out})
    print_table(_table(done))
    for one in done.left_out:
        told = f"left out: {one.name}, licence {one.licence}, commercial use {one.commercial_use}, {one.rows:,} rows"
        OUT.print(told)
    if done.empty:
        OUT.print(f"without records: {', '.join(done.empty)}")
    state = "written to" if done.fresh else "already in"
    OUT.print(f"{sum(done.rows.values()):,} rows of {len(done.rows)} datasets {state} {out}")


def _table(done: "Export") -> "Table":
    """Rows; negatives, rows whose negatives were filled up, and sides with the instruction in the text, if any."""
    columns: dict[str, list[str]] = {"rows": [f"{rows:,}" for rows in done.rows.values()]}
    notes = [done.notes[name] for name in done.rows]
    if any(note.negatives for note in notes):
        columns["negatives"] = [str(note.negatives) for note in notes]
        columns["filled"] = [f"{note.filled:,}" for note in notes]
    if any(note.in_text != "nothing" for note in notes):
        columns["in text"] = [note.in_text for note in notes]
    table = new_table("dataset", *columns, numbers=columns)
    for row in zip(done.rows, *columns.values(), strict=True):
        table.add_row(*row)
    return table
