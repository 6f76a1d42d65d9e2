"""Super-NaturalInstructions: a task file of the official repository, or rows in the hub's flattened form.

A task file is one JSON object with ``Instances`` (``id``, ``input``, ``output``: list), ``Definition``,
``Categories`` and ``Domains``. The hub's form (``Muennighoff/natural-instructions``, JSON lines or Parquet) has one
row per output with ``task_name, id, definition, inputs, targets`` and may hold many tasks in one file; it tells
neither categories nor domains, so the words of the task's name stand in for the category.

An example is one input with all its outputs: as labels where the task is a classification, as answers otherwise. An
output that points at an option of its input gives way to the option's text (`super_ni_options`). A task is small (a
few MB), so it is read whole: its kind depends on all its outputs.
"""

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from medi_build.content.cards import Card, SuperNiOptions
from medi_build.dataset.schema import Kind
from medi_build.errors import InputError
from medi_build.ingest.adapters.base import (
    Adapted,
    Inputs,
    clean,
    clean_list,
    content_id,
    example_batches,
    source_names,
)
from medi_build.ingest.adapters.super_ni_licence import licence_of
from medi_build.ingest.adapters.super_ni_options import option_text, pointer
from medi_build.ingest.instruction_rules.definition import first_sentence
from medi_build.ingest.instruction_rules.fields import fields
from medi_build.ingest.json_rows import json_lines
from medi_build.ledger import Ledger

HUB_COLUMNS = ("task_name", "id", "definition", "inputs", "targets")
FEW_CLASSES = 20
"""Up to so many distinct outputs, each used twice on average, are classes whatever the category says."""
MANY_CLASSES = 100
"""More distinct outputs than this are never classes."""
LABEL_CHARACTERS = 60
"""The longest text that may be a label where there are more than `FEW_CLASSES`."""
OPTION_SHARE = 0.95
"""Outputs of which the card says nothing are pointers if all look so and so many rows have the option."""
_KINDS: Mapping[str, Kind] = {
    "class": "classification", "text": "text2text", "count": "text2text", "wrong": "text2text"
}  # fmt: skip
"""The pair rule of outputs that a card tells; of others the outputs themselves decide."""
_LABELLING = re.compile(r"classif|detect|identif|recogni|tagging|categori|sentiment|relation|prediction", re.IGNORECASE)


class _Raw(NamedTuple):
    """One instance as it stands in the file.

    Attributes:
        number: its place there, counted from 1.
        at: what makes ``where`` with the number behind it; one string for all instances of a file.
        id: upstream id.
        input: the text.
        outputs: one text or a list of them.
    """

    number: int
    at: str
    id: Any
    input: Any
    outputs: Any

    @property
    def where(self) -> str:
        """``file:line`` or ``file:instance``, for people."""
        return f"{self.at}{self.number}"


@dataclass(slots=True)
class _Row:
    """One cleaned instance."""

    id: str
    input: str
    outputs: list[str]
    raw: _Raw
    source: str


def adapt(card: Card, inputs: Inputs, ledger: Ledger) -> Adapted:
    """Read one task.

    Ids are ``{card.name}/{upstream id}``; an instance without one is told by its input, of which a task keeps one.

    Drops: ``wrong_type``, ``no_output``, ``duplicate_id``, ``duplicate_input`` (its outputs go to the first row with
    that input), ``option_not_found``, ``too_few_rows``, ``one_class``, and the reasons of `clean` for the input. Notes
    ``options_resolved``: rows whose output pointed at an option and is now the option's text.

    Raises:
        InputError: a file is neither of the forms, or is damaged.
    """
    assert isinstance(card.options, SuperNiOptions)
    task = card.name.split("/")[-1]
    facts: dict[str, Any] = {"task": task}
    raws: list[tuple[str, _Raw]] = []
    for path, source in zip(inputs.rows, source_names(inputs.rows), strict=True):
        known, found = _read(path, task, ledger)
        facts = {**known, **facts}
        raws += ((source, raw) for raw in found)
    rows = _cleaned(raws, card.name, ledger)
    rows = _with_options(rows, card.options.outputs, ledger)
    category = " ".join(text for text in _list(facts.get("Categories")) if isinstance(text, str)) or task
    kind = _KINDS.get(card.options.outputs) or decide_kind([row.outputs for row in rows], category, task)
    rows = _usable(_merged(rows, ledger), kind, ledger)
    told = {**fields({**facts, "kind": kind}), "definition": first_sentence(facts.get("Definition"))}
    licence = licence_of(facts.get("Instance License"))
    return Adapted(kind, told, example_batches(_examples(rows, kind), ledger), licence=licence)


