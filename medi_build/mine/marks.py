"""Marks in one dataset: which texts people found to be no negatives of a query, and which rows are to be left out."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from medi_build.arrays import Ints
from medi_build.dataset.marks import RECORD, Mark
from medi_build.files import text_digest
from medi_build.ledger import Ledger
from medi_build.mine.result import Mined
from medi_build.mine.texts import UniqueTexts, column

TEXTS_AT_ONCE = 65536


class MarkedPairs(NamedTuple):
    """Pairs that are none of query and negative.

    Attributes:
        queries: int64 [m], numbers of the distinct queries.
        texts: int64 [m], those of the texts.
    """

    queries: Ints
    texts: Ints


NO_PAIRS = MarkedPairs(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))


def marked_pairs(
    marks: Sequence[Mark], ids: pl.Series, query_of_row: Ints, query_texts: Ints, texts: UniqueTexts, ledger: Ledger
) -> MarkedPairs:
    """The marked negatives of a dataset, as numbers.

    Notes ``marked_negatives``, and ``marks_without_effect`` for those whose record or text is not there.

    Args:
        marks: of this dataset.
        ids: of the rows [r].
        query_of_row: int64 [r], the distinct query of each row.
        query_texts: int64 [q], the number of each distinct query among the texts.
        texts: all distinct texts.
        ledger: of the dataset.
    """
    wanted = [one for one in marks if one.neg != RECORD]
    if not wanted:
        return NO_PAIRS
    number = _numbers({digest for one in wanted for digest in (one.neg, one.query)}, texts)
    query_of_text = {text: query for query, text in enumerate(query_texts.tolist())}
    asked = {one.id for one in wanted}
    by_id = {one: query for one, query in zip(ids, query_of_row.tolist(), strict=True) if one in asked}
    found: set[tuple[int, int]] = set()
    without = 0
    for one in wanted:
        queries = {by_id.get(one.id), query_of_text.get(number.get(one.query, -1))} - {None}
        pairs = {(query, number[one.neg]) for query in queries if query is not None and one.neg in number}
        without += not pairs
        found |= pairs
    ledger.note("marked_negatives", len(found))
    ledger.note("marks_without_effect", without)
    both = np.array(sorted(found), dtype=np.int64).reshape(-1, 2)
    return MarkedPairs(both[:, 0], both[:, 1])


def without_marked(marks: Sequence[Mark], mined: Mined, ledger: Ledger) -> Mined:
    """Less the rows that are marked as a whole, dropped as ``marked_record``; marks that hit none are noted."""
    wanted = [one for one in marks if one.neg == RECORD]
    if not wanted:
        return mined
    found, examples = mined.found, mined.examples
    asked = {one.id for one in wanted}
    ids = column(examples, "id").gather(found.rows)
    by_id = {one: place for place, one in enumerate(ids) if one in asked}
    number = _numbers({one.pos for one in wanted}, mined.unique_texts)
    bad: set[int] = set()
    for one in wanted:
        hit = {by_id[one.id]} if one.id in by_id else set()
        if one.query and one.pos in number:
            same = np.flatnonzero(found.positives == number[one.pos])
            queries = column(examples, "query").gather(found.rows[same])
            hit |= {place for place, text in zip(same.tolist(), queries, strict=True) if text_digest(text) == one.query}
        ledger.note("marks_without_effect", int(not hit))
        bad |= hit
    ledger.drop("mine", "marked_record", len(bad))
    kept = np.setdiff1d(np.arange(len(found.rows)), np.array(sorted(bad), dtype=np.int64))
    return Mined(examples, found.some(kept), mined.unique_texts)


def _numbers(wanted: set[str], texts: UniqueTexts) -> dict[str, int]:
    """The numbers of the texts that have one of these digests."""
    found: dict[str, int] = {}
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        numbers = np.arange(start, min(start + TEXTS_AT_ONCE, len(texts)))
        for number, text in enumerate(texts.text(numbers), start):
            digest = text_digest(text)
            if digest in wanted:
                found[digest] = number
    return found
