"""Which texts share a forward pass: pure planning over lengths, no model in sight.

On the CPU two rules make a text's vector independent of its companions. The padded width follows from the text's own
length alone, and, where ``fixed`` is asked for, every pass of one width has the same number of rows, so that the same
kernels run on the same shapes whatever else is being encoded. On a GPU passes are of one length (`plan_equal`).
"""

from collections.abc import Generator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

EQUAL_FROM = 4096
"""Tokens of one length from which its texts get passes of their own: with fewer a GPU waits for the next kernel."""

FEWEST_TOKENS = 64
"""Padded tokens below which a pass is not made smaller: kernels for very few rows of numbers are others."""
FEWEST_ROWS = 2
"""The same of its rows: a single text takes other kernels in T5's attention."""


class ForwardPass(NamedTuple):
    """Texts for one forward pass.

    Attributes:
        rows: int64 [k], indices of the texts, longest first.
        width: tokens each is padded to.
        capacity: rows of the pass, ``k <= capacity``; the missing ones are filler.
        equal: whether all texts are exactly ``width`` tokens long and there is no filler.
    """

    rows: npt.NDArray[np.int64]
    width: int
    capacity: int
    equal: bool = False


def widths(window: int) -> npt.NDArray[np.int64]:
    """The ladder of padded widths up to ``window``: steps of about an eighth, so little is spent on padding."""
    ladder: list[int] = []
    width = 8
    while width < window:
        ladder.append(width)
        width += max(8, 1 << (width.bit_length() - 3))
    return np.array([*ladder, window], dtype=np.int64)


def padded_width(lengths: npt.NDArray[np.int64], window: int) -> npt.NDArray[np.int64]:
    """Width for each length: the next one on the ladder that leaves at least one padded place.

    The padded place matters: attention over a batch without any padding takes another kernel, so a text that fills its
    width would get other bits next to a shorter one. Texts that fill the window have no such place; `plan` keeps
    them among themselves.
    """
    ladder = widths(window)
    return ladder[np.minimum(np.searchsorted(ladder, lengths, side="right"), len(ladder) - 1)]


def plan(lengths: npt.NDArray[np.int64], window: int, budget: int, *, fixed: bool) -> Generator[ForwardPass]:
    """Cover every text once with passes of like length, widest first.

    Args:
        lengths: int64 [n], tokens of each text, at most ``window``.
        window: the encoder's window in tokens.
        budget: padded tokens that one pass may hold; a single text may exceed it.
        fixed: give all passes of one width the same number of rows (filler in the last).

    Yields:
        Passes; ties of length go by index.
    """
    width = padded_width(lengths, window)
    group = np.where(lengths >= window, 2 * width + 1, 2 * width)
    order = np.lexsort((np.arange(len(lengths)), -lengths, -group))
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    for members in np.split(order, starts[1:]):
        if not len(members):
            continue
        row_width = int(width[members[0]])
        capacity = max(1, budget // row_width)
        for start in range(0, len(members), capacity):
            rows = members[start : start + capacity]
            yield ForwardPass(rows, row_width, capacity if fixed else len(rows))


def plan_equal(
    lengths: npt.NDArray[np.int64], window: int, budget: int, enough: int = EQUAL_FROM
) -> Generator[ForwardPass]:
    """Cover every text once, as far as possible with passes of one exact length: no padded place, and no mask.

    Args:
        lengths: int64 [n], as in `plan`.
        window: as in `plan`.
        budget: as in `plan`.
        enough: tokens of one length from which its texts are kept among themselves; the others are planned by `plan`.

    Yields:
        The passes of one length, widest first and as even as can be; then the others.
    """
    tokens = lengths * np.bincount(lengths)[lengths]
    many = tokens >= max(1, enough)
    members = np.flatnonzero(many)
    members = members[np.argsort(-lengths[members], kind="stable")]
    for same in np.split(members, np.flatnonzero(np.diff(lengths[members])) + 1):
        if len(same):
            width = int(lengths[same[0]])
            for rows in np.array_split(same, -(-len(same) // max(1, budget // width))):
                yield ForwardPass(rows, width, len(rows), equal=True)
    few = np.flatnonzero(~many)
    for planned in plan(lengths[few], window, budget, fixed=False):
        yield planned._replace(rows=few[planned.rows])


def fewer_rows(count: int, capacity: int, width: int) -> int:
    """Rows that are enough for ``count`` texts: the capacity, or a half, a quarter, ... of it, rounded up."""
    rows = capacity
    while (half := -(-rows // 2)) >= max(count, FEWEST_ROWS) and half < rows and half * width >= FEWEST_TOKENS:
        rows = half
    return rows
