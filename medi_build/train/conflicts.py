"""Rows of one task that must not meet in a batch, and where to put them.

A row *shows* its query, positive, classes and pages, and *rejects* its negatives (with their classes, where such a
text is known as a query of the task), and its possible false negatives: positives of other rows that mining found at
least as near to its query as its own. Two rows conflict where both show the same thing, or one rejects what the other
shows. Two rows may reject the same thing.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from medi_build.arrays import Hashes, Ints
from medi_build.train.keys import Ragged, RowKeys

KINDS = ("query", "positive", "negative", "class", "page", "possible false negative")
_NEGATIVE_CLASS = len(KINDS)  # reported as "class"
_POSITIVE_ID = len(KINDS) + 1
_REJECTS = (KINDS.index("negative"), KINDS.index("possible false negative"), _NEGATIVE_CLASS)


@dataclass(frozen=True)
class TaskConflicts:
    """What the contested rows of a task show and reject.

    Attributes:
        uses: row -> (keys it shows, keys it rejects); only rows that could conflict, and only contested keys.
        kinds: how many rows are contested, by kind.
    """

    uses: dict[int, tuple[list[int], list[int]]]
    kinds: Counter[str] = field(default_factory=Counter)

    def place(self, order: Ints, batch_size: int) -> tuple[Ints, int, int]:
        """Give the contested rows their batches; the others fit anywhere.

        Each row goes to the batch that its place in the shuffled order suggests, or to the next one that has room
        and comes after every batch that holds something it conflicts with.

        Args:
            order: int64 [n], distinct rows.
            batch_size: the most rows of a batch.

        Returns:
            batch of each row of ``order`` (-1 for uncontested ones), number of batches, placements put off.
        """
        batches = -(-len(order) // batch_size)
        placed = np.full(len(order), -1, np.int64)
        sizes = [0] * batches
        next_open = list(range(batches + 1))  # union-find: the first batch from here on that has room
        shown: dict[int, int] = {}  # key -> one past the last batch that shows (rejects) it
        rejected: dict[int, int] = {}
        moved = 0
        for position, row in enumerate(order.tolist()):
            if row not in self.uses:
                continue
            shows, rejects = self.uses[row]
            wish = batch = position * batches // len(order)
            for key in shows:
                batch = max(batch, shown.get(key, 0), rejected.get(key, 0))
            for key in rejects:
                batch = max(batch, shown.get(key, 0))
            moved += batch > wish
            batch = _find(next_open, batch)
            if batch == len(sizes):  # none has room
                sizes.append(0)
                next_open.append(batch + 1)
            placed[position] = batch
            sizes[batch] += 1
            if sizes[batch] == batch_size:
                next_open[batch] = batch + 1
            for key in shows:
                shown[key] = batch + 1
            for key in rejects:
                rejected[key] = max(rejected.get(key, 0), batch + 1)
        return placed, len(sizes), moved

    def compatible(self, batch: Ints, candidates: Ints, wanted: int) -> Ints:
        """The first ``wanted`` candidates that are not in the batch and conflict with nothing in it."""
        members = set(batch.tolist())
        shown, rejected = set[int](), set[int]()
        for row in members:
            shows, rejects = self.uses.get(row, ([], []))
            shown.update(shows)
            rejected.update(rejects)
        found: list[int] = []
        for row in candidates.tolist():
            if len(found) == wanted:
                break
            shows, rejects = self.uses.get(row, ([], []))
            if row in members or not shown.isdisjoint([*shows, *rejects]) or not rejected.isdisjoint(shows):
                continue
            found.append(row)
            shown.update(shows)
            rejected.update(rejects)
        return np.array(found, np.int64)


def _find(parent: list[int], start: int) -> int:
    """Root of ``start``, halving the path on the way."""
    while parent[start] != start:
        parent[start] = parent[parent[start]]
        start = parent[start]
    return start


def find_conflicts(keys: RowKeys, rows: Ints, *, same_class: bool) -> TaskConflicts:
    """Find the contested rows of one task.

    Args:
        keys: all rows' hashes.
        rows: int64 [n], the task's rows; the answer speaks of positions in this array.
        same_class: rows of one class conflict as well.
    """
    n = np.arange(len(rows))
    more_owners, more = _entries(keys.hard_negatives, rows)
    negatives = np.concatenate([n, more_owners]), np.concatenate([keys.neg[rows], more])
    parts: list[tuple[int, Ints, Hashes]] = [
        (0, n, keys.query[rows]),
        (1, n, keys.pos[rows]),
        (2, *negatives),
        (4, *_salted(*_entries(keys.groups, rows), salt=4)),
        (5, *_salted(*_entries(keys.possible_false_negative_ids, rows), salt=5)),
        (_POSITIVE_ID, *_salted(*_entries(keys.pos_ids, rows), salt=5)),
    ]
    if same_class:
        owners, labels = _salted(*_entries(keys.labels, rows), salt=3)
        rejected = _negatives_labels(*negatives, keys.query[rows], owners, labels)
        parts += [(3, owners, labels), (_NEGATIVE_CLASS, *rejected)]
    kind = np.concatenate([np.full(len(owner), code) for code, owner, _ in parts])
    owner = np.concatenate([owner for _, owner, _ in parts])
    _, key = np.unique(np.concatenate([values for _, _, values in parts]), return_inverse=True)
    rejects = np.isin(kind, _REJECTS)
    shown_by = _rows_per_key(key[~rejects], owner[~rejects], int(key.max()) + 1)
    rejected_by = np.bincount(key[rejects], minlength=len(shown_by))
    kind[kind == _NEGATIVE_CLASS] = KINDS.index("class")
    contested = ((shown_by >= 2) | ((shown_by >= 1) & (rejected_by >= 1)))[key]
    kinds = Counter({name: len(np.unique(owner[contested & (kind == code)])) for code, name in enumerate(KINDS)})
    return TaskConflicts(_by_row(owner[contested], key[contested], rejects[contested]), +kinds)


def _rows_per_key(key: Ints, owner: Ints, keys: int) -> Ints:
    """In how many different rows each key occurs."""
    rows = int(owner.max(initial=0)) + 1
    return np.bincount(np.unique(key * rows + owner) // rows, minlength=keys)


def _by_row(owner: Ints, key: Ints, rejects: npt.NDArray[np.bool_]) -> dict[int, tuple[list[int], list[int]]]:
    uses: dict[int, tuple[list[int], list[int]]] = {}
    triples: Iterable[tuple[int, int, bool]] = zip(owner.tolist(), key.tolist(), rejects.tolist(), strict=True)
    for row, value, rejected in triples:
        uses.setdefault(row, ([], []))[rejected].append(value)
    return uses


def _entries(lists: Ragged, rows: Ints) -> tuple[Ints, Hashes]:
    """Owner (position in ``rows``) and value of every entry of the rows' lists."""
    lengths = lists.offsets[rows + 1] - lists.offsets[rows]
    owners = np.repeat(np.arange(len(rows)), lengths)
    within = np.arange(len(owners)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return owners, lists.values[np.repeat(lists.offsets[rows], lengths) + within]


def _salted(owners: Ints, values: Hashes, salt: int) -> tuple[Ints, Hashes]:
    """The same entries with values that no text has, nor an entry under another salt."""
    with np.errstate(over="ignore"):
        return owners, values * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt)


def _negatives_labels(
    holders: Ints, negatives: Hashes, queries: Hashes, owners: Ints, labels: Hashes
) -> tuple[Ints, Hashes]:
    """The classes of the rows' negatives: those of all rows of the task whose query a negative's text is.

    Args:
        holders: row of each negative.
        negatives: hash of each negative's text.
        queries: hash of each row's query.
        owners: row of each label.
        labels: hash of each label.
    """
    texts, text_of_row = np.unique(queries, return_inverse=True)
    classes, of_label = np.unique(labels, return_inverse=True)
    kinds = max(1, len(classes))
    pairs = np.unique(text_of_row[owners] * kinds + of_label)  # (text, class) as one number
    at = np.minimum(np.searchsorted(texts, negatives), len(texts) - 1)
    known = np.flatnonzero(texts[at] == negatives)
    starts, ends = np.searchsorted(pairs, at[known] * kinds), np.searchsorted(pairs, (at[known] + 1) * kinds)
    lengths = ends - starts
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.repeat(holders[known], lengths), classes[pairs[np.repeat(starts, lengths) + within] % kinds]
