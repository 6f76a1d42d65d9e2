"""Texts to token ids, once and ahead of the model; how much of each is instruction."""

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

TRUNCATED = np.uint8(1)
"""Flag of a text that did not fit the window."""
UNALIGNED = np.uint8(2)
"""Flag of a text whose tokens do not begin with its instruction's tokens."""


class Tokens(NamedTuple):
    """Texts as token ids, special tokens included.

    Attributes:
        ids: int32 [total], all texts one after the other.
        offsets: int64 [n + 1], text i is ``ids[offsets[i]:offsets[i + 1]]``.
        skip: int64 [n], leading tokens that the pooling leaves out (the instruction's).
        flags: uint8 [n], `TRUNCATED` | `UNALIGNED`.
    """

    ids: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    skip: npt.NDArray[np.int64]
    flags: npt.NDArray[np.uint8]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """int64 [n], tokens of each text."""
        return np.diff(self.offsets)


def tokenise(
    tokenizer: Any,
    texts: Sequence[str],
    instructions: Sequence[str],
    window: int,
    *,
    skip_instruction: bool,
    exact: bool = False,
) -> Tokens:
    """Tokenise each instruction with its text, cut to ``window`` tokens: the one place that says what white space does.

    Where the pooling includes the instruction, what is tokenised is ``instruction + text``, to the letter, as
    sentence-transformers has it. Where it leaves the instruction out, it is ``strip(instruction + strip(text))``, as
    InstructorEmbedding 1.0.1 has it, and ``skip`` is the token count of ``strip(instruction)`` without a closing
    special token, 0 for an instruction without tokens. That count holds also where the tokenizer merges across the
    seam, so that those tokens are no prefix: such texts are flagged.

    Args:
        tokenizer: a tokenizer of transformers.
        texts: n texts.
        instructions: n instructions, mostly the same few.
        window: tokens per text at most.
        skip_instruction: whether the pooling leaves the instruction out; if not, ``skip`` is 0 throughout.
        exact: take both to the letter in any case, as sentence-transformers' ``encode(texts, prompt=)`` does.
    """
    if not texts:
        none = np.empty(0, dtype=np.int64)
        return Tokens(none.astype(np.int32), np.zeros(1, dtype=np.int64), none, none.astype(np.uint8))
    pairs = zip(instructions, texts, strict=True)
    if skip_instruction and not exact:
        joined = [(instruction + text.strip()).strip() for instruction, text in pairs]
    else:
        joined = [instruction + text for instruction, text in pairs]
    encoded = _call(tokenizer, joined, window)
    rows: list[list[int]] = encoded["input_ids"]
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    skip = np.zeros(len(rows), dtype=np.int64)
    flags = np.zeros(len(rows), dtype=np.uint8)
    if skip_instruction:
        heads = {text: text if exact else text.strip() for text in instructions}
        prefixes = {text: _prefix(tokenizer, head, window) for text, head in heads.items()}
        for i, (row, instruction) in enumerate(zip(rows, instructions, strict=True)):
            prefix = prefixes[instruction]
            skip[i] = len(prefix)
            if row[: len(prefix)] != prefix:
                flags[i] |= UNALIGNED
    full = np.flatnonzero(lengths >= window)
    if encoded.encodings is not None:  # the tokenizer says what it cut
        flags[full[[bool(encoded.encodings[i].overflowing) for i in full]]] |= TRUNCATED
    elif len(full):  # one written in Python does not: ask again
        uncut = _call(tokenizer, [joined[i] for i in full], None)["input_ids"]
        flags[full[[len(row) > window for row in uncut]]] |= TRUNCATED
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
    ids = np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=int(offsets[-1]))
    return Tokens(ids, offsets, skip, flags)


def _call(tokenizer: Any, texts: list[str], window: int | None) -> Any:
    """The tokenizer's ``BatchEncoding``; it spreads a batch over the cores by itself."""
    cut = {"truncation": True, "max_length": window} if window else {"truncation": False}
    return tokenizer(
        texts, padding=False, return_attention_mask=False, return_token_type_ids=False, verbose=False, **cut
    )


def _prefix(tokenizer: Any, instruction: str, window: int) -> list[int]:
    """The instruction's tokens without a closing special token; empty for no instruction."""
    if not instruction:
        return []
    tokens: list[int] = _call(tokenizer, [instruction], window)["input_ids"][0]
    return tokens[:-1] if tokens and tokens[-1] in tokenizer.all_special_ids else tokens
