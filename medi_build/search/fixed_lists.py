"""The lists of a pass on a GPU: of fixed width, so that the host waits for the device once a tile, and not five times.

What the host has to know of a tile, four numbers, is fetched while the device multiplies the next one.
"""

from typing import Any, NamedTuple

from medi_build.search.dense_lists import GROUP, Lists, SearchPass
from medi_build.search.ranking import NOTHING
from medi_build.search.transfer import Fetched

ROOM = 4
"""Places of a list for each of those that it keeps when it is sorted."""
SPARE = 4096
"""Places for what a tile adds, beyond two for each group."""
NOWHERE = 1 << 16
"""Places for what nobody asks for, so many that those who write there seldom meet."""


class Look(NamedTuple):
    """What a first look at a tile of scores gave.

    Attributes:
        tile: [rows, columns].
        first: number of the first text.
        largest: [rows, groups], the largest score of each group.
        near: bool [rows, groups], whether it reaches the limit.
        crowded: bool [rows], whether more groups do than are asked for.
        told: four numbers: groups near the limit in rows that are not crowded, crowded rows, the longest list, and
            the most groups that a row can add.
    """

    tile: Any
    first: int
    largest: Any
    near: Any
    crowded: Any
    told: Fetched


class FixedLists(Lists):
    """As `Lists`, with a fixed number of places and without a wait for the device but for `Look.told`.

    A candidate that finds no place is left out, and `cut` remembers it.
    """

    def __init__(self, rows: int, texts: int, plan: SearchPass, device: Any) -> None:
        import torch

        super().__init__(rows, plan, device)
        self._width = min(ROOM * plan.depth, texts)
        # Behind the places of all lists stands one for each row, which takes what belongs nowhere.
        self._scores = torch.full((rows * (self._width + 1),), -torch.inf, dtype=torch.float32, device=device)
        self._ids = torch.full((rows * (self._width + 1),), NOTHING, dtype=torch.int64, device=device)
        self.scores, self.ids = (flat[: rows * self._width].view(rows, -1) for flat in (self._scores, self._ids))
        self._filled = torch.zeros(rows, dtype=torch.int64, device=device)

    def look(self, tile: Any, first: int) -> Look:
        """Look at a tile; `take` takes up what it adds.

        Args:
            tile: as `Lists.add` has it.
            first: number of its first text.
        """
        import torch

        largest = tile.unflatten(1, (GROUP, tile.shape[1] // GROUP)).amax(dim=1)
        near = largest >= self.limit[:, None]
        count = near.sum(dim=1)
        crowded = count > self._plan.k
        adding = torch.where(crowded, self._most_groups(largest), count)
        told = [torch.where(crowded, 0, count).sum(), crowded.sum(), self._filled.max(), adding.max()]
        return Look(tile, first, largest, near, crowded, Fetched(torch.stack(told)))

    def _most_groups(self, largest: Any) -> int:
        """So many groups of a crowded row are near the limit at most, once `_raise_by_groups` has raised it."""
        return min(self._plan.depth, int(largest.shape[1]))

    def take(self, look: Look, error: Any) -> None:
        """Take up what a tile adds.

        Args:
            look: what the first look at it gave; nothing may have been taken since.
            error: as `Lists.add` has it.
        """
        import torch

        near, largest = look.near, look.largest
        groups, crowded, longest, adding = look.told.arrays()[0].tolist()
        if longest + adding > (ROOM - 1) * self._plan.depth:
            self.keep_best(error)
        if crowded:
            rows = torch.nonzero_static(look.crowded, size=crowded)[:, 0]
            self._raise_by_groups(rows, largest[rows], error[rows])
            near[rows] = largest[rows] >= self.limit[rows, None]
        # So many are near at most: the last of these may be none, and are told by -1.
        most = groups + crowded * self._most_groups(largest)
        if most:
            row, group = torch.nonzero_static(near, size=most).unbind(1)
            self._put(look, torch.where(row < 0, len(self.cut) - 1, row), group, row >= 0)

    def _put(self, look: Look, row: Any, group: Any, real: Any) -> None:
        """Put the members of groups, sorted by row, that reach the limit at the ends of the lists.

        How many do the host does not know: hardly more than one of each group, so that a first pass, which is made in
        16 bits, has room for two of each. Later ones have room for all.
        """
        import torch

        groups, every = look.largest.shape[1], GROUP * len(row)
        room = every if self._plan.dtype == torch.float32 else min(every, 2 * len(row) + SPARE)
        members = look.tile.unflatten(1, (GROUP, groups))[row, :, group]  # [groups near, GROUP]
        good = (members >= self.limit[row, None]) & real[:, None]
        of_group = good.sum(dim=1)
        ends = torch.nn.functional.pad(of_group.cumsum(0), (1, 0))[look.near.sum(dim=1).cumsum(0)]
        of_row = torch.diff(ends, prepend=ends.new_zeros(1))
        one, member = torch.nonzero_static(good, size=room).unbind(1)
        there = one >= 0
        one, member = one.clamp_min(0), member.clamp_min(0)
        scores, of = members[one, member].float(), row[one]
        place = self._filled[of] + torch.arange(room, device=row.device) - (of_row.cumsum(0) - of_row)[of]
        fits = there & (place < self._width)
        target = torch.where(fits, of * self._width + place, len(self.cut) * self._width + of)
        self._scores[target] = scores
        self._ids[target] = look.first + member * groups + group[one]
        self._filled = (self._filled + of_row).clamp_max(self._width)
        self._remember(of, scores, there & ~fits)
        self._remember(row, look.largest[row, group], of_group.cumsum(0) > room)

    def _remember(self, rows: Any, scores: Any, lost: Any) -> None:
        """Take those of the scores that were left out into `cut`."""
        import torch

        # Hardly any is, and the others would all wait for the place of their row: they are sent to many places.
        nowhere = len(self.cut) + torch.arange(len(rows), device=rows.device) % NOWHERE
        spread = torch.nn.functional.pad(self.cut, (0, NOWHERE), value=-torch.inf)
        spread.scatter_reduce_(0, torch.where(lost, rows, nowhere), scores.double(), "amax")
        self.cut = spread[: len(self.cut)].contiguous()

    def keep_best(self, error: Any) -> None:
        """As `Lists.keep_best`; the places are those that they were."""
        import torch

        depth = min(self._plan.depth, self._width)
        best = torch.topk(self.scores, min(depth + 1, self._width), dim=1)
        if best.values.shape[1] > depth:
            self.cut = torch.maximum(self.cut, best.values[:, depth].double())
        ids = self.ids.gather(1, best.indices[:, :depth])
        self.scores[:, :depth], self.ids[:, :depth] = best.values[:, :depth], ids
        self.scores[:, depth:], self.ids[:, depth:] = -torch.inf, NOTHING
        self._filled = self._filled.clamp_max(depth)
        self._raise(slice(None), self.scores[:, :depth], error)
