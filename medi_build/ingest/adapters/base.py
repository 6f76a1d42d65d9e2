"""What every adapter takes and gives, and the small tools they share.

An adapter turns raw files into batches of ``EXAMPLES`` (and, if the source has more candidate negatives than
the examples' own positives, ``DOCUMENTS``). It counts every raw row in the ledger: ``read`` when seen, then
either ``adapted`` or dropped in stage "adapt" under a reason.

An id is ``{card.name}/{key}``. The key is the upstream one where the source has one per row, else `content_id`: what
stands in a row, and neither its place nor its file, makes its id, so that a line that comes or goes changes no other
id. Where a row came from is said in the columns ``source_file`` (see `source_names`) and ``source_row``.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from medi_build.content.cards import Card, Licence
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
        licence: of the rows, where the data states it; else the card's holds.
    """

    kind: Kind
    fields: Mapping[str, str]
    examples: Iterator[pa.RecordBatch]
    documents: Iterator[pa.RecordBatch] = field(default_factory=lambda: iter(()))
    licence: Licence | None = None


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
    if isinstance(texts, list) and len(texts) == 1:  # most lists of most files
        text, reason = clean(texts[0])
        return ([], reason) if reason else ([text], None)
    kept: dict[str, None] = {}
    first_reason: str | None = None
    for text in texts:
        good, reason = clean(text)
        if reason is None:
            kept[good] = None
        elif first_reason is None:
            first_reason = reason
    return list(kept), first_reason


def content_id(query: str, *lists: Iterable[str]) -> str:
    """Hash of a row's cleaned texts: 16 hex digits, the same on every machine.

    64 bits do: among 10M distinct rows two collide with probability 3e-6, among 100M with 3e-4, and all that a
    collision does is that the later row gets a counter as if it were a repeat (`number_repeats`).

    Args:
        query: the first text; empty where a row has no side that comes first (a set).
        lists: further texts by what they are (positives, negatives, ...), each in order. The bytes before a list and
            after a text of it are in no UTF-8 text, so that other texts never make the same bytes.
    """
    whole = xxhash.xxh3_64(query.encode())
    for texts in lists:
        whole.update(b"\xfe")
        for text in texts:
            whole.update(text.encode())
            whole.update(b"\xff")
    return whole.hexdigest()


def pair_id(query: str, positive: str) -> str:
    """What ``content_id(query, [positive], [])`` gives, in half the time: most rows of most files are such."""
    return xxhash.xxh3_64_hexdigest(b"%b\xfe%b\xff\xfe" % (query.encode(), positive.encode()))


def number_repeats(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Give the second, third, ... row of an id ``-2``, ``-3``, ...: rows of the same content, which are alike anyway.

    Taking one of them away takes the last counter away. Ids are remembered as hashes, about 80 bytes each, so this
    comes after the cap. Groups keep the id without a counter: repeats of a set are one group.

    Args:
        batches: of schema ``EXAMPLES``.
    """
    seen: set[int] = set()
    times: Counter[bytes] = Counter()
    for batch in batches:
        ids = batch.column("id").cast(pa.binary()).to_pylist()
        keys = list(map(xxhash.xxh3_64_intdigest, ids))
        fresh = set(keys)
        if len(fresh) == len(keys) and seen.isdisjoint(fresh):
            seen |= fresh
            yield batch
            continue
        for place, (name, key) in enumerate(zip(ids, keys, strict=True)):
            if key in seen:
                times[name] += 1
                ids[place] = b"%b-%d" % (name, times[name] + 1)
            seen.add(key)
        yield batch.set_column(0, EXAMPLES.field("id"), pa.array(ids, pa.binary()).cast(pa.string()))


def source_names(paths: Sequence[Path]) -> list[str]:
    """What ``source_file`` says for each file: its path below the folder that all of them share."""
    folder = os.path.commonpath([path.parent for path in paths]) if paths else ""
    return [path.relative_to(folder).as_posix() for path in paths]


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
    """Strings, numbers, or lists of strings; lists from flat values and offsets, which is far faster than nested."""
    if not pa.types.is_list(kind):
        return pa.array(column, type=kind)
    offsets = np.zeros(len(column) + 1, np.int32)
    if any(column):  # else every list is empty, as most are
        np.cumsum(np.fromiter(map(len, column), np.int32, len(column)), out=offsets[1:])
    values = pa.array(list(chain.from_iterable(column)), type=kind.value_type)
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=kind)
