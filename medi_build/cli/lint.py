"""``medi lint``: instructions to mend."""

from typing import Annotated

import typer

from medi_build.cli import complete
from medi_build.cli.console import CONSOLE, print_entry, print_json
from medi_build.cli.exits import Exit
from medi_build.cli.options import ContentOption, DataOption, JsonOption


def lint_command(
    pipeline: Annotated[
        list[str] | None,
        typer.Option(help="A pipeline, again for more.  [default: every dataset]", autocompletion=complete.pipelines),
    ] = None,
    content: ContentOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """List instructions that are wrongly worded or shared by tasks that ask different things.

    Without --data, Super-NI tasks without a hand-written instruction are left out. Exit code 1 if any is listed.

    Example: `medi lint --pipeline medi --data raw`
    """
    from medi_build.pipeline.lint import lint

    found = lint(content, pipeline or (), data)
    if as_json:
        print_json(found.findings)
    for finding in found.findings:
        print_entry(finding.dataset, finding.instruction, f"{finding.what}: {finding.do}")
    CONSOLE.print(
        f"{len(found.findings):,} to mend in {found.datasets:,} datasets; of {found.unknown:,} more the instruction "
        "is in files that are not there",
    )
    if found.findings:
        raise typer.Exit(Exit.FOUND)
