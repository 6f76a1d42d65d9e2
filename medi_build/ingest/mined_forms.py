"""What `medi mine` writes, as training records: sentence-transformers' forms, FlagEmbedding's and Tevatron's.

Each query of a file with a positive and its negatives is a record; a query that has several positives makes a record
with each of them. Forms that spread a query over rows are put together again: rows that follow one another with the
same anchor and positive (triplets), or with the same anchor up to the next positive (labeled pairs). Scores are not
used.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from medi_build.dataset.formats import FILES
from medi_build.dataset.schema import MANIFEST
from medi_build.errors import InputError

TASK = "mined"
"""Name of the one task of such a file."""
_NEGATIVE = re.compile(r"negative(?:_([0-9]+))?")

Values = tuple[Any, ...]
"""A record in the order of `medi_build.ingest.triplets.TRIPLETS`."""


class Instructions(NamedTuple):
    """Of the query and of the document side, for files that have none."""

    query: str = ""
    document: str = ""


class _Group(NamedTuple):
    """A query with its texts; ``ids`` are those of the positives, as many or none."""

    where: str
    query: str
    positives: list[str]
    negatives: list[str]
    ids: Sequence[str] = ()
    instruction: str = ""


def only_file(folder: Path) -> Path | None:
    """The one form that `medi mine` wrote into a folder; None for the folder of a build, or where there is no form.

    Raises:
        InputError: there are several.
    """
    found = [name for name in FILES.values() if (folder / name).is_file()]
    if not found or (folder / MANIFEST).exists():
        return None
    if len(found) > 1:
        raise InputError(
            f"{folder}: holds the same pairs in {len(found)} forms ({', '.join(found)}); name one of them, such as "
            f"{folder / found[0]}"
        )
    return folder / found[0]


# --- Parquet


def is_table_form(names: Iterable[str]) -> bool:
    """Whether a Parquet file with these columns is in one of the forms."""
    return "anchor" in names and bool({"positive", "document", "documents"} & set(names))


def table_records(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], path: Path, given: Instructions
) -> Iterator[Values]:
    """The records of a Parquet file.

    Args:
        schema: of the file.
        batches: its columns that `columns_of` names.
        path: named in messages.
        given: the instructions.

    Raises:
        InputError: a column is missing or of another type, or a row is wrong.
    """
    names = columns_of(schema, path)
    rows = _numbered(batches, path)
    if "documents" in names:
        groups: Iterable[_Group] = (_labeled_list(where, row) for where, row in rows)
    elif "document" in names:
        groups = _labeled_pairs(rows)
    else:
        groups = _tuples(rows, names[2:])
    return _records(groups, given)


def columns_of(schema: pa.Schema, path: Path) -> list[str]:
    """The columns of a form that are read, ``anchor`` first.

    Raises:
        InputError: one is missing, or of another type.
    """
    names = schema.names
    text, listed = next(name for name in ("positive", "documents", "document") if name in names), "documents" in names
    marks = ["labels", "scores"] if listed else ["label"]
    if text == "positive":
        found = [(int(match[1] or 0), name) for name in names if (match := _NEGATIVE.fullmatch(name))]
        further = [name for _, name in sorted(found)]
    else:
        further = [name for name in marks if name in names][:1]
    if not further:
        hint = (
            "scores alone do not say where the next positive begins: use labeled-list, or mine without --scores"
            if "score" in names
            else f"it needs {'negative or negative_1, negative_2, ...' if text == 'positive' else ' or '.join(marks)}"
        )
        raise InputError(f"{path}: has the columns {', '.join(names)}; {hint}")
    for name in ("anchor", text, *(further if text == "positive" else ())):
        kind = schema.field(name).type
        inner = kind.value_type if name == "documents" and pa.types.is_list(kind) else kind
        if not (pa.types.is_string(inner) or pa.types.is_large_string(inner)) or (inner is kind) == (
            name == "documents"
        ):
            raise InputError(f"{path}: the column {name} is of type {kind}; it has to hold text")
    return ["anchor", text, *further]


def _numbered(batches: Iterable[pa.RecordBatch], path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    number = 0
    for batch in batches:
        for row in batch.to_pylist():
            yield f"{path.name}, row {number}", row
            number += 1


def _tuples(rows: Iterable[tuple[str, dict[str, Any]]], negatives: list[str]) -> Iterator[_Group]:
    """Triplets and n-tuples; triplets of one anchor and positive become one group."""
    last: _Group | None = None
    for where, row in rows:
        group = _Group(where, row["anchor"], [row["positive"]], [row[name] for name in negatives])
        if last and len(negatives) == 1 and (last.query, last.positives) == (group.query, group.positives):
            last.negatives.extend(group.negatives)
            continue
        if last:
            yield last
        last = group
    if last:
        yield last


def _labeled_pairs(rows: Iterable[tuple[str, dict[str, Any]]]) -> Iterator[_Group]:
    last: _Group | None = None
    for where, row in rows:
        positive = _is_positive(row["label"], where)
        if last is None or last.query != row["anchor"] or (positive and last.negatives):
            if last:
                yield last
            last = _Group(where, row["anchor"], [], [])
        (last.positives if positive else last.negatives).append(row["document"])
    if last:
        yield last


def _labeled_list(where: str, row: dict[str, Any]) -> _Group:
    """By labels; where there are scores in their place, the first text is the positive."""
    texts = row["documents"] or []
    labels = [number == 0 for number in range(len(texts))]
    if "labels" in row:
        labels = [_is_positive(label, where) for label in row["labels"] or []]
    if len(labels) != len(texts):
        raise InputError(f"{where}: has {len(texts)} documents and {len(labels)} labels; there has to be one for each")
    sides = {side: [text for text, label in zip(texts, labels, strict=True) if label == side] for side in (True, False)}
    return _Group(where, row["anchor"], sides[True], sides[False])


def _is_positive(label: Any, where: str) -> bool:
    if label not in (0, 1):
        raise InputError(f"{where}: a label is {label!r}; it has to be 1 for a positive, 0 for a negative")
    return bool(label)


# --- JSON lines


def is_line_form(first: Any) -> bool:
    """Whether a JSON file that begins with this value is in one of the forms."""
    if not isinstance(first, Mapping) or not isinstance(first.get("query"), str):
        return False
    listed = isinstance(first.get("pos"), list) and not {"task_id", "task_name"} & set(first)
    return listed or "positive_passages" in first


def line_records(values: Iterable[Any], path: Path, given: Instructions) -> Iterator[Values]:
    """The records of a JSON file.

    Raises:
        InputError: a value is not of the form; names it.
    """
    return _records((_line(value, f"{path.name}, record {n}") for n, value in enumerate(values)), given)


def _line(value: Any, where: str) -> _Group:
    if not isinstance(value, Mapping) or not isinstance(query := value.get("query"), str):
        raise InputError(f"{where}: is no object with a string as its query")
    if "positive_passages" in value:
        positives, negatives = (_passages(value, f"{side}_passages", where) for side in ("positive", "negative"))
        texts = [text for _, text in positives], [text for _, text in negatives]
        return _Group(where, query, *texts, [name for name, _ in positives])
    prompt = value.get("prompt") or ""
    if not isinstance(prompt, str):
        raise InputError(f"{where}: prompt is {prompt!r}; it has to be a string")
    return _Group(where, query, _strings(value, "pos", where), _strings(value, "neg", where), (), prompt)


def _strings(value: Mapping[str, Any], name: str, where: str) -> list[str]:
    texts = value.get(name, [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{where}: {name} is {str(texts)[:100]}; it has to be a list of strings")
    return texts


def _passages(value: Mapping[str, Any], name: str, where: str) -> list[tuple[str, str]]:
    """Id and text of each passage, the title in front of the text."""
    passages = value.get(name, [])
    if not isinstance(passages, list) or not all(
        isinstance(one, Mapping) and isinstance(one.get("text"), str) for one in passages
    ):
        raise InputError(
            f"{where}: {name} is {str(passages)[:100]}; it has to be a list of objects with docid and text"
        )
    return [
        (str(one.get("docid", "")), f"{one['title']} {one['text']}" if one.get("title") else one["text"])
        for one in passages
    ]


# --- records


def _records(groups: Iterable[_Group], given: Instructions) -> Iterator[Values]:
    """A record for each positive of each group; a side that has no text is None, as an empty text would be."""
    for group in groups:
        instruction = group.instruction or given.query
        negatives: Sequence[str | None] = group.negatives or [None]
        positives: Sequence[str | None] = group.positives or [None]
        negative, *further = negatives
        for number, positive in enumerate(positives):
            sides = instruction, group.query, given.document, positive, given.document, negative
            yield (*sides, TASK, group.where, further, [], [], list(group.ids[number : number + 1]), [])
