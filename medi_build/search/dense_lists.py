"""The lists of one pass of a search: what can be among the best of each query, as far as the corpus has been read.

A list keeps whatever reaches a limit that is proven by the error bound of the product, as far as it has room; what it
had no room for it remembers by its highest score.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from medi_build.search.ranking import NOTHING

GROUP = 16
"""Scores of a tile of which only the largest is looked at first."""


class Blocks(NamedTuple):
    """Sizes of the tiles that are multiplied at a time; they change speed and memory, never the result."""

    queries: int = 1024
    corpus: int = 8192


class SearchPass(NamedTuple):
    """How one pass over the corpus is made.

    Attributes:
        k: how many candidates are asked for.
        depth: room of a list between two blocks.
        dtype: torch's type in which the product is made.
        blocks: sizes of the tiles.
    """

    k: int
    depth: int
    dtype: Any
    blocks: Blocks


class Lists:
    """The candidates of some queries that can be among their k best.

    Attributes:
        scores: [rows, width], in the pass; -inf where there is no candidate.
        ids: int64 [rows, width], -1 where there is none.
        limit: [rows], what scores less in the pass is not among the k best, or there is no room for it.
        cut: float64 [rows], the highest score in the pass of what was left out for want of room, or -inf.
    """

    def __init__(self, rows: int, plan: SearchPass, device: Any) -> None:
        import torch

        wide = torch.float32
        self._plan = plan
        self.scores = torch.empty((rows, 0), dtype=wide, device=device)
        self.ids = torch.empty((rows, 0), dtype=torch.int64, device=device)
        self.limit = torch.full((rows,), torch.finfo(wide).min, dtype=wide, device=device)
        self.cut = torch.full((rows,), -torch.inf, dtype=torch.float64, device=device)

    def add(self, tile: Any, first: int, error: Any) -> None:
        """Take up what a tile of scores adds.

        The columns of a tile are dealt out to groups, and a group is looked into where its largest score reaches the
        limit of the row. In most tiles few do.

        Args:
            tile: [rows, columns], scores of the texts from number ``first`` on; the columns are a multiple of `GROUP`.
            first: see above.
            error: float64 [rows], bound of the error of all scores so far.
        """
        import torch

        groups = tile.shape[1] // GROUP
        grouped = tile.unflatten(1, (GROUP, groups))  # column c is member c // groups of group c % groups
        largest = grouped.amax(dim=1)
        near = largest >= self.limit[:, None]
        crowded = torch.nonzero(near.sum(dim=1) > self._plan.k)[:, 0]
        if len(crowded):
            self._raise_by_groups(crowded, largest[crowded], error[crowded])
            near[crowded] = largest[crowded] >= self.limit[crowded, None]

        row, group = torch.nonzero(near, as_tuple=True)
        members = grouped[row, :, group]  # [near groups, GROUP]
        one, member = torch.nonzero(members >= self.limit[row, None], as_tuple=True)
        self._append(row[one], first + member * groups + group[one], members[one, member])
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

    def _raise_by_groups(self, rows: Any, largest: Any, error: Any) -> None:
        """Raise the limit of some rows by the largest scores of their groups, [rows, groups], before these are taken.

        Each group holds a score as large as its largest, so the k-th largest of those is none too high. And where as
        many groups as there is room for have larger scores, there is none for a group with less.
        """
        import torch

        depth = self._plan.depth
        best = torch.topk(largest, min(largest.shape[1], depth + 1), dim=1).values.to(self.limit.dtype)
        self._raise(rows, best, error)
        if best.shape[1] > depth:
            self._leave_out(rows, best[:, depth])

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

    def _leave_out(self, rows: Any, scores: Any) -> None:
        """Leave out from now on what scores no more than this, [rows]: there would be no room for it."""
        import torch

        self.cut[rows] = torch.maximum(self.cut[rows], scores.double())
        above = torch.nextafter(scores, torch.full_like(scores, torch.inf))
        self.limit[rows] = torch.maximum(self.limit[rows], above)

    def _append(self, row: Any, ids: Any, scores: Any) -> None:
        """Put candidates, sorted by row, at the ends of the lists."""
        import torch

        counts = torch.bincount(row, minlength=len(self.cut))
        place = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
        shape = (len(counts), int(counts.max()))
        new_ids = torch.full(shape, NOTHING, dtype=self.ids.dtype, device=row.device)
        new_scores = torch.full(shape, -torch.inf, dtype=self.scores.dtype, device=row.device)
        new_ids[row, place] = ids
        new_scores[row, place] = scores.to(new_scores.dtype)
        self.ids = torch.cat([self.ids, new_ids], dim=1)
        self.scores = torch.cat([self.scores, new_scores], dim=1)


class Joined(NamedTuple):
    """The lists of all queries, as `Lists` has them."""

    scores: Any
    ids: Any
    limit: Any
    cut: Any


def joined(parts: Sequence[Lists]) -> Joined:
    """The lists of several blocks of queries, one below the other."""
    import torch

    width = max(part.ids.shape[1] for part in parts)

    def below(tensors: list[Any], missing: float) -> Any:
        return torch.cat([torch.nn.functional.pad(t, (0, width - t.shape[1]), value=missing) for t in tensors])

    return Joined(
        below([part.scores for part in parts], -torch.inf),
        below([part.ids for part in parts], NOTHING),
        torch.cat([part.limit for part in parts]),
        torch.cat([part.cut for part in parts]),
    )


def relative_rounding(dtype: Any) -> float:
    """Relative error of writing a sum into the product's format; float32 sums are kept as they are."""
    import torch

    return {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}.get(dtype, 0.0)
