"""Pairs, triplets, sets, labelled and scored pairs: the forms of sentence-transformers' embedding training data.

The form is recognised for each line: ``["a", "b"]``, ``["a", "p", "n"]``, ``{"set": [...]}``,
objects or table rows with a query (``query``, ``anchor``, ``question``), positives (``pos``, ``positive``) and perhaps
negatives (``neg``, ``negative``, ``negatives``, ``negative_1`` to ``negative_n``) beside whatever other keys,
``[instruction, text]`` in place of a text, and objects or table rows whose columns the card names. Negatives in one of
the known columns count as given even where the card names the other columns, unless it names theirs, too. A row whose
query is null is dropped as ``no_query``.

A labelled or scored pair is an example if its label (score) makes it positive. If that makes it a hard
negative, its second text becomes a given negative of every example with the same first text, and the row is
counted as ``used_as_negative``. One row knows nothing of the next: that a positive of a *repeated* query is no
negative for its other rows is mining's duty.

A row is told from others by all its own texts, cleaned: query, positives and negatives, or the members of a set. Its
negatives belong to them, for files of triplets repeat a query and its positive with one negative after another. The
negatives that other rows' labels give it do not: one more of them must not change its id. Keys such as ``id``,
``_id`` and ``query_id`` are no ids of rows: in files of this kind they often name the query, and stand in each of its
rows.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from medi_build.content.cards import Card, PairsOptions
from medi_build.errors import ContentError, InputError
from medi_build.ingest.adapters.base import (
    Adapted,
    Inputs,
    clean,
    clean_list,
    content_id,
    example_batches,
    pair_id,
    source_names,
)
from medi_build.ingest.csv_rows import is_table
from medi_build.ingest.parquet_rows import is_parquet, parquet_batches
from medi_build.ingest.rows import rows_of
from medi_build.ledger import Ledger


class _Columns(NamedTuple):
    """Where the texts stand in an object or a table; without ``query`` the positives are a set."""

    query: str | None
    positive: str
    negatives: tuple[str, ...] = ()
    mark: str | None = None  # label or score
    ignored_positives: tuple[str, ...] = ()
    ignored_negatives: tuple[str, ...] = ()


class _File(NamedTuple):
    """A raw file, what the ids of the dataset begin with, and what ``source_file`` says of it."""

    prefix: str
    path: Path
    name: str


_Row = tuple[Any, list[Any], list[Any], Any]
"""Query (`_SET` for a set), positives, negatives and label or score of a raw row, not yet cleaned."""

_Rows = Iterator[tuple[_File, int, _Row | None]]
"""(file, row number, row); None for a row of unknown form."""

_Example = tuple[Any, ...]
"""The values of one row of ``EXAMPLES``, in its order."""

OWN_FILES = "own"
"""First part of the name of a dataset that has no card, only a file (``medi mine``)."""
_SET = object()
"""Stands where the query of a set would."""
_QUERIES, _POSITIVES = ("query", "anchor", "question"), ("pos", "positive")
_NEGATIVES = re.compile(r"neg|negatives?|neg(?:ative)?_(\d+)")
_IGNORED = frozenset(
    ["id", "pos_id", "neg_id", "prompt", "type", "category"]
    + [f"{side}_{what}" for side in "qd" for what in ("intent", "domain", "unit", "instructions")]  # GritLM
)
"""Keys that may stand beside ``query`` and ``doc``: these names alone do not say that the two belong together."""

_POSITIVE, _NEGATIVE = "positive", "negative"
_Judge = Callable[[Any], str]
"""Label or score -> ``_POSITIVE``, ``_NEGATIVE`` or the reason to drop the row."""


def adapt(card: Card, inputs: Inputs, ledger: Ledger) -> Adapted:
    """Read every file of ``inputs.rows`` as examples with given positives.

    Raises:
        ContentError: the card's columns contradict each other.
        InputError: a file is damaged, or is a table without the columns the card names.
    """
    options = card.options
    if not isinstance(options, PairsOptions):
        raise ContentError(f"{card.name}: adapter 'pairs' was given the options of {options.adapter!r}")
    judge = _judge(card.name, options)
    names = source_names(inputs.rows)
    files = [_File(f"{card.name}/", path, name) for path, name in zip(inputs.rows, names, strict=True)]

    def rows(book: Ledger) -> _Rows:
        return chain.from_iterable(_read(file, options, book) for file in files)

    examples = _examples(rows(ledger), ledger) if judge is None else _judged(rows, judge, ledger)
    return Adapted(kind="pairs", fields={}, examples=example_batches(examples, ledger))


# --- raw files -> rows


def _read(file: _File, options: PairsOptions, ledger: Ledger) -> _Rows:
    return (_parquet_rows if is_parquet(file.path) else _other_rows)(file, options, ledger)


def _other_rows(file: _File, options: PairsOptions, ledger: Ledger) -> _Rows:
    known: dict[tuple[str, ...], _Columns | None] = {}
    table = is_table(file.path)
    for number, value in rows_of(file.path, ledger):
        if type(value) is list:
            yield file, number, _row_of_list(value)
        elif type(value) is dict:
            names = tuple(value)
            if names not in known:
                known[names] = _table_columns(file, names, options) if table else _columns(names, options)
            columns = known[names]
            yield file, number, columns and _row_of_columns(columns, value, ledger)
        else:
            yield file, number, None


def _parquet_rows(file: _File, options: PairsOptions, ledger: Ledger) -> _Rows:
    number = 0
    for batch in parquet_batches(file.path, None, ledger):
        columns = _table_columns(file, tuple(batch.schema.names), options)
        query, positive, negatives, mark, *ignored = columns
        wanted = [query, positive, *negatives, mark, *chain.from_iterable(ignored)]
        for value in batch.select([name for name in dict.fromkeys(wanted) if name]).to_pylist():
            number += 1
            yield file, number, _row_of_columns(columns, value, ledger)


def _table_columns(file: _File, names: tuple[str, ...], options: PairsOptions) -> _Columns:
    """The columns of a table, all rows of which have the same.

    Raises:
        InputError: it lacks a column that was named, or has those of no known form.
    """
    own = file.prefix.startswith(f"{OWN_FILES}/")
    named = (options.query, options.positive, options.negative, options.label or options.score)
    absent = [name for name in named if name and name not in names]
    if absent:
        whose = "which was named" if own else "which the card's options name"
        raise InputError(f"{file.path}: no column {absent[0]!r}, {whose}; it has {', '.join(names)}")
    columns = _columns(names, options)
    if columns is None:
        how = "name" if own else "say in the card's options"
        raise InputError(
            f"{file.path}: has the columns {', '.join(names)}, which name no known form; {how} which are query and "
            f"positive{' (--query-column and --positive-column)' if own else ''}"
        )
    return columns


def _columns(names: tuple[str, ...], options: PairsOptions) -> _Columns | None:
    """Find the card's columns among ``names``; where it names none, those of a known form."""
    mark = options.label or options.score
    if mark is not None and mark not in names:
        return None
    known = tuple(sorted((name for name in names if _NEGATIVES.fullmatch(name)), key=_place))
    if options.query or options.positive:
        query, positives = options.query, [options.positive or ""]
        if not {query, positives[0]} - {None} <= set(names):
            return None
    else:
        query = next((name for name in _QUERIES if name in names), None)
        positives = [name for name in _POSITIVES if name in names]
        if query is None or not positives:
            if query is None and "set" in names:
                return _Columns(None, "set", mark=mark, ignored_negatives=known)
            if not {"query", "doc"} <= set(names) <= {"query", "doc", mark} | _IGNORED:
                return None
            query, positives = "query", ["doc"]
    known = tuple(name for name in known if name not in (query, positives[0], mark))
    if options.negative:
        chosen: tuple[str, ...] = (options.negative,) if options.negative in names else ()
        ignored = tuple(name for name in known if name != options.negative)
    else:
        chosen, ignored = known, ()
    if query is None:  # a set has no negatives
        chosen, ignored = (), (*chosen, *ignored)
    return _Columns(query, positives[0], chosen, mark, tuple(positives[1:]), ignored)


