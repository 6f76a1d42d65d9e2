"""``medi ls``: what sources, templates and pipelines there are."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from medi_build.cli import complete
from medi_build.cli.console import OUT, print_entry, print_json
from medi_build.cli.options import ContentOption, JsonOption, split_names
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
    sources: Annotated[
        str, typer.Option(help="As for `medi build`; `all` is every card.", autocompletion=complete.sources)
    ] = "medi",
    content: ContentOption = None,
    as_json: JsonOption = False,
) -> None:
    """List datasets: id, licence, rows, what is pinned. Without options, those of the collection medi.

    Example: `medi ls sources --sources kilt,medmcqa`
    """
    from medi_build.content.load import load_content, select_names

    loaded = load_content(content)
    names = select_names(loaded.cards, split_names(sources))
    if as_json:
        print_json([{"name": name, "task_id": loaded.task_ids[name], **_facts(loaded.cards[name])} for name in names])
    OUT.print(f"{len(names)} datasets: task id, name")
    for name in names:
        facts = _facts(loaded.cards[name])
        rows = (f"{split} {count}" for split, count in facts["rows"].items())
        facts |= {"rows": ", ".join(rows) or "unconfirmed", "cap": f"{facts['cap']:,}" if facts["cap"] else "none"}
        told = "; ".join(f"{what.replace('_', ' ')} {fact}" for what, fact in facts.items())
        print_entry(f"{loaded.task_ids[name]:>6}  {name}", told)


def _facts(card: "Card") -> dict[str, Any]:
    """What is told of a dataset; ``rows`` by split."""
    return {
        "licence": card.licence.spdx,
        "commercial_use": card.licence.commercial_use,
        "rows": dict(card.expected_rows),
        "cap": card.cap,
        "revision": _revision(card),
        "template": card.instruction.template,
    }


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


def ls_templates(content: ContentOption = None, as_json: JsonOption = False) -> None:
    """List the families of instructions with their first phrasing.

    Example: `medi ls templates`
    """
    from medi_build.content.load import load_content

    templates = sorted(load_content(content).templates.items())
    if as_json:
        print_json([{**one.model_dump(mode="json"), "name": name} for name, one in templates])
    for name, template in templates:
        first = template.phrasings[0]
        print_entry(
            name,
            f"fields: {', '.join(template.fields)}",
            f"query: {first.query}",
            f"document: {first.document or 'the same'}",
        )


def ls_pipelines(content: ContentOption = None, as_json: JsonOption = False) -> None:
    """List the pipelines.

    Example: `medi ls pipelines`
    """
    from medi_build.content.load import load_content

    pipelines = sorted(load_content(content).pipelines.items())
    if as_json:
        print_json([{**one.model_dump(mode="json"), "name": name} for name, one in pipelines])
    for name, pipeline in pipelines:
        print_entry(
            name,
            " ".join(pipeline.description.split()),
            f"sources {', '.join(pipeline.sources)}; encoder {pipeline.encoder.model}; mining {pipeline.mining.preset}",
        )
