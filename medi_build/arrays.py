"""Arrays by what they hold; their shapes stand in the docstrings of those who use them. And rows of a table."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Floats32 = npt.NDArray[np.float32]
Floats64 = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float16]
"""[n, d], one vector per text."""


def places_within(lengths: Ints) -> Ints:
    """0, 1, ... in each of several runs of these lengths, end to end: int64 [sum of the lengths]."""
    starts = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum()), dtype=np.int64) - np.repeat(starts, lengths)


def take_rows(table: "pa.Table", rows: Ints) -> "pa.Table":
    """The rows of a table with these numbers, which ascend.

    pyarrow's own ``take`` joins the chunks of a column first, and fails where that makes more than 2 GiB of text.
    """
    import pyarrow as pa  # here, so that what knows arrays alone runs without it

    if not len(rows):
        return table.slice(0, 0)
    first = int(rows[0])
    wanted = np.zeros(int(rows[-1]) - first + 1, dtype=bool)
    wanted[rows - first] = True
    return table.slice(first, len(wanted)).filter(pa.array(wanted))
