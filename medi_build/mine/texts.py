"""Texts as numbers: distinct texts of several columns, their ids, and lists as (row, value) arrays.

Mining works on integers; texts stay in Arrow or polars buffers and are touched again only when vectors are made
and when the result is written.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast, overload

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from medi_build.arrays import Hashes, Ints
from medi_build.search.ranking import NOTHING

ROWS_PER_SLICE = 8192


class Flat(NamedTuple):
    """A list column, flattened.

    Attributes:
        rows: int64 [m], the row each value stands in, ascending.
        places: int64 [m], the value's place in its list.
        values: [m] strings.
    """

    rows: Ints
    places: Ints
    values: pl.Series


def column(table: pa.Table, name: str) -> pl.Series:
    """A string column as a series; the bytes are not copied."""
    return cast(pl.Series, pl.from_arrow(table[name]))


def flatten(table: pa.Table, name: str) -> Flat:
    """A list-of-strings column as (row, place, value) arrays."""
    lengths = pc.list_value_length(table[name]).to_numpy().astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    rows = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
    places = np.arange(int(lengths.sum()), dtype=np.int64) - np.repeat(starts, lengths)
    flat = pc.list_flatten(table[name]) if len(lengths) else pa.array([], type=pa.string())
    return Flat(rows, places, cast(pl.Series, pl.from_arrow(flat)))


@dataclass(frozen=True)
class Grouped:
    """Numbers by the group they belong to, sorted once, so that those of some groups are found without the others.

    Attributes:
        values: int64 [m], group after group.
        starts: int64 [groups + 1], where those of each group begin.
    """

    values: Ints
    starts: Ints

    @classmethod
    def by(cls, groups: Ints, values: Ints, count: int) -> "Grouped":
        """Values [m] of the given groups [m], of which there are ``count``; within a group they keep their order."""
        starts = np.concatenate([[0], np.cumsum(np.bincount(groups, minlength=count))])
        return cls(values[np.argsort(groups, kind="stable")], starts)

    def sizes(self, groups: Ints) -> Ints:
        """How many values each of the given groups [r] has."""
        return self.starts[groups + 1] - self.starts[groups]

    def matrix(self, groups: Ints, most: int | None = None) -> Ints:
        """The values of the given groups side by side, int64 [r, longest group], -1 where a group is shorter.

        No more than the first ``most`` of each, if that is given.
        """
        sizes = self.sizes(groups) if most is None else np.minimum(self.sizes(groups), most)
        places = np.arange(int(sizes.max(initial=0)), dtype=np.int64)
        there = places < sizes[:, None]
        found = np.full(there.shape, NOTHING, dtype=np.int64)
        found[there] = self.values[(self.starts[groups, None] + places)[there]]
        return found


def concat(parts: Sequence[pl.Series]) -> pl.Series:
    """Series one after another, without copying text."""
    return pl.concat([part.rename("") for part in parts], rechunk=False)


def codes(values: pl.Series) -> tuple[Ints, Ints]:
    """Number equal texts alike, in the order of their first appearance.

    Texts are compared by 64-bit hash: among 100M distinct texts two collide with probability 3e-4.

    Returns:
        The number of each value [m] and the first place of each distinct one [distinct].
    """
    if not len(values):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    return number(values.hash(seed=0).to_numpy())


def number(keys: npt.NDArray[np.generic]) -> tuple[Ints, Ints]:
    """Number equal keys alike, in the order of their first appearance, as `codes` does for texts."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank[inverse.reshape(-1)], first[order].astype(np.int64)


def seeded_hash(ids: pl.Series, seed: int) -> Hashes:
    """A number per id that depends on the id and the seed alone: the same on every machine and version."""
    base = xxhash.xxh64_intdigest(str(seed).encode())
    return np.fromiter((xxhash.xxh64_intdigest(text.encode(), base) for text in ids), dtype=np.uint64, count=len(ids))


class Texts(Sequence[str]):
    """Some texts of a series, in a given order, made into strings only as they are read."""

    def __init__(self, series: pl.Series, index: Ints) -> None:
        self._series = series
        self._index = index

    def __len__(self) -> int:
        return len(self._index)

    @overload
    def __getitem__(self, item: int) -> str: ...
    @overload
    def __getitem__(self, item: slice) -> "Texts": ...
    def __getitem__(self, item: int | slice) -> "str | Texts":
        if isinstance(item, slice):
            return Texts(self._series, self._index[item])
        return cast(str, self._series[int(self._index[item])])

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), ROWS_PER_SLICE):
            yield from self._series.gather(self._index[start : start + ROWS_PER_SLICE])


class TextColumn(NamedTuple):
    """One source of texts, with the id under which each is published; None where they have no ids of their own."""

    texts: pl.Series
    ids: pl.Series | None = None


@dataclass(frozen=True)
class UniqueTexts:
    """The distinct texts of several columns, numbered by first appearance.

    Attributes:
        texts: all texts of all columns, repeats and all.
        ids: the ids they have of their own, null where they have none.
        first: int64 [n], where distinct text number j first stands.
        columns: the numbers of each column's texts, by the column's name.
    """

    texts: pl.Series
    ids: pl.Series
    first: Ints
    columns: Mapping[str, Ints]

    @classmethod
    def build(cls, columns: Mapping[str, TextColumn]) -> "UniqueTexts":
        """Number the texts of the columns, earlier columns first."""
        texts = concat([one.texts for one in columns.values()])
        none = [pl.repeat(None, len(one.texts), dtype=pl.String, eager=True) for one in columns.values()]
        ids = concat([one if own.ids is None else own.ids for own, one in zip(columns.values(), none, strict=True)])
        numbers, first = codes(texts)
        ends = np.cumsum([len(one.texts) for one in columns.values()])
        return cls(texts, ids, first, dict(zip(columns, np.split(numbers, ends[:-1]), strict=True)))

    def __len__(self) -> int:
        return len(self.first)

    def count_up_to(self, name: str) -> int:
        """How many distinct texts this column and those before it hold; their numbers are 0 to that, exclusive."""
        through = list(self.columns)[: list(self.columns).index(name) + 1]
        return max((int(self.columns[one].max()) + 1 for one in through if len(self.columns[one])), default=0)

    def some(self, numbers: Ints) -> Texts:
        """The texts with these numbers, for encoding."""
        return Texts(self.texts, self.first[numbers])

    def text(self, numbers: Ints) -> pl.Series:
        """The texts with these numbers."""
        return self.texts.gather(self.first[numbers])

    def lengths(self) -> Ints:
        """Characters of every distinct text."""
        return self.texts.gather(self.first).str.len_chars().to_numpy().astype(np.int64)

    def sizes(self) -> Ints:
        """Bytes of every distinct text."""
        return self.texts.str.len_bytes().to_numpy()[self.first].astype(np.int64)

    def id(self, numbers: Ints) -> pl.Series:
        """The published ids of the texts with these numbers: their own, else a hash of the text, 16 hex digits."""
        own = self.ids.gather(self.first[numbers])
        without = np.flatnonzero(own.is_null().to_numpy())
        hashes = [xxhash.xxh3_64_hexdigest(text.encode()) for text in self.text(numbers[without])]
        return own.scatter(without, hashes) if hashes else own
