"""``medi show``: one dataset, from its card to finished records."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from medi_build.cli import complete
from medi_build.cli.console import CONSOLE, OUT, print_json, print_record, shorten
from medi_build.cli.options import (
    ContentOption,
    DataOption,
    JsonOption,
)
from medi_build.errors import ContentError, did_you_mean
from medi_build.paths import cache_folder
from medi_build.progress import for_console

if TYPE_CHECKING:
    from medi_build.content.cards import Card
    from medi_build.content.load import Content


def show_command(
    name: Annotated[str, typer.Argument(help="A dataset, e.g. kilt/nq.", autocompletion=complete.datasets)],
    data: DataOption = None,
    pipeline: Annotated[
        str,
        typer.Option(help="Pipeline whose split, encoder and mining rule to use.", autocompletion=complete.pipelines),
    ] = "quickstart",
    content: ContentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a dataset: its card and, where its files are, counts, three raw rows and three rendered records.

    The records come from a real build of at most 200 of its examples in a temporary folder.

    Example: `medi show super_ni/task9001_sample_note_mood`
    """
    import yaml

    from medi_build.content.load import load_content

    loaded = load_content(content)
    card = _card(loaded, name)
    OUT.print(Text.assemble((name, "bold"), f"  (task id {loaded.task_ids[name]})"))
    facts = card.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
    written = yaml.safe_dump(facts, sort_keys=False, allow_unicode=True, width=76)
    OUT.print(written.rstrip())

    from medi_build.dataset.reader import open_dataset
    from medi_build.ingest.preview import raw_rows
    from medi_build.pipeline.options import BuildOptions
    from medi_build.pipeline.plan import find_pipeline, resolve
    from medi_build.pipeline.run import build

    chosen = find_pipeline(loaded, pipeline).model_copy(update={"allow_missing": False, "offline": True})
    plan = resolve(loaded, chosen, (name,), data, None, cache_folder() / "downloads")
    OUT.print(Text("\nRaw rows", style="bold"))
    raw = list(raw_rows(plan.units[0].located.found["rows"][0], 3))
    for row in raw:
        OUT.print("  " + shorten(row))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "build"
        options = BuildOptions(
            out=out, sources=(name,), pipeline=pipeline, data=data, content=content, offline=True, limit_per_dataset=200
        )
        result = build(options, for_console(CONSOLE))
        ledger, dataset = result.ledgers[0], result.manifest.datasets[0]
        counts = (
            f" (at most 200 examples)  kind {dataset.kind}, read {ledger.read:,}, adapted {ledger.adapted:,}, "
            f"written {ledger.written:,}, dropped {ledger.to_dict()['dropped']}"
        )
        OUT.print(Text.assemble(("\nCounts", "bold"), counts))
        fallback = ", of which there is none, so first" if "no_definition" in ledger.notes else ""
        phrasing = f"{chosen.instructions.phrasing}{fallback}"
        OUT.print(Text.assemble(("\nRecords", "bold"), f"  instructions: phrasing {phrasing}"))
        records = open_dataset(out).sample(3)
        for record in records:
            print_record(record)
        if as_json:
            about = {"name": name, "task_id": loaded.task_ids[name], "card": facts, "kind": dataset.kind}
            print_json({**about, "raw_rows": raw, "ledger": ledger.to_dict(), "records": records})


def _card(content: "Content", name: str) -> "Card":
    if name not in content.cards:
        raise ContentError(f"no dataset {name!r}{did_you_mean(name, content.cards)}; see `medi ls sources`")
    return content.cards[name]
