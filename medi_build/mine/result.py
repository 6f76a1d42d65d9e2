"""What mining found: arrays of numbers, and block by block as tables of schema ``MINED``, with the texts.

A dataset's negatives may have many times the text of the dataset itself (fifty a query), so no table ever holds them
all.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from medi_build.arrays import Bools, Floats32, Ints
from medi_build.content.mining_rule import MiningRule
from medi_build.dataset.schema import MINED
from medi_build.mine.run import Run
from medi_build.mine.select import GIVEN, GIVEN_NAME, RANDOM_NAME, UNRANKED, Candidates
from medi_build.mine.shortcuts import note_length_shortcut
from medi_build.mine.texts import UniqueTexts, column, flatten
from medi_build.search.ranking import NOTHING

ROWS_PER_BLOCK = 8192
"""Rows per step of everything that streams records, and per Parquet row group of them."""
BYTES_PER_BLOCK = 64 << 20
"""Fewer rows where they hold more text than this, each query and positive counted once for each negative: as many times
as some forms write it."""


@dataclass(frozen=True)
class MinedRows:
    """One positive and some negatives for each of some rows.

    Attributes:
        rows: int64 [r], rows of the examples table.
        positives: int64 [r], numbers of distinct texts.
        positive_scores: float32 [r], cosine with the query.
        negatives: [r, n], hardest first; the first column may be empty (id -1) only where all are.
        possible_false_negatives: int64 [r, s], positives of other rows that are at least as near to the query as its
            lowest positive, nearest first, -1 where there are fewer: in a batch they may be false negatives. Where
            labels or outputs tell right from wrong there are none.
        miner: name of the method that ranked the negatives.
    """

    rows: Ints
    positives: Ints
    positive_scores: Floats32
    negatives: Candidates
    possible_false_negatives: Ints
    miner: str

    def some(self, index: Ints | slice) -> "MinedRows":
        """Some of the rows, in the given order."""
        return MinedRows(
            self.rows[index],
            self.positives[index],
            self.positive_scores[index],
            self.negatives.rows(index),
            self.possible_false_negatives[index],
            self.miner,
        )

    def counts(self) -> Ints:
        """Negatives of each row, int64 [r]."""
        counts: Ints = np.count_nonzero(self.negatives.ids != NOTHING, axis=1)
        return counts


@dataclass(frozen=True)
class Mined:
    """What mining found for the examples of one dataset.

    Attributes:
        examples: schema ``EXAMPLES``, of which ``found.rows`` are rows, ascending.
        found: rows that have at least one negative each.
        unique_texts: those that the numbers in ``found`` stand for.
    """

    examples: pa.Table
    found: MinedRows
    unique_texts: UniqueTexts

    def __len__(self) -> int:
        return len(self.found.rows)

    def first(self, count: int) -> "Mined":
        """The first ``count`` rows."""
        return Mined(self.examples, self.found.some(slice(count)), self.unique_texts)

    def most_negatives(self) -> int:
        """Of any row."""
        return int(self.found.counts().max(initial=0))

    def tables(self) -> Iterator[pa.Table]:
        """Schema ``MINED``, in order, each of a block of rows (`ROWS_PER_BLOCK`, `BYTES_PER_BLOCK`)."""
        for rows in _blocks(self._sizes()):
            yield _table(self.found.some(rows), self.unique_texts)

    def _sizes(self) -> Ints:
        """Bytes of text that each row takes, int64 [r]."""
        sizes, ids, rows = self.unique_texts.sizes(), self.found.negatives.ids, self.found.rows
        positives = flatten(self.examples, "positives")
        given = np.bincount(positives.rows, positives.values.str.len_bytes().to_numpy(), len(self.examples))
        queries = column(self.examples, "query").str.len_bytes().to_numpy()
        repeated: Ints = (queries[rows] + sizes[self.found.positives]) * self.found.counts()
        negatives: Ints = np.where(ids == NOTHING, 0, sizes[ids]).sum(axis=1)
        return repeated + given[rows].astype(np.int64) + negatives


def empty(miner: str, rule: MiningRule) -> MinedRows:
    """Nothing found, as there was nothing to look at."""
    none = np.empty(0, dtype=np.int64)
    nothing = Candidates(
        np.empty((0, rule.num_negatives), dtype=np.int64),
        np.empty((0, rule.num_negatives), dtype=np.float32),
        np.empty((0, rule.num_negatives), dtype=np.int32),
    )
    return MinedRows(none, none, np.empty(0, dtype=np.float32), nothing, none[:, None], miner)


def join(parts: list[MinedRows]) -> MinedRows:
    """Parts found one after another, as one, sorted by row."""
    rows = np.concatenate([part.rows for part in parts])
    order = np.argsort(rows, kind="stable")
    width = max(part.possible_false_negatives.shape[1] for part in parts)
    return MinedRows(
        rows[order],
        np.concatenate([part.positives for part in parts])[order],
        np.concatenate([part.positive_scores for part in parts])[order],
        Candidates(
            np.concatenate([part.negatives.ids for part in parts]),
            np.concatenate([part.negatives.scores for part in parts]),
            np.concatenate([part.negatives.ranks for part in parts]),
        ).rows(order),
        np.concatenate([_widened(part.possible_false_negatives, width) for part in parts])[order],
        parts[0].miner,
    )


def with_negatives(examples: pa.Table, found: MinedRows, unique_texts: UniqueTexts, run: Run) -> Mined:
    """The rows that have a negative; the others are dropped as ``no_negative``.

    Rows with some but fewer than ``rule.num_negatives`` are counted as ``fewer_negatives_than_asked``.
    """
    counts, ledger = found.counts(), run.ledger
    ledger.drop("mine", "no_negative", int((counts == 0).sum()))
    ledger.note("fewer_negatives_than_asked", int(((counts > 0) & (counts < run.rule.num_negatives)).sum()))
    found = found.some(np.flatnonzero(counts))
    positive, negative = (
        unique_texts.text(numbers).str.len_chars().to_numpy().astype(np.int64)
        for numbers in (found.positives, found.negatives.ids[:, 0])
    )
    note_length_shortcut(positive, negative, ledger)
    return Mined(examples, found, unique_texts)


def _blocks(sizes: Ints) -> Iterator[slice]:
    """Rows of the given sizes in bytes, in order, cut where a block has `ROWS_PER_BLOCK` or passes `BYTES_PER_BLOCK`.

    A larger row is a block of its own.
    """
    ends = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        limit = BYTES_PER_BLOCK + (ends[start - 1] if start else 0)
        full = int(np.searchsorted(ends, limit, side="right"))
        end = min(max(full, start + 1), start + ROWS_PER_BLOCK)
        yield slice(start, end)
        start = end


def _table(found: MinedRows, unique_texts: UniqueTexts) -> pa.Table:
    """Rows with their texts, which are below 2 GiB."""
    ids, scores, ranks = found.negatives
    further, possible = ids[:, 1:] != NOTHING, found.possible_false_negatives
    offsets = _offsets(further)
    columns = {
        "row": pa.array(found.rows),
        "pos": _strings(unique_texts.text(found.positives)),
        "pos_id": _strings(unique_texts.id(found.positives)),
        "neg": _strings(unique_texts.text(ids[:, 0])),
        "neg_id": _strings(unique_texts.id(ids[:, 0])),
        "pos_score": pa.array(found.positive_scores),
        "neg_score": pa.array(scores[:, 0]),
        "neg_rank": pa.array(ranks[:, 0].astype(np.int32)),
        "miner": _strings(_miners(ranks[:, 0], found.miner)),
        "hard_negatives": _lists(offsets, _strings(unique_texts.text(ids[:, 1:][further])), "hard_negatives"),
        "hard_negative_scores": _lists(offsets, pa.array(scores[:, 1:][further]), "hard_negative_scores"),
        "hard_negative_ranks": _lists(offsets, pa.array(ranks[:, 1:][further].astype(np.int32)), "hard_negative_ranks"),
        "possible_false_negative_ids": _lists(
            _offsets(possible != NOTHING),
            _strings(unique_texts.id(possible[possible != NOTHING])),
            "possible_false_negative_ids",
        ),
    }
    return pa.table(columns, schema=MINED)


def _miners(ranks: npt.NDArray[np.int32], ranked: str) -> pl.Series:
    """Who found negatives of these ranks [r], if ``ranked`` ranks."""
    others = np.where(ranks == UNRANKED, RANDOM_NAME, ranked)
    return pl.Series(np.where(ranks == GIVEN, GIVEN_NAME, others), dtype=pl.String)


def _widened(ids: Ints, columns: int) -> Ints:
    return np.pad(ids, ((0, 0), (0, columns - ids.shape[1])), constant_values=NOTHING)


def _offsets(present: Bools) -> npt.NDArray[np.int32]:
    return np.concatenate([[0], np.cumsum(present.sum(axis=1))]).astype(np.int32)


def _strings(series: pl.Series) -> pa.Array:
    return series.to_arrow().cast(pa.string())


def _lists(offsets: npt.NDArray[np.int32], values: pa.Array, name: str) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=MINED.field(name).type)
