"""``medi validate`` and ``medi new-source``: check the content, add to it."""

from pathlib import Path
from typing import Annotated

import typer

from medi_build.cli import complete
from medi_build.cli.console import OUT, print_json
from medi_build.cli.options import (
    ContentOption,
    DataOption,
    JsonOption,
)


def validate_command(content: ContentOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Check every card, pipeline and template, and run every adapter and template over the sample rows.

    With --data, datasets whose files are there are run over those files, too.

    Example: `medi validate --content my-content`
    """
    from medi_build.pipeline.validate import validate

    found = validate(content, data)
    if as_json:
        print_json(found)
    OUT.print(
        f"{found.cards:,} cards, {found.templates} templates and {found.pipelines} pipelines are valid; "
        f"{found.datasets} datasets ran, {found.rows:,} rows"
    )
    if found.to_mend:
        OUT.print(f"{found.to_mend:,} instructions to mend, see `medi lint`")


def new_source_command(
    name: Annotated[str, typer.Argument(help="Name of the dataset, e.g. embedding_training_data/our_tickets.")],
    file: Annotated[str, typer.Option(help="Its file below DATA/<source>/.")],
    content: Annotated[Path, typer.Option(help="Your content folder; made if it is not there.")] = Path("medi-content"),
    template: Annotated[
        str, typer.Option(help="Family of instructions; see `medi ls templates`.", autocompletion=complete.templates)
    ] = "similarity",
) -> None:
    """Write a card to fill in, with the next free task id.

    Example: `medi new-source embedding_training_data/our_tickets --file our_tickets.jsonl`
    """
    from medi_build.content.new_source import write_card

    path = write_card(name, file, content, template)
    OUT.print(f"{path} is written; fill in licence, citation and instruction, then `medi validate --content {content}`")
