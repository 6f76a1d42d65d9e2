"""Exact top-k on a GPU: what `medi_build.search.dense.topk` gives, with the corpus in the GPU's memory.

Where it does not fit it comes in parts, and all queries search a part before the next, which is copied meanwhile. A
part is searched as on the CPU: a coarse product, lists of what its error leaves in, these scored again in float64
while the part is there, deeper passes where the lists had too little room. The best of the parts are merged by their
float64 scores. So the corpus is read once, however many queries there are.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np

from medi_build.arrays import Floats64, Ints, Vectors
from medi_build.devices import Device
from medi_build.errors import MiningError
from medi_build.search.dense_lists import GROUP, Blocks, SearchPass, relative_rounding
from medi_build.search.dense_pass import ErrorBound
from medi_build.search.exclusions import Exclusions, TiledPairs, forbidden
from medi_build.search.fixed_lists import ROOM, FixedLists
from medi_build.search.ranking import NOTHING, Ranking
from medi_build.search.transfer import Block, Fetched, Upload

QUERIES = 65536
"""Queries on the device at a time; the next are copied meanwhile."""
RESCORED_CELLS = 1 << 26
"""Numbers of the vectors that are multiplied in float64 at a time; each takes ten bytes."""
LABEL_CELLS = 1 << 25
"""Pairs whose labels are compared at a time; each takes nine bytes."""
Passes = Callable[[int, Blocks], Iterator[SearchPass]]
"""The passes over so many texts with tiles of such a size: those of `medi_build.search.dense`."""


class Sizes(NamedTuple):
    """What a device is given at a time; sizes change speed and memory, never the result.

    Attributes:
        texts: of a part of the corpus, a multiple of `GROUP`.
        tile: queries and texts of a tile; fewer queries where lists are deep.
        tile_bytes: what a tile may take, its lists included.
    """

    texts: int
    tile: Blocks
    tile_bytes: int

    def height(self, depth: int) -> int:
        """Queries of a tile with lists of such a depth."""
        return max(1, min(self.tile.queries, self.tile_bytes // _bytes_per_query(depth, self.tile.corpus)))


def sizes_for(free: int, candidates: int, dimensions: int, words: int) -> Sizes:
    """Sizes that keep to the memory of a device.

    Args:
        free: bytes that can be had.
        candidates: texts in the corpus.
        dimensions: of the vectors.
        words: of the texts' label bits, 0 for none.

    Raises:
        MiningError: so little is free that nothing can be searched.
    """
    usable = free * 4 // 5  # the allocator loses some between blocks of different sizes
    width = min(65536, _round_up(candidates))
    fixed = 2 * QUERIES * dimensions * 2 + 10 * RESCORED_CELLS + 9 * LABEL_CELLS + 6 * width * dimensions
    tile_bytes = (usable - fixed) // 4
    per_text = 2 * dimensions + 8 * words
    room = (usable - fixed - tile_bytes) // per_text
    if room < 2 * width:
        raise MiningError(
            f"the GPU has {free / 1e9:.1f} GB of memory free, too little to search with vectors of {dimensions} numbers; "
            "end what else runs on it, or search with --device cpu"
        )
    texts = candidates if candidates <= room else room // 2 // width * width  # one is copied beside another
    return Sizes(_round_up(texts), Blocks(8192, width), tile_bytes)


def free_memory(device: Device) -> int:
    """Bytes of a GPU that can be had: free ones, and those that torch holds and does not use."""
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def search_rows(
    queries: Vectors, corpus: Vectors, rows: Ints, exclusions: Exclusions, ranking: Ranking, *,
    device: Device, sizes: Sizes, passes: Passes,
) -> None:
    """Rank some of the queries on one device.

    Args:
        queries: float16 [q, d].
        corpus: float16 [n, d], an array or a memory map.
        rows: int64, which queries.
        exclusions: of all queries.
        ranking: of all queries, k long; these rows are written.
        device: where.
        sizes: what it is given at a time.
        passes: over a part, until all lists are proven.

    Raises:
        MiningError: a vector holds NaN or infinity, or the device is out of memory.
    """
    import torch

    best = _Best(ranking, rows, one_part=len(corpus) <= sizes.texts)
    parts = [np.arange(first, min(first + sizes.texts, len(corpus))) for first in range(0, len(corpus), sizes.texts)]
    blocks = [rows[first : first + QUERIES] for first in range(0, len(rows), QUERIES)]

    def part_up(numbers: Ints) -> Upload:
        return Upload(corpus, numbers, device, "corpus", block=sizes.tile.corpus, multiple=GROUP)

    def queries_up(numbers: Ints) -> Upload:
        return Upload(queries, numbers, device, "queries", block=len(numbers))

    try:
        for numbers, texts in _one_ahead(parts, part_up):
            part = _Part(texts, exclusions.texts(numbers[0], numbers[-1] + 1), len(numbers), ranking.ids.shape[1], sizes)
            for some, block in _one_ahead(blocks, queries_up):
                for found in part.search(block.whole(), some, passes(len(numbers), sizes.tile)):
                    best.take(found, int(numbers[0]))
    except torch.OutOfMemoryError as error:
        raise MiningError(
            f"{device} is out of memory in a search over {len(corpus):,} vectors ({error}); end what else runs on it, "
            "or search with --device cpu"
        ) from error
