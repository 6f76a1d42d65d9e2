"""Exact top k of a corpus in parts, each of them searched wherever a share of the work is put.

A part gives its k best with scores that are not rounded yet; the k best of all are the best of these, ties by lower id.
So the result is that of one search (`medi_build.search.dense`), which is also what a corpus in one part is.
"""

from collections.abc import Iterable, Iterator
from functools import reduce
from itertools import islice
from typing import NamedTuple

import numpy as np

from medi_build.arrays import Vectors
from medi_build.devices import Device
from medi_build.search.dense import exact_topk
from medi_build.search.exclusions import Exclusions
from medi_build.search.ranking import NOTHING, Exact, Ranking
from medi_build.share import WHOLE, Split

LIST_CELLS = 1 << 24
"""Places of the lists that one part gives at most, 16 bytes each."""
GPU_LIST_CELLS = 1 << 26
"""The same where the whole corpus is searched on the GPUs of this machine."""
QUERIES_AT_ONCE = 1 << 17
"""Queries that are searched in one part at most."""


class Search(NamedTuple):
    """Some queries in one part of a corpus.

    Attributes:
        queries: float16 [q, d].
        corpus: float16 [n, d], the part.
        exclusions: of these queries in this part.
        first: number of the part's first text.
        k: length of the lists.
        device: where to search.
    """

    queries: Vectors
    corpus: Vectors
    exclusions: Exclusions
    first: int
    k: int
    device: Device


def queries_at_once(k: int, candidates: int, device: Device, split: Split) -> int | None:
    """Queries for which a corpus should be searched at a time, so that its parts are sent seldom; None for any.

    It is any where the corpus is one part, which is sent nowhere, not even to a GPU.
    """
    if candidates <= split.rows:
        return None if device == "cpu" else max(1, GPU_LIST_CELLS // k)
    return max(1, min(QUERIES_AT_ONCE, LIST_CELLS // k))


def topk(
    queries: Vectors,
    corpus: Vectors,
    k: int,
    exclusions: Exclusions | None = None,
    *,
    device: Device = "cpu",
    split: Split = WHOLE,
) -> Ranking:
    """What `medi_build.search.dense.topk` gives, by parts of the corpus."""
    exclusions = exclusions or Exclusions()
    exclusions.check(len(queries), len(corpus))
    step = queries_at_once(k, len(corpus), device, split) or max(1, len(queries))
    blocks = (np.arange(start, min(start + step, len(queries))) for start in range(0, max(1, len(queries)), step))
    asked = ((queries[rows], exclusions.rows(rows)) for rows in blocks)
    found = list(topk_of_blocks(asked, corpus, k, device=device, split=split))
    return Ranking(np.concatenate([one.ids for one in found]), np.concatenate([one.scores for one in found]))


def topk_of_blocks(
    blocks: Iterable[tuple[Vectors, Exclusions]],
    corpus: Vectors,
    k: int,
    *,
    device: Device = "cpu",
    split: Split = WHOLE,
) -> Iterator[Ranking]:
    """The k best of each block of queries, float16 [q, d], under its exclusions, as they are asked for.

    A share that takes pieces ahead searches for the next block meanwhile.

    Raises:
        MiningError: as `medi_build.search.dense.topk`.
    """
    places = split.pieces(len(corpus))
    parts = [np.asarray(corpus[place]) for place in places]
    searches = (
        Search(queries, part, exclusions.columns(place), place.start, k, device)
        for queries, exclusions in blocks
        for place, part in zip(places, parts, strict=True)
    )
    results = split.share(searched, searches)
    for first in results:
        yield reduce(Exact.joined, islice(results, len(places) - 1), first).rounded()


def searched(search: Search) -> Exact:
    """The best of one part, by their numbers in the whole corpus."""
    found = exact_topk(search.queries, search.corpus, search.k, search.exclusions, device=search.device)
    return Exact(np.where(found.ids == NOTHING, NOTHING, found.ids + search.first), found.scores)
