"""One pass of a search: the corpus in blocks, and for each query a short list of what can be among its best.

A list keeps whatever reaches a limit that is proven by the error bound of the product, as far as it has room; what it
had no room for it remembers by its highest score. See `medi_build.search.dense` for what is made of the lists.
"""

from typing import Any, NamedTuple

import numpy as np

from medi_build.arrays import Vectors
from medi_build.devices import Device
from medi_build.errors import MiningError
from medi_build.search.exclusions import Exclusions, Labels, TiledPairs, forbidden
from medi_build.search.ranking import NOTHING

GROUP = 16
"""Scores of a tile of which only the largest is looked at first."""


class Blocks(NamedTuple):
    """Sizes of the tiles that are multiplied at a time; they change speed and memory, never the result."""

    queries: int = 1024
    corpus: int = 8192


class SearchPass(NamedTuple):
    """How one pass over the corpus is made: ``depth`` is the room of a list between two blocks."""

    k: int
    depth: int
    dtype: Any
    device: Device
    blocks: Blocks


def candidate_lists(original: Any, corpus: Vectors, exclusions: Exclusions, plan: SearchPass) -> tuple["Lists", Any]:
    """The candidates of all queries that a pass leaves, and a bound, float64 [q], of the error of their scores.

    The bound is that of the sums, before they are rounded to the product's format: |q.c - q'.c'| <= |q - q'| |c| +
    |q'| |c - c'|, and twice the bound of a sum of d products in float32, in any order (Higham 2002, section 3.1).
    """
    import torch

    count, device = len(original), plan.device
    queries = original.to(plan.dtype)
    query_norm, query_lost = _norms(original, plan.dtype)
    excluded = TiledPairs(exclusions.pairs, len(corpus), *plan.blocks)
    labels = _on_device(exclusions.labels, device)
    starts = range(0, count, plan.blocks.queries)
    lists = [Lists(min(plan.blocks.queries, count - start), plan) for start in starts]
    norm, lost = 0.0, 0.0
    for first in range(0, len(corpus), plan.blocks.corpus):
        block = to_device(corpus[first : first + plan.blocks.corpus], device, "corpus", first)
        norms, losses = _norms(block, plan.dtype)
        norm, lost = max(norm, float(norms.max())), max(lost, float(losses.max()))
        summing = corpus.shape[1] * 2.0**-23
        error = query_lost * norm + (query_norm + query_lost) * (lost + summing * (norm + lost)) + _least(plan.dtype)
        error = error.double()
        columns = len(block)
        block = torch.nn.functional.pad(block.to(plan.dtype), (0, 0, 0, -columns % GROUP))
        for start, running in zip(starts, lists, strict=True):
            rows = slice(start, start + len(running.cut))
            tile = queries[rows] @ block.T
            tile[:, columns:] = -torch.inf
            if labels is not None and exclusions.labels is not None:
                query, texts = labels[0][rows], labels[1][first : first + columns]
                tile[:, :columns].masked_fill_(forbidden(query, texts, exclusions.labels.mode), -torch.inf)
            row, column = excluded.tile(start, first)
            if len(row):
                tile[torch.from_numpy(row).to(device), torch.from_numpy(column).to(device)] = -torch.inf
            running.add(tile, first, error[rows])
    for start, running in zip(starts, lists, strict=True):
        running.keep_best(error[start : start + len(running.cut)])
    return _joined(lists, plan), error


