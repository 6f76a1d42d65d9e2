"""``medi explain``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medi_build.cli.console import OUT, print_entry, print_json, print_record, shorten
from medi_build.cli.options import SAMPLES, WarehouseOption
from medi_build.errors import OptionError

if TYPE_CHECKING:
    from rich.table import Table

    from medi_build.dataset.explain import Explanation
    from medi_build.dataset.explanations import Candidate

_HEADS = {
    "score": "score",
    "guide_score": "guide",
    "cross_encoder_score": "cross",
    "false_negative_probability": "likely positive",
}


def explain_command(
    record_id: Annotated[str, typer.Argument(metavar="RECORD_ID", help="The column id of a record.")],
    where: Annotated[
        str, typer.Option("--in", metavar="DIR|REF", help="Output folder of a build that was made with --explain.")
    ] = ".",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    warehouse: WarehouseOption = None,
) -> None:
    """Say why a record has its negative: every candidate with rank, scores, and why it was taken or rejected.

    `medi build --explain` writes that down. An id of a row that lost all its candidates is explained, too.

    Example: `medi explain embedding_training_data/sample_captions/22c66690b46ec80e --in out/quickstart`
    """
    from medi_build.dataset.explain import explain
    from medi_build.dataset.schema import MANIFEST
    from medi_build.dataset.versions.which import open_any

    if where == "." and not Path(MANIFEST).is_file():
        raise OptionError(
            "--in is not given, and this folder holds no build; name the folder of one: "
            f"medi explain {record_id} --in out/{SAMPLES}"
        )
    told = explain(open_any(where, warehouse), record_id)
    if as_json:
        print_json(told.to_dict())
    else:
        _print(told)


def _print(told: "Explanation") -> None:
    from medi_build.dataset.explanations import VERDICTS

    if told.found is None:
        print_entry(told.record_id, "No record was made of this row: nothing that was looked at could be a negative.")
    else:
        record = told.found.record
        print_record(record)
        print_entry("from", f"{record['source_file']}, row {record['source_row']:,}")
    OUT.print(_table(told.candidates))
    verdicts = dict.fromkeys(one.verdict for one in told.candidates)
    for verdict in verdicts:
        print_entry(verdict, VERDICTS.get(verdict, "rejected by the filter of this name, see docs/knobs.md"))


def _table(candidates: "list[Candidate]") -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    scores = [name for name in _HEADS if any(name in one.scores for one in candidates)]
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("rank", justify="right", no_wrap=True)
    for name in scores:
        table.add_column(_HEADS[name], justify="right", no_wrap=True)
    table.add_column("found by")
    table.add_column("verdict", overflow="fold")
    table.add_column("text", overflow="fold", ratio=1)
    for one in candidates:
        told = (f"{one.scores[name]:.3f}" if name in one.scores else "" for name in scores)
        rank = "" if one.rank is None else str(one.rank)
        verdict = Text(one.verdict, style="bold" if one.verdict in ("taken", "lifted") else "")
        table.add_row(rank, *told, Text(one.found_by), verdict, Text(shorten(one.text)))
    return table
