"""Texts as words: one normal form for all comparisons, and a hash of each word."""

from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from medi_build.arrays import Hashes, Ints

SEPARATORS = r"[\p{P}\p{Z}\p{C}]+"
"""Punctuation, white space and control characters; symbols (``+``, ``$``) are words or parts of words."""
UNSPACED = r"([[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]--\p{M}]\p{M}*)"
"""A character of a script that writes no spaces between words; each is a word of its own, with its marks."""


class Runs(NamedTuple):
    """Hashes that belong to texts: of their words, or of runs of words.

    Attributes:
        hashes: of all texts, one text after another, uint64 [w].
        starts: where each text's begin, and at the end where they all end, int64 [n + 1].
    """

    hashes: Hashes
    starts: Ints

    @property
    def counts(self) -> Ints:
        """How many each text has, [n]."""
        return np.diff(self.starts)

    @property
    def texts(self) -> Ints:
        """The text of each hash, [w]."""
        return np.repeat(np.arange(len(self.starts) - 1), self.counts)


def normal_forms(texts: pa.Array) -> pl.Series:
    """Each text in NFKC and lower case (sigma in one form), its words with one space between them: strings [n]."""
    plain = pc.string_is_ascii(texts)
    if not pc.all(plain).as_py():
        other = pc.invert(plain)
        told = pl.Series(pc.utf8_normalize(texts.filter(other), "NFKC")).str.replace_all(UNSPACED, " ${1} ")
        texts = pc.replace_with_mask(texts, other, told.to_arrow().cast(texts.type))
    lower = pl.Series(texts).str.to_lowercase().str.replace_all("ς", "σ", literal=True)
    return lower.str.replace_all(SEPARATORS, " ").str.strip_chars(" ")


def joined(normal: pl.Series) -> pl.Series:
    """Texts in normal form without their spaces, so that ``well-known`` is ``wellknown``."""
    return normal.str.replace_all(" ", "", literal=True)


def words_of(normal: pl.Series) -> Runs:
    """The words of texts in normal form, hashed."""
    split = normal.filter(normal != "").str.split(" ")
    counts = np.zeros(len(normal), np.int64)
    counts[(normal != "").to_numpy()] = split.list.len().to_numpy()
    hashes = split.explode().hash().to_numpy() if len(split) else np.zeros(0, np.uint64)
    return Runs(hashes, np.r_[0, np.cumsum(counts)])


def runs_of(words: Runs, size: int) -> Runs:
    """Every run of ``size`` words of each text, hashed; a text with fewer words has none."""
    hashes = _run_hashes(words.hashes, size)
    whole = np.ones(len(hashes), bool)
    for back in range(1, size):
        last = words.starts[1:] - back
        last = last[last >= words.starts[:-1]]
        whole[last[last < len(whole)]] = False
    return Runs(hashes[whole], np.r_[0, np.cumsum(np.maximum(words.counts - size + 1, 0))])


_STEP = np.uint64(0x9E3779B97F4A7C15)


def _run_hashes(words: Hashes, size: int) -> Hashes:
    """A hash of every ``size`` words that stand together: sums of powers of an odd number, made by doubling."""
    done, total, power = 0, words[:0], _STEP
    piece, length = words, 1
    with np.errstate(over="ignore"):
        while True:
            if size & length:
                total = piece if not done else _joined(total, done, piece, length, power)
                done += length
            if done == size:
                return total
            piece = _joined(piece, length, piece, length, power)
            length, power = 2 * length, power * power


def _joined(head: Hashes, head_size: int, tail: Hashes, tail_size: int, power: np.uint64) -> Hashes:
    """Hashes of runs of ``head_size + tail_size`` words; ``power``: the step to the power of the tail's length."""
    count = min(len(head), len(tail) - head_size)
    return head[: max(count, 0)] * power + tail[head_size : head_size + max(count, 0)]


def take(runs: Runs, rows: Ints) -> Runs:
    """The hashes of some texts, in the order of ``rows``."""
    counts = runs.counts[rows]
    starts = np.r_[0, np.cumsum(counts)]
    places = np.arange(starts[-1]) + np.repeat(runs.starts[:-1][rows] - starts[:-1], counts)
    return Runs(runs.hashes[places], starts)
