"""Loads the content: cards, templates, pipelines and task ids, ours and a team's own laid over it.

Everything wrong with any file is found in one pass and told in one error.
"""

import csv
import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from medi_build.content.cards import RENAMED, Card
from medi_build.content.instructions import Template, render, render_definition
from medi_build.content.pipelines import Pipeline
from medi_build.content.super_ni_tasks import TaskFacts, load_overrides, load_tasks
from medi_build.content.yaml_files import UnreadableYamlError, read_yaml
from medi_build.errors import ContentError, did_you_mean
from medi_build.paths import content_root

SUPER_NI = "super_ni.yaml"
EVALUATION = "evaluation.yaml"
"""Instructions of `medi eval`, which are no template (`content.evaluation`)."""
SAMPLE_DATA = Path("sources") / "sample_data"
_Named = TypeVar("_Named", Card, Template, Pipeline)
MOST_FAULTS = 50
"""Told of one file."""
MAX_TASK_ID = 2**31 - 1
"""The records hold a task's id in 32 bits."""


@dataclass(frozen=True)
class Content:
    """All that the engine can run.

    Attributes:
        cards: dataset name -> card, in the order of task ids.
        templates: template name -> template.
        pipelines: pipeline name -> pipeline.
        task_ids: dataset name -> task id; the table is append-only.
        sample_data: folder of the sample data that ships with the package.
    """

    cards: Mapping[str, Card]
    templates: Mapping[str, Template]
    pipelines: Mapping[str, Pipeline]
    task_ids: Mapping[str, int]
    sample_data: Path


def load_content(overlay: Path | None = None) -> Content:
    """Load the shipped content and, over it, a folder with the same three subfolders.

    A card, template or pipeline of the overlay replaces ours of the same name; its task ids are added.

    Raises:
        ContentError: listing every fault of every file.
    """
    faults: list[str] = []
    cards: dict[str, Card] = {}
    templates: dict[str, Template] = {}
    pipelines: dict[str, Pipeline] = {}
    task_ids: dict[str, int] = {}
    roots = [content_root()]
    if overlay is not None:
        if not any((overlay / part).is_dir() for part in ("sources", "templates", "pipelines")):
            raise ContentError(f"--content {overlay}: holds none of sources/, templates/, pipelines/")
        roots.append(overlay)
    for root in roots:
        cards |= read_cards(root, faults)
        templates |= {t.name: t for t in _read_all(root / "templates", Template, faults)}
        pipelines |= {r.name: r for r in _read_all(root / "pipelines", Pipeline, faults)}
        _add_task_ids(root / "sources" / "task_ids.tsv", task_ids, faults)
    faults += _cross_check(cards, templates, task_ids)
    if faults:
        raise ContentError(f"{len(faults)} fault(s) in the content:\n" + "\n".join(f"  {f}" for f in faults))
    ordered = dict(sorted(cards.items(), key=lambda item: task_ids[item[0]]))
    return Content(ordered, templates, pipelines, task_ids, content_root() / SAMPLE_DATA)


def read_cards(root: Path, faults: list[str]) -> dict[str, Card]:
    """All cards below ``root/sources``, the Super-NI tasks expanded; what is wrong is added to ``faults``."""
    return {c.name: c for c in _read_all(root / "sources", Card, faults)} | _super_ni_cards(root, faults)


def _read_all(folder: Path, model: type[_Named], faults: list[str]) -> list[_Named]:
    others = (folder.parent / "sources" / SUPER_NI, content_root() / "templates" / EVALUATION)
    files = sorted(path for path in folder.rglob("*.yaml") if path not in others)
    items: dict[str, tuple[Path, _Named]] = {}
    for path in files:
        item = _read(path, model, faults)
        if item is not None:
            other, _ = items.setdefault(item.name, (path, item))
            if other != path:
                faults.append(f"{path}: the name {item.name!r} is taken by {other}; choose another")
    faults += [f"{path}: is not read; rename it to {path.stem}.yaml" for path in sorted(folder.rglob("*.yml"))]
    return [item for _, item in items.values()]


