"""The boundary between encoding and mining: a function from texts to unit vectors."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt


class Embedded(NamedTuple):
    """Vectors of some texts.

    Attributes:
        vectors: float16 [n, d], L2-normalised (in float32, before rounding), row i for text i.
        truncated: how many of the texts did not fit the encoder's window.
        unaligned: how many do not begin with their instruction's tokens once the two are tokenised together.
    """

    vectors: npt.NDArray[np.float16]
    truncated: int
    unaligned: int = 0


class Embed(Protocol):
    """Encodes texts under one instruction. Repeated texts are encoded once."""

    def __call__(self, texts: Sequence[str], instruction: str = "") -> Embedded:
        """Return one vector per text, in order."""
        ...
