"""Which texts stand in several datasets: texts become 128-bit hashes, hashes become numbers, numbers are counted."""

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from xxhash import xxh3_128_digest

from medi_build.arrays import Bools, Hashes, Ints
from medi_build.dataset.reader import Overlap, shard_batches

MOST_NAMED = 5
"""Datasets that are named as those which share most queries with another one."""


class TextHashes:
    """Hashes of texts, each with the number of the group (dataset, task) that it stands in: 20 bytes a text."""

    def __init__(self) -> None:
        self._digests = bytearray()
        self._groups = array("i")

    def add(self, group: int, digests: Sequence[bytes]) -> None:
        """Add texts by their digests (`digest`) of 16 bytes."""
        self._digests += b"".join(digests)
        self._groups.extend([group] * len(digests))

    @property
    def groups(self) -> Ints:
        """The group of each text, [n]."""
        return np.frombuffer(self._groups, np.int32).astype(np.int64)

    @property
    def hashes(self) -> Hashes:
        """The hash of each text as two numbers, [n, 2]."""
        return np.frombuffer(bytes(self._digests), np.uint64).reshape(-1, 2)


def digest(text: str) -> bytes:
    """16 bytes that stand for a text, white space around it apart."""
    return xxh3_128_digest(text.strip().encode(errors="surrogatepass"))


def column_digests(texts: pa.Array) -> list[bytes]:
    """`digest` of each text of a column."""
    return [xxh3_128_digest(text) for text in pc.utf8_trim_whitespace(texts).cast(pa.binary()).to_pylist()]


def record_digests(path: Path, sides: Sequence[str]) -> Iterator[list[list[bytes]]]:
    """Digests of the texts of some sides (``query``, ``pos``, ``neg``) of a shard, batch by batch.

    Raises:
        DatasetError: the shard cannot be read.
    """
    for batch in shard_batches(path, sides):
        yield [column_digests(pc.list_element(batch[side], 1)) for side in sides]


def number(hashes: Hashes) -> Ints:
    """A number for each hash, equal ones for equal hashes, from 0 without gaps: [n, 2] to [n]."""
    if not len(hashes):
        return np.zeros(0, np.int64)
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))
    ranked = hashes[order]
    numbers = np.empty(len(hashes), np.int64)
    numbers[order] = np.cumsum(np.r_[False, np.any(ranked[1:] != ranked[:-1], axis=1)])
    return numbers


def incidence(groups: Ints, numbers: Ints, count: int, width: int) -> Any:
    """Which texts stand in which group: a sparse matrix [count, width] of zeros and ones."""
    matrix = sp.csr_matrix((np.ones(len(numbers), np.int64), (groups, numbers)), shape=(count, width))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def overlaps_of(datasets: Sequence[tuple[str, Sequence[Path]]]) -> list[Overlap]:
    """What datasets, each a name and its shards, have in common. Raises `DatasetError`: a shard cannot be read."""
    queries, pairs = TextHashes(), TextHashes()
    for place, (_, shards) in enumerate(datasets):
        for path in shards:
            for query, pos in record_digests(path, ("query", "pos")):
                queries.add(place, query)
                pairs.add(place, pair_digests(query, pos))
    numbers = number(queries.hashes)
    stands = incidence(queries.groups, numbers, len(datasets), int(numbers.max(initial=-1)) + 1)
    several = np.asarray(stands.sum(axis=0)).ravel() > 1
    shared = (stands[:, several] @ stands[:, several].T).toarray()
    repeated = np.bincount(pairs.groups[repeats(pairs)], minlength=len(datasets))
    return [
        Overlap(
            name=name,
            shared_queries=int(shared[place, place]),
            repeated_pairs=int(repeated[place]),
            shares_with={
                datasets[other][0]: int(shared[place, other])
                for other in np.argsort(-shared[place], kind="stable")[: MOST_NAMED + 1]
                if other != place and shared[place, other]
            },
        )
        for place, (name, _) in enumerate(datasets)
        if shared[place, place]
    ]


def pair_digests(queries: Sequence[bytes], positives: Sequence[bytes]) -> list[bytes]:
    """A digest of each pair from those of its texts."""
    return [xxh3_128_digest(query + pos) for query, pos in zip(queries, positives, strict=True)]


def repeats(pairs: TextHashes) -> Bools:
    """Whether a pair stands in an earlier group; pairs come in the order of their groups: [n]."""
    numbers, groups = number(pairs.hashes), pairs.groups
    first = np.full(int(numbers.max(initial=-1)) + 1, len(groups), np.int64)
    np.minimum.at(first, numbers, groups)
    return groups > first[numbers]
