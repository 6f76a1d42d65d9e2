"""What the planner knows of training rows: hashes of their texts, classes and pages, as flat arrays."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from medi_build.arrays import Hashes, Ints, places_within
from medi_build.dataset.schema import LISTS


@dataclass(frozen=True)
class Ragged:
    """Lists of hashes: row ``i`` has ``values[offsets[i]:offsets[i + 1]]``."""

    offsets: Ints
    values: Hashes

    def take(self, rows: Ints, most: int | None = None) -> "Ragged":
        """The lists of some rows, or the first ``most`` hashes of each."""
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        if most is not None:
            lengths = np.minimum(lengths, most)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return Ragged(offsets, self.values[np.repeat(self.offsets[rows], lengths) + places_within(lengths)])


@dataclass(frozen=True)
class RowKeys:
    """What the planner knows of the rows; texts are 64-bit hashes. All arrays have one entry per row.

    ``hard_negatives`` are those beyond ``neg``; ``pos_ids`` holds one id or none, ``possible_false_negative_ids`` those
    of other rows' positives that may be false negatives for the row.
    """

    task: Ints
    query: Hashes
    pos: Hashes
    neg: Hashes
    hard_negatives: Ragged
    labels: Ragged
    groups: Ragged
    pos_ids: Ragged
    possible_false_negative_ids: Ragged


def take_keys(keys: RowKeys, rows: Ints) -> RowKeys:
    """The keys of some rows."""
    return RowKeys(
        task=keys.task[rows],
        query=keys.query[rows],
        pos=keys.pos[rows],
        neg=keys.neg[rows],
        **{name: getattr(keys, name).take(rows) for name in LISTS},
    )


def first_hard_negatives(keys: RowKeys, most: int) -> RowKeys:
    """The keys with at most so many further negatives of each row."""
    every = np.arange(len(keys.task))
    return dataclasses.replace(keys, hard_negatives=keys.hard_negatives.take(every, most))