def _read(path: Path, model: type[_Named], faults: list[str]) -> _Named | None:
    data = _read_yaml(path, faults)
    try:
        return None if data is _UNREADABLE else model.model_validate(data)
    except ValidationError as error:
        problems = error.errors()
        faults += [f"{path}: {_explain(problem, model)}" for problem in problems[:MOST_FAULTS]]
        if more := len(problems[MOST_FAULTS:]):
            faults.append(f"{path}: and {more:,} more")
    return None


_UNREADABLE = object()


def _read_yaml(path: Path, faults: list[str]) -> Any:
    """What stands in a YAML file, or `_UNREADABLE` and a fault."""
    try:
        return read_yaml(path)
    except UnreadableYamlError as error:
        faults.append(f"{path}: {error}")
    except OSError as error:
        faults.append(f"{path}: cannot be read ({error.strerror})")
    return _UNREADABLE


def _explain(problem: Any, model: type[BaseModel]) -> str:
    """One line for a pydantic error: where, what, the value seen, a suggestion for unknown keys."""
    where = ".".join(str(part) for part in problem["loc"]) or "the file"
    if problem["type"] == "extra_forbidden":
        key = str(problem["loc"][-1])
        if key in RENAMED:
            return f"{where}: is called {RENAMED[key]} now; write the new name"
        return f"{where}: unknown key{did_you_mean(key, _keys_below(model))}"
    if problem["type"] == "value_error":  # one of ours, which says what was seen
        return f"{where}: {problem['ctx']['error']}"
    saw = repr(problem["input"])
    return f"{where}: {problem['msg']} (saw {saw if len(saw) < 80 else saw[:77] + '...'})"


def _keys_below(model: type[BaseModel]) -> list[str]:
    """The keys of a model and of all models inside it."""
    schema = model.model_json_schema()
    parts = [schema, *schema.get("$defs", {}).values()]
    return sorted({key for part in parts for key in part.get("properties", {})})


def _super_ni_cards(root: Path, faults: list[str]) -> dict[str, Card]:
    """Expand the collection's card and its table of tasks into one card per task."""
    shared_path = root / "sources" / SUPER_NI
    if not shared_path.is_file():
        faults += [
            f"{table}: is read only beside {SUPER_NI}; for single tasks write cards in sources/super_ni/, see "
            "`medi show super_ni/TASK` for what stands in them"
            for name in ("super_ni_overrides.tsv", "super_ni_tasks.tsv")
            if (table := root / "sources" / name).is_file()
        ]
        return {}
    shared = _read_yaml(shared_path, faults)
    if not isinstance(shared, dict) or not {"options", "instruction"} <= set(shared):
        faults.append(f"{shared_path}: the collection's card needs the mappings options and instruction")
        return {}
    overrides = load_overrides(root / "sources" / "super_ni_overrides.tsv")
    cards: dict[str, Card] = {}
    checked: Card | None = None
    for facts in load_tasks(root / "sources" / "super_ni_tasks.tsv"):
        own = _task_fields(facts)
        override = overrides.get(facts.task)
        if checked and not override:  # the shared part is known to be valid, and `load_tasks` checked the facts
            cards[own["name"]] = checked.model_copy(update=own)
            continue
        if override:
            own["options"] = {**shared["options"], "outputs": override.outputs or "auto"}
            own["instruction"] = {**shared["instruction"], "fields": override.fields}
        try:
            card = Card.model_validate({**shared, **own})
        except ValidationError as error:
            faults += [f"{shared_path}: {facts.task}: {_explain(problem, Card)}" for problem in error.errors()]
            break
        cards[card.name] = card
        checked = checked if override else card
    return cards


def _task_fields(facts: TaskFacts) -> dict[str, Any]:
    english = facts.input_language == facts.output_language == "English"
    collections = [f"super_ni_{facts.split}"]
    collections += ["super_ni_english"] if english else []
    collections += ["medi"] if facts.medi else []
    file = f"{facts.task}.json"
    return {
        "name": f"super_ni/{facts.task}",
        "description": f"{facts.category or 'category unconfirmed'}, {facts.split} split",
        "files": dict.fromkeys(("train", "dev", "test"), (file,)),
        "expected_rows": {"train": "unconfirmed" if facts.rows is None else facts.rows},
        "collections": tuple(collections),
    }


