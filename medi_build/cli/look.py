"""``medi ls``, ``show``, ``validate`` and ``new-source``: look at the content and add to it."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml

from medi_build.cards import Card
from medi_build.cli.build import sample_records, split_names
from medi_build.cli.console import CONSOLE, OUT, print_entry, print_record, shorten
from medi_build.content import Content, load_content, select_names
from medi_build.errors import ContentError, did_you_mean
from medi_build.progress import for_console
from medi_build.settings import cache_folder

if TYPE_CHECKING:
    from medi_build.fetch import Pin

ContentOption = Annotated[Path | None, typer.Option(help="Your own sources/ templates/ pipelines/, laid over ours.")]
DataOption = Annotated[Path | None, typer.Option(help="Folder of raw files, as for `medi build`.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    listing = typer.Typer(help="List what there is.", no_args_is_help=True)
    listing.command("sources")(ls_sources)
    listing.command("templates")(ls_templates)
    listing.command("pipelines")(ls_pipelines)
    app.add_typer(listing, name="ls")
    app.command("show")(show)
    app.command("validate")(validate_command)
    app.command("new-source")(new_source)


def ls_sources(
    sources: Annotated[str, typer.Option(help="As for `medi build`; `all` is every card.")] = "medi",
    content: ContentOption = None,
) -> None:
    """List datasets: id, licence, rows, what is pinned. Without options, the 330 of the paper.

    Example: `medi ls sources --sources kilt,medmcqa`
    """
    from medi_build.fetch import pinned

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
            "revision": _revision(card, pinned(card, cache_folder() / "downloads")),
            "template": card.instruction.template,
        }
        print_entry(f"{loaded.task_ids[name]:>6}  {name}", "; ".join(f"{what} {fact}" for what, fact in facts.items()))


def _revision(card: Card, pins: Mapping[str, "Pin"]) -> str:
    """The card's revision, or what the first fetch recorded."""
    if card.download is None:
        return "local files only"
    if card.download.revision != "unconfirmed":
        return card.download.revision[:12]
    got = ", ".join(sorted({pin.revision[:12] or pin.sha256[:12] for pin in pins.values()}))
    return f"unconfirmed, fetched {got}" if got else "unconfirmed"


def ls_templates(content: ContentOption = None) -> None:
    """List the families of instructions with their first phrasing.

    Example: `medi ls templates`
    """
    for name, template in sorted(load_content(content).templates.items()):
        first = template.phrasings[0]
        print_entry(
            name,
            f"fields: {', '.join(template.fields)}",
            f"query: {first.query}",
            f"document: {first.document or 'the same'}",
        )


def ls_pipelines(content: ContentOption = None) -> None:
    """List the recipes.

    Example: `medi ls pipelines`
    """
    for name, recipe in sorted(load_content(content).recipes.items()):
        print_entry(
            name,
            " ".join(recipe.description.split()),
            f"sources {', '.join(recipe.sources)}; encoder {recipe.encoder.model}; mining {recipe.mining.preset}",
        )


def show(
    name: Annotated[str, typer.Argument(help="A dataset, e.g. kilt/nq.")],
    data: DataOption = None,
    pipeline: Annotated[str, typer.Option(help="Recipe whose split, encoder and mining rule to use.")] = "quickstart",
    content: ContentOption = None,
) -> None:
    """Show a dataset: its card and, where its files are, counts, three raw rows and three rendered records.

    The records come from a real build of at most 200 of its examples in a temporary folder.

    Example: `medi show super_ni/task9001_sample_note_mood`
    """
    from medi_build.build import build
    from medi_build.options import BuildOptions
    from medi_build.plan import find_recipe, resolve
    from medi_build.raw import raw_rows

    loaded = load_content(content)
    card = _card(loaded, name)
    OUT.print(f"[bold]{name}[/]  (task id {loaded.task_ids[name]})")
    facts = card.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
    written = yaml.safe_dump(facts, sort_keys=False, allow_unicode=True, width=76)
    OUT.print(written.rstrip(), markup=False, highlight=False, soft_wrap=True)
    recipe = find_recipe(loaded, pipeline).model_copy(update={"allow_missing": False, "offline": True})
    plan = resolve(loaded, recipe, (name,), data, None, cache_folder() / "downloads")
    OUT.print("\n[bold]Raw rows[/]")
    for row in raw_rows(plan.units[0].located.found["rows"][0], 3):
        OUT.print("  " + shorten(row), markup=False, highlight=False, soft_wrap=True)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "build"
        options = BuildOptions(
            out=out, sources=(name,), pipeline=pipeline, data=data, content=content, offline=True, limit_per_dataset=200
        )
        result = build(options, for_console(CONSOLE))
        ledger, dataset = result.ledgers[0], result.manifest["datasets"][0]
        OUT.print(
            f"\n[bold]Counts[/] (at most 200 examples)  kind {dataset['kind']}, read {ledger.read:,}, adapted "
            f"{ledger.adapted:,}, written {ledger.written:,}, dropped {ledger.to_dict()['dropped']}",
            highlight=False,
        )
        OUT.print("\n[bold]Records[/]")
        for record in sample_records(out, 3):
            print_record(record)


def _card(content: Content, name: str) -> Card:
    if name not in content.cards:
        raise ContentError(f"no dataset {name!r}{did_you_mean(name, content.cards)}; see `medi ls sources`")
    return content.cards[name]


def validate_command(content: ContentOption = None, data: DataOption = None) -> None:
    """Check every card, recipe and template, and run every adapter and template over the sample rows.

    With --data, datasets whose files are there are run over those files, too.

    Example: `medi validate --content my-content`
    """
    from medi_build.validate import validate

    found = validate(content, data)
    OUT.print(
        f"{found.cards:,} cards, {found.templates} templates and {found.recipes} recipes are valid; "
        f"{found.datasets} datasets ran, {found.rows:,} rows"
    )


def new_source(
    name: Annotated[str, typer.Argument(help="Name of the dataset, e.g. embedding_training_data/our_tickets.")],
    file: Annotated[str, typer.Option(help="Its file below DATA/<source>/.")],
    content: Annotated[Path, typer.Option(help="Your content folder; made if it is not there.")] = Path("medi-content"),
    template: Annotated[str, typer.Option(help="Family of instructions; see `medi ls templates`.")] = "similarity",
) -> None:
    """Write a card to fill in, with the next free task id.

    Example: `medi new-source embedding_training_data/our_tickets --file our_tickets.jsonl`
    """
    from medi_build.new_source import write_card

    path = write_card(name, file, content, template)
    OUT.print(f"{path} is written; fill in licence, citation and instruction, then `medi validate --content {content}`")