def _place(name: str) -> tuple[int, str]:
    """Orders ``negative_2`` before ``negative_10``."""
    found = _NEGATIVES.fullmatch(name)
    return int(found[1] or 0) if found else 0, name


def _row_of_list(value: list[Any]) -> _Row | None:
    if len(value) == 2:
        return _row(value[0], value[1:], [], None)
    if len(value) == 3 and type(value[2]) in (str, list):  # a number would be a score of unknown meaning
        return _row(value[0], value[1:2], value[2:], None)
    return None


def _row_of_columns(columns: _Columns, value: dict[str, Any], ledger: Ledger) -> _Row | None:
    query, positive, negatives, mark, *ignored = columns
    for names, what in zip(ignored, ("positive", "negative"), strict=True):
        if names and any(_as_list(value[name]) for name in names):
            ledger.note(f"given_{what}_column_ignored")
    if len(negatives) == 1:  # as in most files
        hard = _as_list(value[negatives[0]])
    else:
        hard = [text for name in negatives for text in _as_list(value[name])]
    return _row(
        value[query] if query else _SET,
        _as_list(value[positive]),
        hard,
        value[mark] if mark else None,
    )


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if type(value) is list else [value]


def _row(query: Any, positives: list[Any], negatives: list[Any], mark: Any) -> _Row | None:
    """Take the text of ``[instruction, text]`` items; if the query is one, all texts of the row have to be."""
    if type(query) is list:
        items = [query, *positives, *negatives]
        if not all(type(item) is list and len(item) == 2 for item in items):
            return None
        query, positives, negatives = query[1], [p[1] for p in positives], [n[1] for n in negatives]
    return query, positives, negatives, mark


# --- rows -> examples


def _examples(rows: _Rows, ledger: Ledger) -> Iterator[_Example]:
    for file, number, row in rows:
        example = _example(file, number, row, ledger) if row else "unknown_form"
        if isinstance(example, str):
            ledger.drop("adapt", example, where=f"{file.path}:{number}")
        else:
            yield example