class Lists:
    """The candidates of some queries that can be among their k best, as far as the corpus has been read.

    Attributes:
        scores: [rows, width], in the pass; -inf where there is no candidate.
        ids: int64 [rows, width], -1 where there is none.
        limit: [rows], what scores less in the pass is not among the k best.
        cut: float64 [rows], the highest score in the pass of what was left out for want of room, or -inf.
    """

    def __init__(self, rows: int, plan: SearchPass) -> None:
        import torch

        wide = torch.float32
        self._plan = plan
        self.scores = torch.empty((rows, 0), dtype=wide, device=plan.device)
        self.ids = torch.empty((rows, 0), dtype=torch.int64, device=plan.device)
        self.limit = torch.full((rows,), torch.finfo(wide).min, dtype=wide, device=plan.device)
        self.cut = torch.full((rows,), -torch.inf, dtype=torch.float64, device=plan.device)

    def add(self, tile: Any, first: int, error: Any) -> None:
        """Take up what a tile of scores [rows, columns] adds.

        Only groups whose largest score reaches the limit are looked into.

        Args:
            tile: scores of the texts from number ``first`` on; the columns are a multiple of `GROUP`.
            first: see above.
            error: float64 [rows], bound of the error of all scores so far.
        """
        import torch

        groups = tile.shape[1] // GROUP
        grouped = tile.unflatten(1, (GROUP, groups))
        maxima = grouped.amax(dim=1)
        near = maxima >= self.limit[:, None]
        crowded = torch.nonzero(near.sum(dim=1) > self._plan.k)[:, 0]
        if len(crowded):
            # Each group holds a score as large as its largest: the k-th largest of these is none too high a limit.
            largest = torch.topk(maxima[crowded], min(groups, self._plan.depth + 1), dim=1).values.to(self.limit.dtype)
            self._raise(crowded, largest, error[crowded])
            if groups > self._plan.depth:
                self._cut(crowded, largest[:, self._plan.depth])
            near[crowded] = maxima[crowded] >= self.limit[crowded, None]
        row, group = torch.nonzero(near, as_tuple=True)
        members = grouped[row, :, group]
        member, place = torch.nonzero(members >= self.limit[row, None], as_tuple=True)
        row = row[member]
        self._append(row, first + place * groups + group[member], members[member, place])
        if self.ids.shape[1] > 2 * self._plan.depth:
            self.keep_best(error)

    def keep_best(self, error: Any) -> None:
        """Sort the lists, best first, and keep no more than there is room for."""
        import torch

        depth = self._plan.depth
        best = torch.topk(self.scores, min(depth + 1, self.ids.shape[1]), dim=1)
        if best.values.shape[1] > depth:
            self.cut = torch.maximum(self.cut, best.values[:, depth].double())
        self.scores, self.ids = best.values[:, :depth], self.ids.gather(1, best.indices[:, :depth])
        self._raise(slice(None), self.scores, error)

    def _append(self, row: Any, ids: Any, scores: Any) -> None:
        """Put candidates, sorted by row, at the ends of the lists."""
        import torch

        counts = torch.bincount(row, minlength=len(self.cut))
        place = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
        for name, missing, values in (("scores", -torch.inf, scores), ("ids", NOTHING, ids)):
            old = getattr(self, name)
            new = torch.full((len(counts), int(counts.max())), missing, dtype=old.dtype, device=old.device)
            new[row, place] = values.to(old.dtype)
            setattr(self, name, torch.cat([old, new], dim=1))

    def _raise(self, rows: Any, falling: Any, error: Any) -> None:
        """Raise the limit of some rows to what the k-th of these scores, sorted from the largest on, allows.

        The true value of that score x is at least x - r |x| - e, with the rounding r and the error e; a score y with
        y + r |y| + e below that belongs to none of the k best.
        """
        import torch

        if falling.shape[1] < self._plan.k:
            return
        rounding = relative_rounding(self._plan.dtype)
        # Finite, as no rounding at all of minus infinity is no number; a list with an empty place has no limit.
        last = falling[:, self._plan.k - 1].double().clamp_min(torch.finfo(torch.float64).min)
        allowed = last - rounding * last.abs() - 2 * error
        allowed = (allowed / (1 + rounding * allowed.sign())).to(self.limit.dtype)
        below = torch.nextafter(allowed, torch.full_like(allowed, -torch.inf))  # whichever way the line above rounded
        self.limit[rows] = torch.maximum(self.limit[rows], below)

    def _cut(self, rows: Any, cut: Any) -> None:
        """Leave out from now on what scores no more than this: there would be no room for it."""
        import torch

        self.cut[rows] = torch.maximum(self.cut[rows], cut.double())
        above = torch.nextafter(cut, torch.full_like(cut, torch.inf))
        self.limit[rows] = torch.maximum(self.limit[rows], above)


def _joined(parts: list[Lists], plan: SearchPass) -> Lists:
    """The lists of several blocks of queries, one below the other."""
    import torch

    whole = Lists(0, plan)
    width = max(part.ids.shape[1] for part in parts)

    def below(tensors: list[Any], missing: float) -> Any:
        return torch.cat([torch.nn.functional.pad(t, (0, width - t.shape[1]), value=missing) for t in tensors])

    whole.scores = below([part.scores for part in parts], -torch.inf)
    whole.ids = below([part.ids for part in parts], NOTHING)
    whole.limit = torch.cat([part.limit for part in parts])
    whole.cut = torch.cat([part.cut for part in parts])
    return whole


def relative_rounding(dtype: Any) -> float:
    """Relative error of writing a sum into the product's format; float32 sums are kept as they are."""
    import torch

    return {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}.get(dtype, 0.0)


def to_device(vectors: Vectors, device: Device, name: str, first_row: int) -> Any:
    """Rows as a float16 tensor on the device; refuses NaN and infinity."""
    import torch

    # Never a view: a memory map is read-only, and torch would warn or write through it.
    tensor = torch.from_numpy(np.array(vectors)).to(device)
    # A sum of squares in float32 is finite if and only if all of its float16 terms are.
    bad = torch.nonzero(~torch.isfinite(tensor.float().square_().sum(dim=1)))
    if len(bad):
        raise MiningError(
            f"vector {first_row + int(bad[0])} of the {name} holds NaN or infinity ({len(bad)} such rows here); "
            "the encoder gave unusable vectors, try dtype float32"
        )
    return tensor


def _least(dtype: Any) -> float:
    """Absolute error of writing a sum that is too small for the relative one to hold."""
    import torch

    return 2.0**-24 if dtype == torch.float16 else 0.0


def _norms(original: Any, dtype: Any) -> tuple[Any, Any]:
    """Norm of each row, and norm of what it loses in ``dtype``, a little enlarged for their own rounding."""
    wide = original.float()
    return 1.001 * wide.norm(dim=1), 1.001 * (wide - original.to(dtype).float()).norm(dim=1)


def _on_device(labels: Labels | None, device: Device) -> tuple[Any, Any] | None:
    """Label bits of queries and corpus as tensors."""
    import torch

    if labels is None:
        return None
    query, corpus = (torch.from_numpy(bits).to(device) for bits in (labels.query, labels.corpus))
    return query, corpus
