"""``medi lint``: instructions that are wrongly worded, or shared by tasks that ask different things."""

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from medi_build.content.cards import Card
from medi_build.content.instructions import Instructions, render
from medi_build.content.load import Content, load_content, select_names
from medi_build.content.same_instruction import FILE, load_groups
from medi_build.content.wording import faults
from medi_build.errors import MediError
from medi_build.ingest.adapt import AdaptJob, adapt
from medi_build.ingest.adapters.base import Inputs
from medi_build.ingest.fetch import locate
from medi_build.ingest.json_rows import json_lines
from medi_build.ledger import Ledger
from medi_build.paths import cache_folder, content_root
from medi_build.pipeline.plan import find_pipeline


class Finding(NamedTuple):
    """One instruction to mend."""

    dataset: str
    instruction: str
    what: str
    do: str


class Linted(NamedTuple):
    """What was looked at.

    Attributes:
        findings: in the order of task ids.
        datasets: how many had a known instruction.
        unknown: how many take theirs from a file that is not there.
    """

    findings: list[Finding]
    datasets: int
    unknown: int


class _Asked(NamedTuple):
    """What is known of a task besides its instruction: definition and labels, where its file was read."""

    fields: Mapping[str, str]
    definition: str = ""
    labels: frozenset[str] = frozenset()


def lint(overlay: Path | None = None, pipelines: Sequence[str] = (), data: Path | None = None) -> Linted:
    """Look at the instructions of datasets, every phrasing and both sides of them.

    Args:
        overlay: a team's own content.
        pipelines: their names; every dataset is looked at if none is given.
        data: folder of raw files; tasks whose instruction comes from their file are looked at if it is there.

    Raises:
        ContentError: the content is broken, or a pipeline is unknown.
    """
    content = load_content(overlay)
    groups = load_groups([content_root(), *([overlay] if overlay else [])], content.cards)
    chosen = set() if pipelines else set(content.cards)
    for name in pipelines:
        chosen |= set(select_names(content.cards, find_pipeline(content, name).sources))
    asked: dict[str, _Asked] = {}
    rendered: dict[str, list[Instructions]] = {}
    findings: list[Finding] = []
    for name in (name for name in content.cards if name in chosen):
        try:
            found = _asked(content.cards[name], data)
            if found is None:
                continue
            rendered[name] = _rendered(content, content.cards[name], found.fields)
        except MediError as error:
            findings.append(Finding(name, "", str(error), "mend the file or the card"))
            continue
        asked[name] = found
        findings += _worded(name, rendered[name])
    findings += _shared(content, rendered, asked, groups)
    order = {name: place for place, name in enumerate(content.cards)}
    findings.sort(key=lambda finding: order[finding.dataset])
    return Linted(findings, len(rendered), len(chosen) - len(rendered))


def _asked(card: Card, data: Path | None) -> _Asked | None:
    """Fields, definition and labels of a dataset; None if only a file that is not there tells its text type."""
    if card.options.adapter != "super_ni":
        return _Asked({})
    located = locate(card, next(iter(card.files)), data, cache_folder() / "downloads", {}) if data else None
    paths = located.found.get("rows", ()) if located else ()
    if not paths:
        return _Asked({}) if "text_type" in card.instruction.fields else None
    with tempfile.TemporaryDirectory() as folder:
        inputs = Inputs(rows=paths, extra={}, cache=Path(folder))
        result = adapt(AdaptJob(card, inputs, 0, 0, Path(folder)))
        examples = result.examples()
        labels = frozenset(label for row in examples.column("labels").to_pylist() for label in row)
        del examples
    return _Asked(result.fields, _definition(paths[0], card.name.split("/")[-1]), labels)


def _definition(path: Path, task: str) -> str:
    """The definition in a task file or in JSON lines of the hub's form; empty in a Parquet file."""
    with path.open("rb") as file:
        start = file.read(4)
    if start == b"PAR1":
        return ""
    if path.suffix in (".jsonl", ".gz"):
        rows: Iterable[Any] = (row for _, row in json_lines(path, Ledger(task)))
        mine = (row for row in rows if isinstance(row, dict) and row.get("task_name") == task)
        return str(next(mine, {}).get("definition", ""))
    told = json.loads(path.read_bytes().decode("utf-8-sig")).get("Definition")
    return " ".join(map(str, told)) if isinstance(told, list) else str(told or "")


def _rendered(content: Content, card: Card, fields: Mapping[str, str]) -> list[Instructions]:
    template = content.templates[card.instruction.template]
    return render(template, card.instruction.fields, fields, "")


def _worded(name: str, phrasings: Sequence[Instructions]) -> list[Finding]:
    """Each fault once, with the first wording that has it."""
    found: dict[str, Finding] = {}
    for side in (side for phrasing in phrasings for side in phrasing):
        for fault in faults(side):
            found.setdefault(fault.what, Finding(name, side, fault.what, fault.do))
    return list(found.values())


def _shared(
    content: Content,
    rendered: Mapping[str, list[Instructions]],
    asked: Mapping[str, _Asked],
    groups: Sequence[frozenset[str]],
) -> list[Finding]:
    """Super-NI tasks with the instruction of an earlier one, unless both ask the same or are listed as meant."""
    first: dict[str, list[str]] = {}
    findings = []
    for name, phrasings in rendered.items():
        if content.cards[name].options.adapter != "super_ni":
            continue
        instruction = phrasings[0].query
        others = first.setdefault(instruction, [])
        other = next((other for other in others if not _alike(other, name, asked, groups)), None)
        others.append(name)
        if other:
            do = f"say what differs; if nothing does, list both in {FILE.as_posix()}"
            findings.append(Finding(name, instruction, f"shared with {other}", do))
    return findings


def _alike(one: str, other: str, asked: Mapping[str, _Asked], groups: Sequence[frozenset[str]]) -> bool:
    if any({one, other} <= group for group in groups):
        return True
    a, b = asked[one], asked[other]
    return bool(a.definition) and a.definition.split() == b.definition.split() and a.labels == b.labels
