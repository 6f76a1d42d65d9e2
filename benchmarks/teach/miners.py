"""Miners as people use them, on given vectors. They know one relevant document a query. All int64 [train, count]."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from peers import medi, sentence_transformers

from medi_build.content.mining_rule import MiningRule
from medi_build.embedding import Embedded
from medi_build.search.bm25 import BM25, tokenize
from teach.domains import Domain

MEDI = {
    "positive-aware": {"preset": "positive-aware"},
    "positives-alone": {"preset": "positive-aware", "candidates": "positives"},
    "paper": {},
}
SENTENCE_TRANSFORMERS = {
    "st-range-min-10": {"range_min": 10},
    "st-margin": {"relative_margin": 0.05},
    "st-defaults": {},
}
MINERS = (*MEDI, "flag-embedding", *SENTENCE_TRANSFORMERS, "bm25")


@dataclass(frozen=True)
class Vectors:
    """Hands out given vectors by text, as an encoder would: medi takes float16, sentence-transformers float32."""

    rows: dict[str, np.ndarray]
    dtype: type = np.float16

    @classmethod
    def of(cls, domain: Domain, queries: np.ndarray, documents: np.ndarray) -> "Vectors":
        asked = {domain.queries[query]: row for query, row in zip(domain.train, queries, strict=True)}
        return cls(dict(zip(domain.documents, documents, strict=True)) | asked)

    def __call__(self, texts: Sequence[str], *_: object, **__: object) -> Embedded:
        return Embedded(np.stack([self.rows[text] for text in texts]).astype(self.dtype), 0)


def mined(name: str, domain: Domain, vectors: Vectors, count: int, seed: int) -> np.ndarray:
    """The miner's negatives; a query for which it finds fewer than asked gets -1."""
    if name == "bm25":
        return bm25(domain, count)
    if name == "flag-embedding":
        return flag_embedding(domain, vectors, count, seed)
    queries = [domain.queries[i] for i in domain.train]
    asked = (queries, [domain.documents[i] for i in domain.known[domain.train]], domain.documents)
    if name in MEDI:
        found = medi(*asked, vectors, MiningRule(num_negatives=count, **MEDI[name]), seed)
    else:
        found = sentence_transformers(*asked, replace(vectors, dtype=np.float32), count, SENTENCE_TRANSFORMERS[name])
    number = {text: i for i, text in enumerate(domain.documents)}
    rows = {query: [] for query in queries}
    for query, text, _ in found:
        rows[query].append(number[text])
    return np.array([(row + [-1] * count)[:count] for row in rows.values()])


def flag_embedding(domain: Domain, vectors: Vectors, count: int, seed: int) -> np.ndarray:
    """The rule of its ``hn_mine.py``: draws from ranks 10 to 210, the known positive left out."""
    queries, documents = (
        np.stack([vectors.rows[text] for text in side])
        for side in ([domain.queries[i] for i in domain.train], domain.documents)
    )
    ranked = np.argsort(-(queries @ documents.T), axis=1, kind="stable")[:, 10:210]
    generator = np.random.default_rng(seed)
    known = domain.known[domain.train]
    rows = zip(ranked, known, strict=True)
    return np.array([generator.choice(row[row != own], count, replace=False) for row, own in rows])


def bm25(domain: Domain, count: int) -> np.ndarray:
    """The best by BM25, the known positive left out."""
    index = BM25.build(tokenize(pl.Series(domain.documents)))
    best = index.topk(tokenize(pl.Series([domain.queries[i] for i in domain.train])), count + 1).ids
    known = domain.known[domain.train]
    return np.array([row[row != own][:count] for row, own in zip(best, known, strict=True)])
