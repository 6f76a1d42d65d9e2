"""Exact top-k on a GPU: what `medi_build.search.dense.topk` gives, with the corpus in the GPU's memory.

Where it does not fit it comes in parts, and all queries search a part before the next, which is copied meanwhile. A
part is searched as on the CPU: a coarse product, lists of what its error leaves in, these scored again in float64
while the part is there, deeper passes where the lists had too little room. The best of the parts are merged by their
float64 scores. So the corpus is read once, however many queries there are.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from medi_build.arrays import Ints, Vectors
from medi_build.devices import Device
from medi_build.errors import MiningError
from medi_build.search.dense_lists import GROUP, Blocks, SearchPass
from medi_build.search.dense_pass import LABEL_CELLS, ErrorBound, Excluded
from medi_build.search.exclusions import Exclusions
from medi_build.search.fixed_lists import ROOM, FixedLists
from medi_build.search.ranking import NOTHING, Exact
from medi_build.search.settle import settled, wanted
from medi_build.search.transfer import Fetched, Upload

QUERIES = 65536
"""Queries on the device at a time; the next are copied meanwhile."""
RESCORED_CELLS = 1 << 26
"""Numbers of the vectors that are multiplied in float64 at a time; each takes ten bytes."""
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
            f"the GPU has {free / 1e9:.1f} GB of memory free, too little to search with vectors of {dimensions} "
            "numbers; end what else runs on it, or search with --device cpu"
        )
    texts = candidates if candidates <= room else room // 2 // width * width  # one is copied beside another
    return Sizes(_round_up(texts), Blocks(8192, width), tile_bytes)


def free_memory(device: Device) -> int:
    """Bytes of a GPU that can be had: free ones, and those that torch holds and does not use."""
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def search(
    queries: Vectors,
    corpus: Vectors,
    exclusions: Exclusions,
    found: Exact,
    devices: Sequence[tuple[Device, Sizes]],
    passes: Passes,
) -> None:
    """Search for all queries, dealt out to the devices.

    Args:
        queries: float16 [q, d], q at least 1.
        corpus: float16 [n, d], an array or a memory map.
        exclusions: pairs that must not be ranked.
        found: [q, k], without a candidate yet; it is filled.
        devices: each with what it is given at a time.
        passes: see `Passes`.

    Raises:
        MiningError: a vector holds NaN or infinity, or a device is out of memory.
    """

    def on_device(one: tuple[Device, Sizes], rows: Ints) -> None:
        _Search(queries, corpus, exclusions, found, *one, passes).run(rows)

    if len(devices) == 1:  # here, where Ctrl-C ends it
        on_device(devices[0], np.arange(len(queries)))
        return
    shares = np.array_split(np.arange(len(queries)), len(devices))
    with ThreadPoolExecutor(len(devices)) as threads:
        list(threads.map(on_device, devices, (rows for rows in shares if len(rows))))


class _Search(NamedTuple):
    """What is searched on one device; see `search`."""

    queries: Vectors
    corpus: Vectors
    exclusions: Exclusions
    found: Exact
    device: Device
    sizes: Sizes
    passes: Passes

    def run(self, rows: Ints) -> None:
        """Search for some of the queries: part by part of the corpus, in each for block after block of queries."""
        import torch

        step = self.sizes.texts
        parts = [np.arange(first, min(first + step, len(self.corpus))) for first in range(0, len(self.corpus), step)]
        blocks = [rows[first : first + QUERIES] for first in range(0, len(rows), QUERIES)]
        try:
            for numbers, texts in _one_ahead(parts, self._texts):
                first, end = int(numbers[0]), int(numbers[-1]) + 1
                exclusions = self.exclusions if len(parts) == 1 else self.exclusions.columns(slice(first, end))
                for some, block in _one_ahead(blocks, self._queries):
                    self._search_block(some, block.whole(), texts, exclusions.rows(some), first)
            if torch.device(self.device).type == "cuda":
                torch.cuda.empty_cache()  # the encoder, or another process, wants it next
        except torch.OutOfMemoryError as error:
            raise MiningError(
                f"{self.device} ran out of memory in a search over {len(self.corpus):,} vectors; end what else runs on "
                f"it, or search with --device cpu ({error})"
            ) from error

    def _texts(self, numbers: Ints) -> Upload:
        return Upload(self.corpus, numbers, self.device, "corpus", block=self.sizes.tile.corpus, multiple=GROUP)

    def _queries(self, numbers: Ints) -> Upload:
        return Upload(self.queries, numbers, self.device, "queries", block=len(numbers))

    def _search_block(self, rows: Ints, queries: Any, texts: Upload, exclusions: Exclusions, first: int) -> None:
        """Search a part of the corpus, which begins with text ``first``, until the lists of all rows are proven."""
        import torch

        is_open, passes = np.arange(len(rows)), self.passes(len(texts), self.sizes.tile)
        while len(is_open):
            plan = next(passes)
            height = self.sizes.height(plan.depth)
            plan = plan._replace(blocks=Blocks(height, self.sizes.tile.corpus))
            asked, of_asked = queries, exclusions
            if len(is_open) < len(rows):
                asked, of_asked = queries[torch.from_numpy(is_open).to(queries.device)], exclusions.rows(is_open)
            excluded = Excluded(of_asked, len(texts), plan, queries.device)
            left: list[Ints] = []
            fetched: Callable[[], Ints] | None = None
            for start in range(0, len(is_open), height):
                some = is_open[start : start + height]
                ids, exact, proven = _best_of_tile(asked[start : start + height], texts, excluded, start, plan)
                if fetched:
                    left.append(fetched())
                fetched = self._fetched(some, rows[some], self._merged(rows[some], ids, exact, first), proven)
            assert fetched is not None
            is_open = np.concatenate([*left, fetched()])

    def _merged(self, rows: Ints, ids: Any, exact: Any, first: int) -> tuple[Any, Any]:
        """The best of a part of the corpus and of the parts before it, on the device, [rows, k]."""
        import torch

        k = self.found.ids.shape[1]
        ids = torch.where(ids == NOTHING, NOTHING, ids + first)
        if first:  # ids of earlier parts are lower, and stand in front
            earlier = [torch.from_numpy(one[rows]).to(ids.device) for one in self.found]
            ids, exact = torch.cat([earlier[0], ids], dim=1), torch.cat([earlier[1], exact], dim=1)
            best = torch.sort(exact, dim=1, descending=True, stable=True).indices[:, :k]
            ids, exact = ids.gather(1, best), exact.gather(1, best)
        missing = (0, k - ids.shape[1])
        pad = torch.nn.functional.pad
        return pad(ids, missing, value=NOTHING), pad(exact, missing, value=-torch.inf)

    def _fetched(self, some: Ints, rows: Ints, best: tuple[Any, Any], proven: Any) -> Callable[[], Ints]:
        """Begin to fetch what was found for some rows.

        Returns:
            What writes it, once it is there, and gives those of ``some`` that are not proven.
        """
        fetched = Fetched(*best, proven)

        def write() -> Ints:
            ids, exact, good = fetched.arrays()
            kept = rows if good.all() else rows[good]
            self.found.ids[kept], self.found.scores[kept] = (ids, exact) if good.all() else (ids[good], exact[good])
            left: Ints = some[~good]
            return left

        return write


def _one_ahead(numbers: Sequence[Ints], upload: Callable[[Ints], Upload]) -> Iterator[tuple[Ints, Upload]]:
    """Each stretch of rows with its upload; that of the next has begun by then."""
    following: list[Upload] = []
    try:
        for place, rows in enumerate(numbers):
            current = following.pop() if following else upload(rows)
            following += [upload(later) for later in numbers[place + 1 : place + 2]]
            with current:
                yield rows, current
    finally:
        for one in following:
            one.close()


def _best_of_tile(
    queries: Any, texts: Upload, excluded: Excluded, start: int, plan: SearchPass
) -> tuple[Any, Any, Any]:
    """The best texts for some queries in one part of the corpus.

    Args:
        queries: float16 [rows, d] on the device, those from number ``start`` on.
        texts: of the part.
        excluded: what must not be ranked.
        start: see above.
        plan: of the pass.

    Returns:
        As `settled`.
    """
    lists, error = _lists_of_tile(queries, texts, excluded, start, plan)
    exact = _exact_scores(queries, texts.whole(), lists.ids, wanted(lists))
    return settled(lists, lists.ids[:, : exact.shape[1]], exact, error, plan)


def _lists_of_tile(
    queries: Any, texts: Upload, excluded: Excluded, start: int, plan: SearchPass
) -> tuple[FixedLists, Any]:
    """The lists of some queries, sorted, and a bound, float64 [rows], of the error of their scores."""
    bound, coarse = ErrorBound(queries, plan.dtype), queries.to(plan.dtype)
    lists = FixedLists(len(queries), len(texts), plan, queries.device)
    look, error = None, None
    for block in texts:
        scores = coarse @ block.vectors.to(plan.dtype).T
        scores[:, block.count :] = float("-inf")
        excluded.take_out(scores[:, : block.count], slice(start, start + len(queries)), block.first)
        if look is not None:  # the device multiplies while the host waits for what it has to know
            lists.take(look, error)
        error = bound.with_norm(block.norm)
        look = lists.look(scores, block.first)
    assert look is not None
    lists.take(look, error)
    lists.keep_best(error)
    return lists, error


def _exact_scores(queries: Any, texts: Any, ids: Any, chosen: Any) -> Any:
    """float64 [rows, width] inner products of the chosen candidates, which stand in front; -inf for the others."""
    import torch

    counts = Fetched(chosen.sum(dim=1)).arrays()[0]
    width = max(1, int(counts.max()))
    exact = torch.full((len(ids), width), -torch.inf, dtype=torch.float64, device=ids.device)
    wide, places = queries.double(), ids.clamp_min(0)
    step = max(1, RESCORED_CELLS // (width * queries.shape[1]))
    for start in range(0, len(ids), step):
        rows, columns = slice(start, start + step), slice(0, int(counts[start : start + step].max()))
        products = (texts[places[rows, columns]] * wide[rows, None]).sum(dim=2)
        exact[rows, columns] = torch.where(chosen[rows, columns], products, -torch.inf)
    return exact


def _bytes_per_query(depth: int, texts: int) -> int:
    """Bytes of a tile by its queries: two tiles of float32 scores, what is looked at in them, and the lists."""
    return 10 * texts + 1000 * min(depth, texts) + 40 * ROOM * depth


def _round_up(texts: int) -> int:
    return -(-texts // GROUP) * GROUP
