"""What mining found, as arrays, and as a table of schema ``MINED``."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from medi_build.arrays import Bools, Floats32, Ints
from medi_build.content.mining_rule import MiningRule
from medi_build.dataset.schema import MINED
from medi_build.ledger import Ledger
from medi_build.mine.select import GIVEN, Candidates
from medi_build.mine.shortcuts import note_length_shortcut
from medi_build.mine.texts import UniqueTexts
from medi_build.search.ranking import NOTHING


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


def to_table(mined: MinedRows, unique_texts: UniqueTexts, rule: MiningRule, ledger: Ledger) -> pa.Table:
    """The rows that have a negative; the others are dropped as ``no_negative``.

    Rows with some but fewer than ``rule.num_negatives`` are counted as ``fewer_negatives_than_asked``.
    """
    counts = (mined.negatives.ids != NOTHING).sum(axis=1)
    ledger.drop("mine", "no_negative", int((counts == 0).sum()))
    ledger.note("fewer_negatives_than_asked", int(((counts > 0) & (counts < rule.num_negatives)).sum()))
    kept = np.flatnonzero(counts)
    ids, scores, ranks = mined.negatives.rows(kept)
    further, possible = ids[:, 1:] != NOTHING, mined.possible_false_negatives[kept]
    offsets = _offsets(further)
    columns = {
        "row": pa.array(mined.rows[kept]),
        "pos": _strings(unique_texts.text(mined.positives[kept])),
        "pos_id": _strings(unique_texts.id(mined.positives[kept])),
        "neg": _strings(unique_texts.text(ids[:, 0])),
        "neg_id": _strings(unique_texts.id(ids[:, 0])),
        "pos_score": pa.array(mined.positive_scores[kept]),
        "neg_score": pa.array(scores[:, 0]),
        "neg_rank": pa.array(ranks[:, 0].astype(np.int32)),
        "miner": _strings(pl.Series(np.where(ranks[:, 0] == GIVEN, "given", mined.miner), dtype=pl.String)),
        "hard_negatives": _lists(offsets, _strings(unique_texts.text(ids[:, 1:][further])), "hard_negatives"),
        "hard_negative_scores": _lists(offsets, pa.array(scores[:, 1:][further]), "hard_negative_scores"),
        "hard_negative_ranks": _lists(offsets, pa.array(ranks[:, 1:][further].astype(np.int32)), "hard_negative_ranks"),
        "possible_false_negative_ids": _lists(
            _offsets(possible != NOTHING),
            _strings(unique_texts.id(possible[possible != NOTHING])),
            "possible_false_negative_ids",
        ),
    }
    table = pa.table(columns, schema=MINED)
    positive, negative = (pc.utf8_length(table[name]).to_numpy().astype(np.int64) for name in ("pos", "neg"))
    note_length_shortcut(positive, negative, ledger)
    return table


def _widened(ids: Ints, columns: int) -> Ints:
    return np.pad(ids, ((0, 0), (0, columns - ids.shape[1])), constant_values=NOTHING)


def _offsets(present: Bools) -> npt.NDArray[np.int32]:
    return np.concatenate([[0], np.cumsum(present.sum(axis=1))]).astype(np.int32)


def _strings(series: pl.Series) -> pa.Array:
    return series.to_arrow().cast(pa.string())


def _lists(offsets: npt.NDArray[np.int32], values: pa.Array, name: str) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=MINED.field(name).type)
