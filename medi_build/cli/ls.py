"""``medi ls``: what sources, templates and pipelines there are."""

from typing import TYPE_CHECKING, Annotated

import typer

from medi_build.cli.console import OUT, print_entry
from medi_build.cli.options import ContentOption, split_names
from medi_build.paths import cache_folder

if TYPE_CHECKING:
    from medi_build.content.cards import Card


def commands() -> typer.Typer:
    """The commands below ``medi ls``."""
    commands = typer.Typer(help="List what there is.", no_args_is_help=True)
    commands.command("sources")(ls_sources)
    commands.command("templates")(ls_templates)
    commands.command("pipelines")(ls_pipelines)
    return commands


def ls_sources(
    sources: Annotated[str, typer.Option(help="As for `medi build`; `all` is every card.")] = "medi",
    content: ContentOption = None,
) -> None:
    """List datasets: id, licence, rows, what is pinned. Without options, those of the collection medi.

    Example: `medi ls sources --sources kilt,medmcqa`
    """
    from medi_build.content.load import load_content, select_names

    loaded = load_content(content)
    names = select_names(loaded.cards, split_names(sources))
    OUT.print(f"{len(names)} datasets: task id, name")
    for name in names:
        card = loaded.cards[name]
        rows = (f"{split} {count}" for split, count in card.expected_rows.items())
        facts = {
            "licence": card.licence.spdx,
            "commercial use": card.licence.commercial_use,
            "rows": ", ".join(rows) or "unconfirmed",
            "cap": f"{card.cap:,}" if card.cap else "none",
            "revision": _revision(card),
            "template": card.instruction.template,
        }
        print_entry(f"{loaded.task_ids[name]:>6}  {name}", "; ".join(f"{what} {fact}" for what, fact in facts.items()))


def _revision(card: "Card") -> str:
    """The card's revision, or what the first fetch recorded."""
    if card.download is None:
        return "local files only"
    if card.download.revision != "unconfirmed":
        return card.download.revision[:12]
    from medi_build.ingest.remotes import pinned

    pins = pinned(card, cache_folder() / "downloads").values()
    got = ", ".join(sorted({pin.revision[:12] or pin.sha256[:12] for pin in pins}))
    return f"unconfirmed, fetched {got}" if got else "unconfirmed"


def ls_templates(content: ContentOption = None) -> None:
    """List the families of instructions with their first phrasing.

    Example: `medi ls templates`
    """
    from medi_build.content.load import load_content

    for name, template in sorted(load_content(content).templates.items()):
        first = template.phrasings[0]
        print_entry(
            name,
            f"fields: {', '.join(template.fields)}",
            f"query: {first.query}",
            f"document: {first.document or 'the same'}",
        )


def ls_pipelines(content: ContentOption = None) -> None:
    """List the pipelines.

    Example: `medi ls pipelines`
    """
    from medi_build.content.load import load_content

    for name, pipeline in sorted(load_content(content).pipelines.items()):
        print_entry(
            name,
            " ".join(pipeline.description.split()),
            f"sources {', '.join(pipeline.sources)}; encoder {pipeline.encoder.model}; mining {pipeline.mining.preset}",
        )