def _add_task_ids(path: Path, task_ids: dict[str, int], faults: list[str]) -> None:
    if not path.exists():
        return
    taken = {number: name for name, number in task_ids.items()}
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        faults.append(f"{path}: cannot be read ({error})")
        return
    for line, row in enumerate(csv.reader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE), 1):
        if not row or (line == 1 and row == ["task_id", "name"]):
            continue
        if len(row) != 2 or not re.fullmatch("[0-9]{1,10}", row[0]) or int(row[0]) > MAX_TASK_ID:
            faults.append(f"{path}:{line}: expected 'number<TAB>name', a number up to {MAX_TASK_ID}, saw {row!r}")
            continue
        number, name = int(row[0]), row[1]
        if number in taken:
            faults.append(f"{path}:{line}: id {number} belongs to {taken[number]}; ids never move, take a free one")
        elif name in task_ids:
            faults.append(f"{path}:{line}: {name} has the id {task_ids[name]}; ids never move, remove this line")
        else:
            task_ids[name] = number
            taken[number] = name


def _cross_check(
    cards: Mapping[str, Card], templates: Mapping[str, Template], task_ids: Mapping[str, int]
) -> list[str]:
    faults: list[str] = []
    # Of 1,600 tasks most give the same fields to the same template; whether that renders is found out once.
    rendered: dict[tuple[str, bool, tuple[tuple[str, str], ...]], str | None] = {}
    faults += filter(None, (_fault_of_rendering(template, {}, True) for template in templates.values()))
    for name, card in cards.items():
        if name not in task_ids:
            faults.append(f"{name}: has no task id; append a line to sources/task_ids.tsv")
        if card.instruction.template not in templates:
            unknown = card.instruction.template
            faults.append(f"{name}: no template {unknown!r}{did_you_mean(unknown, templates)}")
            continue
        template, fields = templates[card.instruction.template], card.instruction.fields
        finds = card.options.adapter == "super_ni"
        case = (template.name, finds, tuple(fields.items()))
        if case not in rendered:
            rendered[case] = _fault_of_rendering(template, fields, finds)
        if fault := rendered[case]:
            faults.append(f"{name}: {fault}")
    return faults


def _fault_of_rendering(template: Template, fields: Mapping[str, str], finds_fields: bool) -> str | None:
    """Why a template cannot be rendered with a card's fields; None if it can."""
    # What an adapter finds in the data is not known here; any text stands in for it.
    open_fields = {field: "text" for field, value in template.fields.items() if value is None}
    try:
        render(template, fields, open_fields if finds_fields else {}, ";")
        render_definition(template, fields, {**open_fields, "definition": "text"} if finds_fields else {}, ";")
    except ContentError as error:
        return str(error)
    return None


def select_names(
    cards: Mapping[str, Card], patterns: Sequence[str], everything: Sequence[str] | None = None
) -> list[str]:
    """Names of the cards that the patterns choose, in the cards' order.

    A pattern is a name, a glob, a source, a collection or ``all``; with a leading ``-`` it leaves out. If
    the first one leaves out, it does so from ``all``.

    Args:
        cards: name -> card.
        patterns: applied from left to right.
        everything: what ``all`` stands for; every card if not given.

    Raises:
        ContentError: there is no pattern, or one matches nothing.
    """
    if not patterns:
        raise ContentError("--sources is empty; give `all`, names, globs or collections, see `medi ls sources`")
    complete = set(cards if everything is None else everything)
    chosen: set[str] = complete if patterns[0].startswith("-") else set()
    for pattern in patterns:
        bare = pattern.removeprefix("-")
        matched = complete if bare == "all" else _match(cards, bare)
        chosen = chosen - matched if pattern.startswith("-") else chosen | matched
    return [name for name in cards if name in chosen]


def _match(cards: Mapping[str, Card], pattern: str) -> set[str]:
    if pattern in cards:
        return {pattern}
    matched = {
        name
        for name, card in cards.items()
        if pattern == card.source or pattern in card.collections or fnmatch.fnmatchcase(name, pattern)
    }
    if not matched:
        known: Iterable[str] = [*cards, *{c for card in cards.values() for c in card.collections}]
        raise ContentError(
            f"--sources {pattern!r} matches no dataset{did_you_mean(pattern, known)}; see `medi ls sources`"
        )
    return matched
