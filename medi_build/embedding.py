"""The boundary between encoding and mining: a function from texts to unit vectors."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Side = Literal["query", "document"]


class Prompt(NamedTuple):
    """What texts are encoded with.

    Attributes:
        instruction: what stands in front of each; None for what the encoder has saved for the side.
        side: what the texts are: queries, documents, or neither (None).
    """

    instruction: str | None = None
    side: Side | None = None


def both_sides(instructions: tuple[str | None, str | None], *, alike: bool) -> tuple[Prompt, Prompt]:
    """The prompts of queries and of documents.

    Args:
        instructions: of the query and of the document side, None for the encoder's own.
        alike: documents are texts of the same kind as queries (symmetric sets, inputs of one task). They are encoded
            as queries then, so that a text has one vector on both sides, whichever side is named.
    """
    query, document = instructions
    if alike:
        return Prompt(query, "query"), Prompt(query if document is None else document, "query")
    return Prompt(query, "query"), Prompt(document, "document")


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
    """Encodes texts under one prompt, whose parts it takes. Repeated texts are encoded once."""

    def __call__(self, texts: Sequence[str], instruction: str | None = None, side: Side | None = None) -> Embedded:
        """Return one vector per text, in order."""
        ...
