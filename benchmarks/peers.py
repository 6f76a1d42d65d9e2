"""Miners on given vectors: medi and sentence-transformers, asked alike. Each tells (query, negative, score) triples."""

from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from sentence_transformers.util import mine_hard_negatives

from medi_build.content.mining_rule import MiningRule
from medi_build.dataset.schema import DOCUMENTS, EXAMPLES
from medi_build.embedding import Embed
from medi_build.ledger import Ledger
from medi_build.mine.by_kind import mine
from medi_build.mine.run import Encoders, Run

Found = Iterator[tuple[str, str, float]]


class SameVectors:
    """Stands where sentence-transformers expects a model, and hands out our encoder's vectors."""

    device = torch.device("cpu")
    model_card_data = SimpleNamespace(base_model="")

    def __init__(self, embed: Embed) -> None:
        self._embed = embed

    def encode_query(self, texts: list[str], **_: object) -> np.ndarray:
        return self._embed(texts).vectors.astype(np.float32)

    encode = encode_queries = encode_document = encode_query

    def similarity(self, a: np.ndarray, b: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(a) @ torch.as_tensor(b).T

    def similarity_pairwise(self, a: np.ndarray, b: np.ndarray) -> torch.Tensor:
        return (torch.as_tensor(a) * torch.as_tensor(b)).sum(dim=1)


def medi(
    queries: Sequence[str], known: Sequence[str], corpus: Sequence[str], embed: Embed, rule: MiningRule, seed: int
) -> Found:
    """Mined at once, told one by one. Each query is told one relevant text, out of the corpus."""
    count, size = len(queries), len(corpus)
    columns = [[f"q{i}" for i in range(count)], queries, [[text] for text in known], *[[[]] * count] * 4]
    examples = pa.table([*columns, [""] * count, [0] * count], schema=EXAMPLES)
    documents = pa.table([[f"d{i}" for i in range(size)], corpus, [[]] * size], schema=DOCUMENTS)
    run = Run(rule, seed, Ledger("collection"))
    tables = list(mine(examples, documents, kind="pairs", encoders=Encoders(embed), run=run).tables())
    return (
        (queries[row["row"]], text, score)
        for table in tables
        for row in table.to_pylist()
        for text, score in zip(
            [row["neg"], *row["hard_negatives"]], [row["neg_score"], *row["hard_negative_scores"]], strict=True
        )
    )


def sentence_transformers(
    queries: Sequence[str], known: Sequence[str], corpus: Sequence[str], embed: Embed, count: int, options: dict
) -> Found:
    """The same by its ``mine_hard_negatives`` with these options."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        mined = mine_hard_negatives(
            Dataset.from_dict({"query": queries, "doc": known}),
            SameVectors(embed),
            corpus=corpus,
            num_negatives=count,
            output_format="labeled-list",
            output_scores=True,
            verbose=False,
            **options,
        )
    return (
        (row["query"], text, score)
        for row in mined
        for text, score in zip(row["doc"][1:], row["scores"][1:], strict=True)
    )
