"""Miners as people use them, on given vectors. They know one relevant document a query. All int64 [train, count]."""

from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from types import SimpleNamespace

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from datasets import Dataset
from sentence_transformers.util import mine_hard_negatives

from medi_build.content.mining_rule import MiningRule
from medi_build.dataset.schema import DOCUMENTS, EXAMPLES
from medi_build.embedding import Embedded
from medi_build.ledger import Ledger
from medi_build.mine.by_kind import mine
from medi_build.mine.run import Encoders, Run
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


class Vectors:
    """Hands out given vectors by text, as medi and as sentence-transformers ask for them."""

    device = torch.device("cpu")
    model_card_data = SimpleNamespace(base_model="")

    def __init__(self, domain: Domain, queries: np.ndarray, documents: np.ndarray) -> None:
        self.rows = dict(zip(domain.documents, documents, strict=True))
        self.rows |= {domain.queries[query]: row for query, row in zip(domain.train, queries, strict=True)}

    def __call__(self, texts: Sequence[str], *_: object, **__: object) -> Embedded:
        return Embedded(np.stack([self.rows[text] for text in texts]).astype(np.float16), 0)

    def encode_query(self, texts: Sequence[str], **_: object) -> np.ndarray:
        return np.stack([self.rows[text] for text in texts])

    encode = encode_document = encode_query

    def similarity(self, a: np.ndarray, b: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(a) @ torch.as_tensor(b).T

    def similarity_pairwise(self, a: np.ndarray, b: np.ndarray) -> torch.Tensor:
        return (torch.as_tensor(a) * torch.as_tensor(b)).sum(dim=1)


def mined(name: str, domain: Domain, vectors: Vectors, count: int, seed: int) -> np.ndarray:
    """The miner's negatives; a query for which it finds fewer than asked gets -1."""
    if name == "bm25":
        return bm25(domain, count)
    if name == "flag-embedding":
        return flag_embedding(domain, vectors, count, seed)
    if name in SENTENCE_TRANSFORMERS:
        found = sentence_transformers(domain, vectors, count, SENTENCE_TRANSFORMERS[name])
    else:
        found = medi(domain, vectors, MiningRule(num_negatives=count, **MEDI[name]), seed)
    number = {text: i for i, text in enumerate(domain.documents)}
    rows = [[number[text] for text in found.get(domain.queries[query], [])[:count]] for query in domain.train]
    return np.array([row + [-1] * (count - len(row)) for row in rows])


def medi(domain: Domain, vectors: Vectors, rule: MiningRule, seed: int) -> dict[str, list[str]]:
    size, queries = len(domain.train), [domain.queries[i] for i in domain.train]
    positives = [[domain.documents[i]] for i in domain.known[domain.train]]
    columns = [[f"q{i}" for i in range(size)], queries, positives, *[[[]] * size] * 4, [""] * size, [0] * size]
    documents = [[f"d{i}" for i in range(len(domain.documents))], domain.documents, [[]] * len(domain.documents)]
    result = mine(
        pa.table(columns, schema=EXAMPLES),
        pa.table(documents, schema=DOCUMENTS),
        kind="pairs",
        encoders=Encoders(vectors),
        run=Run(rule, seed, Ledger(rule.preset)),
    )
    rows = (row for table in result.tables() for row in table.to_pylist())
    return {queries[row["row"]]: [row["neg"], *row["hard_negatives"]] for row in rows}


def sentence_transformers(domain: Domain, vectors: Vectors, count: int, options: dict) -> dict[str, list[str]]:
    known = [domain.documents[i] for i in domain.known[domain.train]]
    pairs = Dataset.from_dict({"query": [domain.queries[i] for i in domain.train], "document": known})
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        found = mine_hard_negatives(
            pairs,
            vectors,
            corpus=domain.documents,
            num_negatives=count,
            output_format="labeled-list",
            verbose=False,
            **options,
        )
    return {row["query"]: row["document"][1:] for row in found}


def flag_embedding(domain: Domain, vectors: Vectors, count: int, seed: int) -> np.ndarray:
    """The rule of its ``hn_mine.py``: draws from ranks 10 to 210, the known positive left out."""
    queries = vectors.encode_query([domain.queries[i] for i in domain.train])
    ranked = np.argsort(-(queries @ vectors.encode_query(domain.documents).T), axis=1, kind="stable")[:, 10:210]
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
