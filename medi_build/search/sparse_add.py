"""Adds a sparse matrix times a dense one to what is there.

scipy's public product makes a new matrix. What it calls for that adds in place, but is not public; where scipy does not
have it any more, rows are added one at a time.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from medi_build.arrays import Floats64, Ints

Numbers = Floats64 | npt.NDArray[np.int16]

try:
    from scipy.sparse._sparsetools import csr_matvecs
except ImportError:
    csr_matvecs: Any = None  # type: ignore[no-redef]


def add_product(starts: Ints, columns: Ints, values: Numbers, dense: Numbers, out: Numbers) -> None:
    """Add the product of a CSR matrix [rows, c] and ``dense`` to ``out``, in place.

    Each row adds what it stores in the order in which it is stored, so the sums are the same bit for bit either way;
    on processors whose compilers fuse a product with a sum (not x86-64), for values that are powers of two.

    Args:
        starts: [rows + 1], where each row begins in ``columns`` and ``values``; the first need not be 0.
        columns: of the stored values, of the dtype of ``starts``.
        values: float64 or int16, as are the others.
        dense: [c, n], C-contiguous.
        out: [rows, n], C-contiguous.
    """
    if csr_matvecs is not None:
        csr_matvecs(len(out), *dense.shape, starts, columns, values, dense.ravel(), out.ravel())
        return
    for row, start, stop in zip(out, starts[:-1], starts[1:], strict=True):
        for column, value in zip(columns[start:stop], values[start:stop], strict=True):
            np.add(row, value * dense[column], out=row)