def _example(file: _File, number: int, row: _Row, ledger: Ledger, joined: Sequence[str] = ()) -> _Example | str:
    """Clean one row; instead of an example, the reason why there is none.

    ``joined`` are negatives that other rows give to this one.
    """
    raw, positives, negatives, _ = row
    if raw is _SET:
        return _set_example(file, number, positives, ledger)
    if raw is None:
        return "no_query"
    query, reason = clean(raw)
    if reason:
        return reason
    if len(positives) == 1 and not negatives and not joined:  # most rows of most files
        positive, reason = clean(positives[0])
        if reason:
            return reason
        if positive == query:
            return "positive_equals_query"
        key = file.prefix + pair_id(query, positive)
        return key, query, (positive,), (), (), (), (), file.name, number
    kept, reason = clean_list(positives)
    others = [text for text in kept if text != query]
    if not others:
        return "positive_equals_query" if kept else reason or "no_positive"
    known = {query, *others}
    own = hard = [text for text in clean_list(negatives)[0] if text not in known]
    if joined:
        hard = [text for text in clean_list([*own, *joined])[0] if text not in known]
    ledger.note("given_positive_removed", len(positives) - len(others))
    ledger.note("given_negative_removed", len(negatives) + len(joined) - len(hard))
    return file.prefix + content_id(query, others, own), query, others, hard, (), (), (), file.name, number


def _set_example(file: _File, number: int, members: list[Any], ledger: Ledger) -> _Example | str:
    """One example per set: the first member is the query, the others its positives, all of one group."""
    kept, reason = clean_list(members)
    if len(kept) < 2:
        return "set_too_small" if kept or not reason else reason
    ledger.note("set_member_removed", len(members) - len(kept))
    key = file.prefix + content_id("", kept)
    return key, kept[0], kept[1:], (), (), (), (key,), file.name, number


# --- labelled and scored pairs


def _judge(name: str, options: PairsOptions) -> _Judge | None:
    """The rule that sorts marked pairs; None if the card names neither label nor score."""
    if options.label and options.score:
        raise ContentError(f"{name}: options name a label and a score column; name one of them")
    if options.label:
        if not options.positive_labels:
            raise ContentError(f"{name}: options name the label column {options.label!r} but no positive_labels")
        return lambda label: _judge_label(label, options.positive_labels, options.negative_labels)
    if options.score:
        least, most = options.positive_min, options.negative_max
        if least is None or (most is not None and most >= least):
            raise ContentError(
                f"{name}: the score column {options.score!r} needs positive_min, above negative_max if that is "
                f"given; the card has positive_min={least}, negative_max={most}"
            )
        return lambda score: _judge_score(score, least, most)
    return None


def _judge_label(label: Any, positive: tuple[str, ...], negative: tuple[str, ...]) -> str:
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    if not isinstance(label, str | int):
        return "wrong_type"
    if str(label) in positive:
        return _POSITIVE
    return _NEGATIVE if str(label) in negative else "label_not_used"


def _judge_score(score: Any, least: float, most: float | None) -> str:
    if isinstance(score, str):  # all cells of a CSV are text
        try:
            score = float(score)
        except ValueError:
            return "wrong_type"
    if not isinstance(score, float | int) or math.isnan(score):
        return "wrong_type"
    if score >= least:
        return _POSITIVE
    return _NEGATIVE if most is not None and score <= most else "score_in_between"


def _judged(rows: Callable[[Ledger], _Rows], judge: _Judge, ledger: Ledger) -> Iterator[_Example]:
    """Two passes over the files: the first gathers the hard negatives of each first text, the second joins."""
    hard = _hard_negatives(rows(Ledger(ledger.dataset)), judge)
    for file, number, row in rows(ledger):
        example: _Example | str = "unknown_form"
        if row and row[0] is not _SET:
            query = clean(row[0])[0]
            example = judge(row[3])
            if example == _POSITIVE:
                example = _example(file, number, row, ledger, hard.get(query, ()))
            elif example == _NEGATIVE:
                spent = "used_as_negative" if query in hard else "negative_without_positive"
                example = _why_unusable(row) or spent
        if isinstance(example, str):
            ledger.drop("adapt", example, where=f"{file.path}:{number}")
        else:
            yield example


def _hard_negatives(rows: _Rows, judge: _Judge) -> dict[str, list[str]]:
    """First text -> second texts of its hard-negative pairs, for the first texts that have a positive pair."""
    hard: dict[str, list[str]] = {}
    anchors: set[str] = set()
    for _, _, row in rows:
        if row is None or row[0] is _SET or _why_unusable(row):
            continue
        verdict, query, others = judge(row[3]), clean(row[0])[0], clean_list(row[1])[0]
        if verdict == _NEGATIVE:
            hard.setdefault(query, []).extend(others)
        elif verdict == _POSITIVE and others != [query]:
            anchors.add(query)
    return {query: texts for query, texts in hard.items() if query in anchors}


def _why_unusable(row: _Row) -> str | None:
    """The reason why a pair has no query or no second text, if so."""
    if row[0] is None:
        return "no_query"
    _, reason = clean(row[0])
    kept, why = clean_list(row[1])
    return reason or (None if kept else why or "no_positive")
