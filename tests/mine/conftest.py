"""A small real encoder for tests: hashed character trigrams, and tables in the contract's schemas."""

import zlib

import numpy as np
import pyarrow as pa
import pytest
import xxhash

from medi_build.dataset.schema import DOCUMENTS, EXAMPLES, MINED
from medi_build.embedding import Embedded
from medi_build.ledger import Ledger
from medi_build.mine.by_kind import mine
from medi_build.mine.run import Encoders, Run
from medi_build.share import WHOLE

DIMENSIONS = 64


def embed(texts, instruction=None, side=None):
    """Unit vectors of trigram counts: texts with like spelling are near each other."""
    vectors = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
    for i, text in enumerate(texts):
        padded = f"  {instruction or ''}{text} "
        for j in range(len(padded) - 2):
            vectors[i, zlib.crc32(padded[j : j + 3].encode()) % DIMENSIONS] += 1
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Embedded(vectors.astype(np.float16), 0)


def examples(rows):
    """A table of EXAMPLES from dicts that name only what matters."""
    columns = {
        "id": [row.get("id", f"toy/{i}") for i, row in enumerate(rows)],
        "query": [row["query"] for row in rows],
        **{
            name: [row.get(name, []) for row in rows]
            for name in ("positives", "negatives", "labels", "answers", "groups")
        },
        "source_file": ["toy.jsonl"] * len(rows),
        "source_row": list(range(1, len(rows) + 1)),
    }
    return pa.table(columns, schema=EXAMPLES)


def documents(rows):
    """A table of DOCUMENTS from (id, text, groups)."""
    ids, texts, groups = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table({"id": list(ids), "text": list(texts), "groups": list(groups)}, schema=DOCUMENTS)


def mined(
    *tables,
    kind,
    rule,
    embed,
    seed,
    ledger,
    others=None,
    instructions=(None, None),
    device="cpu",
    split=WHOLE,
    **options,
):
    """What `mine` finds in examples and documents."""
    encoders, run = Encoders(embed, others or {}, instructions), Run(rule, seed, ledger, device, split)
    return mine(*tables, kind=kind, encoders=encoders, run=run, **options)


def mined_table(*tables, **options):
    """The same as one table of schema MINED."""
    return pa.concat_tables([MINED.empty_table(), *mined(*tables, **options).tables()]).combine_chunks()


@pytest.fixture
def ledger():
    return Ledger("toy")


def text_id(text):
    """The id under which a text is published that has none of its own."""
    return xxhash.xxh3_64_hexdigest(text.encode())
