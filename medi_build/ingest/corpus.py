"""Further candidates for one's own pairs: a file of texts, with or without ids and titles."""

import math
from pathlib import Path
from typing import Any

import pyarrow as pa

from medi_build.dataset.schema import CORPUS
from medi_build.errors import InputError, MissingInputError
from medi_build.ingest.adapters.base import ROWS_PER_BATCH, clean, content_id
from medi_build.ingest.rows import rows_of
from medi_build.ledger import Ledger

CORPUS_IDS, CORPUS_TEXTS = ("_id", "id", "docid", "pid"), ("text", "contents")
"""Columns of a corpus; the first one there counts."""


def read_corpus(path: Path, ledger: Ledger) -> pa.Table:
    """Candidate texts (schema ``CORPUS``) from a file of rows; unusable ones are noted, not dropped.

    A row is a text, or has it in ``text`` or ``contents``; its id is in ``_id``, ``id``, ``docid`` or ``pid``, else it
    is the text's hash. A ``title`` goes in front of the text. A table of two columns without a header is ``id, text``.
    The rows are none of the dataset's, so the ledger only notes ``corpus_{reason}``, and the places of bad rows. No row
    is lost by ``corpus_null_id`` (the hash is taken), ``corpus_repeated_id`` and ``corpus_title_ignored`` (no text).

    Raises:
        MissingInputError: there is no such file.
        InputError: the file cannot be read, or no row is usable.
    """
    if not path.is_file():
        raise MissingInputError(f"{path}: no such file; give a .jsonl, .csv, .tsv or .parquet file of texts")
    batches: list[pa.RecordBatch] = []
    block: list[tuple[str, str, str]] = []
    book, seen, unknown = Ledger("corpus"), set[str](), 0
    names = (*CORPUS_IDS, *CORPUS_TEXTS, "title")
    for number, row in rows_of(path, book, lists=False, headless=("id", "text"), known=names):
        value = {"text": row} if isinstance(row, str) else row
        column = next((name for name in CORPUS_TEXTS if name in value), None) if isinstance(value, dict) else None
        if column is None:
            unknown = unknown or number
            book.drop("adapt", "unknown_form", where=f"{path}:{number}")
            continue
        title, text, reason = _corpus_text(value, column, ledger)
        if reason is not None:
            book.drop("adapt", reason, where=f"{path}:{number}")
            continue
        name = _corpus_id(value, ledger)
        if name is not None:
            ledger.note("corpus_repeated_id", name in seen)
            seen.add(name)
        block.append((name or content_id(text), text, title))
        if len(block) == ROWS_PER_BATCH:
            batches.append(_batch(block))
            block = []
    batches.append(_batch(block))
    for reason, count in book.dropped.get("adapt", {}).items():
        ledger.note(f"corpus_{reason}", count)
    ledger.places |= {place.replace("adapt/", "corpus/"): where for place, where in book.places.items()}
    table = pa.Table.from_batches(batches)
    if not len(table) and unknown:
        raise InputError(
            f"{path}: row {unknown} has no column 'text' (or 'contents'), and no row is usable; rename the column that "
            "holds the text"
        )
    if not len(table):
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in book.dropped.get("adapt", {}).items())
        raise InputError(
            f"{path}: holds no usable text ({reasons or 'it is empty'}); leave out --corpus to mine among the "
            "positives alone"
        )
    return table


def _batch(block: list[tuple[str, str, str]]) -> pa.RecordBatch:
    """Rows of id, text and title; so few of them never have 2 GiB."""
    ids, texts, titles = zip(*block, strict=True) if block else ((), (), ())
    return pa.RecordBatch.from_arrays(
        [
            pa.array(column, kind)
            for column, kind in zip((ids, texts, [[]] * len(ids), titles), CORPUS.types, strict=True)
        ],
        schema=CORPUS,
    )


def _corpus_text(value: dict[str, Any], column: str, ledger: Ledger) -> tuple[str, str, str | None]:
    """Title, and title and text together, of a row, cleaned; and the reason why it cannot be used, if so."""
    text, reason = clean(value[column])
    title = value.get("title")
    if reason is not None or _is_null(title) or title == "":
        return "", text, reason
    heading, fault = clean(title)
    if fault is not None:
        ledger.note("corpus_title_ignored", fault != "empty_text")
        return "", text, None
    return heading, *clean(f"{heading} {text}")


def _corpus_id(value: dict[str, Any], ledger: Ledger) -> str | None:
    """The id of a row; None where it has none, which is noted if it has a place for one."""
    column = next((name for name in CORPUS_IDS if name in value), None)
    if column is None:
        return None
    name = value[column]
    if isinstance(name, float) and name.is_integer():
        name = int(name)  # pandas makes such of a column that has gaps
    if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
        ledger.note("corpus_null_id")
        return None
    return str(name)


def _is_null(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
