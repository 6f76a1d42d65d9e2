"""The row types that pass between stages, as explicit Arrow schemas. Nothing here is ever inferred.

``EXAMPLES`` and ``DOCUMENTS`` come out of adapters, ``MINED`` out of mining, ``RECORDS`` into the shards.
"""

from typing import Literal

import pyarrow as pa

SCHEMA_VERSION = 6
"""Of the manifest and of ``RECORDS``: raised whenever one of them changes."""
MANIFEST = "manifest.json"
"""Its file in a built folder, written last."""
REPORT = "report.html"
"""The page about a build, beside its files and none of them: nothing checks, sends or copies it."""

Kind = Literal["pairs", "classification", "text2text"]
"""Which pair rule a dataset follows: positives given with the data, same label, or similar input and output."""

_STRINGS = pa.list_(pa.field("item", pa.string(), nullable=False))
_FLOATS = pa.list_(pa.field("item", pa.float32(), nullable=False))
_INTS = pa.list_(pa.field("item", pa.int32(), nullable=False))


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


EXAMPLES = _schema(
    id=pa.string(),  # "{dataset}/{upstream id or hash of the content}": no other row has a say in it
    query=pa.string(),
    positives=_STRINGS,  # given positives; empty where mining finds them (classification, text2text)
    negatives=_STRINGS,  # given hard negatives
    labels=_STRINGS,  # classes; an example of a multi-label task has several
    answers=_STRINGS,  # short answers (retrieval) or outputs y (text2text)
    groups=_STRINGS,  # gold pages or sets; no document of one of these groups is ever a negative
    source_file=pa.string(),  # where the row came from: the file, as seen from the folder that all files share
    source_row=pa.int64(),  # and the line, row or instance in it, from 1
)
"""One raw row, cleaned. Texts are stripped, valid UTF-8 and not empty; lists may be empty, never null."""

DOCUMENTS = _schema(id=pa.string(), text=pa.string(), groups=_STRINGS)
"""Candidate negatives beyond the examples' own positives (other passages of a knowledge source)."""

CORPUS = DOCUMENTS.append(pa.field("title", pa.string(), nullable=False))
"""``DOCUMENTS`` of one's own; a title that is not empty stands at the beginning of the text, before a blank."""

MINED = _schema(
    row=pa.int64(),  # row of the examples table
    pos=pa.string(),
    pos_id=pa.string(),
    neg=pa.string(),
    neg_id=pa.string(),
    pos_score=pa.float32(),
    neg_score=pa.float32(),
    neg_rank=pa.int32(),  # `told_rank`
    miner=pa.string(),
    hard_negatives=_STRINGS,  # further negatives, hardest first; `neg` is not repeated
    hard_negative_scores=_FLOATS,
    hard_negative_ranks=_INTS,
    possible_false_negative_ids=_STRINGS,  # `pos_id` of other rows' positives at least as near: keep out of its batch
)
"""What mining adds to an example. Scores are cosines from the encoder, NaN where nothing was scored."""

RECORDS = _schema(
    query=_STRINGS,  # [instruction, text]
    pos=_STRINGS,
    neg=_STRINGS,
    task_id=pa.int32(),
    task_name=pa.string(),
    id=pa.string(),
    pos_id=pa.string(),
    neg_id=pa.string(),
    pos_score=pa.float32(),
    neg_score=pa.float32(),
    neg_rank=pa.int32(),
    miner=pa.string(),
    hard_negatives=_STRINGS,
    hard_negative_scores=_FLOATS,
    hard_negative_ranks=_INTS,
    possible_false_negative_ids=_STRINGS,
    labels=_STRINGS,  # so that a trainer can keep rows of one class or page out of each other's batches
    groups=_STRINGS,
    source_file=pa.string(),
    source_row=pa.int64(),
)
"""One training record, as it stands in the Parquet shards."""
LISTS = ("hard_negatives", "labels", "groups", "pos_ids", "possible_false_negative_ids")
"""Lists of strings that a record may have: texts of further negatives, classes, gold pages, the id of its positive (one
or none) and those of other rows' positives that may be false negatives for it."""


def told_rank(rank: int) -> str:
    """``neg_rank`` in words: the 0-based place in the miner's ranking; -1, given with the data; -2, drawn at random."""
    return {-1: "given with the data", -2: "drawn at random"}.get(rank, f"rank {rank}")
