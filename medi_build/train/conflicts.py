"""Rows of one task that must not meet in a batch, and where to put them.

A row *shows* its query, positive, classes and pages, and *rejects* its negatives (with their classes, where such a
text is known as a query of the task), and its possible false negatives: positives of other rows that mining found at
least as near to its query as its own. Two rows conflict where both show the same thing, or one rejects what the other
shows. Two rows may reject the same thing.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from medi_build.arrays import Bools, Hashes, Ints, places_within
from medi_build.train.keys import Ragged, RowKeys

Kind = Literal["query", "positive", "negative", "class", "page", "possible false negative"]
"""What a contested row is counted under."""

_CLASS, _PAGE, _ID = 3, 4, 5
"""Salts: classes, pages and ids are hashed as texts are, and must not be taken for texts or for each other."""

Use = tuple[list[int], list[int]]
"""Keys that a row shows, and keys that it rejects."""
_NO_USE: Use = ([], [])


@dataclass(frozen=True)
class TaskConflicts:
    """What the contested rows of a task show and reject.

    Attributes:
        uses: of each row that could conflict, contested keys only.
        kinds: how many rows are contested, by kind.
    """

    uses: dict[int, Use]
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
        suggested = -(-len(order) // batch_size)
        batches = _Filling(suggested, batch_size)
        placed = np.full(len(order), -1, np.int64)
        after_shown: dict[int, int] = {}  # key -> the batch after the last one that shows it
        after_rejected: dict[int, int] = {}
        moved = 0
        for position, row in enumerate(order.tolist()):
            if row not in self.uses:
                continue
            shows, rejects = self.uses[row]
            wish = earliest = position * suggested // len(order)
            for key in shows:
                earliest = max(earliest, after_shown.get(key, 0), after_rejected.get(key, 0))
            for key in rejects:
                earliest = max(earliest, after_shown.get(key, 0))
            moved += earliest > wish
            batch = batches.put(earliest)
            placed[position] = batch
            for key in shows:
                after_shown[key] = batch + 1
            for key in rejects:
                after_rejected[key] = max(after_rejected.get(key, 0), batch + 1)
        return placed, len(batches.sizes), moved

    def compatible(self, batch: Ints, candidates: Ints, wanted: int) -> Ints:
        """The first ``wanted`` candidates that are not in the batch and conflict with nothing in it."""
        members = set(batch.tolist())
        shown, rejected = set[int](), set[int]()
        for row in members:
            shows, rejects = self.uses.get(row, _NO_USE)
            shown.update(shows)
            rejected.update(rejects)
        found: list[int] = []
        for row in candidates.tolist():
            if len(found) == wanted:
                break
            shows, rejects = self.uses.get(row, _NO_USE)
            if row in members or not shown.isdisjoint([*shows, *rejects]) or not rejected.isdisjoint(shows):
                continue
            found.append(row)
            shown.update(shows)
            rejected.update(rejects)
        return np.array(found, np.int64)


class _Filling:
    """Batches while rows are put into them."""

    def __init__(self, count: int, batch_size: int) -> None:
        self.sizes = [0] * count
        self._batch_size = batch_size
        self._open = list(range(count + 1))  # union-find: leads from each batch to the first from there on with room

    def put(self, earliest: int) -> int:
        """Put a row into the first batch from ``earliest`` on that has room, a new one if need be; gives its number."""
        batch = self._with_room(earliest)
        if batch == len(self.sizes):
            self.sizes.append(0)
            self._open.append(batch + 1)
        self.sizes[batch] += 1
        if self.sizes[batch] == self._batch_size:
            self._open[batch] = batch + 1
        return batch

    def _with_room(self, batch: int) -> int:
        """The root of a batch; the path to it is halved on the way."""
        while self._open[batch] != batch:
            self._open[batch] = self._open[self._open[batch]]
            batch = self._open[batch]
        return batch


class _Keys(NamedTuple):
    """What rows show, or reject, for one reason.

    Attributes:
        owners: int64 [m], position of a row among those of the task.
        values: uint64 [m], what it shows or rejects.
        rejected: whether they are rejected.
        kind: what rows are counted under where such a key is contested; None for not at all.
    """

    owners: Ints
    values: Hashes
    rejected: bool
    kind: Kind | None


def find_conflicts(keys: RowKeys, rows: Ints, *, same_class: bool) -> TaskConflicts:
    """Find the contested rows of one task.

    A key is contested if two rows show it, or if it is shown and rejected.

    Args:
        keys: all rows' hashes.
        rows: int64 [n], the task's rows; the answer speaks of positions in this array.
        same_class: rows of one class conflict as well.
    """
    parts = _shown_and_rejected(keys, rows, same_class)
    sizes = [len(part.owners) for part in parts]
    owner = np.concatenate([part.owners for part in parts])
    rejected = np.repeat([part.rejected for part in parts], sizes)
    _, key = np.unique(np.concatenate([part.values for part in parts]), return_inverse=True)
    shown_by = _rows_per_key(key[~rejected], owner[~rejected], int(key.max()) + 1)
    rejections = np.bincount(key[rejected], minlength=len(shown_by))
    contested = ((shown_by >= 2) | ((shown_by >= 1) & (rejections >= 1)))[key]
    by_kind: dict[str, list[Ints]] = {}
    for part, mask in zip(parts, np.split(contested, np.cumsum(sizes)[:-1]), strict=True):
        if part.kind is not None:
            by_kind.setdefault(part.kind, []).append(part.owners[mask])
    kinds = Counter({kind: len(np.unique(np.concatenate(owners))) for kind, owners in by_kind.items()})
    return TaskConflicts(_by_row(owner[contested], key[contested], rejected[contested]), kinds)


def _shown_and_rejected(keys: RowKeys, rows: Ints, same_class: bool) -> list[_Keys]:
    """All that the rows of a task show and reject."""
    every = np.arange(len(rows))
    more_owners, more = _entries(keys.hard_negatives, rows)
    negatives = np.concatenate([every, more_owners]), np.concatenate([keys.neg[rows], more])
    pages = _salted(_entries(keys.groups, rows), _PAGE)
    own_ids = _salted(_entries(keys.pos_ids, rows), _ID)
    possible = _salted(_entries(keys.possible_false_negative_ids, rows), _ID)
    parts = [
        _Keys(every, keys.query[rows], rejected=False, kind="query"),
        _Keys(every, keys.pos[rows], rejected=False, kind="positive"),
        _Keys(*negatives, rejected=True, kind="negative"),
        _Keys(*pages, rejected=False, kind="page"),
        _Keys(*own_ids, rejected=False, kind=None),
        _Keys(*possible, rejected=True, kind="possible false negative"),
    ]
    if same_class:
        classes = _salted(_entries(keys.labels, rows), _CLASS)
        of_negatives = _classes_of_negatives(negatives, keys.query[rows], classes)
        parts += [_Keys(*classes, rejected=False, kind="class"), _Keys(*of_negatives, rejected=True, kind="class")]
    return parts


def _rows_per_key(key: Ints, owner: Ints, keys: int) -> Ints:
    """In how many different rows each key occurs."""
    rows = int(owner.max(initial=0)) + 1
    return np.bincount(np.unique(key * rows + owner) // rows, minlength=keys)


def _by_row(owner: Ints, key: Ints, rejected: Bools) -> dict[int, Use]:
    uses: dict[int, Use] = {}
    triples: Iterable[tuple[int, int, bool]] = zip(owner.tolist(), key.tolist(), rejected.tolist(), strict=True)
    for row, value, is_rejected in triples:
        shows, rejects = uses.setdefault(row, ([], []))
        (rejects if is_rejected else shows).append(value)
    return uses


def _entries(lists: Ragged, rows: Ints) -> tuple[Ints, Hashes]:
    """Owner (position in ``rows``) and value of every entry of the rows' lists."""
    some = lists.take(rows)
    return np.repeat(np.arange(len(rows)), np.diff(some.offsets)), some.values