def _with_options(rows: list[_Row], told: str, ledger: Ledger) -> list[_Row]:
    """Put the options' texts in place of outputs that point at them; rows without such an option are dropped.

    Args:
        rows: of one task; changed.
        told: what the card says of the outputs. ``auto``: they are pointers if all of them look like pointers and
            the option is found in `OPTION_SHARE` of the rows.
        ledger: for what is dropped and what was resolved.
    """
    if told == "auto":
        if not all(pointer(output) for row in rows for output in row.outputs):
            return rows
    elif told != "option":
        return rows
    texts = [_option_texts(row) for row in rows]
    found = sum(map(bool, texts))
    if told == "auto" and found < OPTION_SHARE * len(rows):
        return rows
    ledger.note("options_resolved", found)
    kept = []
    for row, options in zip(rows, texts, strict=True):
        if options:
            row.outputs = options
            kept.append(row)
        else:
            ledger.drop("adapt", "option_not_found", where=row.raw.where)
    return kept


def _option_texts(row: _Row) -> list[str]:
    """Texts of the options that a row's outputs point at, without repeats."""
    targets = [target for output in row.outputs if (target := pointer(output))]
    return list(dict.fromkeys(text for target in targets if (text := option_text(row.input, target))))


def decide_kind(outputs_by_row: Sequence[Sequence[str]], category: str, task: str = "") -> Kind:
    """Tell classification from text-to-text by the outputs, with category and name to help where they leave it open.

    1. Where most of the distinct outputs are questions, they are text.
    2. At most 20 distinct outputs with two rows or more for each: classes.
    3. Up to 100 distinct outputs, none over 60 characters: classes if each has on average two rows and the task's own
       name says classification, ten rows and the category names a labelling task (classification, detection,
       identification, tagging, ...), or 50 rows whatever the category.
    4. Anything else is text.

    Args:
        outputs_by_row: the distinct outputs of every row, stripped.
        category: the task's category, e.g. ``Sentiment Analysis``.
        task: its name.
    """
    vocabulary = {output for outputs in outputs_by_row for output in outputs}
    if 2 * sum(output.endswith("?") for output in vocabulary) >= len(vocabulary):  # true of none at all, too
        return "text2text"
    rows_per_class = len(outputs_by_row) / len(vocabulary)
    if len(vocabulary) <= FEW_CLASSES:
        return "classification" if rows_per_class >= 2 else "text2text"
    if len(vocabulary) > MANY_CLASSES or max(map(len, vocabulary)) > LABEL_CHARACTERS:
        return "text2text"
    enough = 2 if "classif" in task else 10 if _LABELLING.search(category) else 50
    return "classification" if rows_per_class >= enough else "text2text"


def _read(path: Path, task: str, ledger: Ledger) -> tuple[Mapping[str, Any], list[_Raw]]:
    """Facts and instances of one task out of a file of either form; every instance counts as read."""
    try:
        with path.open("rb") as file:
            start = file.read(1 << 16)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    if start.startswith(b"PAR1"):
        return _grouped(_parquet_rows(path, task, ledger), f"{path}:{task}, row ", task, ledger)
    if start.startswith(b"\x1f\x8b") or path.suffix in (".jsonl", ".gz"):
        return _grouped(json_lines(path, ledger), f"{path}:", task, ledger)
    return _task_file(path, ledger)


def _task_file(path: Path, ledger: Ledger) -> tuple[Mapping[str, Any], list[_Raw]]:
    content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    try:
        data = orjson.loads(content)
    except orjson.JSONDecodeError:
        data = _lenient(path, content)  # some official files say NaN where a URL is not known
    instances = data.get("Instances") if isinstance(data, dict) else None
    if not isinstance(instances, list):
        raise InputError(f"{path}: not a task file; a JSON object with a list 'Instances' is needed")
    ledger.read += len(instances)
    raws = []
    at = f"{path}:instance "
    for number, instance in enumerate(instances, 1):
        if isinstance(instance, dict):
            raws.append(_Raw(number, at, instance.get("id"), instance.get("input"), instance.get("output")))
        else:
            ledger.drop("adapt", "wrong_type", where=f"{at}{number}")
    return {**data, "Instances": instances[:1]}, raws


