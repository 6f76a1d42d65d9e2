"""Arrays by what they hold; their shapes stand in the docstrings of those who use them."""

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Floats32 = npt.NDArray[np.float32]
Floats64 = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float16]
"""[n, d], one vector per text."""
