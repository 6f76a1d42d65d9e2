"""Which (query, candidate) pairs may never be ranked: listed pairs, and pairs decided by labels.

Listed pairs are a boolean CSR matrix; labels are bit masks, so that "no label in common" costs one AND per word.
Both act inside the search, before selection, so that a list of k needs no padding for what is removed later.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from medi_build.arrays import Bools, Ints
from medi_build.errors import MiningError

BoolMatrix = Any
"""scipy.sparse.csr_matrix of bool; scipy ships no types."""

LABELS_PER_WORD = 63
"""Bits used of a signed 64-bit word: torch has no operators on unsigned 64-bit integers."""

LabelMode = Literal["share", "disjoint"]


@dataclass(frozen=True)
class Labels:
    """Label sets of queries and candidates.

    Attributes:
        query: [q, words] label bits of the queries.
        corpus: [n, words] label bits of the candidates.
        mode: "share" allows candidates with a label of the query, "disjoint" those with none of them.
    """

    query: Ints
    corpus: Ints
    mode: LabelMode


@dataclass(frozen=True)
class Exclusions:
    """What may not be ranked for each query.

    Attributes:
        pairs: bool CSR [q, at least n]; a stored entry (i, j) keeps candidate j from query i.
        labels: rule by label, on top of the pairs.
    """

    pairs: BoolMatrix | None = None
    labels: Labels | None = None

    def rows(self, index: Ints) -> "Exclusions":
        """The exclusions of some of the queries, in the given order."""
        labels = self.labels and Labels(self.labels.query[index], self.labels.corpus, self.labels.mode)
        return Exclusions(None if self.pairs is None else self.pairs[index], labels)

    def columns(self, part: slice) -> "Exclusions":
        """The exclusions for some of the candidates, a run of them."""
        labels = self.labels and Labels(self.labels.query, self.labels.corpus[part], self.labels.mode)
        return Exclusions(None if self.pairs is None else self.pairs[:, part], labels)

    def check(self, queries: int, candidates: int) -> None:
        """Raise `MiningError` unless the shapes fit ``queries`` and ``candidates``."""
        if self.pairs is not None and (self.pairs.shape[0] != queries or self.pairs.shape[1] < candidates):
            raise MiningError(
                f"exclusions have shape {self.pairs.shape}, but there are {queries} queries and {candidates} candidates"
            )
        if self.labels is not None and (
            len(self.labels.query) != queries
            or len(self.labels.corpus) != candidates
            or self.labels.query.shape[1:] != self.labels.corpus.shape[1:]
        ):
            raise MiningError(
                f"label bits have shapes {self.labels.query.shape} and {self.labels.corpus.shape}, but there are "
                f"{queries} queries and {candidates} candidates; give both the same number of words"
            )


def incidence(rows: Ints, columns: Ints, shape: tuple[int, int]) -> BoolMatrix:
    """A bool CSR matrix with True at each (row, column), repeats allowed."""
    from scipy import sparse  # here, as a search without exclusions does not need it

    ones = np.ones(len(rows), dtype=bool)
    matrix = sparse.coo_matrix((ones, (rows, columns)), shape=shape).tocsr()
    matrix.sum_duplicates()
    return matrix


def contains(matrix: BoolMatrix, rows: Ints, columns: Ints) -> Bools:
    """Whether the matrix has an entry at each (row, column); both arrays have shape [m].

    Only the rows that are asked for are looked at.
    """
    asked, row = np.unique(rows, return_inverse=True)
    some, width = matrix[asked], matrix.shape[1]
    stored = np.repeat(np.arange(len(asked)), np.diff(some.indptr)) * width + some.indices
    return np.isin(row * width + columns, stored)


def label_bits(rows: Ints, labels: Ints, n_rows: int, n_labels: int) -> Ints:
    """Bit masks [n_rows, words] with bit ``labels[i]`` set in row ``rows[i]``."""
    words = max(1, -(-n_labels // LABELS_PER_WORD))
    bits = np.zeros((n_rows, words), dtype=np.int64)
    np.bitwise_or.at(bits, (rows, labels // LABELS_PER_WORD), np.int64(1) << (labels % LABELS_PER_WORD))
    return bits


def forbidden(query: Any, corpus: Any, mode: LabelMode) -> Any:
    """Bool [q, n] of the pairs that a label rule forbids, from label bits [q, words] and [n, words].

    Both are numpy arrays, or both torch tensors on one device.
    """
    shared = (query[:, 0, None] & corpus[None, :, 0]) != 0
    for word in range(1, query.shape[1]):
        shared |= (query[:, word, None] & corpus[None, :, word]) != 0
    return ~shared if mode == "share" else shared


class TiledPairs:
    """The excluded pairs sorted by tile, so that each tile finds its own in one slice."""

    def __init__(self, pairs: BoolMatrix | None, candidates: int, height: int, width: int) -> None:
        self._height, self._width = height, width
        self._across = -(-candidates // width)
        if pairs is None:
            self._keys = self.rows = self.columns = np.empty(0, dtype=np.int64)
            return
        rows = np.repeat(np.arange(pairs.shape[0]), np.diff(pairs.indptr))
        columns = pairs.indices
        inside = columns < candidates
        rows, columns = rows[inside], columns[inside]
        keys = rows // height * self._across + columns // width
        order = np.argsort(keys, kind="stable")
        self._keys, self.rows, self.columns = keys[order], rows[order], columns[order]

    def span(self, row: int, column: int) -> slice:
        """Where the pairs of the tile that starts at the given row and column stand in `rows` and `columns`."""
        key = row // self._height * self._across + column // self._width
        low, high = np.searchsorted(self._keys, (key, key + 1))
        return slice(int(low), int(high))
