"""What every adapter takes and gives, and the small tools they share.

An adapter turns raw files into batches of ``EXAMPLES`` (and, if the source has more candidate negatives than
the examples' own positives, ``DOCUMENTS``). It counts every raw row in the ledger: ``read`` when seen, then
either ``adapted`` or dropped in stage "adapt" under a reason.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from medi_build.content.cards import Card
from medi_build.dataset.schema import EXAMPLES, Kind
from medi_build.ledger import Ledger

ROWS_PER_BATCH = 1024
"""Small enough that a block of Python rows stays in the processor's cache until it is turned into columns."""

MAX_CHARACTERS = 100_000
"""A longer text is a broken row (a whole book, an encoded file): dropped as ``too_long``."""


@dataclass(frozen=True)
class Inputs:
    """Verified local files of one dataset.

    Attributes:
        rows: the task or pair files, in the card's order.
        extra: role -> files the adapter joins with, e.g. ``pages`` (KILT's knowledge source).
        cache: a folder where derived indexes may be kept; safe to delete.
    """

    rows: tuple[Path, ...]
    extra: Mapping[str, tuple[Path, ...]]
    cache: Path


@dataclass(frozen=True)
class Adapted:
    """An adapter's answer. The iterators are lazy: the ledger is complete once they are exhausted.

    Attributes:
        kind: which pair rule the dataset follows.
        fields: instruction fields found in the data; they fill what the card leaves open.
        examples: batches of schema ``EXAMPLES``.
        documents: batches of schema ``DOCUMENTS``.
    """

    kind: Kind
    fields: Mapping[str, str]
    examples: Iterator[pa.RecordBatch]
    documents: Iterator[pa.RecordBatch] = field(default_factory=lambda: iter(()))


Adapter = Callable[[Card, Inputs, Ledger], Adapted]


def clean(text: Any) -> tuple[str, str | None]:
    """Return ``(stripped text, None)``, or ``("", reason)`` if it cannot be used.

    Reasons: ``wrong_type`` (not a string), ``empty_text``, ``too_long``, ``invalid_unicode`` (lone surrogates).
    """
    if not isinstance(text, str):
        return "", "wrong_type"
    text = text.strip()
    if not text:
        return "", "empty_text"
    if len(text) > MAX_CHARACTERS:
        return "", "too_long"
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            return "", "invalid_unicode"
    return text, None


def clean_list(texts: Iterable[Any]) -> tuple[list[str], str | None]:
    """Clean several texts, drop repeats (order kept) and unusable ones; the first reason met comes back too."""
    kept: dict[str, None] = {}
    first_reason: str | None = None
    for text in texts:
        good, reason = clean(text)
        if reason is None:
            kept[good] = None
        elif first_reason is None:
            first_reason = reason
    return list(kept), first_reason


def example_batches(rows: Iterable[tuple[Any, ...]], ledger: Ledger) -> Iterator[pa.RecordBatch]:
    """Gather rows (tuples in the order of ``EXAMPLES``) into record batches; counts them as adapted."""
    rows = iter(rows)
    while block := list(islice(rows, ROWS_PER_BATCH)):
        ledger.adapted += len(block)
        yield _batch(block)


def _batch(block: list[tuple[Any, ...]]) -> pa.RecordBatch:
    columns = zip(*block, strict=True)
    return pa.RecordBatch.from_arrays(
        [_array(column, kind) for column, kind in zip(columns, EXAMPLES.types, strict=True)], schema=EXAMPLES
    )


def _array(column: tuple[Any, ...], kind: pa.DataType) -> pa.Array:
    """Strings, or lists of strings; the latter from flat values and offsets, which is far faster than nested."""
    if not pa.types.is_list(kind):
        return pa.array(column, type=kind)
    offsets = np.zeros(len(column) + 1, np.int32)
    if any(column):  # else every list is empty, as most are
        np.cumsum(np.fromiter(map(len, column), np.int32, len(column)), out=offsets[1:])
    values = pa.array(list(chain.from_iterable(column)), type=kind.value_type)
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=kind)