def _salted(entries: tuple[Ints, Hashes], salt: int) -> tuple[Ints, Hashes]:
    """The same entries with values that no text has, nor an entry under another salt."""
    owners, values = entries
    with np.errstate(over="ignore"):
        return owners, values * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt)


def _classes_of_negatives(
    negatives: tuple[Ints, Hashes], queries: Hashes, classes: tuple[Ints, Hashes]
) -> tuple[Ints, Hashes]:
    """The classes of the rows' negatives: those of all rows of the task whose query a negative's text is.

    Args:
        negatives: row [m] and text [m] of each negative.
        queries: [n], text of each row's query.
        classes: row [c] and class [c] of each class that a row has.

    Returns:
        Row and class of each class that a negative of the row has.
    """
    holders, texts = negatives
    owners, labels = classes
    query_texts, text_of_row = np.unique(queries, return_inverse=True)
    labels, label = np.unique(labels, return_inverse=True)
    width = max(1, len(labels))
    has = np.unique(text_of_row[owners] * width + label)  # each (query text, class) as one number, ascending
    place = np.minimum(np.searchsorted(query_texts, texts), len(query_texts) - 1)
    is_query = np.flatnonzero(query_texts[place] == texts)
    starts, ends = np.searchsorted(has, place[is_query] * width), np.searchsorted(has, (place[is_query] + 1) * width)
    counts = ends - starts
    found = has[np.repeat(starts, counts) + places_within(counts)]
    return np.repeat(holders[is_query], counts), labels[found % width]
