"""``medi blame``."""

from math import isnan
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medi_build.cli import complete
from medi_build.cli.console import print_entry, print_json, shorten
from medi_build.cli.options import JsonOption, WarehouseOption

if TYPE_CHECKING:
    from medi_build.dataset.blame import Blame
    from medi_build.dataset.sources import Source
    from medi_build.dataset.story import Story
    from medi_build.dataset.versions.log import Commit


def blame_command(
    record_id: Annotated[str, typer.Argument(metavar="RECORD_ID", help="The column id of a record.")],
    where: Annotated[
        str,
        typer.Argument(
            metavar="REF",
            help="A version: tag, branch or id; or the output folder of a build.",
            autocompletion=complete.folders_and_refs,
        ),
    ] = "main",
    as_json: JsonOption = False,
    warehouse: WarehouseOption = None,
) -> None:
    """Say where a record comes from: raw file and row, card, instructions, miner, scores, build, and its commits.

    Of a folder all but the commits is told. The commit that brought a record is the one since which it has been there
    without a break; scores that differ by less than 0.001 and another raw row are no change.

    Example: `medi blame kilt/nq/-1234 v1.2`
    """
    from medi_build.dataset.blame import blame, check_not_purged
    from medi_build.dataset.versions.which import is_folder, open_any
    from medi_build.errors import DatasetError

    dataset = open_any(where, warehouse)
    try:
        found = blame(dataset, record_id)
    except DatasetError:
        check_not_purged(warehouse, record_id)
        raise
    life = None
    if not is_folder(where, warehouse):
        from medi_build.dataset.story import story

        life = story(warehouse, where, found)
    if as_json:
        print_json({**found.to_dict(), "commits": _story_dict(life) if life else None})
    else:
        _print(found, life)


def _story_dict(life: "Story") -> dict[str, Any]:
    changed = None if life.changed is None else {**life.changed.to_dict(), "fields": list(life.fields)}
    return {"brought": life.brought.to_dict() if life.brought else None, "changed": changed}


def _print(found: "Blame", life: "Story | None") -> None:
    from medi_build.dataset.schema import told_rank
    from medi_build.dataset.sources import source_of

    record, card = found.record, found.dataset.card
    print_entry(record["id"], f"dataset {found.dataset.name}, task id {found.dataset.task_id}")
    digest = f", sha256 {found.source_sha256}" if found.source_sha256 else ""
    print_entry("from", f"{record['source_file']}, row {record['source_row']:,}{digest}")
    facts = [card.get("description"), _places(source_of(found.dataset)), card.get("citation")]
    licence = f"licence {found.dataset.licence}, commercial use {found.dataset.commercial_use}"
    print_entry("card", *(fact for fact in facts if fact), licence)
    for side, told in (
        ("query", ""),
        ("pos", f"{_score(record['pos_score'])}, {record['pos_id']}"),
        ("neg", f"{_score(record['neg_score'])}, {told_rank(record['neg_rank'])}, {record['neg_id']}"),
    ):
        instruction, text = record[side]
        print_entry(side, *([told] if told else []), instruction or "(no instruction)", shorten(text))
    further = len(record["hard_negatives"])
    print_entry(
        "mined",
        f"by {record['miner']}, encoder {found.encoder} ({found.encoder_identity})",
        f"{further:,} further negatives",
    )
    build = f"medi {found.medi_version}, pipeline {found.pipeline}, fingerprint {found.dataset.fingerprint}"
    print_entry("build", build)
    if life is not None:
        print_entry("brought by", _commit(life.brought) if life.brought else "a commit before the history that is kept")
        told = f"{_commit(life.changed)}; {', '.join(life.fields)}" if life.changed else "nothing since"
        print_entry("last changed by", told)


def _score(score: float) -> str:
    return "not scored" if isnan(score) else f"score {score:.4f}"


def _places(source: "Source") -> str:
    """Where the raw files of the dataset came from."""
    revision = f", revision {source.revision}" if source.revision else ""
    return f"{', '.join(source.places)}{revision}"


def _commit(commit: "Commit") -> str:
    names = ", ".join((*commit.tags, *commit.branches))
    return f"{commit.id}, {commit.time:%Y-%m-%d %H:%M} UTC, {commit.message}{f' ({names})' if names else ''}"
