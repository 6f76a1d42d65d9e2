"""Content that a release of MEDI gives: its list of tasks, its rows as caps, its instructions to the letter."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from medi_build.content.cards import Card, InstructionSpec
from medi_build.content.load import Content, load_content
from medi_build.content.pipelines import InstructionSettings, Pipeline
from medi_build.errors import ContentError, OutputError
from medi_build.files import replacing

PIPELINE = "medi-release"
START = "Represent "
TEMPLATE = {
    "name": "literal",
    "description": "Instructions as a release of MEDI has them, word for word.",
    "fields": {"query": None, "document": None},
    "phrasings": [{"query": START + "{{ query }}", "document": START + "{{ document }}"}],
}
NOT_TAKEN = "not_taken.tsv"
"""What of the release is not in the content, and why."""


class ReleasedTask(NamedTuple):
    """One task of a release.

    Attributes:
        task: its name there.
        dataset: its name here; None where it is not known which one it is.
        rows: it has there.
        instructions: of the query and of the document side there, without separator.
        ours: those of the dataset as it was built.
    """

    task: str
    dataset: str | None
    rows: int
    instructions: tuple[str, str]
    ours: tuple[str, str]


def write_overlay(
    folder: Path, tasks: Sequence[ReleasedTask], built_by: Mapping[str, Any], content: Content
) -> tuple[int, int]:
    """Write a folder for ``medi build --content`` with the pipeline ``medi-release``.

    It has a card for each dataset with the instructions of the release (ours where it has none that begins with
    'Represent '), and the pipeline with the rows of the release as caps and all else as the build had it. What is not
    taken stands in ``not_taken.tsv``.

    Args:
        folder: new or empty.
        tasks: of the release.
        built_by: the pipeline of the build, as its manifest has it.
        content: whose cards these are.

    Returns:
        How many datasets it has, and how many lines ``not_taken.tsv`` has.

    Raises:
        OutputError: the folder holds something, or cannot be written.
        ContentError: the build's pipeline is not one of this version, or no task is known.
    """
    _check_folder(folder)
    left: list[tuple[str, str, int, str]] = []
    cards = [card for task in tasks if (card := _card(task, content.cards, left)) is not None]
    if not cards:
        raise ContentError(
            f"--write-content {folder}: no task of the release is known here, so there is nothing to write"
        )
    caps = {task.dataset: task.rows for task in tasks if task.dataset in {card.name for card in cards}}
    pipeline = _pipeline(built_by, {name: rows for name, rows in caps.items() if name is not None})
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with replacing(folder) as root:
            _dump(root / "templates" / "literal.yaml", TEMPLATE)
            facts = pipeline.model_dump(mode="json", exclude_defaults=True)
            _dump(root / "pipelines" / f"{PIPELINE}.yaml", facts)
            for card in cards:
                _dump(root / "sources" / f"{card.name}.yaml", card.model_dump(mode="json", exclude_defaults=True))
            shipped = load_content().task_ids
            own = [card.name for card in cards if card.name not in shipped]
            ids = [(content.task_ids[name], name) for name in own]
            _table(root / "sources" / "task_ids.tsv", ("task_id", "name"), ids)
            _table(root / NOT_TAKEN, ("task", "dataset", "rows", "why"), left)
            load_content(root)
    except OSError as error:
        raise OutputError(f"--write-content {folder}: cannot be written ({error.strerror or error})") from error
    return len(cards), len(left)


def _check_folder(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"--write-content {folder}: holds something already; give a folder that is new or empty")


def _card(task: ReleasedTask, cards: Mapping[str, Card], left: list[tuple[str, str, int, str]]) -> Card | None:
    """The dataset's card with the release's instructions; what is not taken is added to ``left``."""
    name = task.dataset or ""
    if name not in cards:
        why = "no card of that name in the content" if name else "not known which dataset it is"
        left.append((task.task, name, task.rows, why))
        return None
    query, document = task.instructions
    if not all(text.startswith(START) for text in task.instructions):
        left.append((task.task, name, task.rows, "instruction does not begin with 'Represent ', ours are kept"))
        query, document = task.ours
    fields = {"query": query.removeprefix(START), "document": document.removeprefix(START)}
    return cards[name].model_copy(update={"instruction": InstructionSpec(template="literal", fields=fields)})


def _pipeline(built_by: Mapping[str, Any], caps: dict[str, int]) -> Pipeline:
    """The pipeline of the build over the release's datasets, with its rows as caps."""
    changed = {
        "name": PIPELINE,
        "description": "The tasks, rows and instructions of a release of MEDI, as far as they are known here.",
        "sources": list(caps),
        "size": "cards",
        "caps": caps,
        "instructions": InstructionSettings().model_dump(),
    }
    try:
        return Pipeline.model_validate({**built_by, **changed})
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise ContentError(f"the build's pipeline is not one of this version ({where}: {fault['msg']})") from error


def _dump(path: Path, facts: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(facts, sort_keys=False, allow_unicode=True, width=110), encoding="utf-8")


def _table(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    buffer = io.StringIO()
    table = csv.writer(
        buffer, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None, escapechar="\\", lineterminator="\n"
    )
    table.writerow(header)
    table.writerows(rows)
    path.write_text(buffer.getvalue(), encoding="utf-8")
