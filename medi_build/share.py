"""Work that is handed out: an ordered map over pieces, wherever that runs."""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Share(Protocol):
    """Does what the built-in ``map`` does, elsewhere: results come in the order of the items.

    Function, items and results are picklable. Items are named tuples; an array that several of them hold is one
    object, so that what sends them can send it once. They are made as they are taken: one that takes few ahead of the
    results needs little memory.
    """

    def __call__(self, function: Callable[[Item], Result], items: Iterable[Item], /) -> Iterator[Result]:
        """What comes of each item, in order; the error of an item is raised in its place."""
        ...


class Split(NamedTuple):
    """How the work on one dataset is handed out.

    Attributes:
        share: does the pieces.
        rows: texts of a piece at most.
    """

    share: Share = map
    rows: int = sys.maxsize

    def pieces(self, count: int) -> list[slice]:
        """Rows 0 to ``count`` in pieces, at least one."""
        starts = range(0, max(count, 1), self.rows)
        return [slice(start, min(start + self.rows, count)) for start in starts]


WHOLE = Split()
"""All in one piece, in this process."""
