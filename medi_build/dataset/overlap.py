"""Which texts stand in several datasets: texts become 128-bit hashes, hashes become numbers, numbers are counted."""

from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from xxhash import xxh3_128_digest

from medi_build.arrays import Hashes, Ints
from medi_build.dataset.reader import shard_batches


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


def record_digests(path: Path) -> Iterable[tuple[list[bytes], list[bytes], list[bytes]]]:
    """Digests of the queries, positives and negatives of a shard, batch by batch. Raises `DatasetError`."""
    for batch in shard_batches(path, ("query", "pos", "neg")):
        texts = (pc.list_element(batch[side], 1) for side in ("query", "pos", "neg"))
        query, pos, neg = map(column_digests, texts)
        yield query, pos, neg


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
