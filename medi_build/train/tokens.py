"""Pairs of instruction and text to tokens, joined as the public package joins them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from medi_build.encode.tokens import Tokens, tokenise


def tokenise_pairs(tokenizer: Any, instructions: Sequence[str], texts: Sequence[str], window: int) -> Tokens:
    """Tokenise ``strip(instruction + strip(text))`` for each pair, cut to ``window`` tokens.

    A blank that closes an instruction stays, as in InstructorEmbedding 1.0.1 and sentence-transformers' ``prompt=``.

    Returns:
        Tokens whose ``skip`` is the token count of the stripped instruction without a closing special token; 0 for an
        instruction without tokens.
    """
    distinct = list(dict.fromkeys(instructions))
    prefixes = tokenise(tokenizer, [""] * len(distinct), distinct, window, skip_instruction=True)
    skip = dict(zip(distinct, prefixes.skip.tolist(), strict=True))
    joined = [instruction + text.strip() for instruction, text in zip(instructions, texts, strict=True)]
    tokens = tokenise(tokenizer, joined, [""] * len(joined), window, skip_instruction=False)
    return tokens._replace(skip=np.array([skip[instruction] for instruction in instructions], np.int64))
