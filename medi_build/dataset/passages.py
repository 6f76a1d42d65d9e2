"""Texts as Tevatron's passages: under the id and title that they have in a corpus, if they are in it."""

from collections.abc import Iterator
from itertools import chain
from typing import Any, cast

import numpy as np
import polars as pl
import pyarrow as pa
import xxhash

from medi_build.arrays import Ints
from medi_build.dataset.schema import CORPUS


class Passages:
    """Ids and titles by text; of texts that stand in the corpus several times the first counts.

    Texts are compared by 64-bit hash: among 100M distinct texts two collide with probability 3e-4.
    """

    def __init__(self, corpus: pa.Table | None = None) -> None:
        """Set up with a table of schema ``CORPUS``, or without a corpus."""
        corpus = CORPUS.empty_table() if corpus is None else corpus
        texts, self._ids, self._titles = (cast(pl.Series, pl.from_arrow(corpus[n])) for n in ("text", "id", "title"))
        self._hashes, self._first = np.unique(texts.hash(seed=0).to_numpy(), return_index=True)

    def lines(self, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Rows of ``TUPLES`` in Tevatron's form."""
        positives = [[row["pos"], *row["further_positives"]] for row in rows]
        texts = dict.fromkeys(chain(*positives, *(row["negatives"] for row in rows)))
        passages = dict(zip(texts, self._of(list(texts)), strict=True))
        for row, own in zip(rows, positives, strict=True):
            yield {
                "query_id": row["id"],
                "query": row["query"],
                "positive_passages": [passages[text] for text in own],
                "negative_passages": [passages[text] for text in row["negatives"]],
            }

    def _of(self, texts: list[str]) -> list[dict[str, str]]:
        """A passage for each text: the corpus's id, title, and the text without it; else the text's hash for an id."""
        passages: list[dict[str, str]] = [{}] * len(texts)
        known, place = self._find(texts)
        found = zip(known.tolist(), self._ids.gather(place), self._titles.gather(place), strict=True)
        for number, name, title in found:
            text = texts[number]
            passages[number] = {"docid": name, "title": title, "text": text[len(title) + 1 :] if title else text}
        return [
            passage or {"docid": xxhash.xxh3_64_hexdigest(text.encode()), "title": "", "text": text}
            for passage, text in zip(passages, texts, strict=True)
        ]

    def _find(self, texts: list[str]) -> tuple[Ints, Ints]:
        """Which of the texts are in the corpus, and their rows there."""
        if not len(self._hashes):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        hashes = pl.Series(texts, dtype=pl.String).hash(seed=0).to_numpy()
        place = np.searchsorted(self._hashes, hashes)
        place[place == len(self._hashes)] = 0
        known = np.flatnonzero(self._hashes[place] == hashes)
        return known, self._first[place[known]]
