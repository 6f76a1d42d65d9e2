"""What texts are looked up by: a hash of the whole text, of some of its runs of words, and of its MinHash bands."""

from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from xxhash import xxh3_64_intdigest

from medi_build.arrays import Hashes
from medi_build.evaluate.contamination.minhash import BANDS, bands, signatures
from medi_build.evaluate.contamination.words import Runs, joined, normal_forms, runs_of, take, words_of

RUN = 13
"""Words in a row that two texts have to share."""
SEED = 8
"""Words of the shorter runs by which texts that share ``RUN`` words are found."""
SHINGLE = 2
"""Words of a shingle."""


class Prints(NamedTuple):
    """Of n texts.

    Attributes:
        joined: normal forms without spaces, strings [n]; "" where a text has no word.
        words: their words.
        whole: hash of each of ``joined``; texts without a word have none.
        seeds: least hashes of runs of ``SEED`` words, at least one in each ``RUN`` words.
        bands: ``BANDS`` for each text with a shingle.
    """

    joined: pl.Series
    words: Runs
    whole: Runs
    seeds: Runs
    bands: Runs


def prints_of(texts: pa.Array) -> Prints:
    """Texts (``large_string`` [n]) as they are looked up."""
    normal = normal_forms(texts)
    words = words_of(normal)
    whole_texts = joined(normal)
    some = words.counts > 0
    hashes = (xxh3_64_intdigest(text) for text in whole_texts.filter(pl.Series(some)).cast(pl.Binary))
    whole = Runs(np.fromiter(hashes, np.uint64, int(some.sum())), np.r_[0, np.cumsum(some)])
    return Prints(whole_texts, words, whole, seeds_of(words), _bands(runs_of(words, SHINGLE)))


def seeds_of(words: Runs) -> Runs:
    """Of each run of ``RUN`` words the least hash among its runs of ``SEED`` words, once where it follows itself.

    Two texts that share ``RUN`` words in a row have a seed in common.
    """
    short = runs_of(words, SEED)
    windows = np.maximum(words.counts - RUN + 1, 0)
    starts = np.r_[0, np.cumsum(windows)]
    places = np.arange(starts[-1]) + np.repeat(short.starts[:-1] - starts[:-1], windows)
    least = short.hashes[places]
    for ahead in range(1, RUN - SEED + 1):
        np.minimum(least, short.hashes[places + ahead], out=least)
    new = np.ones(len(least), bool)
    new[1:] = least[1:] != least[:-1]
    new[starts[:-1][windows > 0]] = True
    return Runs(least[new], np.r_[0, np.cumsum(new)][starts])


def _bands(shingles: Runs) -> Runs:
    some = shingles.counts > 0
    found: Hashes = bands(signatures(take(shingles, np.flatnonzero(some))))
    return Runs(found.reshape(-1), np.r_[0, np.cumsum(some * BANDS)])