def _lenient(path: Path, content: bytes) -> Any:
    try:
        return json.loads(content)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start}); fetch the file again") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error}); the file may be cut short, fetch it again") from error


def _parquet_rows(path: Path, task: str, ledger: Ledger) -> Iterator[tuple[int, Any]]:
    """Rows of one task, counted among themselves; row groups without it are skipped by their statistics."""
    import pyarrow.dataset as ds  # here, as it brings pandas along

    try:
        data = ds.dataset(path, format="parquet")
        table = data.to_table(columns=list(HUB_COLUMNS), filter=ds.field("task_name") == task)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not in the hub's form with columns {', '.join(HUB_COLUMNS)} ({error})") from error
    ledger.read += table.num_rows
    yield from enumerate(table.to_pylist(), 1)


def _grouped(
    rows: Iterable[tuple[int, Any]], at: str, task: str, ledger: Ledger
) -> tuple[Mapping[str, Any], list[_Raw]]:
    """Bring together the rows of one id and input, which carry one output each.

    They are one instance, so that all but the first are taken off ``read`` again (and noted as
    ``further_outputs``); so are the rows of other tasks. A row that is no object is dropped as ``wrong_type``.
    """
    facts: dict[str, Any] = {}
    raws: dict[tuple[Any, Any], _Raw] = {}
    for number, row in rows:
        if not isinstance(row, dict):
            ledger.drop("adapt", "wrong_type", where=f"{at}{number}")
            continue
        if row.get("task_name") != task:
            ledger.read -= 1
            continue
        key = (str(row.get("id")), str(row.get("inputs")))
        if key in raws:
            raws[key].outputs.append(row.get("targets"))
            ledger.read -= 1
            ledger.note("further_outputs")
            continue
        raws[key] = _Raw(number, at, row.get("id"), row.get("inputs"), [row.get("targets")])
        facts = facts or {"Definition": [row.get("definition")], "Instances": [{"input": row.get("inputs")}]}
    return facts, list(raws.values())


def _cleaned(raws: Iterable[tuple[str, _Raw]], dataset: str, ledger: Ledger) -> list[_Row]:
    """Rows, of ``(source_file, instance)``, with a usable id, input and at least one output; others are dropped."""
    rows: list[_Row] = []
    seen: set[str] = set()
    for source, raw in raws:
        if not isinstance(raw.id, str | None):
            ledger.drop("adapt", "wrong_type", where=raw.where)
            continue
        text, reason = clean(raw.input)
        outputs, _ = clean_list([raw.outputs] if isinstance(raw.outputs, str) else _list(raw.outputs))
        if raw.id and raw.id in seen:
            reason = "duplicate_id"
        elif reason is None and not outputs:
            reason = "no_output"
        seen.add(raw.id or "")
        if reason:
            ledger.drop("adapt", reason, where=raw.where)
        else:
            key = raw.id or content_id(text)
            rows.append(_Row(f"{dataset}/{key}", text, outputs, raw, source))
    return rows


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _merged(rows: Iterable[_Row], ledger: Ledger) -> list[_Row]:
    """Rows with distinct inputs; a repeated input hands its outputs to the first and is dropped."""
    first: dict[str, _Row] = {}
    for row in rows:
        known = first.setdefault(row.input, row)
        if known is not row:
            known.outputs = list(dict.fromkeys([*known.outputs, *row.outputs]))
            ledger.drop("adapt", "duplicate_input", where=row.raw.where)
    return list(first.values())


def _usable(rows: list[_Row], kind: Kind, ledger: Ledger) -> list[_Row]:
    """All rows, or none where no pair can come of them: fewer than two rows, or one class only."""
    if len(rows) < 2:
        reason = "too_few_rows"
    elif kind == "classification" and len({output for row in rows for output in row.outputs}) == 1:
        reason = "one_class"
    else:
        return rows
    for row in rows:
        ledger.drop("adapt", reason, where=row.raw.where)
    return []


def _examples(rows: Iterable[_Row], kind: Kind) -> Iterator[tuple[Any, ...]]:
    for row in rows:
        labels, answers = (row.outputs, ()) if kind == "classification" else ((), row.outputs)
        yield row.id, row.input, (), (), labels, answers, (), row.source, row.raw.number
